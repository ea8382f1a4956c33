//! Facts about the doors: persons' factors (core), what the log holds of maintenance (record), the inspection of files
//! (files).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Named;

/// Second factors of the persons of the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factors {
    /// Persons who have enrolled one.
    pub enrolled: u32,
    /// Persons with a role whose factor (TOTP) the policy names, and who have enrolled none.
    pub absent: Named,
    /// Persons of whom no code is taken now: too many were wrong.
    pub locked: Named,
}

/// What the log holds of maintenance sessions; whole, whatever happened to the other roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Sessions whose path was opened.
    pub opened: u32,
    /// Sessions whose path was opened and before whose opening the log holds no approval.
    pub unapproved: Named,
    /// Sessions that should be over by now and whose end the log does not hold.
    pub unended: Named,
    /// When a session whose path had been opened last ended.
    pub ended_at: Option<Timestamp>,
    /// When a session last ended because it could not be recorded any more.
    pub cut_off_at: Option<Timestamp>,
}

/// The door for files, as its role tried it: a file with a macro and a harmless one are inspected as a vendor's would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDoor {
    /// Vendors that may send files.
    pub vendors: u32,
    /// Of those, vendors whose files pass without the sender's word that they were sanitized.
    pub unattested: Named,
    /// When inspection was last tried, whatever came of it.
    pub tried_at: Option<Timestamp>,
    /// Whether it then stopped the file with a macro.
    pub stops_macro: bool,
    /// Whether it then let the harmless file pass.
    pub passes_harmless: bool,
}
