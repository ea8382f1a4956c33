//! The clinic's lab as a proving ground: packets go in at any zone or from the gateway itself, and are seen where they
//! arrive. Every machine is mute but for what the trial sends.
//!
//! All work is pinned to one processor, where the kernel handles packets in the order in which they were sent: when a
//! marker has passed, everything before it has arrived or was dropped. So nothing here waits for time to go by.
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use ipnet::IpNet;
use lab::{Capture, Direction, Host, HostSpec, Injector, Lab, LabBuilder, Spec, ZoneSpec};
use policy::model::{Policy, ZoneId};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use socket2::{Domain, Protocol, Socket, Type};

use crate::pool::Pools;
use crate::wire;

/// The mark of packets that a trial sends from the gateway; everything else that the gateway says is suppressed.
const OURS: u32 = 0x51;
/// The table that silences a machine; the gateway's is the one table there that is not under trial.
pub(crate) const MUTE_TABLE: &str = "mute";
pub(crate) const ETHERNET_BYTES: usize = 14;
/// IEEE 802 local experimental: nobody answers.
const MARKER_TYPE: [u8; 2] = [0x88, 0xb5];
/// A packet crosses at most three queues: the gateway's, a bridge's, the host's.
const MARKER_ROUNDS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(20);
/// Protocols that a listener in the gateway exists for. IPv6 has extension headers at some of the numbers.
const LISTENED: [i32; 10] = [1, 2, 6, 17, 47, 50, 58, 89, 132, 253];
const LISTENER_BUFFER_BYTES: usize = 16 << 20;
/// Never an accident: these run out long before a trial ends otherwise.
const LASTING: [&str; 3] =
    ["nf_conntrack_generic_timeout", "nf_conntrack_gre_timeout", "nf_conntrack_gre_timeout_stream"];

/// Where a packet arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seat {
    /// At the gateway itself, past its rules.
    Gateway,
    /// At a machine in this zone.
    Zone(ZoneId),
}

/// A packet that arrived.
pub(crate) struct Sighting {
    pub(crate) tag: u32,
    pub(crate) seat: Seat,
    /// From the IP header on; from the gateway's IPv6 listeners, from behind it.
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Ground {
    pub(crate) lab: Lab,
    posts: BTreeMap<ZoneId, Post>,
    gateway: Mouth,
    markers: Capture,
    marker: u32,
}

/// A zone's machine that sends for the whole zone and receives for it.
struct Post {
    interface: String,
    mac: [u8; 6],
    gateway_mac: [u8; 6],
    injector: Injector,
    capture: Capture,
}

/// The gateway's own sockets.
struct Mouth {
    listeners: Vec<Socket>,
    four: BTreeMap<Option<String>, Socket>,
    six: BTreeMap<Option<String>, Socket>,
}

impl Ground {
    pub(crate) fn new(policy: &Policy, pools: &Pools) -> Self {
        pin();
        let lab = LabBuilder::new(clinic(policy))
            .forwarding(true)
            .build()
            .unwrap_or_else(|error| panic!("{error}"));
        let zones = policy.zones().filter(|(_, zone)| zone.interface.is_some());
        let posts: BTreeMap<_, _> = zones
            .map(|(id, zone)| (id, Post::new(&lab, &zone.name, zone.interface.as_deref().unwrap())))
            .collect();
        lab.pin_neighbours(&pools.neighbours(policy)).expect("neighbours");
        for key in LASTING {
            // A kernel without GRE tracking has no such setting, and tracks GRE generically.
            let _ = lab.gateway().namespace().set_sysctl(&format!("netfilter/{key}"), "86400");
        }
        let interfaces: Vec<&str> = posts.values().map(|post| post.interface.as_str()).collect();
        let gateway = lab.gateway().run_in(|| Mouth::new(&interfaces)).expect("the gateway's namespace");
        let markers = Capture::start(lab.leg("management").unwrap()).unwrap();
        let ground = Ground { lab, posts, gateway, markers, marker: 0 };
        ground.silence();
        ground
    }

    /// Sends IP packets into the gateway from a zone's interface.
    pub(crate) fn send_from(&self, interface: &str, packets: &[Vec<u8>]) {
        let Some(post) = self.posts.values().find(|post| post.interface == interface) else {
            panic!("no zone at {interface}");
        };
        for packet in packets {
            post.injector.send(&post.frame(packet)).expect("room for a frame");
        }
    }

