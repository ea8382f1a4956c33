//! Done-when 4: the ledger of connections against the kernel's own counters, under floods, and when a role dies.
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use gateway::{
    client,
    wire::{
        Answer, Ask,
        watch::{Gap, GapReason, LedgerSums, WatchAnswer, WatchAsk},
    },
};
use jiff::{Timestamp, ToSpan};
use lab::{Host, Role, RoleRunner};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    daemon::{READY_LIMIT, Site},
    site::{clinic, flow, flow_with, policy},
    traffic::{GRACE, Kind, PATIENCE, Stream},
};

const RATE_PER_SECOND: u32 = 200;
/// New connections per second of the flood, as the issue has it.
const FLOOD_PER_SECOND: u32 = 20_000;
const FLOOD: u32 = 5 * FLOOD_PER_SECOND;
/// Connections of each flow that ends under them.
const YOUNG: usize = 200;
/// How long the kernel keeps a connection of one datagram, which is the longest that its end may take.
const IDLE: Duration = Duration::from_secs(30);

/// A clinic whose ledger is kept.
struct Kept {
    // Order matters: the roles end before the site does.
    watch: Option<Role>,
    site: Site,
}

impl Kept {
    fn start(text: &str) -> Self {
        let mut site = Site::new(clinic(false));
        // First, so that their users exist when core looks them up, as on an installed box.
        let mut watch = site.runner("sekisho-watch").start().unwrap();
        watch.wait_ready(READY_LIMIT).unwrap();
        site.start_core();
        site.apply(text);
        site.run(&["time", "trusted"]).succeeded();
        let this = Self { watch: Some(watch), site };
        this.wait(|this| this.sums().is_some(), "the ledger to be told");
        let question = ["flows", "--device", "reception"];
        this.wait(|this| this.site.run(&question).code == Some(0), "the names of the policy");
        this
    }

    fn socket(&self) -> PathBuf {
        RoleRunner::runtime_root(self.site.lab()).join("sekisho-watch/watch.sock")
    }

    /// What passed by each flow, as the ledger has it; none while core does not list what is open.
    fn sums(&self) -> Option<LedgerSums> {
        match client::ask(&self.socket(), Ask::Watch(WatchAsk::Sums { since: None })).unwrap() {
            Answer::Watch(WatchAnswer::Sums(sums)) => Some(sums),
            Answer::Failed(_) => None,
            other => panic!("{other:?}"),
        }
    }

    /// Packets and bytes by flow, as the ledger has them and as the kernel's counters do.
    fn both(&self) -> BTreeMap<String, [(u64, u64); 2]> {
        let mut both: BTreeMap<String, [(u64, u64); 2]> = BTreeMap::new();
        for row in self.sums().unwrap().rows {
            assert_eq!(row.mark, row.last_mark, "{row:?}");
            if row.mark != 0 {
                both.entry(row.flow).or_default()[0] = (row.count.packets, row.count.bytes);
            }
        }
        for row in self.site.run(&["--json", "flows"]).succeeded().json().as_array().unwrap() {
            let number = |name: &str| row[name].as_u64().unwrap();
            let name = row["name"].as_str().unwrap().to_owned();
            both.entry(name).or_default()[1] = (number("packets"), number("bytes"));
        }
        both
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<_> = ["--json", "flows"].iter().chain(arguments).copied().collect();
        self.site.run(&arguments).succeeded().json()
    }

