//! Done-when 6: path-MTU discovery (RFC 1191, RFC 8201) works from the first packet of a connection on.
use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use lab::{Capture, Direction, Frame, Host, Lab};

use crate::{
    kernel::InForce,
    site::{clinic, flow, policy},
    traffic::{PATIENCE, bound},
};

const NARROW_MTU: u16 = 1400;
const ETHERNET_MTU: u16 = 1500;
const PORT: u16 = 7000;
const TRANSFER_BYTES: usize = 5_000_000;
const ETHERNET_BYTES: usize = 14;
const IP4_BYTES: usize = 20;
const IP6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
const TCP_BYTES: usize = 20;

fn in_force(lab: &Lab) -> InForce {
    let flows = [flow("staff-web", "zone:staff", "zone:wan", "udp/7000, tcp/7000")];
    InForce::load(lab, &policy(&flows))
}

/// Makes the link between the provider's router and the web site narrow, at both of its ends.
fn narrow_behind_the_router(lab: &Lab) {
    let internet = lab.host("internet").unwrap();
    let towards_web = internet.legs().iter().find(|leg| leg.zone() == "web-site").unwrap();
    towards_web.set_mtu(NARROW_MTU.into()).unwrap();
    lab.host("web").unwrap().leg().set_mtu(NARROW_MTU.into()).unwrap();
}

/// Makes the clinic's own line narrow, at both of its ends.
fn narrow_line(lab: &Lab) {
    lab.leg("wan").unwrap().set_mtu(NARROW_MTU.into()).unwrap();
    lab.host("internet").unwrap().leg().set_mtu(NARROW_MTU.into()).unwrap();
}

#[test]
fn the_first_packet_learns_of_a_narrow_link_behind_the_router() {
    let lab = clinic(true);
    let mut filter = in_force(&lab);
    narrow_behind_the_router(&lab);
    assert_learns_at_once(&lab, |address| match address {
        // The provider's router on the line.
        IpAddr::V4(_) => lab.host("internet").unwrap().v4().unwrap().into(),
        IpAddr::V6(_) => lab.host("internet").unwrap().v6().unwrap().into(),
    });
    assert_transfers(&lab);
    filter.assert_read_back();
}

#[test]
fn the_first_packet_learns_of_the_gateways_own_narrow_line() {
    let lab = clinic(true);
    let mut filter = in_force(&lab);
    narrow_line(&lab);
    let leg = lab.leg("staff").unwrap();
    let own = |address: IpAddr| match address {
        IpAddr::V4(_) => leg.v4().unwrap().addr().into(),
        IpAddr::V6(_) => leg.v6().unwrap().addr().into(),
    };
    assert_learns_at_once(&lab, own);
    assert_mss_is_clamped(&lab);
    assert_transfers(&lab);
    let counted = filter.packets();
    assert!(counted["control-icmp-errors"] >= 2, "the gateway's own errors are counted: {counted:?}");
    filter.assert_read_back();
}

/// Sends one full datagram that may not be fragmented, as the first packet of a connection; the answer must name the
/// MTU, and what fits must then pass.
fn assert_learns_at_once(lab: &Lab, teller: impl Fn(IpAddr) -> IpAddr) {
    let (reception, web) = (lab.host("reception").unwrap(), lab.host("web").unwrap());
    for address in web.addresses() {
        let headers = UDP_BYTES + if address.is_ipv4() { IP4_BYTES } else { IP6_BYTES };
        let target = SocketAddr::new(address, PORT);
        let at_web = web.run_in(|| bound(|| UdpSocket::bind(any(address, PORT)))).unwrap().unwrap();
        at_web.set_read_timeout(Some(PATIENCE)).unwrap();
        let socket = reception.run_in(|| UdpSocket::bind(any(address, 0))).unwrap().unwrap();
        let mut capture = Capture::start(reception.leg()).unwrap();
        // Linux sets DF on UDP by itself (ip(7), IP_PMTUDISC_WANT).
        socket.send_to(&vec![1; usize::from(ETHERNET_MTU) - headers], target).unwrap();
        let is_told = |frame: &Frame| frame.direction == Direction::In && too_big(&frame.bytes).is_some();
        let told = capture.wait_for(1, Duration::from_secs(5), is_told).unwrap();
        let told =
            told.first().unwrap_or_else(|| panic!("{address}: the first packet was lost without a word"));
        assert_eq!(too_big(&told.bytes), Some((teller(address), NARROW_MTU)), "{address}");
        println!("{address}: told {:?} after the first packet", too_big(&told.bytes));
        let fits = vec![2; usize::from(NARROW_MTU) - headers];
        socket.send_to(&fits, target).unwrap();
        let mut received = [0; 2000];
        let length = at_web.recv(&mut received).unwrap();
        assert_eq!((length, received[0]), (fits.len(), 2), "{address}");
        // The sender knows the path now, and its own kernel makes fragments of what is longer, or refuses.
        let route = reception.output("ip", &["route", "get", &address.to_string()]).unwrap();
        assert!(route.contains(&format!("mtu {NARROW_MTU}")), "{route}");
    }
}

