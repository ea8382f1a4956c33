//! Grants in the kernel of the lab's gateway: a socket reaches exactly what the grant of its mark names, and nothing
//! after its end, with nobody there to end it.
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use etherparse::{Icmpv4Type, PacketBuilder, SlicedPacket, TransportSlice, icmpv4};
use lab::{Capture, Frame, Injector, Lab, LabBuilder, Server, ServerKind, Spec};
use netfilter::{Grant, GrantProtocol, GrantSet, LiveSet, Netfilter};
use policy::ruleset::{Mark, Ruleset};
use socket2::{Domain, Socket, Type};

use crate::kernel::SLACK;
use crate::scene::{Scene, day};

const MARK: u32 = 0x8000_0007;
const PORT: u16 = 7;
const OTHER_PORT: u16 = 9;
/// Nobody listens there.
const CLOSED_PORT: u16 = 1234;
const LONG: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must come of what is denied: in the lab an answer takes less than a millisecond.
const SILENCE: Duration = Duration::from_millis(400);
/// The 99th percentile of fifty ends, which is the worst of them (issue "Doors", done when 4).
const END_MAX: Duration = Duration::from_millis(200);
const ENDS: u32 = 50;

/// The lab with the example policy in force, echoes on the record server and on another device.
struct Site {
    lab: Lab,
    netfilter: Netfilter,
    ruleset: Ruleset,
    live: LiveSet,
    _servers: Vec<Server>,
}

impl Site {
    fn new() -> Self {
        let scene = Scene::clinic();
        let lab = LabBuilder::new(Spec::clinic()).forwarding(true).build().unwrap();
        let tcp = |host, port| lab.serve(host, ServerKind::TcpEcho.on(port)).unwrap();
        let servers = vec![
            tcp("ehr-server", PORT),
            tcp("ehr-server", OTHER_PORT),
            tcp("pacs", PORT),
            lab.serve("ehr-server", ServerKind::UdpEcho.on(PORT)).unwrap(),
        ];
        let mut netfilter = lab.gateway().run_in(Netfilter::open).unwrap().unwrap();
        let live = scene.live(day());
        netfilter.replace(&scene.ruleset, &live).unwrap_or_else(|error| panic!("{error}"));
        Site { lab, netfilter, ruleset: scene.ruleset, live, _servers: servers }
    }

    fn address(&self, host: &str, ip6: bool) -> IpAddr {
        let host = self.lab.host(host).unwrap();
        if ip6 { host.v6().unwrap().into() } else { host.v4().unwrap().into() }
    }

    fn grant(&self, mark: u32, protocol: GrantProtocol, ip6: bool) -> Grant {
        Grant { mark: Mark(mark), address: self.address("ehr-server", ip6), protocol, port: PORT }
    }

    fn add(&mut self, grants: impl IntoIterator<Item = (Grant, Duration)>) {
        let grants: GrantSet = grants.into_iter().collect();
        self.netfilter.add_grants(&grants).unwrap_or_else(|error| panic!("{error}"));
    }

    fn socket(&self, mark: u32, protocol: GrantProtocol, ip6: bool) -> Socket {
        let domain = if ip6 { Domain::IPV6 } else { Domain::IPV4 };
        let kind = match protocol {
            GrantProtocol::Tcp => Type::STREAM,
            GrantProtocol::Udp => Type::DGRAM,
        };
        let socket = self.lab.gateway().run_in(|| Socket::new(domain, kind, None)).unwrap().unwrap();
        if mark != 0 {
            socket.set_mark(mark).unwrap();
        }
        socket
    }

    /// Whether an echo comes back.
    fn is_reached(&self, mark: u32, protocol: GrantProtocol, to: SocketAddr, wait: Duration) -> bool {
        let mut socket = self.socket(mark, protocol, to.is_ipv6());
        if socket.connect_timeout(&to.into(), wait).is_err() {
            return false;
        }
        socket.set_read_timeout(Some(wait)).unwrap();
        is_echoed(&mut socket)
    }

    fn counter(&mut self, name: &str) -> u64 {
        self.netfilter.counters().unwrap()[name].0
    }
}

