//! The ends of a prober: how one numbered probe leaves and how it is seen to arrive.
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Host, LabError, probe::Tally};

/// How often a waiting receiver looks whether it should end.
const TICK: Duration = Duration::from_millis(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Below Linux's first SYN retransmission after one second.
const ATTEMPT_LIMIT: Duration = Duration::from_millis(900);
const BIND_LIMIT: Duration = Duration::from_secs(2);
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;
const BACKLOG: i32 = 4096;
const RECORD_BYTES: usize = 16;

static PROBERS: AtomicU64 = AtomicU64::new(1);

pub(crate) trait Sender: Send {
    /// Sends one probe; false when it did not leave.
    fn send(&mut self, number: u64, tally: &Tally) -> bool;
    /// Does what is left to do when no more probes are sent.
    fn idle(&mut self, _tally: &Tally) {}
    /// Counts what only the end tells.
    fn finish(&mut self, _tally: &Tally) {}
}

pub(crate) trait Receiver: Send {
    /// Waits a short while for probes.
    fn receive(&mut self, tally: &Tally);
}

type Ends = (Box<dyn Sender>, Box<dyn Receiver>);

/// Is one probe on the wire: whose it is and which.
fn record(prober: u64, number: u64) -> [u8; RECORD_BYTES] {
    (u128::from(prober) << 64 | u128::from(number)).to_be_bytes()
}

/// Reads the number of a probe that is this prober's.
fn number_of(bytes: &[u8], prober: u64) -> Option<u64> {
    let value = u128::from_be_bytes(bytes.try_into().ok()?);
    let (owner, number) = (u64::try_from(value >> 64).ok()?, value & u128::from(u64::MAX));
    u64::try_from(number).ok().filter(|_| owner == prober)
}

/// Numbers probers beyond one process, so that those of two processes differ as well.
fn new_prober() -> u64 {
    u64::from(std::process::id()) << 32 | PROBERS.fetch_add(1, Ordering::Relaxed)
}

/// Binds a port on every address of the target's family and of no other, so that an IPv4 and an IPv6 prober
/// may share a port.
fn bound(target: SocketAddr, port: u16, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), kind, None)?;
    let any = match target {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            IpAddr::from(Ipv6Addr::UNSPECIFIED)
        }
    };
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    let started = Instant::now();
    loop {
        match socket.bind(&SocketAddr::new(any, port).into()) {
            Ok(()) => return Ok(socket),
            // A child of another thread keeps copies of closed sockets between fork and exec.
            Err(error) if error.kind() == ErrorKind::AddrInUse && started.elapsed() < BIND_LIMIT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
}

/// What one datagram after another has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datagrams {
    /// All belong to one connection, from the one who calls.
    Along,
    /// All belong to one connection that the other side answers: the caller's first one opens the way.
    Back,
    /// Each begins a connection of its own.
    Fresh,
}

pub(crate) fn datagrams(
    from: &Host,
    to: &Host,
    target: SocketAddr,
    kind: Datagrams,
) -> Result<Ends, LabError> {
    let doing = |host: &Host| LabError::io(format!("open a UDP probe socket on {}", host.name()));
    let prober = new_prober();
    let open = |host: &Host, port| {
        let socket = host.run_in(|| -> io::Result<_> {
            let socket = UdpSocket::from(bound(target, port, Type::DGRAM)?);
            setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER_BYTES)?;
            socket.set_read_timeout(Some(TICK)).map(|()| socket)
        })?;
        socket.map_err(doing(host))
    };
    let (callee, caller) = (open(to, target.port())?, open(from, 0)?);
    let (sender, target, receiver) = match kind {
        Datagrams::Along => (Some(caller), target, callee),
        Datagrams::Fresh => (None, target, callee),
        Datagrams::Back => {
            let opened = caller.send_to(&record(prober, 0), target).and_then(|_| first_sender(&callee));
            let doing = LabError::io(format!("open a way back from {} to {}", to.name(), from.name()));
            let client = opened.map_err(doing)?;
            (Some(callee), client, caller)
        }
    };
    let sender = DatagramSender { socket: sender, target, prober };
    Ok((Box::new(sender), Box::new(DatagramReceiver { socket: receiver, prober })))
}

fn first_sender(socket: &UdpSocket) -> io::Result<SocketAddr> {
    let started = Instant::now();
    loop {
        match socket.recv_from(&mut [0; RECORD_BYTES]) {
            Ok((_, from)) => return Ok(from),
            Err(error) if error.kind() == ErrorKind::WouldBlock && started.elapsed() < CONNECT_LIMIT => {}
            Err(error) => return Err(error),
        }
    }
}

struct DatagramSender {
    /// None when each datagram has a socket, and thereby a port, of its own.
    socket: Option<UdpSocket>,
    target: SocketAddr,
    prober: u64,
}

impl Sender for DatagramSender {
    fn send(&mut self, number: u64, _: &Tally) -> bool {
        let bytes = record(self.prober, number);
        match &self.socket {
            Some(socket) => socket.send_to(&bytes, self.target).is_ok(),
            None => bound(self.target, 0, Type::DGRAM)
                .and_then(|socket| socket.send_to(&bytes, &self.target.into()))
                .is_ok(),
        }
    }
}

struct DatagramReceiver {
    socket: UdpSocket,
    prober: u64,
}

impl Receiver for DatagramReceiver {
    fn receive(&mut self, tally: &Tally) {
        let mut bytes = [0; RECORD_BYTES + 1];
        let length = self.socket.recv(&mut bytes).unwrap_or_default();
        if let Some(number) = number_of(bytes.get(..length).unwrap_or_default(), self.prober) {
            tally.arrived(number);
        }
    }
}