/// Reads who said "too big" in an Ethernet frame, and the MTU that it named.
fn too_big(frame: &[u8]) -> Option<(IpAddr, u16)> {
    let packet = frame.get(ETHERNET_BYTES..)?;
    let be16 = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    match packet.first()? >> 4 {
        // ICMP type 3 code 4, the MTU in bytes 6 and 7 (RFC 1191).
        4 if packet.get(9) == Some(&1) && packet.get(IP4_BYTES..IP4_BYTES + 2) == Some(&[3, 4]) => {
            let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            Some((source.into(), be16(IP4_BYTES + 6)?))
        }
        // ICMPv6 type 2, the MTU in bytes 4 to 7 (RFC 4443).
        6 if packet.get(6) == Some(&58) && packet.get(IP6_BYTES) == Some(&2) => {
            let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            Some((source.into(), be16(IP6_BYTES + 6)?))
        }
        _ => None,
    }
}

/// The SYN that reaches the web site asks for segments that the gateway's line carries.
fn assert_mss_is_clamped(lab: &Lab) {
    let (reception, web) = (lab.host("reception").unwrap(), lab.host("web").unwrap());
    for address in web.addresses() {
        let ip = if address.is_ipv4() { IP4_BYTES } else { IP6_BYTES };
        let mut capture = Capture::start(web.leg()).unwrap();
        let listener = web.run_in(|| bound(|| TcpListener::bind(any(address, PORT)))).unwrap().unwrap();
        let connected = reception
            .run_in(|| TcpStream::connect_timeout(&SocketAddr::new(address, PORT), PATIENCE))
            .unwrap();
        drop((connected.unwrap(), listener));
        let is_syn = |frame: &Frame| {
            let flags = frame.bytes.get(ETHERNET_BYTES + ip + 13);
            frame.direction == Direction::In && is_tcp(&frame.bytes) && flags == Some(&0x02)
        };
        let syns = capture.wait_for(1, PATIENCE, is_syn).unwrap();
        // The first option of Linux's SYN is the segment size: kind 2, length 4 (RFC 9293).
        let option = &syns[0].bytes[ETHERNET_BYTES + ip + TCP_BYTES..][..4];
        let wanted = usize::from(NARROW_MTU) - ip - TCP_BYTES;
        assert_eq!(option[..2], [2, 4]);
        assert_eq!(usize::from(u16::from_be_bytes([option[2], option[3]])), wanted, "{address}");
    }
}

fn is_tcp(frame: &[u8]) -> bool {
    let Some(packet) = frame.get(ETHERNET_BYTES..) else { return false };
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.get(9) == Some(&6),
        Some(6) => packet.get(6) == Some(&6),
        _ => false,
    }
}

/// Five megabytes in each direction over each family.
fn assert_transfers(lab: &Lab) {
    let (reception, web) = (lab.host("reception").unwrap(), lab.host("web").unwrap());
    for address in web.addresses() {
        for upload in [true, false] {
            let started = Instant::now();
            let received = transfer(reception, web, address, upload);
            assert_eq!(received, TRANSFER_BYTES, "{address}, upload {upload}");
            println!("{address}: {TRANSFER_BYTES} bytes, upload {upload}, in {:?}", started.elapsed());
        }
    }
}

fn transfer(client: &Host, server: &Host, address: IpAddr, upload: bool) -> usize {
    let listener = server.run_in(|| bound(|| TcpListener::bind(any(address, PORT)))).unwrap().unwrap();
    let target = SocketAddr::new(address, PORT);
    let near = client.run_in(|| TcpStream::connect_timeout(&target, PATIENCE)).unwrap().unwrap();
    let (far, _) = listener.accept().unwrap();
    let (mut from, mut to) = if upload { (near, far) } else { (far, near) };
    from.set_write_timeout(Some(PATIENCE)).unwrap();
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || from.write_all(&vec![7; TRANSFER_BYTES]));
        let mut received = Vec::new();
        let outcome = to.read_to_end(&mut received);
        sending.join().unwrap().unwrap();
        outcome.unwrap();
        received.len()
    })
}

fn any(like: IpAddr, port: u16) -> SocketAddr {
    let any: IpAddr = if like.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    SocketAddr::new(any, port)
}
