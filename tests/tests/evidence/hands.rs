//! Breaks one thing each, as a fault, a careless person or a stranger would, and gives the way back.
use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use gateway::wire::{Answer, FaultKind, doors::SessionState};
use jiff::{Timestamp, ToSpan};
use lab::Host;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{cases::Mend, clinic::Clinic, policies};

/// Outside, behind the line.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
/// How long is knocked at a port that nothing answers.
const KNOCK: Duration = Duration::from_millis(300);
/// RDP, AnyDesk, OpenVPN, PPTP, FTP.
const SUSPICIOUS: [u16; 5] = [3389, 6568, 1194, 1723, 21];
/// The address that routers have when they come out of their box.
const FOREIGN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
/// A router advertisement that makes its sender a default router for 30 minutes (RFC 4861, section 4.2); the kernel fills
/// the checksum in.
const ROUTER_ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
/// The interface of a device that somebody brought along, and its address.
const STRAY: &str = "stray";
const STRAY_MAC: &str = "02:00:00:00:66:66";
const STRAY_ADDRESS: &str = "192.168.20.66/24";
const MODALITY_GATEWAY: &str = "192.168.20.1";
const EHR_GATEWAY: &str = "192.168.10.1";
/// An element of `grants-ip4`: a mark that no session got yet, and the record server's SSH.
const NO_GRANT_OF_OURS: &str = "0x80ffffff . 192.168.10.10 . tcp . 22";
/// A port that no flow names.
const NO_PORT_OF_OURS: u16 = 8088;
/// C2SP tlog-tiles: so many entries fill a bundle.
const ENTRIES_OF_A_TILE: u32 = 256;
/// `sekisho verify` when the kernel differs from the policy, or did.
const DIFFERS: i32 = 6;
/// Rows of the ledger that do not fit into the least room it can have.
const TOO_MANY_ROWS: u32 = 190_000;
/// Connections that the kernel may hold at once are fewer: they are ended after so many.
const ROWS_AT_ONCE: u32 = 10_000;
/// How long the record role may take to read its settings again.
const ROOM_LIMIT: Duration = Duration::from_secs(30);
/// Lengths of what the log is filled with: the first nearly as long as an entry can be.
const FILLERS_BYTES: [usize; 3] = [50_000, 1_000, 1];
/// How long filling the smallest log may take, in a debug build on a loaded machine.
const FILL_LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn careless_accounts(clinic: &mut Clinic) -> Mend {
    apply(clinic, &policies::careless_accounts())
}

pub(crate) fn nobody_responsible(clinic: &mut Clinic) -> Mend {
    apply(clinic, &policies::nobody_responsible())
}

pub(crate) fn careless_flows(clinic: &mut Clinic) -> Mend {
    apply(clinic, &policies::careless_flows())
}

pub(crate) fn exceptions(clinic: &mut Clinic) -> Mend {
    apply(clinic, &policies::exceptions())
}

pub(crate) fn by_token(clinic: &mut Clinic) -> Mend {
    apply(clinic, &policies::by_token())
}

pub(crate) fn without_attestation(clinic: &mut Clinic) -> Mend {
    apply(clinic, &policies::without_attestation())
}

/// Puts another policy in force, until the good one comes back.
fn apply(clinic: &Clinic, text: &str) -> Mend {
    clinic.site.apply(text);
    Box::new(|clinic| clinic.site.apply(&policies::good()))
}

/// Remote control, tunnels and clear text to the outside, which no flow lets pass.
pub(crate) fn suspicious_packets(clinic: &mut Clinic) -> Mend {
    for port in SUSPICIOUS {
        let knocked = clinic
            .host("receipt")
            .run_in(move || TcpStream::connect_timeout(&SocketAddr::from((OUTSIDE, port)), KNOCK));
        assert!(knocked.unwrap().is_err(), "port {port} outside is reached");
    }
    Box::new(|clinic| clinic.review())
}

/// Offers addresses among the modalities.
pub(crate) fn rogue_dhcp(clinic: &mut Clinic) -> Mend {
    clinic.host("ct").run_in(|| offer_an_address(Ipv4Addr::UNSPECIFIED)).unwrap().unwrap();
    Box::new(|clinic| clinic.review())
}

/// The same from an address that belongs to no zone.
pub(crate) fn foreign_dhcp(clinic: &mut Clinic) -> Mend {
    let host = clinic.host("reception");
    let (interface, own) = (host.leg().interface(), format!("{FOREIGN}/24"));
    ip(host, &format!("address add {own} dev {interface}"));
    host.run_in(|| offer_an_address(FOREIGN)).unwrap().unwrap();
    ip(host, &format!("address del {own} dev {interface}"));
    Box::new(|clinic| clinic.review())
}