    fn wait(&self, done: impl Fn(&Self) -> bool, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let log = self.watch.as_ref().map(Role::log).unwrap_or_default();
            assert!(Instant::now() < deadline, "waited for {what}; watch says: {log}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn host(&self, name: &str) -> &Host {
        self.site.lab().host(name).unwrap()
    }

    fn gaps(&self) -> Vec<Gap> {
        self.sums().unwrap().gaps
    }
}

fn mixed() -> String {
    policy(&[
        flow("images", "device:ct", "device:pacs", "tcp/5000-5010, udp/5000-5010"),
        flow("records", "zone:staff", "device:ehr-server", "tcp/7000-7010, udp/7000-7010, icmp"),
        flow("outward", "zone:staff", "device:web", "tcp/8000-8010, udp/8000-8010"),
    ])
}

/// Every kind of traffic at once, permitted and denied, both families, with and without masquerading.
#[test]
fn the_ledger_and_the_kernels_counters_agree_to_the_byte() {
    let kept = Kept::start(&mixed());
    let length = if std::env::var_os("SEKISHO_LONG").is_some() { 600 } else { 20 };
    let kinds = [Kind::Udp, Kind::UdpFresh, Kind::UdpPush, Kind::Tcp, Kind::TcpPush, Kind::TcpConnects];
    let mut streams = Vec::new();
    for (index, kind) in (0..).zip(kinds) {
        for (from, to, port) in
            [("ct", "pacs", 5000), ("reception", "ehr-server", 7000), ("reception", "web", 8000)]
        {
            let rate = if kind == Kind::TcpConnects { 20 } else { RATE_PER_SECOND };
            streams.extend(Stream::start(kept.site.lab(), kind, from, to, port + index, rate));
        }
    }
    streams.iter().for_each(|stream| stream.wait(5));
    let denied = Stream::start(kept.site.lab(), Kind::UdpFresh, "phone", "ehr-server", 7008, 50);
    let denied: Vec<_> = denied.collect();
    let until = Instant::now() + Duration::from_secs(length);
    let mut rounds = 0;
    while Instant::now() < until {
        for (from, to) in
            [("reception", "192.168.10.10"), ("reception", "fd51:7ec5:0:10::10"), ("admin", "192.168.99.1")]
        {
            kept.host(from).output("ping", &["-q", "-c", "3", "-i", "0.2", to]).unwrap();
        }
        rounds += 1;
    }
    let passed: u64 = streams.into_iter().map(|stream| stream.stop(GRACE).report.received).sum();
    denied.into_iter().for_each(|stream| assert_eq!(stream.stop(Duration::ZERO).report.received, 0));
    // Nothing is on its way any more; what the ends still say to each other has been said.
    thread::sleep(Duration::from_secs(2));
    let both = kept.both();
    println!("{passed} probes and {} pings passed; ledger and kernel:", rounds * 9);
    both.iter().for_each(|(flow, counts)| println!("  {flow}: {counts:?}"));
    for (flow, [ledger, kernel]) in &both {
        assert_eq!(ledger, kernel, "{flow}; gaps {:?}", kept.gaps());
    }
    for flow in ["images", "records", "outward"] {
        assert!(both[flow][0].0 > 10, "{flow} carried nothing: {both:?}");
    }
    assert_eq!(kept.gaps(), []);
    assert!(both["images"][0].1 > 1_000_000 / 20 * length / 10, "{both:?}");
}

/// The kernel counts what it hears of a connection, the flow's counter what it let pass: they differ by what was dropped
/// after the flow's end. When the flow is no longer in the policy at all, the connection is told as cut.
#[test]
fn a_connection_counts_what_was_dropped_after_its_flow_ended() {
    let end = Timestamp::now().checked_add(20.seconds()).unwrap();
    let ending = flow_with("ending", "device:ct", "device:pacs", "udp/5000", &format!("until = {end:.0}"));
    let removed = flow("removed", "device:ct", "device:pacs", "udp/5001");
    let kept = Kept::start(&policy(&[ending.clone(), removed]));
    let stream = |port| {
        let streams: Vec<_> =
            Stream::start(kept.site.lab(), Kind::Udp, "ct", "pacs", port, RATE_PER_SECOND).collect();
        streams.iter().for_each(|stream| stream.wait(100));
        streams
    };
    let (ends, goes) = (stream(5000), stream(5001));
    kept.site.apply(&policy(&[ending]));
    let left = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
    thread::sleep(left + Duration::from_secs(2));
    let counted = |streams: Vec<Stream>| {
        let reports = streams.into_iter().map(|stream| stream.stop(GRACE).report);
        reports.fold((0, 0), |(sent, received), report| (sent + report.sent, received + report.received))
    };
    let ((sent, received), (sent_too, received_too)) = (counted(ends), counted(goes));
    let sums = kept.sums().unwrap().rows;
    let row = |flow| sums.iter().find(|row| row.flow == flow).unwrap_or_else(|| panic!("{flow}: {sums:?}"));
    let counter = kept.site.run(&["--json", "flows"]).succeeded().json();
    let counter = counter.as_array().unwrap().iter().find(|row| row["name"] == "ending").unwrap().clone();
    println!(
        "ending: sent {sent}, passed {received}; removed: sent {sent_too}, passed {received_too}; {sums:?}"
    );
    assert!(sent > received && sent_too > received_too, "nothing was dropped");
    assert_eq!((row("ending").count.packets, row("ending").connections), (sent, 2));
    assert_eq!(counter["packets"], received);
    let row = row("removed");
    assert_eq!((row.count.packets, row.connections, row.last_mark), (sent_too, 2, 0));
    // The kernel forgets them now, and not when it comes round to it.
    kept.site.lab().gateway().output("conntrack", &["-F"]).unwrap();
    let endings = |kept: &Kept| -> Vec<Value> {
        let answer = kept.ask(&["--device", "ct", "--flow", "removed"]);
        answer["rows"].as_array().unwrap().iter().map(|row| row["ending"].clone()).collect()
    };
    kept.wait(|kept| endings(kept) == ["cut", "cut"], "the ends");
}

/// The kernel tells a connection's end with its last mark only, and most of these are too young to have been in a list of
/// open ones: it is the rules' log that says by which flow they began.
#[test]
fn a_connection_whose_flow_ends_keeps_its_name_also_when_it_is_young() {
    let taken = |name: &str| flow(name, "device:ct", "device:pacs", "udp/5101");
    let kept =
        Kept::start(&policy(&[flow("removed", "device:ct", "device:pacs", "udp/5100"), taken("before")]));
    let pacs = kept.host("pacs").v4().unwrap().into();
    let said = kept
        .host("ct")
        .run_in(move || {
            let open = |port| (0..YOUNG).map(move |_| (UdpSocket::bind("0.0.0.0:0").unwrap(), port));
            let sockets: Vec<_> = open(5100).chain(open(5101)).collect();
            move || {
                for (socket, port) in &sockets {
                    socket.send_to(b"hello", SocketAddr::new(pacs, *port)).unwrap();
                }
            }
        })
        .unwrap();
    said();
    kept.site.apply(&policy(&[taken("after")]));
    said();
    // The log is told of after a fifth of a second at most.
    thread::sleep(Duration::from_secs(1));
    kept.site.lab().gateway().output("conntrack", &["-F"]).unwrap();
    let named = |flow: &str, what: &str, wanted: &str| {
        let answer = kept.ask(&["--device", "ct", "--flow", flow, "--limit", "1000"]);
        answer["rows"].as_array().unwrap().iter().filter(|row| row[what] == wanted).count()
    };
    kept.wait(|_| named("removed", "ending", "cut") == YOUNG, "the cut ones");
    kept.wait(|_| named("before", "later_flow", "after") == YOUNG, "those that another flow took on");
    assert_eq!(kept.gaps(), []);
}

/// The other difference: errors about a connection pass by its flow and are counted there; they are none of its packets.
#[test]
fn an_error_about_a_connection_is_in_the_flows_counter_only() {
    let kept = Kept::start(&mixed());
    let closed = SocketAddr::new(kept.host("ehr-server").v4().unwrap().into(), 7009);
    kept.host("reception").run_in(move || datagrams(closed, 1)).unwrap();
    let counted = |kept: &Kept| kept.both()["records"];
    kept.wait(|kept| counted(kept)[1].0 == 2, "the port's refusal");
    // An ICMP error repeats the packet that it is about, behind eight bytes of its own (RFC 792, RFC 1812).
    let (packet, error) = (20 + 8 + 5, 20 + 8 + 20 + 8 + 5);
    assert_eq!(counted(&kept), [(1, packet), (2, packet + error)]);
}

#[test]
fn who_spoke_to_the_record_server_is_answered_by_name() {
    let kept = Kept::start(&mixed());
    let ehr = SocketAddr::new(kept.host("ehr-server").v4().unwrap().into(), 7000);
    let denied = SocketAddr::new(ehr.ip(), 3389);
    for (from, to, count) in [("reception", ehr, 3), ("phone", denied, 2)] {
        kept.host(from).run_in(move || datagrams(to, count)).unwrap();
    }
    let question = ["--device", "reception", "--peer", "ehr-server", "--since", "today"];
    kept.wait(
        |kept| kept.ask(&question)["rows"].as_array().is_some_and(|rows| rows.len() == 1),
        "the connection",
    );
    let answer = kept.ask(&question);
    let row = &answer["rows"][0];
    assert_eq!(
        (&row["flow"], &row["ending"], &row["ended"]),
        (&"records".into(), &"open".into(), &Value::Null)
    );
    assert_eq!((&row["from"]["zone"], &row["to"]["port"]), (&"staff".into(), &7000.into()));
    assert_eq!((&row["sent"]["packets"], &row["sent"]["bytes"]), (&3.into(), &(3 * 33).into()));
    assert_eq!(answer["complete"], true, "{answer}");
    let told = kept.site.run(&["flows", "--device", "ehr-server", "--since", "1h"]).succeeded();
    assert!(told.out.contains("reception 192.168.30.31") && told.out.contains("1 connections"), "{told:?}");
    let denied = ["--denied", "--device", "zone:guest", "--since", "1h"];
    kept.wait(|kept| !kept.ask(&denied)["rows"].as_array().unwrap().is_empty(), "the denial");
    let row = &kept.ask(&denied)["rows"][0];
    assert_eq!(
        (&row["to"]["device"], &row["to"]["port"], &row["count"]),
        (&"ehr-server".into(), &3389.into(), &2.into())
    );
    // A mistake is told, not answered with silence.
    kept.site.run(&["flows", "--device", "ehr-sever"]).failed(1, &["no device `ehr-sever`"]);
    kept.site.run(&["flows", "--since", "someday"]).failed(2, &["`someday` is no time"]);
    // Yesterday nobody was there, and a day that is over has no gap of today.
    assert_eq!(kept.ask(&["--since", "yesterday", "--until", "yesterday"])["rows"], Value::Array(Vec::new()));
}

/// Each datagram to a new port is a connection: either the ledger holds every one, or it says how many it misses.
#[test]
fn a_flood_of_new_connections_is_kept_or_its_gap_is_told() {
    let kept = Kept::start(&policy(&[flow("flood", "device:ct", "device:pacs", "udp/1024-65535")]));
    let target = kept.host("pacs").v4().unwrap().into();
    let begin = Instant::now();
    let sent = kept.host("ct").run_in(move || flood(target)).unwrap();
    let rate = f64::from(sent) / begin.elapsed().as_secs_f64();
    let sent = u64::from(sent);
    thread::sleep(IDLE);
    let sum = |kept: &Kept| {
        let sums = kept.sums()?;
        let rows = sums.rows.iter().filter(|row| row.flow == "flood").map(|row| row.connections).sum::<u64>();
        let lost = sums.gaps.iter().filter_map(|gap| gap.lost).sum::<u64>();
        Some((rows, lost, sums.gaps))
    };
    kept.wait(|kept| sum(kept).is_some(), "the sums");
    let (rows, lost, gaps) = sum(&kept).unwrap();
    let resident = resident_kib(kept.watch.as_ref().unwrap());
    println!(
        "{sent} new connections, {rate:.0} a second: {rows} kept, {lost} events lost, watch {resident} KiB"
    );
    assert!(rows <= sent, "{rows} of {sent}");
    let log = kept.watch.as_ref().unwrap().log();
    assert!(gaps.iter().all(|gap| gap.why == GapReason::Overrun), "{gaps:?}; watch says: {log}");
    if lost == 0 {
        assert_eq!(rows, sent, "missing, and not told");
    } else {
        assert!(rows + lost >= sent, "{rows} kept and {lost} told of {sent}");
    }
}

/// Ends of either role lose nothing that is not told, and what is open stays known.
#[test]
fn a_role_that_dies_leaves_a_gap_and_one_that_stops_leaves_none() {
    let mut kept = Kept::start(&mixed());
    let ehr = SocketAddr::new(kept.host("ehr-server").v4().unwrap().into(), 7000);
    let watch = |site: &Site| {
        let mut watch = site.runner("sekisho-watch").start().unwrap();
        watch.wait_ready(READY_LIMIT).unwrap();
        watch
    };
    for (signal, told) in [(Signal::TERM, 0), (Signal::KILL, 1)] {
        let mut ending = kept.watch.take().unwrap();
        ending.signal(signal).unwrap();
        ending.wait_ended(READY_LIMIT).unwrap();
        // Core keeps the kernel's socket: what happens meanwhile waits in it.
        kept.host("reception").run_in(move || datagrams(ehr, 1)).unwrap();
        kept.watch = Some(watch(&kept.site));
        kept.wait(|kept| kept.sums().is_some(), "the sums");
        let gaps = kept.gaps();
        assert_eq!(gaps.len(), told, "after {signal:?}: {gaps:?}");
    }
    kept.site.kill_core();
    kept.site.start_core();
    kept.wait(|kept| kept.sums().is_some_and(|sums| sums.gaps.len() == 2), "the gap of core's absence");
    let rows = kept.sums().unwrap().rows;
    let records = rows.iter().find(|row| row.flow == "records").unwrap();
    assert_eq!((records.connections, records.count.packets), (2, 2), "{rows:?}");
}

/// Sends datagrams of five bytes from one port.
fn datagrams(to: SocketAddr, count: u32) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for _ in 0..count {
        socket.send_to(b"hello", to).unwrap();
    }
}

/// One datagram to each of very many ports, from several, at the flood's pace or as near to it as this machine comes.
fn flood(target: IpAddr) -> u32 {
    const STEP: Duration = Duration::from_millis(5);
    let per_step = FLOOD_PER_SECOND / 200;
    let begin = Instant::now();
    let ports = 1024..60_000_u16;
    let sockets = std::iter::repeat_with(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let ways = sockets.flat_map(|socket| {
        let socket = std::sync::Arc::new(socket);
        ports.clone().map(move |port| (std::sync::Arc::clone(&socket), port))
    });
    let mut sent = 0;
    for (socket, port) in ways.take(usize::try_from(FLOOD).unwrap()) {
        if sent % per_step == 0 {
            let due = begin + STEP * (sent / per_step);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        socket.send_to(b"x", (target, port)).unwrap();
        sent += 1;
    }
    sent
}

fn resident_kib(role: &Role) -> u64 {
    let status = role.status().unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
