//! The end of every tracked connection (linux/netfilter/nfnetlink_conntrack.h), with the kernel's own counts of what passed
//! until then, and lists of those that are open. Binding needs CAP_NET_ADMIN, reading nothing: the two are apart, as in
//! `nflog`.
//!
//! Nothing is lost in silence: [`Losses::dropped`] is the kernel's exact count of ends it had no room for, and
//! [`request_dump`], which the binder calls on its copy of the socket, lets the reader learn what is open now.
//! Beginnings are not asked for: the kernel writes each inside the path of the connection's first packet, which then costs
//! a quarter more, and the end says when it was. Nor are changes: there are five for each TCP connection, and the one that
//! matters, another mark, is logged by the rules as it happens ([`policy::ruleset::ENDED_LOG_PREFIX`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::attr::{self, Attributes, Malformed, Message, Request};
use crate::kernel as k;
use crate::sys;

/// The kernel's lists come in datagrams of at most 32 KiB, its events one in each.
const DATAGRAM_MAX_BYTES: usize = 64 * 1024;
/// Subsystem NFNL_SUBSYS_CTNETLINK, messages IPCTNL_MSG_CT_NEW, _GET and _DELETE.
const LISTED_MESSAGE: u16 = 1 << 8;
const GET_MESSAGE: u16 = 1 << 8 | 1;
const DELETE_MESSAGE: u16 = 1 << 8 | 2;
/// NFNLGRP_CONNTRACK_DESTROY.
const ENDS_GROUP: u32 = 3;
/// The number of a dump's request; events have zero.
const DUMP_SEQUENCE: u32 = 1;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
/// IPS_SEEN_REPLY.
const STATUS_SEEN_REPLY: u32 = 1 << 1;

/// What one event takes of the socket's receive buffer: a page's quarter and the kernel's own book-keeping.
const EVENT_BYTES: usize = 1280;
/// Bounds of the receive buffer. The kernel takes the memory only while events wait in it.
const RECEIVE_BUFFER_MIN_BYTES: usize = 32 * 1024 * 1024;
const RECEIVE_BUFFER_MAX_BYTES: usize = 512 * 1024 * 1024;
const LIMIT_FILE: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Room for the ends of as many connections as the kernel can track: it forgets silent ones in bursts, tens of thousands
/// at once, faster than anybody can read.
#[must_use]
pub fn receive_buffer_bytes() -> usize {
    let limit = std::fs::read_to_string(LIMIT_FILE).ok().and_then(|text| text.trim().parse::<usize>().ok());
    let wanted = limit.unwrap_or_default().saturating_mul(EVENT_BYTES);
    wanted.clamp(RECEIVE_BUFFER_MIN_BYTES, RECEIVE_BUFFER_MAX_BYTES)
}

/// Why connections cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// The caller has no permission.
    #[error("connections cannot be followed ({step}): run with CAP_NET_ADMIN")]
    Permission {
        /// What was tried.
        step: &'static str,
    },
    /// A system call failed.
    #[error("connection tracking socket ({step}): {errno}")]
    Socket {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
}

/// Subscribes to ends, and returns the socket, which may be passed to a process without capabilities.
pub fn bind(receive_buffer_bytes: usize) -> Result<OwnedFd, ConntrackError> {
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(at("socket"))?;
    socket.bind_auto().map_err(at("bind"))?;
    // Connected: only the kernel can send to it.
    socket.connect(&SocketAddr::new(0, 0)).map_err(at("connect"))?;
    // The kernel doubles what it is told.
    set_socket_recv_buffer_size_force(&socket, receive_buffer_bytes / 2)
        .map_err(|errno| refused("receive buffer", errno))?;
    socket.add_membership(ENDS_GROUP).map_err(at("subscribe"))?;
    // A descriptor of its own: the subscriptions belong to the socket behind both.
    socket.as_fd().try_clone_to_owned().map_err(at("descriptor"))
}

