//! Facts about the policy in force, computed by [`crate::guideline::posture()`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Named;
use crate::model::ZoneKind;

/// Zones of the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zones {
    /// Each zone, at most [`super::ROWS_MAX`].
    pub zones: Vec<ZoneFact>,
}

/// One zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneFact {
    /// ASCII name.
    pub slug: String,
    /// Kind.
    pub kind: ZoneKind,
    /// Whether any device in it, known or not, may start a connection into a clinical, medical-device or billing zone.
    pub anybody_reaches_care: bool,
}

/// Flows of the policy in force that somebody should know of; built-in ones are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flows {
    /// How many flows there are, built-in ones left out.
    pub count: u32,
    /// Flows with `any = true`, or with more than half of all ports.
    pub any: Named,
    /// Flows with both ends named as devices or as the gateway.
    pub between_devices: u32,
    /// Flows by which the outside starts a connection to a zone or the gateway.
    pub inbound: Named,
    /// Of those, flows from anywhere outside, not from a named device.
    pub inbound_from_anywhere: Named,
    /// Flows by which guests start a connection into any zone but an external one, without an exception.
    pub guest_inward: Named,
    /// Flows by which every device of a medical-device or IoT zone reaches everything outside.
    pub things_to_anywhere: Named,
    /// Flows by which a named device of a medical-device or IoT zone reaches everything outside.
    pub thing_to_anywhere: Named,
    /// Flows into a closed session: into a closed network, or IPsec across the border.
    pub closed: u32,
    /// Flows by which a device in a closed session may also reach everything outside.
    pub around_closed: Named,
    /// Of those, only named devices outside.
    pub beside_closed: Named,
    /// Flows that carry medical data or logins unencrypted across the border, guests left out.
    pub clear_care: Named,
    /// Flows that carry web pages unencrypted from clinical, medical-device or billing zones across the border.
    pub clear_other: Named,
    /// Flows that allow a weak tunnel (PPTP, GRE, L2TP without IPsec) across the border.
    pub weak_tunnel: Named,
    /// Flows that allow a known SSL-VPN port across the border.
    pub ssl_vpn: Named,
    /// Flows that allow a remote-control protocol across the border, always open.
    pub standing_remote: Named,
    /// Flows that allow a remote-control protocol across the border, within a schedule or until a day.
    pub timed_remote: Named,
    /// Flows by which other zones than management ones reach a port the gateway is managed on, without an exception.
    pub managed_from_elsewhere: Named,
}

/// Accepted exceptions of the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exceptions {
    /// Each exception, at most [`super::ROWS_MAX`].
    pub exceptions: Vec<ExceptionFact>,
}

/// One accepted exception to an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExceptionFact {
    /// Code of the invariant, one of [`crate::check::INVARIANTS`].
    pub invariant: String,
    /// The flow.
    pub flow: String,
    /// Who accepted the risk.
    pub who: String,
    /// When the acceptance ends; the flow itself does not end with it.
    pub until: Timestamp,
}

/// Persons, VPN peers and vendors of the policy in force, by the keys of their entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// Persons written.
    pub persons: u32,
    /// Persons whose last day has passed.
    pub persons_ended: Named,
    /// Persons without a last day.
    pub persons_without_end: Named,
    /// Persons who may act and have no record of how their identity was confirmed.
    pub persons_unproved: Named,
    /// Persons with a role who may act and have no second factor.
    pub persons_single_factor: Named,
    /// VPN peers written.
    pub peers: u32,
    /// VPN peers whose person's last day has passed.
    pub peers_ended: Named,
    /// VPN peers without a second factor.
    pub peers_single_factor: Named,
    /// VPN peers without a session length.
    pub peers_without_session: Named,
    /// VPN peers that share one key with another.
    pub peers_sharing_key: Named,
    /// Vendors written.
    pub vendors: u32,
    /// Vendors that may ask for remote maintenance.
    pub vendors_maintaining: u32,
    /// Of those, vendors whose contract has ended.
    pub vendors_ended: Named,
    /// Of those, vendors without an end of contract.
    pub vendors_without_end: Named,
    /// Of those, vendors with pinned keys: a key alone names nobody. Enrolments and certificates do.
    pub vendors_unnamed: Named,
    /// Vendors that share an engineer's key with another vendor.
    pub vendors_sharing_key: Named,
    /// Of those that maintain, vendors without a window: they may ask at any hour.
    pub vendors_without_window: Named,
}

/// Who answers for what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accountability {
    /// Rows of the list of responsible persons.
    pub responsible: u32,
    /// Vendors without a demarcation of responsibility.
    pub vendors_without_demarcation: Named,
    /// Persons with a role and without a contact.
    pub persons_without_contact: Named,
    /// Devices past their maker's support.
    pub devices_past_support: Named,
}
