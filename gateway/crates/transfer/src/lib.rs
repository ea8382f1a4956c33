//! What must hold for a file on its way from a vendor into the clinic, as a state machine without IO, clock or randomness.
//! A shell (the files role) carries out the [`Command`]s and brings back what really happened.
//!
//! The journey: announced -> held -> sealed -> inspected -> released -> delivered. A file has exactly one [`Outcome`]:
//! delivered, refused by a rule, or quarantined because something is not known. Only a [`Released`] value has what a
//! delivery needs, and only the machine makes one.
//!
//! - [`ids`]: names of transfers and hashes. [`name`]: what a file may be called.
//! - [`machine`]: the states and the six verbs. [`outcome`]: every end, in words for people.
//! - [`attestation`]: the sender's signed word that the file was sanitized (無害化証明).

pub mod attestation;
pub mod ids;
pub mod machine;
pub mod name;
pub mod outcome;

pub use ids::{Hash, IdError, TransferId};
pub use machine::{
    Announcement, Command, Failure, Finding, Inspection, Now, Order, Proof, Released, Rules, State, Step,
    Transfer, Verdict,
};
pub use name::{FileName, NameError};
pub use outcome::{Outcome, Refusal, Unsure};
