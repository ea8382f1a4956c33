//! Copies of packets from the kernel's log (NFLOG, linux/netfilter/nfnetlink_log.h).
//!
//! Binding a group needs CAP_NET_ADMIN; reading from the bound socket needs nothing, so the two are apart: one process
//! calls [`bind`] and passes the descriptor on, another reads. Nothing is lost in silence: see [`Losses`].

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::attr::{self, Attributes, Malformed, Message, Request};
use crate::kernel as k;

/// The largest datagram of the kernel's log: it collects up to this much (NFULA_CFG_NLBUFSIZ).
const DATAGRAM_MAX_BYTES: usize = 128 * 1024;
/// The kernel's own buffer for one datagram.
const KERNEL_BUFFER_BYTES: u32 = 64 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const PACKET_MESSAGE: u16 = k::NFNL_SUBSYS_ULOG << 8;
const CONFIG_MESSAGE: u16 = (k::NFNL_SUBSYS_ULOG << 8) | 1;

/// How a group's packets are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupConfig {
    /// How much of each packet is copied.
    pub copy_bytes: u32,
    /// How many packets the kernel collects before it sends them.
    pub queue_threshold: u32,
    /// How long it collects at most, in hundredths of a second.
    pub timeout_cs: u32,
    /// The socket's receive buffer.
    pub receive_buffer_bytes: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self { copy_bytes: 128, queue_threshold: 32, timeout_cs: 20, receive_buffer_bytes: 4 * 1024 * 1024 }
    }
}

/// Why a log group cannot be bound or read.
#[derive(Debug, thiserror::Error)]
pub enum NflogError {
    /// The group is another process's, or the caller has no permission.
    #[error(
        "log group {group} cannot be bound: run with CAP_NET_ADMIN, and end the other program that has the group"
    )]
    Permission {
        /// The group.
        group: u16,
    },
    /// A system call failed.
    #[error("log socket ({step}): {errno}")]
    Socket {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel's answer to the binding could not be read, or did not come.
    #[error("the kernel's answer to the binding of log group {group} makes no sense")]
    Answer {
        /// The group.
        group: u16,
    },
}

/// Binds a log group and returns the socket, which may be passed to a process without capabilities.
pub fn bind(group: u16, config: GroupConfig) -> Result<OwnedFd, NflogError> {
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(at("socket"))?;
    socket.bind_auto().map_err(at("bind"))?;
    // Connected: only the kernel can send to it.
    socket.connect(&SocketAddr::new(0, 0)).map_err(at("connect"))?;
    socket.set_cap_ack(true).map_err(at("capped acknowledgements"))?;
    set_socket_recv_buffer_size_force(&socket, config.receive_buffer_bytes).map_err(|errno| match errno {
        Errno::PERM => NflogError::Permission { group },
        errno => NflogError::Socket { step: "receive buffer", errno },
    })?;
    // A descriptor of its own: the binding belongs to the socket behind both.
    let fd = socket.as_fd().try_clone_to_owned().map_err(at("descriptor"))?;
    send(&fd, &bind_request(group, config), SendFlags::empty())
        .map_err(|errno| NflogError::Socket { step: "send", errno })?;
    acknowledged(&fd, group)?;
    Ok(fd)
}

fn bind_request(group: u16, config: GroupConfig) -> Vec<u8> {
    const CMD: u16 = 1;
    const MODE: u16 = 2;
    const NLBUFSIZ: u16 = 3;
    const TIMEOUT: u16 = 4;
    const QTHRESH: u16 = 5;
    const FLAGS: u16 = 6;
    const CMD_BIND: u8 = 1;
    const COPY_PACKET: u8 = 2;
    const FLAG_SEQ: u16 = 1;
    let mut mode = config.copy_bytes.to_be_bytes().to_vec();
    mode.extend_from_slice(&[COPY_PACKET, 0]);
    Request::new(CONFIG_MESSAGE, k::NLM_F_REQUEST | k::NLM_F_ACK, 1, k::NFPROTO_UNSPEC, group)
        .attribute(CMD, &[CMD_BIND])
        .attribute(MODE, &mode)
        .attribute(NLBUFSIZ, &KERNEL_BUFFER_BYTES.to_be_bytes())
        .attribute(TIMEOUT, &config.timeout_cs.to_be_bytes())
        .attribute(QTHRESH, &config.queue_threshold.to_be_bytes())
        .attribute(FLAGS, &FLAG_SEQ.to_be_bytes())
        .finish()
}