/// Asks for the list of open connections on a bound socket. The caller needs CAP_NET_ADMIN; the answers go to whoever
/// reads the socket.
pub fn request_dump(socket: impl AsFd) -> Result<(), ConntrackError> {
    let flags = k::NLM_F_REQUEST | k::NLM_F_DUMP;
    let request = Request::new(GET_MESSAGE, flags, DUMP_SEQUENCE, k::NFPROTO_UNSPEC, 0).finish();
    match send(&socket, &request, SendFlags::DONTWAIT) {
        Ok(_) => Ok(()),
        Err(errno) => Err(refused("list", errno)),
    }
}

/// What distinguishes connections of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Detail {
    /// TCP, UDP and their like.
    Ports {
        /// The opener's port.
        source: u16,
        /// The port it called.
        destination: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// The type of the first packet.
        kind: u8,
        /// Its code.
        code: u8,
        /// Its identifier.
        id: u16,
    },
    /// Protocols without either.
    None,
}

/// Who opened a connection, to whom, by what: the packets' addresses before any translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Who opened it.
    pub source: IpAddr,
    /// Whom it was for.
    pub destination: IpAddr,
    /// The protocol's number.
    pub protocol: u8,
    /// What distinguishes it from others of the protocol.
    pub detail: Detail,
}

/// Packets and bytes of one direction, from the network header on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What the kernel knows of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The kernel's number; not unique without the tuple.
    pub id: u32,
    /// Who opened it, and to whom.
    pub tuple: Tuple,
    /// The mark it has now; zero when none.
    pub mark: u32,
    /// Whether anything was ever answered.
    pub is_answered: bool,
    /// The state of a TCP connection (enum tcp_conntrack).
    pub tcp_state: Option<u8>,
    /// From the opener; none while the kernel does not count.
    pub sent: Option<Count>,
    /// To the opener, likewise.
    pub returned: Option<Count>,
    /// When it began, where the kernel keeps the time.
    pub started_at: Option<SystemTime>,
    /// When it ended, likewise; none in lists.
    pub ended_at: Option<SystemTime>,
}

/// What is told of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It ended, with its final counts.
    Ended(Connection),
    /// It is open: an entry of a list.
    Open(Connection),
    /// The list is over.
    ListEnd {
        /// Whether it holds everything; else it must be asked for again.
        complete: bool,
    },
}

/// What did not arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// How often the socket's buffer overflowed (ENOBUFS).
    pub overruns: u64,
    /// How many events the kernel had no room for, by its own count, since the socket was made.
    pub dropped: u64,
    /// How many messages could not be read.
    pub malformed: u64,
}

/// Reads a bound socket.
#[derive(Debug)]
pub struct ConntrackReader {
    fd: OwnedFd,
    buffer: Vec<u8>,
    losses: Losses,
    /// Whether a list under way was disturbed.
    interrupted: bool,
}

impl ConntrackReader {
    /// Takes the socket that [`bind`] returned. What it dropped before is in the losses from the start.
    pub fn new(fd: OwnedFd) -> Result<Self, ConntrackError> {
        let mut reader =
            Self { fd, buffer: vec![0; DATAGRAM_MAX_BYTES], losses: Losses::default(), interrupted: false };
        reader.count_dropped()?;
        Ok(reader)
    }

