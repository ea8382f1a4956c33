//! Without an approved session: whatever comes from the vendor, the internet or the inside of the VPN, by every protocol,
//! nothing of it leaves on a leg of the clinic; and edge, which hears it all, grows no more than its document says.
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use gateway::wire::doors::SessionId;
use lab::{Capture, Direction, Frame, GATEWAY_WAN_V4, GATEWAY_WAN_V6, Host, Injector, Lab, Leg};
use transport::{Carrier, Credentials, Pin};

use crate::{
    guests::{Authority, is_welcome, key_of, lies, of_home, uninvited},
    packets::{Directions, datagram, framed, syn},
    ready::{self, Ready},
    site::Random,
    tunnelled::{self, OWN, Peer},
    whole::{DOORS, Engineer, FILES, PATIENCE, Roles, during, eventually},
};

/// Of each side, at least; the issue asks for 100,000 in all.
const PROBES: usize = 100_000;
const OF_THE_LINE: usize = 20_000;
const OF_THE_TUNNEL: usize = 20_000;
const OF_LIARS: usize = 40;
const REPLAYS: usize = 10;
/// Packets that are sent without a pause: fewer than a link keeps for a busy receiver.
const BURST: usize = 100;
const CLINIC: [&str; 6] = ["ehr", "billing", "modality", "staff", "guest", "management"];
/// Strangers have 64 handshakes at once and 16 KiB each (docs/maintenance.md), guests 16 MiB a channel; one is here.
const EDGE_GROWTH_KIB: u64 = 16 << 10;
/// What the unit gives to edge (`MemoryMax=`) is four times this.
const EDGE_KIB: u64 = 128 << 10;
/// Where the kernel reports its groups to: ff02::16 (RFC 3810).
pub(crate) const LISTENERS: [u8; 6] = [0x33, 0x33, 0, 0, 0, 0x16];
/// How long what was sent may take to show.
const SETTLE: Duration = Duration::from_secs(2);

#[test]
fn of_a_hundred_thousand_probes_without_a_session_none_comes_to_the_clinic() {
    let policy = format!("{}{FILES}{}", ready::policy(), tunnelled::policy());
    during(&policy, |ready, roles, _| {
        let suzuki = Engineer::enrolled(ready, "vendor", "suzuki");
        let sato = Engineer::enrolled(ready, "vendor", "sato");
        ready.echo("ehr-server", 22);
        let (recording, killed) = recorded(ready, &suzuki);
        let peer = connected(ready);
        let sessions = sessions(&suzuki, &sato, ready, killed);
        settled(ready.site.lab());
        let (mut legs, memory) = (Legs::start(ready.site.lab()), Memory::start(roles));
        let (begun, heard) = (Instant::now(), received(ready.site.lab()));
        let mut counts = BTreeMap::new();
        counts.insert("handshakes of strangers", strangers(ready, &suzuki));
        counts.insert("lies of an engineer", of_a_liar(ready, &suzuki, &sessions));
        counts.insert("connections with noise", noisy(ready));
        counts.insert("ports", every_port(ready.site.lab()));
        counts.insert("packets on the line", on_the_line(ready.site.lab()));
        counts.insert("replays", replayed(ready.site.lab(), &recording));
        counts.insert("packets in the tunnel", in_the_tunnel(ready, &peer));
        let took = begun.elapsed();
        thread::sleep(SETTLE);
        let probes: usize = counts.values().sum();
        let heard = received(ready.site.lab()) - heard;
        println!("{probes} probes in {took:?}, {heard} packets came to the gateway's line: {counts:?}");
        assert!(probes >= PROBES && heard >= u64::try_from(PROBES).unwrap(), "too few: {counts:?}, {heard}");
        legs.assert_silent(ready.site.lab());
        memory.assert_bounded(roles);
        roles.assert_alive();
        ready.site.assert_verified();
        still_comes_in(ready, &suzuki, &mut legs);
    });
}