/// Connects once; `push` lets the listening side send.
pub(crate) fn stream(from: &Host, to: &Host, target: SocketAddr, push: bool) -> Result<Ends, LabError> {
    let listener = listen(to, target)?;
    let client = from.run_in(|| TcpStream::connect_timeout(&target, CONNECT_LIMIT))?;
    let client = client.map_err(LabError::io(format!("connect {} to {target}", from.name())))?;
    let doing = || LabError::io(format!("accept on {} port {}", to.name(), target.port()));
    let server = accept_within(&listener, CONNECT_LIMIT).map_err(doing())?;
    let (sender, receiver) = if push { (server, client) } else { (client, server) };
    sender.set_nodelay(true).and_then(|()| sender.set_nonblocking(true)).map_err(doing())?;
    receiver.set_nonblocking(false).map_err(doing())?;
    receiver.set_read_timeout(Some(TICK)).map_err(doing())?;
    let prober = new_prober();
    let sender = StreamSender { stream: Some(sender), unsent: VecDeque::new(), prober };
    let receiver = StreamReceiver { stream: Some(receiver), unread: Vec::new(), prober };
    Ok((Box::new(sender), Box::new(receiver)))
}

/// Accepts a connection that the client knows to be established and the server learns of any moment.
fn accept_within(listener: &TcpListener, limit: Duration) -> io::Result<TcpStream> {
    let started = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock && started.elapsed() < limit => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}

struct StreamSender {
    stream: Option<TcpStream>,
    unsent: VecDeque<u8>,
    prober: u64,
}

impl StreamSender {
    fn flush(&mut self, tally: &Tally) {
        let Some(stream) = &mut self.stream else { return };
        match stream.write(self.unsent.make_contiguous()) {
            Ok(written) => drop(self.unsent.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                tally.reset();
                self.stream = None;
            }
        }
    }
}

impl Sender for StreamSender {
    fn send(&mut self, number: u64, tally: &Tally) -> bool {
        self.flush(tally);
        let open = self.stream.is_some() && self.unsent.is_empty();
        if open {
            self.unsent.extend(record(self.prober, number));
            self.flush(tally);
        }
        open
    }

    fn idle(&mut self, tally: &Tally) {
        if !self.unsent.is_empty() {
            self.flush(tally);
        }
    }
}

struct StreamReceiver {
    stream: Option<TcpStream>,
    unread: Vec<u8>,
    prober: u64,
}

impl Receiver for StreamReceiver {
    fn receive(&mut self, tally: &Tally) {
        let mut buffer = [0; 4096];
        let Some(stream) = &mut self.stream else { return std::thread::sleep(TICK) };
        match stream.read(&mut buffer) {
            Ok(0) => self.stream = None,
            Ok(length) => self.unread.extend(buffer.get(..length).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => {
                tally.reset();
                self.stream = None;
            }
        }
        let whole = self.unread.len() / RECORD_BYTES * RECORD_BYTES;
        let records: Vec<u8> = self.unread.drain(..whole).collect();
        let numbers = records.chunks_exact(RECORD_BYTES).filter_map(|bytes| number_of(bytes, self.prober));
        numbers.for_each(|number| tally.arrived(number));
    }
}

pub(crate) fn connects(from: &Host, to: &Host, target: SocketAddr) -> Result<Ends, LabError> {
    let listener = listen(to, target)?;
    let sender = ConnectSender { target, attempts: VecDeque::new() };
    // Made here to fail here; each attempt has a socket of its own, made by the sender's thread.
    from.run_in(|| attempt_socket(target))?.map_err(LabError::io("open a TCP socket"))?;
    Ok((Box::new(sender), Box::new(ConnectReceiver { listener, accepted: 0 })))
}

struct ConnectSender {
    target: SocketAddr,
    attempts: VecDeque<(Instant, Socket)>,
}

impl ConnectSender {
    /// Ends the attempts that are old enough, refused ones counted.
    fn end_older(&mut self, limit: Duration, tally: &Tally) {
        while self.attempts.front().is_some_and(|(since, _)| since.elapsed() >= limit) {
            if let Some((_, socket)) = self.attempts.pop_front()
                && !matches!(socket.take_error(), Ok(None))
            {
                tally.reset();
            }
        }
    }
}

impl Sender for ConnectSender {
    fn send(&mut self, _: u64, tally: &Tally) -> bool {
        self.end_older(ATTEMPT_LIMIT, tally);
        let Ok(socket) = attempt_socket(self.target) else { return false };
        let started = match socket.connect(&self.target.into()) {
            Err(error) => error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()),
            Ok(()) => true,
        };
        if started {
            self.attempts.push_back((Instant::now(), socket));
        }
        started
    }

    fn idle(&mut self, tally: &Tally) {
        self.end_older(ATTEMPT_LIMIT, tally);
    }

    fn finish(&mut self, tally: &Tally) {
        self.end_older(Duration::ZERO, tally);
    }
}

fn attempt_socket(target: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true).map(|()| socket)
}

struct ConnectReceiver {
    listener: TcpListener,
    accepted: u64,
}

impl Receiver for ConnectReceiver {
    fn receive(&mut self, tally: &Tally) {
        match self.listener.accept() {
            Ok(_) => {
                tally.arrived(self.accepted);
                self.accepted += 1;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn listen(host: &Host, target: SocketAddr) -> Result<TcpListener, LabError> {
    let listener = host.run_in(|| -> io::Result<_> {
        let socket = bound(target, target.port(), Type::STREAM)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    })?;
    listener.map_err(LabError::io(format!("listen on {} port {}", host.name(), target.port())))
}
