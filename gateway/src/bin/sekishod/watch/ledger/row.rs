//! One connection as the ledger keeps it.

use std::net::IpAddr;

use gateway::wire::watch::Ending;
use jiff::Timestamp;
use netfilter::conntrack::{Connection, Count, Detail};

use super::super::names::Names;

const TCP: u8 = 6;
/// States of enum tcp_conntrack (linux/netfilter/nf_conntrack_tcp.h) at the end of a connection.
const TCP_TIME_WAIT: u8 = 7;
const TCP_CLOSE: u8 = 8;

/// What was known of a connection before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The mark by which it began, as far as is known.
    pub(crate) mark: u32,
    pub(crate) started_ms: i64,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlowRow {
    pub(crate) started_ms: i64,
    pub(crate) ended_ms: i64,
    pub(crate) ending: Ending,
    /// The mark by which it began, and the one it had last.
    pub(crate) mark: u32,
    pub(crate) last_mark: u32,
    pub(crate) protocol: u8,
    pub(crate) source: IpAddr,
    pub(crate) source_port: Option<u16>,
    pub(crate) destination: IpAddr,
    pub(crate) destination_port: Option<u16>,
    pub(crate) from_zone: String,
    pub(crate) from_device: Option<String>,
    pub(crate) to_zone: String,
    pub(crate) to_device: Option<String>,
    pub(crate) sent: Count,
    pub(crate) returned: Count,
}

impl FlowRow {
    /// The row of a connection that ended, or is open when `ended_at` says nothing and it was listed.
    pub(crate) fn new(connection: &Connection, opened: Option<Opened>, names: &Names, at: Timestamp) -> Self {
        let tuple = &connection.tuple;
        let (from, to) = (names.place(tuple.source), names.place(tuple.destination));
        let (source_port, destination_port) = match tuple.detail {
            Detail::Ports { source, destination } => (Some(source), Some(destination)),
            Detail::Icmp { .. } | Detail::None => (None, None),
        };
        let ended_ms = milliseconds(connection.ended_at).unwrap_or(at.as_millisecond());
        let started_ms = milliseconds(connection.started_at).or(opened.map(|opened| opened.started_ms));
        let mark = opened.map_or(connection.mark, |opened| opened.mark);
        FlowRow {
            // A clock that was set back must not make a connection end before it began.
            started_ms: started_ms.unwrap_or(ended_ms).min(ended_ms),
            ended_ms,
            ending: ending(connection, mark),
            mark,
            last_mark: connection.mark,
            protocol: tuple.protocol,
            source: tuple.source,
            source_port,
            destination: tuple.destination,
            destination_port,
            from_zone: from.zone.to_owned(),
            from_device: from.device.map(str::to_owned),
            to_zone: to.zone.to_owned(),
            to_device: to.device.map(str::to_owned),
            sent: connection.sent.unwrap_or_default(),
            returned: connection.returned.unwrap_or_default(),
        }
    }

    /// The row as one line, which is what a period's SHA-256 is over: every field, in words.
    pub(crate) fn line(&self, row: i64) -> String {
        let FlowRow {
            started_ms,
            ended_ms,
            ending,
            mark,
            last_mark,
            protocol,
            source,
            source_port,
            destination,
            destination_port,
            from_zone,
            from_device,
            to_zone,
            to_device,
            sent,
            returned,
        } = self;
        let port = |port: &Option<u16>| port.map_or(-1, i64::from);
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        format!(
            "{row}\t{started_ms}\t{ended_ms}\t{}\t{mark}\t{last_mark}\t{protocol}\t{source}\t{}\t{from_zone}\t{}\t\
             {destination}\t{}\t{to_zone}\t{}\t{}\t{}\t{}\t{}\n",
            ending_number(*ending),
            port(source_port),
            name(from_device),
            port(destination_port),
            name(to_device),
            sent.packets,
            sent.bytes,
            returned.packets,
            returned.bytes
        )
    }
}

/// Why a connection that began by `mark` is over.
fn ending(connection: &Connection, mark: u32) -> Ending {
    match (connection.tuple.protocol, connection.tcp_state) {
        // Its mark was taken away and no other flow took it on: its next packet was dropped.
        _ if mark != 0 && connection.mark == 0 => Ending::Cut,
        (TCP, Some(TCP_TIME_WAIT)) => Ending::Closed,
        (TCP, Some(TCP_CLOSE)) => Ending::Reset,
        _ => Ending::Idle,
    }
}

/// The number of an ending in the file.
pub(crate) fn ending_number(ending: Ending) -> u8 {
    match ending {
        Ending::Open => 0,
        Ending::Closed => 1,
        Ending::Reset => 2,
        Ending::Idle => 3,
        Ending::Cut => 4,
    }
}

/// The ending of a number in the file; what another release wrote is not known to be anything but over.
pub(crate) fn ending_of(number: u8) -> Ending {
    match number {
        0 => Ending::Open,
        1 => Ending::Closed,
        2 => Ending::Reset,
        4 => Ending::Cut,
        _ => Ending::Idle,
    }
}

/// An address as it rests: four bytes or sixteen.
pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address of bytes in the file; `None` when they are none.
pub(crate) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A time of the kernel in milliseconds.
pub(crate) fn milliseconds(at: Option<std::time::SystemTime>) -> Option<i64> {
    Timestamp::try_from(at?).ok().map(Timestamp::as_millisecond)
}

/// Milliseconds of the file as a time.
pub(crate) fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use netfilter::conntrack::Tuple;

    /// A finished TCP connection between two hosts of the clinic.
    pub(crate) fn connection(id: u32, destination_port: u16, mark: u32) -> Connection {
        let tuple = Tuple {
            source: [192, 168, 20, 21].into(),
            destination: [192, 168, 10, 11].into(),
            protocol: TCP,
            detail: Detail::Ports { source: 40_000, destination: destination_port },
        };
        let moment = |second| Some(std::time::UNIX_EPOCH + std::time::Duration::from_secs(second));
        Connection {
            id,
            tuple,
            mark,
            is_answered: true,
            tcp_state: Some(TCP_TIME_WAIT),
            sent: Some(Count { packets: 6, bytes: 600 }),
            returned: Some(Count { packets: 4, bytes: 400 }),
            started_at: moment(1_000_000),
            ended_at: moment(1_000_000 + u64::from(id)),
        }
    }

    #[test]
    fn the_end_says_why() {
        let of = |change: fn(&mut Connection)| {
            let mut connection = connection(1, 104, 9);
            change(&mut connection);
            ending(&connection, 9)
        };
        assert_eq!(of(|_| {}), Ending::Closed);
        assert_eq!(of(|c| c.tcp_state = Some(TCP_CLOSE)), Ending::Reset);
        assert_eq!(of(|c| c.tcp_state = Some(3)), Ending::Idle);
        assert_eq!(of(|c| c.mark = 0), Ending::Cut);
        assert_eq!(of(|c| c.mark = 10), Ending::Closed);
    }

    #[test]
    fn numbers_of_the_file_are_one_to_one() {
        for ending in [Ending::Open, Ending::Closed, Ending::Reset, Ending::Idle, Ending::Cut] {
            assert_eq!(ending_of(ending_number(ending)), ending);
        }
        for text in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of(&address_bytes(address)), Some(address));
        }
        assert_eq!(address_of(&[1, 2, 3]), None);
    }
}
