//! The sockets of both transports, on one port number.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::limits::IDLE_MAX;

/// What the kernel may keep of a UDP socket's packets; it grants as much as the system allows.
const UDP_BUFFER_BYTES: usize = 4 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Silence before TCP asks whether the peer is there.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(10);
/// How often it asks then.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Both sockets on an address; port 0 takes any that both have.
pub(crate) fn both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let tcp = bound(address, Type::STREAM, Protocol::TCP)?;
    tcp.listen(BACKLOG)?;
    let tcp: TcpListener = tcp.into();
    let same_port = SocketAddr::new(address.ip(), tcp.local_addr()?.port());
    Ok((udp(same_port)?, tcp))
}

/// A UDP socket with room.
pub(crate) fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = bound(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
    Ok(socket.into())
}

/// Has TCP notice a peer that is gone.
pub(crate) fn tend(stream: &tokio::net::TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER).with_interval(KEEP_ALIVE_EVERY);
    socket.set_tcp_keepalive(&keep_alive)?;
    socket.set_tcp_user_timeout(Some(IDLE_MAX))
}

fn bound(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