/// Waits for the kernel's answer. A packet cannot come before it: the group is bound while the request is handled.
fn acknowledged(fd: &OwnedFd, group: u16) -> Result<(), NflogError> {
    wait_readable(fd, ANSWER_TIMEOUT)?;
    let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
    let (_, length) = recv(fd, buffer.as_mut_slice(), RecvFlags::DONTWAIT)
        .map_err(|errno| NflogError::Socket { step: "answer", errno })?;
    let datagram = buffer.get(..length).unwrap_or_default();
    let number = attr::messages(datagram)
        .filter_map(Result::ok)
        .find(|message| message.kind == k::NLMSG_ERROR)
        .and_then(|message| message.payload.first_chunk::<4>().copied())
        .map(i32::from_ne_bytes);
    match number {
        Some(0) => Ok(()),
        // The kernel says EPERM for a group of another socket, too.
        Some(-1) => Err(NflogError::Permission { group }),
        Some(number @ -4095..=-2) => {
            Err(NflogError::Socket { step: "configuration", errno: Errno::from_raw_os_error(-number) })
        }
        Some(_) | None => Err(NflogError::Answer { group }),
    }
}

fn wait_readable(fd: &OwnedFd, limit: Duration) -> Result<bool, NflogError> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(NflogError::Socket { step: "poll", errno }),
    }
}

/// A copy of a packet, with what the kernel knew of it. All of it comes from strangers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedPacket {
    /// The network protocol as an NFPROTO number.
    pub family: u8,
    /// The hook that logged it (NF_INET_*).
    pub hook: Option<u8>,
    /// The text of the rule that logged it.
    pub prefix: String,
    /// The index of the interface it came in by.
    pub in_index: Option<u32>,
    /// The index of the interface it would leave by.
    pub out_index: Option<u32>,
    /// The sender's link-layer address.
    pub source_mac: Option<Vec<u8>>,
    /// The packet from its network header on, cut to the group's length.
    pub payload: Vec<u8>,
    /// When the packet came in, if it did.
    pub received_at: Option<SystemTime>,
    /// The packet's mark.
    pub mark: Option<u32>,
    /// The number of the packet in its group.
    pub sequence: Option<u32>,
}

/// What the log did not bring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// How often the socket's buffer overflowed (ENOBUFS).
    pub overruns: u64,
    /// How many numbers of packets are missing.
    pub missing: u64,
    /// How many messages could not be read.
    pub malformed: u64,
}

/// Reads a bound group.
#[derive(Debug)]
pub struct LogReader {
    fd: OwnedFd,
    buffer: Vec<u8>,
    next_sequence: Option<u32>,
    losses: Losses,
}

impl LogReader {
    /// Takes the socket that [`bind`] returned.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, buffer: vec![0; DATAGRAM_MAX_BYTES], next_sequence: None, losses: Losses::default() }
    }

    /// Waits for packets at most so long; none when none came.
    pub fn receive(&mut self, limit: Duration) -> Result<Vec<LoggedPacket>, NflogError> {
        if !wait_readable(&self.fd, limit)? {
            return Ok(Vec::new());
        }
        let length = match recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((_, length)) => length,
            Err(Errno::NOBUFS) => {
                self.losses.overruns += 1;
                return Ok(Vec::new());
            }
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(NflogError::Socket { step: "receive", errno }),
        };
        let datagram = self.buffer.get(..length).unwrap_or_default();
        let mut packets = Vec::new();
        for packet in parse(datagram) {
            match packet {
                Ok(packet) => packets.push(packet),
                Err(_) => self.losses.malformed += 1,
            }
        }
        for packet in &packets {
            self.follow(packet.sequence);
        }
        Ok(packets)
    }

    /// What was lost so far.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    fn follow(&mut self, sequence: Option<u32>) {
        let Some(sequence) = sequence else { return };
        if let Some(next) = self.next_sequence {
            self.losses.missing += u64::from(sequence.wrapping_sub(next));
        }
        self.next_sequence = Some(sequence.wrapping_add(1));
    }
}