fn is_echoed(socket: &mut Socket) -> bool {
    let mut buffer = [0; 64];
    socket.write_all(b"grant").is_ok()
        && socket.read(&mut buffer).is_ok_and(|length| &buffer[..length] == b"grant")
}

#[test]
fn a_marked_socket_reaches_exactly_what_its_grant_names() {
    use GrantProtocol::{Tcp, Udp};
    let mut site = Site::new();
    for ip6 in [false, true] {
        let (server, other) = (site.address("ehr-server", ip6), site.address("pacs", ip6));
        let to = |port| SocketAddr::new(server, port);
        for protocol in [Tcp, Udp] {
            let mark = MARK + u32::from(ip6) * 2 + u32::from(protocol == Udp);
            assert!(!site.is_reached(mark, protocol, to(PORT), SILENCE), "{server} {protocol} before");
            let grant = site.grant(mark, protocol, ip6);
            site.add([(grant, LONG)]);
            let carried = site.counter("control-grants");
            assert!(site.is_reached(mark, protocol, to(PORT), PATIENCE), "{grant}");
            assert!(site.counter("control-grants") >= carried + 2, "both directions are counted");
            let another = if protocol == Tcp { Udp } else { Tcp };
            let elsewhere = SocketAddr::new(other, PORT);
            for (mark, protocol, to, counter) in [
                (mark, protocol, to(OTHER_PORT), "grant-ended"),
                (mark, protocol, elsewhere, "grant-ended"),
                (mark, another, to(PORT), "grant-ended"),
                (mark + 0x100, protocol, to(PORT), "grant-ended"),
                (0x51, protocol, to(PORT), "denied-gateway-to-ehr"),
                (0, protocol, to(PORT), "denied-gateway-to-ehr"),
            ] {
                let before = site.counter(counter);
                assert!(!site.is_reached(mark, protocol, to, SILENCE), "{mark:#x} reaches {to} {protocol}");
                assert!(site.counter(counter) > before, "{mark:#x} to {to} {protocol} is not counted");
            }
            site.netfilter.remove_grants(&[grant]).unwrap();
            assert!(!site.is_reached(mark, protocol, to(PORT), SILENCE), "{grant} after");
        }
    }
}

#[test]
fn applies_leave_open_grants_alone_and_a_closed_gateway_ends_them() {
    let mut site = Site::new();
    let grant = site.grant(MARK, GrantProtocol::Tcp, false);
    site.add([(grant, LONG)]);
    let mut relay = site.socket(MARK, GrantProtocol::Tcp, false);
    relay.connect_timeout(&SocketAddr::new(grant.address, PORT).into(), PATIENCE).unwrap();
    relay.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(is_echoed(&mut relay));
    let other = Scene::overlapping();
    let live = other.live(day());
    site.netfilter.update(&site.ruleset, &other.ruleset, &live).unwrap();
    assert_eq!(site.netfilter.verify(&other.ruleset, &live, SLACK).unwrap(), []);
    assert!(is_echoed(&mut relay), "after another policy");
    // As after a repair: everything is loaded anew, over what is there.
    site.netfilter.replace(&site.ruleset, &site.live).unwrap();
    assert_eq!(site.netfilter.verify(&site.ruleset, &site.live, SLACK).unwrap(), []);
    assert!(is_echoed(&mut relay), "after a load of everything");
    let left = site.netfilter.grants().unwrap()[&grant].unwrap();
    assert!(left <= LONG, "{left:?}: no load makes a grant longer");
    site.netfilter.replace(&policy::compile::closed(), &LiveSet::new()).unwrap();
    site.netfilter.replace(&site.ruleset, &site.live).unwrap();
    assert!(site.netfilter.grants().unwrap().is_empty());
    relay.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(!is_echoed(&mut relay), "after the gateway was closed");
}