/// Announces itself to the office of the claims.
pub(crate) fn rogue_router(clinic: &mut Clinic) -> Mend {
    let receipt = clinic.host("receipt");
    let interface = receipt.leg().interface().to_owned();
    receipt.run_in(move || announce_a_router(&interface)).unwrap().unwrap();
    Box::new(|clinic| clinic.review())
}

fn offer_an_address(from: Ipv4Addr) -> std::io::Result<()> {
    let socket = UdpSocket::bind((from, DHCP_SERVER))?;
    socket.set_broadcast(true)?;
    socket.send_to(&[2, 1, 6, 0], (Ipv4Addr::BROADCAST, DHCP_CLIENT)).map(drop)
}

fn announce_a_router(interface: &str) -> std::io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    // A router speaks from its link-local address with the largest hop limit, else nobody believes it.
    socket.set_multicast_hops_v6(255)?;
    let everybody = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, 0);
    socket.send_to(&ROUTER_ADVERTISEMENT, &everybody.into()).map(drop)
}

/// Somebody plugs in a device that is in no ledger.
pub(crate) fn stray_device(clinic: &mut Clinic) -> Mend {
    plug_in(clinic.host("ct"), STRAY_ADDRESS, MODALITY_GATEWAY)
}

/// Somebody plugs in a device with the address of one whose hardware address the ledger knows.
pub(crate) fn impostor(clinic: &mut Clinic) -> Mend {
    let server = clinic.host("ehr-server");
    let (interface, own) = (server.leg().interface().to_owned(), format!("{}/24", server.v4().unwrap()));
    ip(server, &format!("address del {own} dev {interface}"));
    let mend = plug_in(clinic.host("pacs"), &own, EHR_GATEWAY);
    Box::new(move |clinic| {
        mend(clinic);
        let server = clinic.host("ehr-server");
        ip(server, &format!("address add {own} dev {interface}"));
        ip(server, &format!("route replace default via {EHR_GATEWAY}"));
        speak(server, &interface, EHR_GATEWAY);
    })
}

/// A second hardware address at a host's wire: to the gateway, a device of its own.
fn plug_in(host: &Host, address: &str, gateway: &str) -> Mend {
    let (name, wire) = (host.name().to_owned(), host.leg().interface());
    ip(host, &format!("link add link {wire} name {STRAY} address {STRAY_MAC} type macvlan mode bridge"));
    ip(host, &format!("address add {address} dev {STRAY}"));
    ip(host, &format!("link set {STRAY} up"));
    speak(host, STRAY, gateway);
    Box::new(move |clinic| ip(clinic.host(&name), &format!("link del {STRAY}")))
}

/// Looks for the gateway, as every device does; whether it gets an answer to its ping is for the policy to say.
fn speak(host: &Host, interface: &str, gateway: &str) {
    let mut command = host.command("ping");
    command.args(["-c", "2", "-i", "0.3", "-W", "1", "-I", interface, gateway]);
    command.output().unwrap();
}

fn ip(host: &Host, words: &str) {
    host.output("ip", &words.split(' ').collect::<Vec<_>>()).unwrap();
}

/// A program that listens at every address, and reverse paths that any interface may have.
pub(crate) fn careless_box(clinic: &mut Clinic) -> Mend {
    let gateway = clinic.site.lab().gateway();
    let program = gateway.run_in(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, NO_PORT_OF_OURS)));
    let program = program.unwrap().unwrap();
    gateway.namespace().set_sysctl("ipv4/conf/all/rp_filter", "2").unwrap();
    Box::new(move |clinic| {
        drop(program);
        // Core has put the filter back; that it had to is shown until somebody has looked.
        assert_eq!(clinic.site.lab().gateway().namespace().sysctl("ipv4/conf/all/rp_filter").unwrap(), "1");
        clinic.review();
    })
}

pub(crate) fn foreign_table(clinic: &mut Clinic) -> Mend {
    let rules = "add table inet evil; add chain inet evil path { type filter hook forward priority -10; }";
    nft(clinic, rules);
    Box::new(|clinic| nft(clinic, "delete table inet evil"))
}

/// Everything goes; core puts its own back, and that it had to is shown until somebody has looked.
pub(crate) fn flush(clinic: &mut Clinic) -> Mend {
    nft(clinic, "flush ruleset");
    looked_into()
}