    /// Reads what is there, at most so many datagrams; says whether there may be more. What was taken before an error
    /// counts.
    pub fn receive(
        &mut self,
        datagrams_max: usize,
        mut take: impl FnMut(Event),
    ) -> Result<bool, ConntrackError> {
        for _ in 0..datagrams_max {
            match recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    let datagram = self.buffer.get(..length).unwrap_or_default();
                    for event in parse(datagram) {
                        match event {
                            Ok(Told::Event(event)) => take(event),
                            Ok(Told::Interrupted(event)) => {
                                self.interrupted = true;
                                event.into_iter().for_each(&mut take);
                            }
                            Ok(Told::End { complete }) => {
                                let complete = complete && !std::mem::take(&mut self.interrupted);
                                take(Event::ListEnd { complete });
                            }
                            Err(_) => self.losses.malformed += 1,
                        }
                    }
                }
                Err(Errno::NOBUFS) => {
                    self.losses.overruns += 1;
                    self.count_dropped()?;
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                // A list that ended while we were about to continue it, or for which there was no memory: an error of the
                // list (netlink_dump in net/netlink/af_netlink.c), not of the socket.
                Err(Errno::INVAL | Errno::NOMEM) => self.interrupted = true,
                Err(errno) => return Err(ConntrackError::Socket { step: "receive", errno }),
            }
        }
        Ok(true)
    }

    /// What was lost so far.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// Asks the kernel how many events it has dropped; [`Self::receive`] does so after each overrun, but the kernel goes
    /// on dropping until the socket is empty.
    pub fn count_dropped(&mut self) -> Result<(), ConntrackError> {
        let now = sys::socket_drops(self.fd.as_fd())
            .map_err(|errno| ConntrackError::Socket { step: "drops", errno })?;
        // The kernel's number has 32 bits.
        let [.., a, b, c, d] = self.losses.dropped.to_be_bytes();
        let more = now.wrapping_sub(u32::from_be_bytes([a, b, c, d]));
        self.losses.dropped = self.losses.dropped.saturating_add(u64::from(more));
        Ok(())
    }
}

impl AsFd for ConntrackReader {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What one message says.
enum Told {
    Event(Event),
    /// Of a list that the kernel could not hold still for.
    Interrupted(Option<Event>),
    End {
        complete: bool,
    },
}

fn parse(datagram: &[u8]) -> impl Iterator<Item = Result<Told, Malformed>> {
    attr::messages(datagram).filter_map(|message| message.and_then(|message| told(&message)).transpose())
}

fn told(message: &Message<'_>) -> Result<Option<Told>, Malformed> {
    let listed = message.sequence == DUMP_SEQUENCE;
    let event = match message.kind {
        LISTED_MESSAGE if listed => Event::Open(connection(message)?),
        DELETE_MESSAGE => Event::Ended(connection(message)?),
        // An error here answers a request for a list; zero would be an acknowledgement, which is never asked for.
        k::NLMSG_DONE | k::NLMSG_ERROR => {
            let number = message.payload.first_chunk::<4>().copied().map(i32::from_ne_bytes);
            let complete = message.kind == k::NLMSG_DONE && number.is_none_or(|number| number == 0);
            return Ok(Some(Told::End { complete }));
        }
        _ => return Ok(None),
    };
    let interrupted = listed && message.flags & k::NLM_F_DUMP_INTR != 0;
    Ok(Some(if interrupted { Told::Interrupted(Some(event)) } else { Told::Event(event) }))
}

fn connection(message: &Message<'_>) -> Result<Connection, Malformed> {
    const TUPLE_ORIG: u16 = 1;
    const STATUS: u16 = 3;
    const PROTOINFO: u16 = 4;
    const MARK: u16 = 8;
    const COUNTERS_ORIG: u16 = 9;
    const COUNTERS_REPLY: u16 = 10;
    const ID: u16 = 12;
    const TIMESTAMP: u16 = 20;
    const TIMESTAMP_START: u16 = 1;
    const TIMESTAMP_STOP: u16 = 2;
    let (_, attributes) = message.netfilter()?;
    let tuple_nest = attributes.find(TUPLE_ORIG).ok_or(Malformed::new("a connection without its tuple"))?;
    let times = nest(&attributes, TIMESTAMP)?.unwrap_or_default();
    Ok(Connection {
        id: attributes.be32(ID).unwrap_or_default(),
        tuple: tuple(&tuple_nest.nested()?)?,
        mark: attributes.be32(MARK).unwrap_or_default(),
        is_answered: attributes.be32(STATUS).unwrap_or_default() & STATUS_SEEN_REPLY != 0,
        tcp_state: nest(&attributes, PROTOINFO)?.map_or(Ok(None), |info| tcp_state(&info))?,
        sent: nest(&attributes, COUNTERS_ORIG)?.map(|counters| count(&counters)),
        returned: nest(&attributes, COUNTERS_REPLY)?.map(|counters| count(&counters)),
        started_at: times.be64(TIMESTAMP_START).and_then(time),
        ended_at: times.be64(TIMESTAMP_STOP).and_then(time),
    })
}

fn nest<'a>(attributes: &Attributes<'a>, kind: u16) -> Result<Option<Attributes<'a>>, Malformed> {
    attributes.find(kind).map(|attribute| attribute.nested()).transpose()
}

