//! The plain servers: TCP echo, UDP echo and a pusher, as threads inside a host's namespace.
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{LabError, Namespace, ServerKind};

/// How often a waiting thread looks whether it should end.
const TICK: Duration = Duration::from_millis(20);
/// Connections served at once; further ones are closed at once.
const CONNECTIONS_LIMIT: usize = 256;
const BUFFER_BYTES: usize = 64 << 10;

/// Is a running plain server, which ends when dropped.
#[derive(Debug)]
pub(crate) struct EchoServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), LabError>>>,
}

impl EchoServer {
    pub(crate) fn start(
        namespace: &Namespace,
        kind: ServerKind,
        address: SocketAddr,
    ) -> Result<Self, LabError> {
        let stop = Arc::new(AtomicBool::new(false));
        let doing = || LabError::io(format!("listen on port {} in {}", address.port(), namespace.name()));
        let flag = Arc::clone(&stop);
        let thread = if kind == ServerKind::UdpEcho {
            let socket = namespace.run_in(|| UdpSocket::bind(address))?.map_err(doing())?;
            socket.set_read_timeout(Some(TICK)).map_err(doing())?;
            namespace.spawn_in(move || echo_datagrams(&socket, &flag))?
        } else {
            let listener = namespace.run_in(|| TcpListener::bind(address))?.map_err(doing())?;
            listener.set_nonblocking(true).map_err(doing())?;
            let serve = if kind == ServerKind::Pusher { push } else { echo_stream };
            namespace.spawn_in(move || accept(&listener, &flag, serve))?
        };
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn echo_datagrams(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while !stop.load(Ordering::Relaxed) {
        // Errors are the client's (an unreachable port) or the timeout: the next datagram is another matter.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), from);
        }
    }
}

type Serve = fn(&mut TcpStream, &mut [u8]) -> io::Result<bool>;

fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>, serve: Serve) {
    let open = Arc::new(AtomicUsize::new(0));
    let mut threads = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(TICK);
            continue;
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_LIMIT {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (stop, open) = (Arc::clone(stop), Arc::clone(&open));
        threads.retain(|thread: &JoinHandle<()>| !thread.is_finished());
        threads.push(thread::spawn(move || {
            serve_connection(stream, &stop, serve);
            open.fetch_sub(1, Ordering::Relaxed);
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn serve_connection(mut stream: TcpStream, stop: &AtomicBool, serve: Serve) {
    let timed = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(TICK)))
        .and_then(|()| stream.set_write_timeout(Some(TICK)));
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut go_on = timed.is_ok();
    while go_on && !stop.load(Ordering::Relaxed) {
        go_on = match serve(&mut stream, &mut buffer) {
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            Ok(go_on) => go_on,
        };
    }
}

/// Returns one read; a client that sends but never reads is cut off after the write timeout.
fn echo_stream(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<bool> {
    let length = stream.read(buffer)?;
    let sent = stream.write_all(buffer.get(..length).unwrap_or_default());
    Ok(length > 0 && sent.is_ok())
}

fn push(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<bool> {
    stream.write(buffer).map(|sent| sent > 0)
}
