//! What is remembered of connections until they end: those that a list showed as open, and the flows that ended under
//! them. A connection's end tells its last mark only; the rules log each mark that they take away
//! ([`policy::ruleset::ENDED_LOG_PREFIX`]), and so the ledger knows by which flow it began.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;

use jiff::Timestamp;
use netfilter::conntrack::{Connection, Detail, Tuple};

use super::super::packet::Head;
use super::row::{Opened, milliseconds};

/// Connections that are remembered; of one more only the end is known, which lacks nothing but the flow's name when the
/// policy cut it. Seven eighths of a power of two, so that the table is full.
const OPEN_MAX: usize = 7 << 15;

/// A running connection whose flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unmarked {
    pub(crate) ends: Ends,
    /// The mark that it had.
    pub(crate) mark: u32,
}

/// Both ends of a connection and what they speak, the same in both directions: a log shows a packet, not its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    protocol: u8,
    /// The smaller end first. A port, or the identifier of an ICMP echo.
    pair: [(IpAddr, u16); 2],
}

impl Ends {
    fn new(protocol: u8, one: (IpAddr, u16), other: (IpAddr, u16)) -> Ends {
        Ends { protocol, pair: [one.min(other), one.max(other)] }
    }

    /// Those of a logged packet.
    pub(crate) fn of_packet(head: &Head) -> Ends {
        let number = |port: Option<u16>| port.or(head.icmp_id).unwrap_or_default();
        let (source, destination) = (number(head.source_port), number(head.destination_port));
        Ends::new(head.number, (head.source, source), (head.destination, destination))
    }

    fn of_connection(tuple: &Tuple) -> Ends {
        let (source, destination) = match tuple.detail {
            Detail::Ports { source, destination } => (source, destination),
            Detail::Icmp { id, .. } => (id, id),
            Detail::None => (0, 0),
        };
        Ends::new(tuple.protocol, (tuple.source, source), (tuple.destination, destination))
    }
}

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct OpenConnections {
    open: HashMap<u64, (Opened, bool)>,
    /// The first mark that was taken from a connection, when, and in which survey's time.
    unmarked: HashMap<u64, (u32, i64, bool)>,
    /// Flips with each survey: what is not of the present one when it is over was not seen in it.
    generation: bool,
    keys: RandomState,
}

impl OpenConnections {
    /// How many are known to be open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The number by which a connection is known here.
    pub(crate) fn key(&self, connection: &Connection) -> u64 {
        self.keys.hash_one((connection.id, connection.tuple))
    }

    /// A connection is open: what is known of it, and whether it is seen for the first time.
    pub(crate) fn listed(&mut self, connection: &Connection, at: Timestamp) -> (Opened, bool) {
        let (key, ends) = (self.key(connection), self.ends_key(connection));
        let started_ms = milliseconds(connection.started_at).unwrap_or(at.as_millisecond());
        let known = self.open.get(&key).map(|(known, _)| *known);
        let mut opened = known.unwrap_or(Opened { mark: connection.mark, started_ms });
        if let Some((mark, at_ms, generation)) = self.unmarked.get_mut(&ends)
            && *at_ms >= started_ms
        {
            (*generation, opened.mark) = (self.generation, *mark);
        }
        let has_room = known.is_some() || self.open.len() < OPEN_MAX;
        if has_room {
            self.open.insert(key, (opened, self.generation));
        }
        // Without room it is seen for the first time when it ends.
        (opened, known.is_none() && has_room)
    }

    /// A connection ended: what was known of it, and whether it is seen for the first time.
    pub(crate) fn ended(&mut self, connection: &Connection) -> (Option<Opened>, bool) {
        let opened = self.open.remove(&self.key(connection)).map(|(opened, _)| opened);
        let unmarked = self.unmarked.remove(&self.ends_key(connection));
        let started_ms = milliseconds(connection.started_at).or(opened.map(|opened| opened.started_ms));
        // One of before the connection was another's, whose end was lost.
        let first = unmarked.filter(|(_, at_ms, _)| started_ms.is_none_or(|started_ms| *at_ms >= started_ms));
        let first = first.map(|(mark, at_ms, _)| Opened { mark, started_ms: started_ms.unwrap_or(at_ms) });
        (first.or(opened), opened.is_none())
    }

    /// The rules took a connection's mark away. The first one is the flow by which it began.
    pub(crate) fn unmarked(&mut self, told: Unmarked, at: Timestamp) {
        let key = self.keys.hash_one(told.ends);
        if self.unmarked.len() < OPEN_MAX {
            self.unmarked.entry(key).or_insert((told.mark, at.as_millisecond(), self.generation));
        }
    }

    /// A list begins that will show every open connection.
    pub(crate) fn begin_survey(&mut self) {
        self.generation = !self.generation;
    }

    /// It showed them all: those that it did not show ended unseen.
    pub(crate) fn end_survey(&mut self) {
        self.open.retain(|_, (_, generation)| *generation == self.generation);
        self.unmarked.retain(|_, (_, _, generation)| *generation == self.generation);
    }

    fn ends_key(&self, connection: &Connection) -> u64 {
        self.keys.hash_one(Ends::of_connection(&connection.tuple))
    }
}