fn tuple(attributes: &Attributes<'_>) -> Result<Tuple, Malformed> {
    const IP: u16 = 1;
    const PROTO: u16 = 2;
    const PROTO_NUM: u16 = 1;
    let missing = Malformed::new("a tuple without its addresses or its protocol");
    let ip = nest(attributes, IP)?.ok_or(missing)?;
    let proto = nest(attributes, PROTO)?.ok_or(missing)?;
    let (source, destination) = addresses(&ip).ok_or(missing)?;
    let protocol = proto.find(PROTO_NUM).and_then(|number| number.u8()).ok_or(missing)?;
    Ok(Tuple { source, destination, protocol, detail: detail(protocol, &proto) })
}

fn addresses(ip: &Attributes<'_>) -> Option<(IpAddr, IpAddr)> {
    const V4: [u16; 2] = [1, 2];
    const V6: [u16; 2] = [3, 4];
    let four =
        |kind| ip.bytes(kind)?.try_into().ok().map(|bytes: [u8; 4]| IpAddr::from(Ipv4Addr::from(bytes)));
    let six =
        |kind| ip.bytes(kind)?.try_into().ok().map(|bytes: [u8; 16]| IpAddr::from(Ipv6Addr::from(bytes)));
    let [source, destination] = V4.map(four);
    let [source6, destination6] = V6.map(six);
    source.zip(destination).or(source6.zip(destination6))
}

fn detail(protocol: u8, proto: &Attributes<'_>) -> Detail {
    const SRC_PORT: u16 = 2;
    const DST_PORT: u16 = 3;
    const ICMP_ID: u16 = 4;
    const ICMP_TYPE: u16 = 5;
    const ICMP_CODE: u16 = 6;
    const ICMP6_ID: u16 = 7;
    const ICMP6_TYPE: u16 = 8;
    const ICMP6_CODE: u16 = 9;
    let short = |kind| proto.find(kind).and_then(|attribute| attribute.be16());
    let byte = |kind| proto.find(kind).and_then(|attribute| attribute.u8()).unwrap_or_default();
    let icmp = |id, kind, code| Detail::Icmp {
        kind: byte(kind),
        code: byte(code),
        id: short(id).unwrap_or_default(),
    };
    match (protocol, short(SRC_PORT), short(DST_PORT)) {
        (ICMP, ..) => icmp(ICMP_ID, ICMP_TYPE, ICMP_CODE),
        (ICMP6, ..) => icmp(ICMP6_ID, ICMP6_TYPE, ICMP6_CODE),
        (_, Some(source), Some(destination)) => Detail::Ports { source, destination },
        _ => Detail::None,
    }
}

fn tcp_state(info: &Attributes<'_>) -> Result<Option<u8>, Malformed> {
    const TCP: u16 = 1;
    const TCP_STATE: u16 = 1;
    Ok(nest(info, TCP)?.and_then(|tcp| tcp.find(TCP_STATE)?.u8()))
}

fn count(counters: &Attributes<'_>) -> Count {
    const PACKETS: u16 = 1;
    const BYTES: u16 = 2;
    let number = |kind| counters.be64(kind).unwrap_or_default();
    Count { packets: number(PACKETS), bytes: number(BYTES) }
}

/// Nanoseconds of the wall clock.
fn time(nanoseconds: u64) -> Option<SystemTime> {
    (nanoseconds > 0).then(|| SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))).flatten()
}

fn refused(step: &'static str, errno: Errno) -> ConntrackError {
    if errno == Errno::PERM {
        ConntrackError::Permission { step }
    } else {
        ConntrackError::Socket { step, errno }
    }
}