    /// Sends an IP packet from the gateway itself; `egress` only where the destination does not decide it.
    /// A refusal is the firewall's answer, so it is no error here.
    pub(crate) fn send_locally(&self, egress: Option<&str>, destination: IpAddr, packets: &[Vec<u8>]) {
        let sockets = if destination.is_ipv4() { &self.gateway.four } else { &self.gateway.six };
        let socket = &sockets[&egress.map(str::to_owned)];
        for packet in packets {
            let _ = socket.send_to(packet, &SocketAddr::new(destination, 0).into());
        }
    }

    /// Fails when the connection table came near its end: then packets would be dropped for another reason.
    pub(crate) fn assert_room_for_connections(&self) {
        let number = |key: &str| -> usize {
            let text = self.lab.gateway().namespace().sysctl(&format!("netfilter/{key}")).expect("a setting");
            text.parse().expect("a number")
        };
        let (count, max) = (number("nf_conntrack_count"), number("nf_conntrack_max"));
        assert!(
            count * 2 < max,
            "{count} connections of at most {max}: raise net.netfilter.nf_conntrack_max"
        );
    }

    /// Everything that arrived, once everything has.
    pub(crate) fn collect(&mut self) -> Vec<Sighting> {
        self.settle();
        let mut sightings = Vec::new();
        for (zone, post) in &mut self.posts {
            for frame in post.capture.drain().expect("a capture") {
                let bytes = frame.bytes.get(ETHERNET_BYTES..).unwrap_or_default();
                if let (Direction::In, Some(tag)) = (frame.direction, wire::tag_of(bytes)) {
                    sightings.push(Sighting { tag, seat: Seat::Zone(*zone), bytes: bytes.to_vec() });
                }
            }
            assert_eq!(post.capture.dropped(), 0, "the capture at {} overflowed", post.interface);
        }
        hear(&mut self.gateway.listeners, &mut sightings);
        sightings
    }

    fn settle(&mut self) {
        for _ in 0..MARKER_ROUNDS {
            self.marker += 1;
            let post = self.posts.values().find(|post| post.interface == "lan-mgmt").expect("management");
            let body = [&MARKER_TYPE[..], &self.marker.to_be_bytes(), &[0; 46]].concat();
            let frame = [&post.gateway_mac[..], &post.mac, &body].concat();
            post.injector.send(&frame).expect("room for a marker");
            let seen = self.markers.wait_for(1, PATIENCE, |seen| seen.bytes == frame).expect("a capture");
            assert_eq!(seen.len(), 1, "a marker was lost");
        }
    }

    /// Takes the word from every machine: answers would mix with what a trial sends.
    fn silence(&self) {
        let at = |hook: &str, rest: &str| {
            format!("chain {hook} {{\ntype filter hook {hook} priority -500; policy {rest}\n}}\n")
        };
        let all =
            format!("table inet {MUTE_TABLE} {{\n{}{}}}", at("prerouting", "drop;"), at("output", "drop;"));
        let others = at("output", &format!("accept;\nmeta mark != {OURS} drop"));
        let ours = format!("table inet {MUTE_TABLE} {{\n{others}}}");
        nft(self.lab.gateway(), &ours);
        self.lab.hosts().for_each(|host| nft(host, &all));
    }
}

impl Post {
    fn new(lab: &Lab, zone: &str, interface: &str) -> Self {
        // The one that the neighbour entries name: the zone's first.
        let host = lab.hosts().find(|host| host.zone() == zone).expect("a machine in each zone");
        let injector = Injector::new(host.leg()).expect("an injector");
        let capture = Capture::start(host.leg()).expect("a capture");
        let gateway_mac = lab.leg(zone).expect("a leg").mac();
        Post { interface: interface.to_owned(), mac: host.leg().mac(), gateway_mac, injector, capture }
    }