/// A real session over both carriers, and everything that came to the gateway's line for it; then it is killed.
fn recorded(ready: &Ready, engineer: &Engineer<'_>) -> (Vec<Vec<u8>>, SessionId) {
    let mut capture = Capture::start(ready.site.lab().leg("wan").unwrap()).unwrap();
    let session = open(ready, engineer);
    ready.site.run(&["session", "kill", session.as_str()]).succeeded();
    let frames = capture.drain_filtered(|frame| frame.direction == Direction::In).unwrap();
    let is_ip = |frame: &Frame| matches!(frame.bytes.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
    let frames: Vec<_> = frames.into_iter().filter(is_ip).map(|frame| frame.bytes).collect();
    assert!(frames.len() > 50, "{} frames are no session", frames.len());
    (frames, session)
}

/// Opens a session and works in it over QUIC and TCP; the words come back. An address that came too often is let in again
/// a little later.
fn open(ready: &Ready, engineer: &Engineer<'_>) -> SessionId {
    let session = asked(engineer, "auto");
    let mut held = [("quic", 2201), ("tcp", 2202)]
        .map(|(transport, port)| (transport, port, engineer.connect(&session, transport, port)));
    // A code counts once: that of the step after this one is good, too.
    let approve = || ready.approve(&session, "taro", &ready.taro.code(1), &[]).code == Some(0);
    eventually("the approval", approve);
    for (transport, port, held) in &mut held {
        eventually("a word comes back", || {
            if held.has_ended() {
                *held = engineer.connect(&session, transport, *port);
            }
            engineer.echoes(*port)
        });
    }
    session
}

fn asked(engineer: &Engineer<'_>, transport: &str) -> SessionId {
    let mut asked = None;
    eventually("the request", || {
        asked = engineer.request(transport);
        asked.is_some()
    });
    asked.unwrap()
}

/// The doctor's notebook, with a tunnel that works.
fn connected(ready: &Ready) -> Peer {
    let mut public = None;
    eventually("the VPN", || {
        public = tunnelled::status(&ready.site).map(|status| status.public_key);
        public.is_some()
    });
    let door = SocketAddr::new(GATEWAY_WAN_V4.into(), 51820);
    let host = ready.site.lab().host("doctor").unwrap();
    let peer = Peer::start(host, door, &public.unwrap());
    let (own, gateway): (IpAddr, IpAddr) = (OWN[0].parse().unwrap(), [10, 90, 0, 1].into());
    eventually("a handshake", || {
        peer.send(&datagram((own, 4000), (gateway, 4000), b"hello"));
        let status = tunnelled::status(&ready.site).unwrap();
        status.peers.iter().any(|peer| peer.handshake_at.is_some())
    });
    peer
}

/// Sessions that lead nowhere, and how a way into each is refused.
fn sessions(
    suzuki: &Engineer<'_>,
    sato: &Engineer<'_>,
    ready: &Ready,
    killed: SessionId,
) -> Vec<(SessionId, &'static str)> {
    let [waiting, denied] = [(); 2].map(|()| asked(suzuki, "tcp"));
    ready.site.run(&["session", "deny", denied.as_str(), "--reason", "今日は不要"]).succeeded();
    let another = asked(sato, "tcp");
    let nobodys = SessionId::try_from("s-aaaaaaaaaaaa".to_owned()).unwrap();
    vec![
        (waiting, "not-open"),
        (denied, "not-open"),
        (killed, "not-open"),
        (another, "no-such-session"),
        (nobodys, "no-such-session"),
    ]
}

/// Waits until the gateway asks none of its neighbours for the sake of what was before.
fn settled(lab: &Lab) {
    eventually("the neighbours are known or forgotten", || {
        let listed = lab.gateway().output("ip", &["neighbour", "show"]).unwrap();
        !["INCOMPLETE", "DELAY", "PROBE"].iter().any(|state| listed.contains(state))
    });
}

/// Everybody with a certificate that is none: gets no word, by either carrier and family.
fn strangers(ready: &Ready, engineer: &Engineer<'_>) -> usize {
    // An address that has not come before: nobody is turned away unheard.
    let host = ready.site.lab().host("web").unwrap();
    let (_, pin) = of_home(&engineer.home);
    let clinic = Authority::stolen(&ready.site.state());
    let unknown = transport::FreshKey::make().unwrap();
    let who: [(&str, Credentials); 4] = [
        ("a key that certifies itself", uninvited()),
        ("another authority's", Authority::foreign().sign(key_of(&engineer.home), (2020, 2090))),
        ("one that has expired", clinic.sign(key_of(&engineer.home), (2020, 2021))),
        ("a key that is not on the list", clinic.sign(unknown, (2020, 2090))),
    ];
    let mut count = 0;
    for door in DOORS {
        for (what, who) in &who {
            for carrier in [Carrier::Tcp, Carrier::Quic] {
                let door = door.parse().unwrap();
                assert!(!is_welcome(host, door, who, &pin, carrier), "{what}: {door} {carrier:?}");
                count += 1;
            }
        }
    }
    // The same attempt is good when the certificate is.
    let right = clinic.sign(key_of(&engineer.home), (2020, 2090));
    assert!(is_welcome(host, DOORS[0].parse().unwrap(), &right, &pin, Carrier::Tcp), "the control");
    count
}

fn of_a_liar(ready: &Ready, engineer: &Engineer<'_>, sessions: &[(SessionId, &str)]) -> usize {
    let host = ready.site.lab().host("vendor").unwrap();
    let (who, pin): (Credentials, Pin) = of_home(&engineer.home);
    let by =
        |door: &str, carrier| lies(host, door.parse().unwrap(), (&who, &pin), carrier, sessions, OF_LIARS);
    by(DOORS[0], Carrier::Tcp) + by(DOORS[1], Carrier::Quic)
}

/// Real connections to the door that say something else than TLS.
fn noisy(ready: &Ready) -> usize {
    use std::io::Write as _;
    let host = ready.site.lab().host("vendor").unwrap();
    let words: [&[u8]; 5] =
        [b"", b"\x16", b"\x16\x03\x01\xff\xff\x01\x00\xff\xfc", b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\r\n\r\n"];
    host.run_in(|| {
        let mut open = Vec::new();
        for number in 0..500 {
            let door: SocketAddr = DOORS[number % 2].parse().unwrap();
            let Ok(mut stream) = TcpStream::connect_timeout(&door, PATIENCE) else { continue };
            let _ = stream.write_all(words[number % words.len()]);
            open.push(stream);
        }
        open.len()
    })
    .unwrap()
}

/// A connection attempt at every TCP port over IPv4, and a datagram at every UDP port over IPv6.
fn every_port(lab: &Lab) -> usize {
    let vendor = lab.host("vendor").unwrap();
    let router = leg_of(lab.host("internet").unwrap(), "vendor-site");
    let (injector, mac) = (Injector::new(vendor.leg()).unwrap(), vendor.leg().mac());
    let (v4, v6) = (vendor.v4().unwrap().into(), vendor.v6().unwrap().into());
    let mut pace = Pace::default();
    for port in 1..=u16::MAX {
        let attempt = syn((v4, 40_000), (GATEWAY_WAN_V4.into(), port));
        let one = datagram((v6, 40_000), (GATEWAY_WAN_V6.into(), port), &port.to_be_bytes());
        for packet in [attempt, one] {
            injector.send(&framed(mac, router.mac(), &packet)).unwrap();
            pace.count();
        }
    }
    pace.0
}

/// Everything else, from the provider's end of the line, where every sender can be claimed.
fn on_the_line(lab: &Lab) -> usize {
    let near = leg_of(lab.host("internet").unwrap(), "wan");
    let (injector, to) = (Injector::new(near).unwrap(), lab.leg("wan").unwrap().mac());
    let senders = ["internet", "vendor", "doctor", "web", "ehr-server", "admin", "phone"];
    let mut senders = addresses(lab, &senders);
    senders.extend(claimed(&["127.0.0.1", "0.0.0.0", "255.255.255.255", "8.8.8.8", OWN[0], "203.0.113.2"]));
    senders.extend(claimed(&["::1", "::", "fe80::1", "ff02::1", "2001:4860::8888", OWN[1]]));
    let directions = Directions { senders, targets: targets(lab) };
    let (mut random, mut pace) = (Random::new("packets on the line"), Pace::default());
    for packet in directions.plain() {
        injector.send(&framed(near.mac(), to, &packet)).unwrap();
        pace.count();
    }
    while pace.0 < OF_THE_LINE {
        for packet in directions.packet(&mut random) {
            injector.send(&framed(near.mac(), to, &packet)).unwrap();
            pace.count();
        }
    }
    pace.0
}

/// What a real session's packets were, again and again.
fn replayed(lab: &Lab, recording: &[Vec<u8>]) -> usize {
    let injector = Injector::new(leg_of(lab.host("internet").unwrap(), "wan")).unwrap();
    let mut pace = Pace::default();
    for _ in 0..REPLAYS {
        for frame in recording {
            // Frames that offloads made longer than the line are what the line would have split.
            if injector.send(frame).is_ok() {
                pace.count();
            }
        }
    }
    assert!(pace.0 >= recording.len(), "{} of {} were replayed", pace.0, recording.len());
    pace.0
}

/// From inside the tunnel, as the peer and as others.
fn in_the_tunnel(ready: &Ready, peer: &Peer) -> usize {
    let lab = ready.site.lab();
    let before = peer_bytes(ready);
    let mut senders = claimed(&[OWN[0], OWN[0], OWN[0], OWN[1], OWN[1], OWN[1], "10.90.0.1", "10.90.0.77"]);
    senders.extend(claimed(&["fd51:7ec5:0:ff::1", "fd51:7ec5:0:ff::77"]));
    senders.extend(addresses(lab, &["doctor", "ehr-server", "admin"]));
    let directions = Directions { senders, targets: targets(lab) };
    let (mut random, mut pace, mut tried) = (Random::new("packets in the tunnel"), Pace::default(), 0);
    for packet in directions.plain() {
        if peer.send(&packet) {
            pace.count();
        }
    }
    while pace.0 < OF_THE_TUNNEL {
        for packet in directions.packet(&mut random) {
            tried += 1;
            assert!(tried < 3 * OF_THE_TUNNEL, "the peer's own kernel lets nothing out");
            if peer.send(&packet) {
                pace.count();
            }
        }
    }
    thread::sleep(SETTLE);
    let arrived = peer_bytes(ready) - before;
    println!("{arrived} bytes of {} packets came out of the tunnel as the peer's own", pace.0);
    assert!(arrived > 1_000 * 40, "hardly anything came through the tunnel");
    pace.0
}

fn peer_bytes(ready: &Ready) -> u64 {
    tunnelled::status(&ready.site).unwrap().peers.iter().map(|peer| peer.received_bytes).sum()
}

/// The clinic's devices, their neighbours that are not there, the gateway on every leg, and everybody at once.
fn targets(lab: &Lab) -> Vec<IpAddr> {
    let devices = ["ehr-server", "pacs", "receipt", "ct", "reception", "phone", "admin"];
    let legs = lab.gateway().legs().iter();
    let own =
        legs.flat_map(|leg| [leg.v4().map(|n| IpAddr::from(n.addr())), leg.v6().map(|n| n.addr().into())]);
    let nobody = ["192.168.10.77", "192.168.10.255", "192.168.20.255", "255.255.255.255", "224.0.0.1"];
    let nobody6 = ["fd51:7ec5:0:10::77", "fd51:7ec5:0:20::77", "ff02::1", "ff05::2"];
    let mut all = addresses(lab, &devices);
    all.extend(own.flatten());
    all.extend(claimed(&nobody));
    all.extend(claimed(&nobody6));
    all
}

fn addresses(lab: &Lab, hosts: &[&str]) -> Vec<IpAddr> {
    hosts.iter().flat_map(|host| lab.host(host).unwrap().addresses()).collect()
}

fn claimed(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn leg_of<'a>(host: &'a Host, zone: &str) -> &'a Leg {
    host.legs().iter().find(|leg| leg.zone() == zone).unwrap()
}

/// Counts, and gives the receiver its turn.
#[derive(Default)]
struct Pace(usize);

impl Pace {
    fn count(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(BURST) {
            thread::sleep(Duration::from_micros(500));
        }
    }
}

/// Packets that an interface of the gateway's received, or sent.
fn counted(lab: &Lab, interface: &str, column: usize) -> u64 {
    let table = lab.gateway().run_in(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    let line = table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    line.unwrap().split_whitespace().nth(column).unwrap().parse().unwrap()
}

fn received(lab: &Lab) -> u64 {
    counted(lab, "eth0", 1)
}

/// Captures at every leg of the clinic.
struct Legs(Vec<(&'static str, Capture, u64)>);

impl Legs {
    fn start(lab: &Lab) -> Self {
        let start = |zone| {
            let leg = lab.leg(zone).unwrap();
            (zone, Capture::start(leg).unwrap(), counted(lab, leg.interface(), 9))
        };
        Self(CLINIC.map(start).into())
    }

    /// Fails unless the gateway sent nothing but answers to its neighbours' own questions where it is; the interface's
    /// own counter says the same as the capture.
    fn assert_silent(&mut self, lab: &Lab) {
        for (zone, capture, before) in &mut self.0 {
            let sent = capture.drain_filtered(|frame| frame.direction == Direction::Out).unwrap();
            assert_eq!(capture.dropped(), 0, "{zone}: not all was captured");
            let counted = counted(lab, lab.leg(zone).unwrap().interface(), 9) - *before;
            println!("{zone}: {} frames sent, {counted} by the counter", sent.len());
            assert_eq!(u64::try_from(sent.len()).unwrap(), counted, "{zone}: the interface counts otherwise");
            let unasked: Vec<_> = sent.iter().filter(|frame| !is_answer(&frame.bytes)).collect();
            assert!(
                unasked.is_empty(),
                "{zone}: {} packets, such as {:02x?}",
                unasked.len(),
                unasked[0].bytes
            );
        }
    }
}

/// A device of the clinic asks for the gateway's hardware address whenever it likes, whoever is outside: an ARP reply, a
/// neighbour advertisement. And the kernel says by itself which groups it listens to, up to seconds after it joined.
fn is_answer(frame: &[u8]) -> bool {
    let arp = frame.get(12..14) == Some(&[0x08, 0x06]) && frame.get(20..22) == Some(&[0, 2]);
    let advertisement =
        frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(20) == Some(&58) && frame.get(54) == Some(&136);
    arp || advertisement || frame.starts_with(&LISTENERS)
}

/// Edge's memory.
struct Memory {
    before_kib: u64,
}

impl Memory {
    fn start(roles: &mut Roles) -> Self {
        let pid = roles.of("sekisho-edge").pid();
        // 5: the peak is counted from here (proc_pid_clear_refs(5)).
        fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
        Self { before_kib: field(roles, "VmRSS") }
    }

    fn assert_bounded(&self, roles: &mut Roles) {
        let (before, peak, after) = (self.before_kib, field(roles, "VmHWM"), field(roles, "VmRSS"));
        println!("edge: {before} KiB before, {peak} KiB at most, {after} KiB after");
        assert!(peak < EDGE_KIB && peak.saturating_sub(before) < EDGE_GROWTH_KIB, "{before} -> {peak} KiB");
    }
}

fn field(roles: &mut Roles, name: &str) -> u64 {
    let status = roles.of("sekisho-edge").status().unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// The engineer whose machine sent much of it works as before; and what he does is seen at the leg.
fn still_comes_in(ready: &Ready, engineer: &Engineer<'_>, legs: &mut Legs) {
    let begun = Instant::now();
    let session = open(ready, engineer);
    println!("the engineer worked {:?} after the last probe", begun.elapsed());
    let (zone, capture, _) = &mut legs.0[0];
    let to_ssh = |frame: &Frame| {
        frame.direction == Direction::Out
            && frame.bytes.get(23) == Some(&6)
            && frame.bytes.get(36..38) == Some(&[0, 22])
    };
    assert!(!capture.drain_filtered(to_ssh).unwrap().is_empty(), "{zone}: the capture sees nothing");
    ready.site.run(&["session", "kill", session.as_str()]).succeeded();
}
