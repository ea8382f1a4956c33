//! What traffic looks like: remote control, clear text, servers that nobody put there; by day, kind and place.

use std::collections::BTreeMap;

use events::{Event, Suspicion};
use jiff::{SignedDuration, Timestamp};
use netfilter::conntrack::{Detail, Tuple};
use policy::guideline::suspect::{Class, Suspect, recognise, rogue};

use super::super::names::{Names, Place};
use super::super::packet::Head;
use super::store::{Seen, SightingKey};

/// How often the same sighting becomes an event of its own.
const TOLD_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// Sightings that are remembered for that, and kinds and places between two writings.
const KEYS_MAX: usize = 1024;
const DAY_MS: i64 = 24 * 3600 * 1000;
const ICMP6: u8 = 58;
/// The rules' word for a sender that does not belong where it spoke.
const SPOOFED: &str = "sekisho:spoofed";

/// Sightings not written yet, and which were told lately.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    pub(crate) fresh: BTreeMap<SightingKey, Seen>,
    told: BTreeMap<(Suspicion, String, String), Timestamp>,
}

impl Sightings {
    /// A connection that a flow let pass.
    pub(crate) fn connection(&mut self, tuple: &Tuple, names: &Names, at: Timestamp) -> Option<Event> {
        let port = match tuple.detail {
            Detail::Ports { destination, .. } => Some(destination),
            Detail::Icmp { .. } | Detail::None => None,
        };
        let suspect = recognise(tuple.protocol, port.unwrap_or_default())?;
        let (from, to) = (names.place(tuple.source), names.place(tuple.destination));
        self.count(suspect, from, to, true, at);
        // What a flow names between two zones of the clinic is no surprise; what crosses its border may be one.
        let suspicion = suspicion(suspect).filter(|_| from.is_outside != to.is_outside)?;
        let ends = (tuple.source.to_string(), tuple.destination.to_string(), port);
        self.tell(suspicion, from, to, ends, at)
    }

    /// A packet that was denied.
    pub(crate) fn denial(&mut self, head: &Head, names: &Names, at: Timestamp) -> Option<Event> {
        let (from, to) = (names.origin(head.source, head.in_index), names.aim(head.destination));
        let ports = (head.source_port.unwrap_or_default(), head.destination_port.unwrap_or_default());
        let icmp6_type = head.icmp_type.filter(|_| head.number == ICMP6);
        let suspect =
            rogue(head.number, ports.0, ports.1, icmp6_type).or_else(|| recognise(head.number, ports.1));
        if let Some(suspect) = suspect {
            self.count(suspect, from, to, false, at);
        }
        let spoofed = head.prefix.starts_with(SPOOFED).then_some(Suspicion::Spoofed);
        let suspicion = suspect.and_then(suspicion).or(spoofed)?;
        let ends = (head.source.to_string(), head.destination.to_string(), head.destination_port);
        self.tell(suspicion, from, to, ends, at)
    }

    fn count(&mut self, suspect: Suspect, from: Place<'_>, to: Place<'_>, passed: bool, at: Timestamp) {
        let key = SightingKey {
            day: at.as_millisecond().div_euclid(DAY_MS),
            suspect,
            from_zone: from.zone.to_owned(),
            to_zone: to.zone.to_owned(),
            crosses_border: from.is_outside != to.is_outside,
            passed,
        };
        if self.fresh.len() < KEYS_MAX || self.fresh.contains_key(&key) {
            let (count, last) = self.fresh.entry(key).or_default();
            *count += 1;
            *last = (*last).max(at.as_millisecond());
        }
    }

    /// The event of a sighting, unless the same was told lately.
    fn tell(
        &mut self,
        suspicion: Suspicion,
        from: Place<'_>,
        to: Place<'_>,
        (source, destination, port): (String, String, Option<u16>),
        at: Timestamp,
    ) -> Option<Event> {
        let key = (suspicion, from.zone.to_owned(), to.zone.to_owned());
        if self.told.get(&key).is_some_and(|told| at.duration_since(*told) < TOLD_EVERY) {
            return None;
        }
        if self.told.len() >= KEYS_MAX {
            self.told.clear();
        }
        self.told.insert(key, at);
        Some(Event::Suspicious { suspicion, zone: from.zone.to_owned(), source, destination, port })
    }
}

/// What the log calls it; tunnels are counted, and judged by the controls.
fn suspicion(suspect: Suspect) -> Option<Suspicion> {
    match (suspect, suspect.class()) {
        (Suspect::RogueDhcp, _) => Some(Suspicion::DhcpServer),
        (_, Class::Rogue) => Some(Suspicion::Router),
        (_, Class::RemoteControl) => Some(Suspicion::RemoteControl),
        (_, Class::ClearCare | Class::ClearOther) => Some(Suspicion::ClearText),
        (_, Class::WeakTunnel | Class::SslVpn | Class::Tunnel) => None,
    }
}