impl AsFd for LogReader {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A message of the log that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a log message makes no sense: {what}")]
pub struct ParseError {
    /// What is wrong with it.
    pub what: &'static str,
}

impl From<Malformed> for ParseError {
    fn from(error: Malformed) -> Self {
        Self { what: error.what }
    }
}

/// Reads the packets of one datagram; messages of other kinds are passed over.
pub fn parse(datagram: &[u8]) -> impl Iterator<Item = Result<LoggedPacket, ParseError>> {
    attr::messages(datagram).filter_map(|message| match message {
        Ok(message) if message.kind == PACKET_MESSAGE => Some(packet(&message).map_err(ParseError::from)),
        Ok(_) => None,
        Err(error) => Some(Err(error.into())),
    })
}

fn packet(message: &Message<'_>) -> Result<LoggedPacket, Malformed> {
    const PACKET_HDR: u16 = 1;
    const MARK: u16 = 2;
    const TIMESTAMP: u16 = 3;
    const INDEV: u16 = 4;
    const OUTDEV: u16 = 5;
    const HWADDR: u16 = 8;
    const PAYLOAD: u16 = 9;
    const PREFIX: u16 = 10;
    const SEQ: u16 = 12;
    let (family, attributes) = message.netfilter()?;
    let prefix = attributes.bytes(PREFIX).unwrap_or_default();
    let prefix = prefix.strip_suffix(&[0]).unwrap_or(prefix);
    Ok(LoggedPacket {
        family,
        hook: attributes.bytes(PACKET_HDR).and_then(|header| header.get(2).copied()),
        prefix: prefix
            .iter()
            .map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' })
            .collect(),
        in_index: attributes.be32(INDEV),
        out_index: attributes.be32(OUTDEV),
        source_mac: attributes.bytes(HWADDR).and_then(mac),
        payload: attributes.bytes(PAYLOAD).unwrap_or_default().to_vec(),
        received_at: timestamp(&attributes, TIMESTAMP),
        mark: attributes.be32(MARK),
        sequence: attributes.be32(SEQ),
    })
}

/// `struct nfulnl_msg_packet_hw`: a length, padding, eight bytes.
fn mac(bytes: &[u8]) -> Option<Vec<u8>> {
    let (&[high, low, _, _], address) = bytes.split_first_chunk::<4>()?;
    address.get(..usize::from(u16::from_be_bytes([high, low]))).map(<[u8]>::to_vec)
}

/// `struct nfulnl_msg_packet_timestamp`: seconds and microseconds.
fn timestamp(attributes: &Attributes<'_>, kind: u16) -> Option<SystemTime> {
    let (seconds, micros) = attributes.bytes(kind)?.split_at_checked(8)?;
    let seconds = u64::from_be_bytes(seconds.try_into().ok()?);
    let micros = u64::from_be_bytes(micros.try_into().ok()?);
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))?
        .checked_add(Duration::from_micros(micros))
}

fn at(step: &'static str) -> impl Fn(std::io::Error) -> NflogError {
    move |error| NflogError::Socket { step, errno: Errno::from_io_error(&error).unwrap_or(Errno::IO) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let stamp = [[0, 0, 0, 0, 0, 0, 0, 5], [0, 0, 0, 0, 0, 0, 0, 7]].concat();
        Request::new(PACKET_MESSAGE, 0, 0, 2, 77)
            .attribute(1, &[8, 0, 3, 0])
            .attribute(3, &stamp)
            .attribute(4, &9_u32.to_be_bytes())
            .attribute(8, &[0, 6, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0])
            .attribute(9, &[0x45, 0, 0])
            .text(10, "deny \u{1b}x")
            .attribute(12, &3_u32.to_be_bytes())
            .finish()
    }

    #[test]
    fn a_packet_is_read_and_its_prefix_is_printable() {
        let packets: Vec<_> = parse(&sample()).collect::<Result<_, _>>().unwrap();
        let expected = LoggedPacket {
            family: 2,
            hook: Some(3),
            prefix: "deny ?x".to_owned(),
            in_index: Some(9),
            out_index: None,
            source_mac: Some(vec![1, 2, 3, 4, 5, 6]),
            payload: vec![0x45, 0, 0],
            received_at: Some(SystemTime::UNIX_EPOCH + Duration::from_micros(5_000_007)),
            mark: None,
            sequence: Some(3),
        };
        assert_eq!(packets, [expected]);
    }

    #[test]
    fn no_byte_of_a_datagram_can_break_the_parser() {
        let whole = sample();
        for cut in 0..whole.len() {
            let _ = parse(&whole[..cut]).count();
        }
        for place in 0..whole.len() {
            for value in [0, 1, 3, 4, 127, 128, 255] {
                let mut bytes = whole.clone();
                bytes[place] = value;
                let _ = parse(&bytes).count();
            }
        }
    }
}
