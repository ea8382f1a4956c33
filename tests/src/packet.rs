//! Raw Ethernet at any leg: capture what passes, inject what should.
//!
//! AF_PACKET without `unsafe`: the kernel's own interface list gives the `sockaddr_ll` to bind to, and a bind
//! that names no protocol keeps the socket's (net/packet/af_packet.c, `packet_bind`).
use std::{
    io::IoSliceMut,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind,
            recvmsg, send, setsockopt, socket,
            sockopt::{RcvBufForce, ReceiveTimestampns, RxqOvfl, SndBufForce},
        },
        time::TimeSpec,
    },
};

use crate::{LabError, Leg};

/// How much the kernel may keep for a capture between two `drain`s.
const RECEIVE_BUFFER_BYTES: usize = 128 << 20;
const SEND_BUFFER_BYTES: usize = 8 << 20;
/// The longest frame kept whole; offloads make frames of up to 64 KiB and a header.
const FRAME_LIMIT_BYTES: usize = 68 << 10;
/// One `drain` returns at most so many frames.
const DRAIN_LIMIT_FRAMES: usize = 4_000_000;
/// How long an injected frame may wait for room.
const INJECT_LIMIT: Duration = Duration::from_secs(2);
/// `PACKET_OUTGOING` of linux/if_packet.h.
const PACKET_OUTGOING: u8 = 4;

/// Says which way a frame went, seen from the namespace of the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into the host or gateway.
    In,
    /// Out of it.
    Out,
}

/// Is one captured frame, with its Ethernet header. Checksums that the sender left to its interface are not
/// filled in: on a veth pair nobody ever does.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When the kernel saw it.
    pub at: SystemTime,
    /// The frame from the destination's hardware address on.
    pub bytes: Vec<u8>,
    /// Which way it went.
    pub direction: Direction,
}

/// Captures every frame at a leg from `start` on.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    interface_index: usize,
    buffer: Vec<u8>,
    dropped: u32,
}

/// Sends raw frames out of a leg, past the firewall of the leg's own namespace.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
    leg: Leg,
}

impl Capture {
    /// Starts to capture both directions at a leg.
    /// # Errors
    /// Fails when the socket cannot be made or bound.
    pub fn start(leg: &Leg) -> Result<Self, LabError> {
        Self::with_buffer(leg, RECEIVE_BUFFER_BYTES)
    }

    /// Starts to capture with a kernel buffer of so many bytes, frames and their bookkeeping.
    /// # Errors
    /// As `start`.
    pub fn with_buffer(leg: &Leg, buffer_bytes: usize) -> Result<Self, LabError> {
        let (socket, interface_index) =
            leg.namespace().run_in(|| open(leg, Some(SockProtocol::EthAll)))??;
        let doing = || LabError::io(format!("prepare a capture at {}", leg.interface()));
        setsockopt(&socket, RcvBufForce, &buffer_bytes).map_err(doing())?;
        setsockopt(&socket, ReceiveTimestampns, &true).map_err(doing())?;
        setsockopt(&socket, RxqOvfl, &1).map_err(doing())?;
        Ok(Self { socket, interface_index, buffer: vec![0; FRAME_LIMIT_BYTES], dropped: 0 })
    }

    /// Takes all frames that have arrived since the last call.
    /// # Errors
    /// Fails when the interface is gone.
    pub fn drain(&mut self) -> Result<Vec<Frame>, LabError> {
        self.drain_filtered(|_| true)
    }

    /// Takes those frames for which the filter says yes and forgets the others.
    /// # Errors
    /// Fails when the interface is gone.
    pub fn drain_filtered(&mut self, mut keep: impl FnMut(&Frame) -> bool) -> Result<Vec<Frame>, LabError> {
        let mut frames = Vec::new();
        while frames.len() < DRAIN_LIMIT_FRAMES {
            match self.receive() {
                Ok(Some(frame)) if keep(&frame) => frames.push(frame),
                Ok(_) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(LabError::io("read captured frames")(error)),
            }
        }
        Ok(frames)
    }

