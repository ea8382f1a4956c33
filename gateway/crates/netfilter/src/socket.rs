//! One netlink socket to nf_tables: a transaction goes out in one datagram, and its outcome is known when it returns.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_send_buffer_size,
    set_socket_send_buffer_size_force,
};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

use crate::attr::{self, Attributes, Malformed, Message};
use crate::batch::{BEGIN_SEQUENCE, Batch};
use crate::error::{NetlinkError, Refusal};
use crate::kernel as k;

/// How often a list is read again because it changed meanwhile.
const DUMP_ATTEMPTS_MAX: u32 = 16;
/// The most entries of one list.
const DUMP_ENTRIES_MAX: usize = 4_000_000;
/// How long an answer may take; the kernel answers while it is asked, so this only ends what should not happen.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The socket's receive buffer: an error message for each of some ten thousand refused requests.
const RECEIVE_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// The largest datagram: the kernel's dumps use up to 32 KiB, an error repeats at most the head of a request.
const DATAGRAM_MAX_BYTES: usize = 256 * 1024;
/// The most datagrams that are read for one answer.
const DATAGRAMS_MAX: usize = 1 << 20;
/// The bytes of an error message before the head of the request it answers.
const ERROR_NUMBER_BYTES: usize = 4;

/// A connection to nf_tables in the network namespace of the thread that opened it.
pub struct Connection {
    socket: Socket,
    buffer: Vec<u8>,
    next_sequence: u32,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Connection").field("next_sequence", &self.next_sequence).finish_non_exhaustive()
    }
}

/// A transaction that the kernel has carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The generation of the rules right after it (another program may have added to it).
    pub generation: u32,
}

impl Connection {
    /// Opens a socket. It needs CAP_NET_ADMIN from its first request on.
    pub fn open() -> Result<Self, NetlinkError> {
        Self::to(netlink_sys::protocols::NETLINK_NETFILTER)
    }

