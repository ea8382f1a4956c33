//! The UDP socket: both families in one, many messages in one system call each way.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::socket::sockopt::Ipv6DontFrag;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::TunnelError;
use crate::link::Endpoint;
use crate::runs::Run;

/// What the kernel may hold for us while another thread has the processor.
const BUFFER_BYTES: usize = 8 << 20;
/// How long a full socket is waited for before what was to be sent is dropped.
const SEND_WAIT: Duration = Duration::from_millis(20);

/// A socket that sends and receives runs of messages.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    state: UdpSocketState,
    /// Whether it is of both families.
    is_dual: bool,
    /// Runs of messages as long as this, or longer, are more than the way out takes in one call.
    too_long_bytes: AtomicUsize,
}

impl Wire {
    /// Listens on all addresses, IPv4 too; only on those of IPv4 where the kernel has no IPv6.
    /// # Errors
    /// Fails when the port is taken.
    pub(crate) fn listen(port: u16) -> Result<Self, TunnelError> {
        let both = dual(port).map(|socket| (socket, true));
        let listening = both.or_else(|_| single(port).map(|socket| (socket, false)));
        let (socket, is_dual) = listening.map_err(TunnelError::io(format!("listen on UDP port {port}")))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))
            .map_err(TunnelError::io("prepare the UDP socket for offloads"))?;
        let wire = Self { socket, state, is_dual, too_long_bytes: AtomicUsize::new(usize::MAX) };
        wire.grow();
        wire.let_fragment();
        Ok(wire)
    }

    /// Gives the port.
    pub(crate) fn port(&self) -> Result<u16, TunnelError> {
        let address = self.socket.local_addr().map_err(TunnelError::io("read the socket's address"))?;
        Ok(address.as_socket().map_or(0, |address| address.port()))
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Receives what is there without waiting.
    pub(crate) fn receive(
        &self,
        buffers: &mut [io::IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.state.recv(UdpSockRef::from(&self.socket), buffers, metas)
    }

    /// Sends one message; gives back how many were not sent.
    pub(crate) fn send(&self, message: &[u8], to: Endpoint) -> u64 {
        u64::from(self.transmit(message, None, to).is_err())
    }

    /// Sends a run; gives back how many messages of it were not sent.
    pub(crate) fn send_run(&self, run: &Run<Endpoint>, bytes: &[u8]) -> u64 {
        let fits = run.segment_bytes < self.too_long_bytes.load(Relaxed);
        if run.segments > 1 && fits && self.state.max_gso_segments() > 1 {
            match self.transmit(bytes, Some(run.segment_bytes), run.to) {
                Ok(()) => return 0,
                Err(error) if is_too_long(&error) => {
                    // No offload on this way, or a link that is narrower than the messages: one by one from now on.
                    self.too_long_bytes.fetch_min(run.segment_bytes, Relaxed);
                }
                Err(_) => return run.segments as u64,
            }
        }
        bytes.chunks(run.segment_bytes.max(1)).map(|message| self.send(message, run.to)).sum()
    }

    fn transmit(&self, contents: &[u8], segment_size: Option<usize>, to: Endpoint) -> io::Result<()> {
        let destination = self.fitting(to.remote);
        let mut transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: to.local };
        let sent = self.transmit_waiting(&transmit);
        let Err(error) = sent else { return Ok(()) };
        if to.local.is_none() || is_too_long(&error) && segment_size.is_some() {
            return Err(error);
        }
        // The address that the peer spoke to may be gone, as after a new lease: any other is better than none.
        transmit.src_ip = None;
        self.transmit_waiting(&transmit)
    }

    fn transmit_waiting(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let try_send = || self.state.try_send(UdpSockRef::from(&self.socket), transmit);
        match try_send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let wait = Timespec::try_from(SEND_WAIT).map_err(io::Error::other)?;
                poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&wait))?;
                try_send()
            }
            sent => sent,
        }
    }

    /// A socket of both families writes IPv4 addresses as IPv6 has them.
    fn fitting(&self, remote: SocketAddr) -> SocketAddr {
        match remote {
            SocketAddr::V4(v4) if self.is_dual => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            other => other,
        }
    }

    /// Big buffers need a privilege that the data path does not have; then the system's limit holds.
    fn grow(&self) {
        if set_socket_recv_buffer_size_force(&self.socket, BUFFER_BYTES).is_err() {
            let _ = self.socket.set_recv_buffer_size(BUFFER_BYTES);
        }
        if set_socket_send_buffer_size_force(&self.socket, BUFFER_BYTES).is_err() {
            let _ = self.socket.set_send_buffer_size(BUFFER_BYTES);
        }
    }

    /// A way narrower than the tunnel gets fragments instead of a hole: `quinn-udp` forbids them for its own protocol,
    /// which probes the way; ours does not. A kernel that will not hear of it keeps its default.
    fn let_fragment(&self) {
        let _ = set_ip_mtu_discover(&self.socket, Ipv4PathMtuDiscovery::DONT);
        let _ = set_ipv6_mtu_discover(&self.socket, Ipv6PathMtuDiscovery::DONT);
        let _ = nix::sys::socket::setsockopt(&self.socket, Ipv6DontFrag, &false);
    }
}

fn dual(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    socket.set_only_v6(false)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    Ok(socket)
}

fn single(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket)
}

fn is_too_long(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::INVAL | Errno::MSGSIZE | Errno::IO))
}