#[test]
fn errors_about_a_granted_connection_follow_it_and_end_with_it() {
    let mut site = Site::new();
    let grant = Grant { port: CLOSED_PORT, ..site.grant(MARK, GrantProtocol::Udp, false) };
    let six = Grant { port: CLOSED_PORT, ..site.grant(MARK, GrantProtocol::Udp, true) };
    site.add([(grant, LONG), (six, LONG)]);
    let server = site.lab.host("ehr-server").unwrap();
    let mut capture = Capture::start(server.leg()).unwrap();
    for grant in [grant, six] {
        let mut socket = site.socket(MARK, GrantProtocol::Udp, grant.address.is_ipv6());
        socket.connect(&SocketAddr::new(grant.address, CLOSED_PORT).into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(b"anybody?").unwrap();
        let error = socket.read(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{grant}");
    }
    // The same message once more, by hand: it passes while the grant lasts, and not afterwards.
    let asked = |frame: &Frame| port_of(frame).is_some_and(|(_, to)| to == CLOSED_PORT);
    let asked = capture.wait_for(1, PATIENCE, asked).unwrap();
    let error = unreachable(&asked[0]);
    let injector = Injector::new(site.lab.host("ehr-server").unwrap().leg()).unwrap();
    for (counter, ended) in [("control-grants", false), ("grant-ended", true)] {
        if ended {
            site.netfilter.remove_grants(&[grant]).unwrap();
        }
        let before = site.counter(counter);
        injector.send(&error).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while site.counter(counter) == before {
            assert!(Instant::now() < deadline, "the error is not counted by {counter}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The message that the server would send about a frame that it received (RFC 792).
fn unreachable(about: &Frame) -> Vec<u8> {
    let header = |range: std::ops::Range<usize>| about.bytes[range].try_into().unwrap();
    let address = |range: std::ops::Range<usize>| about.bytes[range].try_into().unwrap();
    let mut message = Vec::new();
    PacketBuilder::ethernet2(header(0..6), header(6..12))
        .ipv4(address(30..34), address(26..30), 64)
        .icmpv4(Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port))
        .write(&mut message, &about.bytes[14..])
        .unwrap();
    message
}

#[test]
fn the_kernel_ends_grants_on_time_with_nobody_there() {
    let mut site = Site::new();
    let mut relays = relays(&site);
    let all: Vec<(Grant, Duration)> =
        (0..ENDS).map(|number| (relay_grant(&site, number), life(number))).collect();
    let mut capture = capture(&site);
    site.add(all.iter().copied());
    let begun = SystemTime::now();
    // Nobody is left who could end anything.
    let Site { lab, netfilter, _servers, .. } = site;
    drop(netfilter);
    connect(&lab, &mut relays);
    forget(&mut capture);
    let ends = relay_until(&mut relays, begun + life(ENDS) + SILENCE, |number| begun + life(number));
    let frames = capture.drain_filtered(|frame| port_of(frame).is_some()).unwrap();
    assert_eq!(capture.dropped(), 0, "the capture overflowed");
    judge("the end of its time", &frames, &ends);
}

#[test]
fn a_removed_grant_stops_running_connections() {
    let mut site = Site::new();
    let mut relays = relays(&site);
    let all: Vec<(Grant, Duration)> = (0..ENDS).map(|number| (relay_grant(&site, number), LONG)).collect();
    let mut capture = capture(&site);
    site.add(all.iter().copied());
    connect(&site.lab, &mut relays);
    forget(&mut capture);
    relay_until(&mut relays, SystemTime::now() + SILENCE, |_| SystemTime::now() + LONG);
    let grants: Vec<Grant> = all.iter().map(|(grant, _)| *grant).collect();
    site.netfilter.remove_grants(&grants).unwrap();
    let removed = SystemTime::now();
    let ends = relay_until(&mut relays, removed + SILENCE, |_| removed);
    let frames = capture.drain_filtered(|frame| port_of(frame).is_some()).unwrap();
    assert_eq!(capture.dropped(), 0, "the capture overflowed");
    judge("a removal", &frames, &ends);
}

/// A relay that knows of no end: it sends and reads as long as it is let.
struct Relay {
    socket: Socket,
    to: SocketAddr,
    port: u16,
    /// When it last read something.
    heard: Option<SystemTime>,
}

/// When a relay's grant ended, when it last heard anything, by its own port.
type Ends = BTreeMap<u16, (SystemTime, Option<SystemTime>)>;

fn life(number: u32) -> Duration {
    Duration::from_millis(1500 + 20 * u64::from(number))
}

fn protocol(number: u32) -> GrantProtocol {
    if number.is_multiple_of(2) { GrantProtocol::Tcp } else { GrantProtocol::Udp }
}

fn relay_grant(site: &Site, number: u32) -> Grant {
    site.grant(MARK + number, protocol(number), number % 4 >= 2)
}

fn relays(site: &Site) -> Vec<Relay> {
    let relay = |number| {
        let grant = relay_grant(site, number);
        let socket = site.socket(grant.mark.0, grant.protocol, grant.address.is_ipv6());
        Relay { socket, to: SocketAddr::new(grant.address, PORT), port: 0, heard: None }
    };
    (0..ENDS).map(relay).collect()
}

fn connect(lab: &Lab, relays: &mut [Relay]) {
    for relay in relays {
        lab.gateway().run_in(|| relay.socket.connect_timeout(&relay.to.into(), PATIENCE)).unwrap().unwrap();
        relay.port = relay.socket.local_addr().unwrap().as_socket().unwrap().port();
        relay.socket.set_nonblocking(true).unwrap();
    }
}

fn relay_until(relays: &mut [Relay], until: SystemTime, end: impl Fn(u32) -> SystemTime) -> Ends {
    let mut buffer = [0; 1 << 16];
    while SystemTime::now() < until {
        for relay in &mut *relays {
            // Refused or not: it goes on.
            let _ = relay.socket.write(b"still here");
            while relay.socket.read(&mut buffer).is_ok_and(|length| length > 0) {
                relay.heard = Some(SystemTime::now());
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    (0..).zip(relays).map(|(number, relay)| (relay.port, (end(number), relay.heard))).collect()
}

fn capture(site: &Site) -> Capture {
    Capture::start(site.lab.host("ehr-server").unwrap().leg()).unwrap()
}

/// The kernel switches its timestamps on a little after a capture asked for them: the first frames carry the time at
/// which they are read.
fn forget(capture: &mut Capture) {
    drop(capture.drain().unwrap());
}

/// The source and destination port of what comes in from the gateway.
fn port_of(frame: &Frame) -> Option<(u16, u16)> {
    if frame.direction != lab::Direction::In {
        return None;
    }
    match SlicedPacket::from_ethernet(&frame.bytes).ok()?.transport? {
        TransportSlice::Tcp(tcp) => Some((tcp.source_port(), tcp.destination_port())),
        TransportSlice::Udp(udp) => Some((udp.source_port(), udp.destination_port())),
        TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => None,
    }
}

/// The last packet on the target's leg, and the last that came back, of every relay.
fn judge(what: &str, frames: &[Frame], ends: &Ends) {
    assert_eq!(ends.len(), ENDS as usize);
    let mut sent: BTreeMap<u16, (SystemTime, u32)> = BTreeMap::new();
    for frame in frames {
        if let Some((from, _)) = port_of(frame) {
            let entry = sent.entry(from).or_insert((frame.at, 0));
            *entry = (entry.0.max(frame.at), entry.1 + 1);
        }
    }
    let late = |at: SystemTime, end: SystemTime| at.duration_since(end).unwrap_or_default();
    let mut forth = Vec::new();
    let mut back = Vec::new();
    for (port, (end, heard)) in ends {
        let (last, count) = sent[port];
        assert!(count > 20, "port {port} sent {count} packets: it was hardly running");
        let early = end.duration_since(last).unwrap_or_default();
        assert!(early < END_MAX, "port {port} fell silent {early:?} before its end");
        forth.push(late(last, *end));
        back.push(late(heard.expect("something came back"), *end));
    }
    for (direction, times) in [("to the target", &mut forth), ("back", &mut back)] {
        times.sort_unstable();
        // Of fifty the 99th percentile is the last.
        let worst = times.last().copied().unwrap_or_default();
        let median = times[times.len() / 2];
        println!("{what}: last packet {direction} after the end: median {median:?}, p99 {worst:?}");
        assert!(worst <= END_MAX, "{direction}: {times:?}");
    }
}