    fn frame(&self, packet: &[u8]) -> Vec<u8> {
        let (destination, ethertype) = match packet[0] >> 4 {
            4 => (multicast4(packet[16..20].try_into().unwrap()), [0x08, 0x00]),
            _ => (multicast6(packet[24..40].try_into().unwrap()), [0x86, 0xdd]),
        };
        let mut frame = destination.unwrap_or(self.gateway_mac).to_vec();
        frame.extend(self.mac.iter().chain(&ethertype).chain(packet));
        frame
    }
}

impl Mouth {
    fn new(interfaces: &[&str]) -> Self {
        let bound = interfaces.iter().map(|name| Some((*name).to_owned()));
        let egresses: Vec<Option<String>> = bound.chain([None]).collect();
        let sender =
            |domain| move |egress: Option<String>| (egress.clone(), sender(domain, egress.as_deref()));
        Mouth {
            listeners: listeners(),
            four: egresses.iter().cloned().map(sender(Domain::IPV4)).collect(),
            six: egresses.iter().cloned().map(sender(Domain::IPV6)).collect(),
        }
    }
}

/// Raw sockets of the machine that this is called in: behind its rules, they see all that is for itself.
pub(crate) fn listeners() -> Vec<Socket> {
    let both = |number: &i32| [listener(Domain::IPV4, *number), listener(Domain::IPV6, *number)];
    LISTENED.iter().flat_map(both).collect()
}

/// Takes what the gateway's raw sockets got.
pub(crate) fn hear(listeners: &mut [Socket], sightings: &mut Vec<Sighting>) {
    let mut buffer = vec![0; 4096];
    for socket in listeners {
        while let Ok(length) = std::io::Read::read(socket, &mut buffer) {
            if let Some(tag) = wire::tag_of(&buffer[..length]) {
                sightings.push(Sighting { tag, seat: Seat::Gateway, bytes: buffer[..length].to_vec() });
            }
        }
    }
}

fn listener(domain: Domain, number: i32) -> Socket {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(number))).expect("a raw socket");
    socket.set_nonblocking(true).expect("nonblocking");
    socket.set_recv_buffer_size(LISTENER_BUFFER_BYTES).expect("a buffer");
    socket
}

/// A socket that sends whole IP packets, with any source (raw(7), ipv6(7)).
fn sender(domain: Domain, egress: Option<&str>) -> Socket {
    const RAW: i32 = 255;
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW))).expect("a raw socket");
    socket.set_mark(OURS).expect("a mark");
    socket.set_broadcast(true).expect("broadcast");
    // Copies of its own multicast would come back to the gateway.
    if domain == Domain::IPV4 {
        socket.set_multicast_loop_v4(false).expect("no loop");
    } else {
        socket.set_multicast_loop_v6(false).expect("no loop");
    }
    socket.bind_device(egress.map(str::as_bytes)).expect("an interface");
    socket
}

/// RFC 1112 section 6.4.
fn multicast4(address: [u8; 4]) -> Option<[u8; 6]> {
    let [a, b, c, d] = address;
    match a {
        224..=239 => Some([1, 0, 0x5e, b & 0x7f, c, d]),
        255 => Some([0xff; 6]),
        // The directed broadcasts of the clinic's networks, which are all /24.
        _ if d == 255 => Some([0xff; 6]),
        _ => None,
    }
}

/// RFC 2464 section 7.
fn multicast6(address: [u8; 16]) -> Option<[u8; 6]> {
    let [.., a, b, c, d] = address;
    (address[0] == 0xff).then_some([0x33, 0x33, a, b, c, d])
}

pub(crate) fn nft(host: &Host, text: &str) {
    let mut command = host.command("nft");
    let mut child =
        command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nft");
    writeln!(child.stdin.take().unwrap(), "{text}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The clinic's lab, and one peer of the VPN: what is behind the tunnel's interface is a machine on a wire here.
fn clinic(policy: &Policy) -> Spec {
    let Some(vpn) = &policy.vpn else { return Spec::clinic() };
    let zone = policy.zone(vpn.zone);
    let (mut own4, mut own6) = (None, None);
    for own in &zone.gateway {
        match own {
            IpNet::V4(own) => own4 = Some(*own),
            IpNet::V6(own) => own6 = Some(*own),
        }
    }
    let (mut peer4, mut peer6) = (None, None);
    for address in vpn.peers.first().iter().flat_map(|peer| &peer.address) {
        match address {
            IpAddr::V4(address) => peer4 = Some(*address),
            IpAddr::V6(address) => peer6 = Some(*address),
        }
    }
    let interface = zone.interface.as_deref().expect("the tunnel's interface");
    let wire = ZoneSpec::new(&zone.name, interface, own4, own6);
    Spec::clinic().zone(wire.host(HostSpec::new("peer", peer4, peer6)))
}

/// Binds this thread, and those it will start, to one processor.
fn pin() {
    let allowed = sched_getaffinity(None).expect("the processors");
    let first = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).expect("a processor");
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).expect("a processor");
}