    /// Opens a socket of another netlink family.
    pub(crate) fn to(protocol: isize) -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(protocol).map_err(at("socket"))?;
        socket.bind_auto().map_err(at("bind"))?;
        // Connected: messages of other processes are refused.
        socket.connect(&SocketAddr::new(0, 0)).map_err(at("connect"))?;
        socket.set_ext_ack(true).map_err(at("extended acknowledgements"))?;
        socket.set_cap_ack(true).map_err(at("capped acknowledgements"))?;
        set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES)
            .or_else(|_| set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES))
            .map_err(|errno| NetlinkError::Socket { step: "receive buffer", errno })?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM_MAX_BYTES], next_sequence: 1 << 31 })
    }

    /// Sends a transaction and waits for its outcome. When this fails, nothing has changed, except for
    /// [`NetlinkError::AnswersLost`] and [`NetlinkError::Timeout`], after which the rules must be read back.
    pub fn commit(&mut self, mut batch: Batch) -> Result<Committed, NetlinkError> {
        if !batch.is_empty() {
            let ([begin, body, end], last) = batch.finish();
            self.discard_stale()?;
            self.send(&[&begin, &body, &end])?;
            tracing::debug!(messages = batch.len(), bytes = body.len(), "transaction sent");
            let outcome = self.outcome(last)?;
            if let Some(error) = outcome {
                return Err(refusal(&batch, &body, error));
            }
        }
        Ok(Committed { generation: self.generation()? })
    }

    /// Reads answers until the last request's acknowledgement or the first error, then all that is there.
    fn outcome(&mut self, last: u32) -> Result<Option<KernelError>, NetlinkError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut acknowledged = false;
        let mut first: Option<KernelError> = None;
        let mut lost = false;
        for _ in 0..DATAGRAMS_MAX {
            let decided = acknowledged || lost || first.is_some();
            match self.receive(if decided { None } else { Some(deadline) }) {
                Ok(Some(datagram)) => {
                    for message in attr::messages(datagram) {
                        match kernel_answer(&message?)? {
                            Some(KernelAnswer::Done { sequence }) => acknowledged |= sequence == last,
                            Some(KernelAnswer::Refused(error)) => first = first.or(Some(error)),
                            None => {}
                        }
                    }
                }
                Ok(None) => break,
                Err(NetlinkError::AnswersLost) => lost = true,
                Err(error) => return Err(error),
            }
        }
        match (first, acknowledged) {
            (Some(error), _) => Ok(Some(error)),
            (None, true) if !lost => Ok(None),
            (None, _) => Err(NetlinkError::AnswersLost),
        }
    }

    /// Reads a whole list from the kernel, again from the start when it changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        request: impl Fn(u32) -> Vec<u8>,
        mut read: impl FnMut(&Message<'_>) -> Result<Vec<T>, Malformed>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS_MAX {
            match self.dump_once(&request, &mut read) {
                Ok(Some(entries)) => return Ok(entries),
                // Interrupted, or answers were lost: what was read may have gaps.
                Ok(None) | Err(NetlinkError::AnswersLost) => self.discard_stale()?,
                Err(error) => return Err(error),
            }
        }
        Err(NetlinkError::Unsteady { attempts: DUMP_ATTEMPTS_MAX })
    }

    fn dump_once<T>(
        &mut self,
        request: &impl Fn(u32) -> Vec<u8>,
        read: &mut impl FnMut(&Message<'_>) -> Result<Vec<T>, Malformed>,
    ) -> Result<Option<Vec<T>>, NetlinkError> {
        let sequence = self.take_sequence();
        self.send(&[&request(sequence)])?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut entries = Vec::new();
        let mut interrupted = false;
        for _ in 0..DATAGRAMS_MAX {
            let Some(datagram) = self.receive(Some(deadline))? else { break };
            for message in attr::messages(datagram) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & k::NLM_F_DUMP_INTR != 0;
                match answer(&message)? {
                    Answer::Entry => entries.extend(read(&message)?),
                    Answer::End => return Ok((!interrupted).then_some(entries)),
                    Answer::Interrupted => return Ok(None),
                }
                if entries.len() > DUMP_ENTRIES_MAX {
                    return Err(NetlinkError::TooMany { limit: DUMP_ENTRIES_MAX });
                }
            }
        }
        Err(NetlinkError::TooMany { limit: DATAGRAMS_MAX })
    }

    /// The sequence number of the next request.
    fn take_sequence(&mut self) -> u32 {
        self.next_sequence = self.next_sequence.wrapping_add(1) | 1 << 31;
        self.next_sequence
    }

    fn send(&mut self, parts: &[&Vec<u8>]) -> Result<(), NetlinkError> {
        let length_bytes = parts.iter().map(|part| part.len()).sum();
        // The kernel refuses (EMSGSIZE) what is longer than the send buffer.
        set_socket_send_buffer_size_force(&self.socket, length_bytes + 4096)
            .or_else(|_| set_socket_send_buffer_size(&self.socket, length_bytes + 4096))
            .map_err(|errno| NetlinkError::Send { length_bytes, errno })?;
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(&self.socket, &slices, &mut SendAncillaryBuffer::default(), SendFlags::empty())
        });
        match sent {
            Ok(sent) if sent == length_bytes => Ok(()),
            Ok(_) => Err(NetlinkError::Send { length_bytes, errno: Errno::MSGSIZE }),
            Err(Errno::PERM) => Err(NetlinkError::Permission),
            Err(errno) => Err(NetlinkError::Send { length_bytes, errno }),
        }
    }

    /// Receives one datagram; without a deadline, none when nothing is there yet.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<&[u8]>, NetlinkError> {
        loop {
            match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, length)) => {
                    let whole = self.buffer.get(..length);
                    return whole
                        .map(Some)
                        .ok_or(NetlinkError::Malformed { what: "a datagram longer than the buffer" });
                }
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => return Err(NetlinkError::AnswersLost),
                Err(Errno::AGAIN) => match deadline {
                    None => return Ok(None),
                    Some(deadline) => wait(&self.socket, deadline)?,
                },
                Err(errno) => return Err(NetlinkError::Receive { errno }),
            }
        }
    }

    /// Empties the socket of answers to requests that were given up.
    fn discard_stale(&mut self) -> Result<(), NetlinkError> {
        for _ in 0..DATAGRAMS_MAX {
            match self.receive(None) {
                Ok(None) => return Ok(()),
                Ok(Some(_)) | Err(NetlinkError::AnswersLost) => {}
                Err(error) => return Err(error),
            }
        }
        Err(NetlinkError::TooMany { limit: DATAGRAMS_MAX })
    }
}

/// What one message of a list says.
enum Answer {
    Entry,
    End,
    Interrupted,
}