/// A grant to the record server's SSH that no session has, as somebody would make it who knows the rules.
pub(crate) fn unapproved_path(clinic: &mut Clinic) -> Mend {
    nft(clinic, &format!("add element inet sekisho grants-ip4 {{ {NO_GRANT_OF_OURS} timeout 300s }}"));
    looked_into()
}

/// What somebody did to the rules was found, put back and looked into.
fn looked_into() -> Mend {
    Box::new(|clinic| {
        let said = clinic.site.run(&["verify"]);
        assert_eq!((said.code, said.out.contains("repaired")), (Some(DIFFERS), true), "{said:?}");
        clinic.site.assert_verified();
        clinic.review();
    })
}

/// The record role dies while a session is open, which ends with it; that is told once it is back.
pub(crate) fn unrecorded_session(clinic: &mut Clinic) -> Mend {
    let session = clinic.open_session();
    clinic.site.kill_role("sekisho-record");
    clinic.visitor().wait(&session, SessionState::Closed);
    clinic.site.start_role("sekisho-record");
    Box::new(|clinic| clinic.review())
}

pub(crate) fn ended_session(clinic: &mut Clinic) -> Mend {
    let session = clinic.open_session();
    clinic.site.run(&["session", "kill", session.as_str()]).succeeded();
    clinic.visitor().wait(&session, SessionState::Closed);
    Box::new(|clinic| clinic.review())
}

/// Every file may pass, whatever is in it.
pub(crate) fn blind_inspection(clinic: &mut Clinic) -> Mend {
    clinic.inspections.blind(true);
    Box::new(|clinic| clinic.inspections.blind(false))
}

/// Somebody types codes in a person's name, until none is taken; another admin gives that person a new authenticator.
pub(crate) fn guessed_codes(clinic: &mut Clinic) -> Mend {
    clinic.enrol();
    clinic.persons.as_ref().unwrap().lock_hanako(&clinic.site);
    Box::new(|clinic| {
        let site = &clinic.site;
        clinic.persons.as_mut().unwrap().give_hanako_another(site);
    })
}

fn nft(clinic: &Clinic, command: &str) {
    clinic.site.lab().gateway().output("nft", &[command]).unwrap();
}

/// One byte of an entry becomes another, in a file that the log has filled and only reads from then on.
pub(crate) fn changed_log(clinic: &mut Clinic) -> Mend {
    (0..ENTRIES_OF_A_TILE).for_each(|_| clinic.review());
    let file = clinic.state_of("sekisho-record").join("tile/entries/000");
    let written = fs::read(&file).unwrap();
    let mut changed = written.clone();
    let place = changed.iter().rposition(u8::is_ascii_digit).unwrap();
    changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
    fs::write(&file, changed).unwrap();
    let said = clinic.site.run(&["audit", "verify"]);
    assert_ne!(said.code, Some(0), "{said:?}");
    Box::new(move |clinic| {
        fs::write(&file, written).unwrap();
        clinic.site.run(&["audit", "verify"]).succeeded();
    })
}

/// The ledger gets the least room that a policy can give it, and more connections than fit.
pub(crate) fn little_room(clinic: &mut Clinic) -> Mend {
    clinic.site.apply(&policies::little_room());
    let gateway = clinic.site.lab().gateway();
    for _ in 0..TOO_MANY_ROWS / ROWS_AT_ONCE {
        clinic.host("reception").run_in(|| connect_often(ROWS_AT_ONCE)).unwrap().unwrap();
        gateway.output("conntrack", &["-D", "-p", "udp", "--dport", "443"]).unwrap();
    }
    Box::new(|clinic| {
        clinic.site.apply(&policies::good());
        clinic.review();
    })
}

/// The log gets the least room that a policy can give it, and entries until it takes no more of their kind.
pub(crate) fn full_log(clinic: &mut Clinic) -> Mend {
    clinic.site.apply(&policies::little_room());
    fill_log(clinic);
    // Only the room changes: an apply that a full log takes down.
    Box::new(|clinic| {
        clinic.site.apply(&policies::good());
        let begun = Instant::now();
        // One that waits its turn is not taken yet, and a short one may fit although there is no more room than before.
        while !matches!(clinic.append(FILLERS_BYTES[0]), Answer::Record(_)) {
            assert!(begun.elapsed() < ROOM_LIMIT, "the log takes nothing although it has room");
            thread::sleep(Duration::from_millis(100));
        }
    })
}