fn at(step: &'static str) -> impl Fn(std::io::Error) -> ConntrackError {
    move |error| refused(step, Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An end as the kernel tells it, with all that is read here.
    fn sample() -> Vec<u8> {
        let nest = Request::nest;
        let ip = nest().attribute(1, &[192, 168, 20, 21]).attribute(2, &[192, 168, 10, 11]).finish_nest();
        let ports = nest()
            .attribute(1, &[6])
            .attribute(2, &40_000_u16.to_be_bytes())
            .attribute(3, &[0, 104])
            .finish_nest();
        let tuple = nest().attribute(0x8001, &ip).attribute(0x8002, &ports).finish_nest();
        let counters = |packets: u64, bytes: u64| {
            nest().attribute(1, &packets.to_be_bytes()).attribute(2, &bytes.to_be_bytes()).finish_nest()
        };
        let tcp = nest().attribute(1, &[7]).finish_nest();
        let times = nest()
            .attribute(1, &5_000_000_007_u64.to_be_bytes())
            .attribute(2, &6_000_000_000_u64.to_be_bytes())
            .finish_nest();
        Request::new(DELETE_MESSAGE, 0, 0, 2, 0)
            .attribute(0x8001, &tuple)
            .attribute(3, &0xe_u32.to_be_bytes())
            .attribute(0x8004, &nest().attribute(0x8001, &tcp).finish_nest())
            .attribute(8, &9_u32.to_be_bytes())
            .attribute(0x8009, &counters(3, 300))
            .attribute(0x800a, &counters(2, 200))
            .attribute(12, &77_u32.to_be_bytes())
            .attribute(0x8014, &times)
            .finish()
    }

    fn events(datagram: &[u8]) -> Vec<Event> {
        let told = parse(datagram).map(|told| match told.unwrap() {
            Told::Event(event) => event,
            Told::Interrupted(_) | Told::End { .. } => panic!("not an event"),
        });
        told.collect()
    }

    #[test]
    fn an_end_is_read_whole() {
        let moment = |nanos| Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos));
        let expected = Connection {
            id: 77,
            tuple: Tuple {
                source: [192, 168, 20, 21].into(),
                destination: [192, 168, 10, 11].into(),
                protocol: 6,
                detail: Detail::Ports { source: 40_000, destination: 104 },
            },
            mark: 9,
            is_answered: true,
            tcp_state: Some(7),
            sent: Some(Count { packets: 3, bytes: 300 }),
            returned: Some(Count { packets: 2, bytes: 200 }),
            started_at: moment(5_000_000_007),
            ended_at: moment(6_000_000_000),
        };
        assert_eq!(events(&sample()), [Event::Ended(expected)]);
    }

    #[test]
    fn a_list_that_did_not_hold_still_is_not_complete() {
        let entry = |flags| {
            let mut bytes = sample();
            bytes[4..6].copy_from_slice(&LISTED_MESSAGE.to_ne_bytes());
            bytes[6..8].copy_from_slice(&u16::to_ne_bytes(flags));
            bytes[8..12].copy_from_slice(&DUMP_SEQUENCE.to_ne_bytes());
            bytes
        };
        assert!(matches!(events(&entry(2))[..], [Event::Open(_)]));
        let mut told = parse(&entry(2 | k::NLM_F_DUMP_INTR)).collect::<Vec<_>>();
        assert!(matches!(told.pop(), Some(Ok(Told::Interrupted(Some(Event::Open(_)))))));
        for (kind, number, complete) in
            [(k::NLMSG_DONE, 0, true), (k::NLMSG_DONE, -4, false), (k::NLMSG_ERROR, -16, false)]
        {
            let end = Request::with_head(kind, 0, DUMP_SEQUENCE, &i32::to_ne_bytes(number)).finish();
            let told = parse(&end).next();
            assert!(matches!(told, Some(Ok(Told::End { complete: found })) if found == complete));
        }
    }

    #[test]
    fn no_byte_of_a_datagram_can_break_the_parser() {
        let whole = sample();
        for cut in 0..whole.len() {
            let _ = parse(&whole[..cut]).count();
        }
        for place in 0..whole.len() {
            for value in 0..=255 {
                let mut bytes = whole.clone();
                bytes[place] = value;
                let _ = parse(&bytes).count();
            }
        }
    }
}