fn answer(message: &Message<'_>) -> Result<Answer, NetlinkError> {
    let errno = match message.kind {
        // The end of a list carries an error number, too.
        k::NLMSG_DONE => message.payload.first_chunk().map_or(Ok(None), |&number| errno(number))?,
        k::NLMSG_ERROR => match kernel_answer(message)? {
            Some(KernelAnswer::Refused(error)) => Some(error.errno),
            Some(KernelAnswer::Done { .. }) | None => None,
        },
        _ => return Ok(Answer::Entry),
    };
    match errno {
        None => Ok(Answer::End),
        Some(Errno::INTR) => Ok(Answer::Interrupted),
        Some(Errno::PERM) => Err(NetlinkError::Permission),
        Some(errno) => Err(NetlinkError::Refused(Box::new(Refusal {
            errno,
            origin: "reading the rules".into(),
            element: None,
            instruction: None,
            message: None,
        }))),
    }
}

/// Reads the kernel's negative error number; zero is success.
fn errno(number: [u8; ERROR_NUMBER_BYTES]) -> Result<Option<Errno>, Malformed> {
    match i32::from_ne_bytes(number) {
        0 => Ok(None),
        // Errno::from_raw_os_error panics on any other number.
        number @ -4095..=-1 => Ok(Some(Errno::from_raw_os_error(-number))),
        _ => Err(Malformed::new("an error number out of its range")),
    }
}

/// An answer of the kind NLMSG_ERROR.
enum KernelAnswer {
    Done { sequence: u32 },
    Refused(KernelError),
}

struct KernelError {
    errno: Errno,
    sequence: u32,
    offset: Option<u32>,
    message: Option<String>,
}

fn kernel_answer(message: &Message<'_>) -> Result<Option<KernelAnswer>, Malformed> {
    if message.kind != k::NLMSG_ERROR {
        return Ok(None);
    }
    let short = Malformed::new("an error message shorter than its head");
    let (&number, request) = message.payload.split_first_chunk::<ERROR_NUMBER_BYTES>().ok_or(short)?;
    let sequence = message.sequence;
    let Some(errno) = errno(number)? else { return Ok(Some(KernelAnswer::Done { sequence })) };
    let mut error = KernelError { errno, sequence, offset: None, message: None };
    if message.flags & k::NLM_F_ACK_TLVS != 0 {
        // The request follows, cut to its head when the kernel says so; then the extended acknowledgement.
        let length = match request.first_chunk::<4>() {
            Some(&length) if message.flags & k::NLM_F_CAPPED == 0 => u32::from_ne_bytes(length),
            _ => u32::try_from(k::NLMSG_HEADER_BYTES).unwrap_or_default(),
        };
        let start = usize::try_from(length).map_err(|_| short)?.next_multiple_of(4);
        let details = Attributes::parse(request.get(start..).ok_or(short)?)?;
        error.offset =
            details.bytes(k::NLMSGERR_ATTR_OFFS).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
        error.message = details.bytes(k::NLMSGERR_ATTR_MSG).map(printable);
    }
    Ok(Some(KernelAnswer::Refused(error)))
}

fn printable(text: &[u8]) -> String {
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    String::from_utf8_lossy(text).chars().filter(|character| !character.is_control()).take(200).collect()
}

fn refusal(batch: &Batch, body: &[u8], error: KernelError) -> NetlinkError {
    if error.errno == Errno::PERM && error.sequence == BEGIN_SEQUENCE {
        return NetlinkError::Permission;
    }
    let blame = batch.blame(error.sequence, error.offset, body);
    NetlinkError::Refused(Box::new(Refusal {
        errno: error.errno,
        origin: blame.origin,
        element: blame.element,
        instruction: blame.instruction,
        message: error.message,
    }))
}

fn wait(socket: &Socket, deadline: Instant) -> Result<(), NetlinkError> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = rustix::event::Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(0),
        tv_nsec: left.subsec_nanos().into(),
    };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(NetlinkError::Timeout {
            waited_ms: ANSWER_TIMEOUT.as_millis().try_into().unwrap_or(u64::MAX),
        }),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(NetlinkError::Receive { errno }),
    }
}

fn at(step: &'static str) -> impl Fn(std::io::Error) -> NetlinkError {
    move |error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        if errno == Errno::PERM { NetlinkError::Permission } else { NetlinkError::Socket { step, errno } }
    }
}