/// Appends entries until the log refuses one for want of room: long ones first, then such as fit where those did not.
fn fill_log(clinic: &Clinic) {
    let begun = Instant::now();
    for bytes in FILLERS_BYTES {
        while is_taken(&clinic.append(bytes)) {
            assert!(begun.elapsed() < FILL_LIMIT, "the log takes entries without end");
        }
    }
}

fn is_taken(answer: &Answer) -> bool {
    match answer {
        Answer::Record(_) => true,
        Answer::Failed(fault) if fault.kind == FaultKind::Busy => true,
        Answer::Failed(fault) if fault.message.contains("`log_budget`") => false,
        other => panic!("{other:?}"),
    }
}

/// Somebody switches the kernel's notices of connections off: the ledger, whole as it is, hears nothing more.
pub(crate) fn blind_ledger(clinic: &mut Clinic) -> Mend {
    change_setting(clinic, "netfilter/nf_conntrack_events", "0", "1")
}

/// Somebody switches forwarding off, and nothing that is allowed passes.
pub(crate) fn no_forwarding(clinic: &mut Clinic) -> Mend {
    change_setting(clinic, "ipv6/conf/all/forwarding", "0", "1")
}

/// Changes a setting of the kernel, which core puts back by itself; that it had to is shown until somebody has looked.
fn change_setting(clinic: &Clinic, name: &str, wrong: &str, right: &'static str) -> Mend {
    let gateway = clinic.site.lab().gateway().namespace();
    gateway.set_sysctl(name, wrong).unwrap();
    let name = name.to_owned();
    Box::new(move |clinic| {
        assert_eq!(clinic.site.lab().gateway().namespace().sysctl(&name).unwrap(), right, "{name}");
        let said = clinic.site.run(&["audit", "list", "--kind", "settings-changed"]).succeeded();
        assert!(said.out.contains(&name.replace('/', ".")), "{said:?}");
        clinic.review();
    })
}

/// Connections of one datagram each, which the flow for the web lets pass.
fn connect_often(times: u32) -> std::io::Result<()> {
    for _ in 0..times {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.send_to(b"who is there", (OUTSIDE, 443))?;
    }
    Ok(())
}

/// The authority of the metrics' door has three weeks left.
pub(crate) fn ending_certificate(clinic: &mut Clinic) -> Mend {
    let file = clinic.state_of("sekisho-console").join("authority");
    let kept = fs::read(&file).unwrap();
    clinic.site.kill_role("sekisho-console");
    fs::write(&file, ending(&kept, &clinic.site.files().join("ending"))).unwrap();
    clinic.site.start_role("sekisho-console");
    Box::new(move |clinic| {
        clinic.site.kill_role("sekisho-console");
        fs::write(&file, kept).unwrap();
        clinic.site.start_role("sekisho-console");
    })
}

/// The same authority with another end: a certificate of the same key and name.
fn ending(kept: &[u8], directory: &Path) -> Vec<u8> {
    let mut authority: Value = serde_json::from_slice(kept).unwrap();
    fs::create_dir_all(directory).unwrap();
    let (key, certificate) = (directory.join("ca.key"), directory.join("ca.crt"));
    fs::write(&key, authority["key"].as_str().unwrap()).unwrap();
    let subject = format!("/CN={}", authority["name"].as_str().unwrap());
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-days", "21", "-addext", "keyUsage=keyCertSign", "-subj"]).arg(subject);
    let output = command.arg("-key").arg(&key).arg("-out").arg(&certificate).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    authority["certificate"] = fs::read_to_string(&certificate).unwrap().into();
    authority["not_after"] = Timestamp::now().checked_add((21 * 24).hours()).unwrap().to_string().into();
    serde_json::to_vec(&authority).unwrap()
}

pub(crate) fn kill_watch_and_time(clinic: &mut Clinic) -> Mend {
    clinic.kill_time();
    let mend = kill(clinic, "sekisho-watch");
    Box::new(|clinic| {
        mend(clinic);
        clinic.start_time();
    })
}

pub(crate) fn kill_files(clinic: &mut Clinic) -> Mend {
    kill(clinic, "sekisho-files")
}

pub(crate) fn kill_record(clinic: &mut Clinic) -> Mend {
    kill(clinic, "sekisho-record")
}

fn kill(clinic: &mut Clinic, unit: &'static str) -> Mend {
    clinic.site.kill_role(unit);
    Box::new(move |clinic| {
        clinic.site.start_role(unit);
    })
}

pub(crate) fn kill_core(clinic: &mut Clinic) -> Mend {
    clinic.site.kill_core();
    Box::new(|clinic| clinic.site.start_core())
}