    /// Takes frames until so many passed the filter or the time is over, whichever is first.
    /// # Errors
    /// Fails when the interface is gone.
    pub fn wait_for(
        &mut self,
        count: usize,
        limit: Duration,
        mut keep: impl FnMut(&Frame) -> bool,
    ) -> Result<Vec<Frame>, LabError> {
        let deadline = Instant::now() + limit;
        let mut frames = self.drain_filtered(&mut keep)?;
        while frames.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !ready(&self.socket, PollFlags::POLLIN, left)? {
                break;
            }
            frames.append(&mut self.drain_filtered(&mut keep)?);
        }
        Ok(frames)
    }

    /// Tells how many frames the kernel dropped because nobody drained, as of the last frame drained.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Receives one frame; none when it belongs to another interface, which happens between the socket's
    /// making and its binding.
    fn receive(&mut self) -> Result<Option<Frame>, Errno> {
        let mut control = nix::cmsg_space!(TimeSpec, u32);
        let mut slices = [IoSliceMut::new(&mut self.buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<LinkAddr>(self.socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        let mut at = None;
        for part in message.cmsgs()? {
            match part {
                ControlMessageOwned::ScmTimestampns(time) => at = Some(Duration::from(time)),
                ControlMessageOwned::RxqOvfl(dropped) => self.dropped = dropped,
                _ => {}
            }
        }
        let (length, source) = (message.bytes, message.address);
        let Some(source) = source.filter(|source| source.ifindex() == self.interface_index) else {
            return Ok(None);
        };
        let outgoing = source.pkttype() == PACKET_OUTGOING;
        let direction = if outgoing { Direction::Out } else { Direction::In };
        let at = at.map_or_else(SystemTime::now, |since| SystemTime::UNIX_EPOCH + since);
        let bytes = self.buffer.get(..length).unwrap_or_default().to_vec();
        Ok(Some(Frame { at, bytes, direction }))
    }
}

impl Injector {
    /// Opens a leg for sending.
    /// # Errors
    /// Fails when the socket cannot be made or bound.
    pub fn new(leg: &Leg) -> Result<Self, LabError> {
        let (socket, _) = leg.namespace().run_in(|| open(leg, None))??;
        let doing = LabError::io(format!("prepare sending at {}", leg.interface()));
        setsockopt(&socket, SndBufForce, &SEND_BUFFER_BYTES).map_err(doing)?;
        Ok(Self { socket, leg: leg.clone() })
    }

    /// Gives the leg that the frames leave from.
    #[must_use]
    pub fn leg(&self) -> &Leg {
        &self.leg
    }

    /// Sends one frame, Ethernet header included.
    /// # Errors
    /// Fails when the frame is too long or too short for the interface, the link is down, or there is no room
    /// for two seconds.
    pub fn send(&self, frame: &[u8]) -> Result<(), LabError> {
        let deadline = Instant::now() + INJECT_LIMIT;
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN | Errno::ENOBUFS) if Instant::now() < deadline => {
                    ready(&self.socket, PollFlags::POLLOUT, Duration::from_millis(1))?;
                }
                Err(error) => {
                    let doing = format!("send {} bytes at {}", frame.len(), self.leg.interface());
                    return Err(LabError::io(doing)(error));
                }
            }
        }
    }
}

/// Opens a packet socket on a leg; the caller is in the leg's namespace.
fn open(leg: &Leg, protocol: Option<SockProtocol>) -> Result<(OwnedFd, usize), LabError> {
    let doing = || LabError::io(format!("open a packet socket at {}", leg.interface()));
    let address = getifaddrs()
        .map_err(doing())?
        .filter(|entry| entry.interface_name == leg.interface())
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or_else(|| doing()(Errno::ENODEV))?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
    let socket = socket.map_err(doing())?;
    bind(socket.as_raw_fd(), &address).map_err(doing())?;
    Ok((socket, address.ifindex()))
}

/// Waits for a socket; a signal counts as not ready.
fn ready(socket: &OwnedFd, what: PollFlags, limit: Duration) -> Result<bool, LabError> {
    use std::os::fd::AsFd;
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(socket.as_fd(), what)], limit) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(LabError::io("wait for frames")(error)),
    }
}
