//! Probers count exactly: nothing lost on a sound path, the truth on a broken one.
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use lab::{Lab, LabBuilder, LabError, Prober, Spec};

const PATIENCE: Duration = Duration::from_secs(30);
const RATE_PER_SECOND: u32 = 500;

type Start = fn(&lab::Host, &lab::Host, SocketAddr, u32) -> Result<Prober, LabError>;
const KINDS: [(&str, Start); 6] = [
    ("udp", Prober::udp),
    ("udp fresh", Prober::udp_fresh),
    ("udp push", Prober::udp_push),
    ("tcp", Prober::tcp),
    ("tcp push", Prober::tcp_push),
    ("tcp connects", Prober::tcp_connects),
];

fn targets(lab: &Lab) -> Vec<SocketAddr> {
    lab.host("server").unwrap().addresses().map(|address| SocketAddr::new(address, 4000)).collect()
}

fn wait_sent(prober: &Prober) {
    let deadline = Instant::now() + PATIENCE;
    while prober.snapshot().sent < 100 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn on_a_sound_path_everything_arrives_once_and_in_order() {
    let lab = LabBuilder::new(Spec::client_router_server()).forwarding(true).build().unwrap();
    let [client, server] = ["client", "server"].map(|name| lab.host(name).unwrap());
    for (name, start) in KINDS {
        let probers = targets(&lab).into_iter().map(|to| start(client, server, to, RATE_PER_SECOND).unwrap());
        for prober in probers.collect::<Vec<_>>() {
            prober.wait_received(100, PATIENCE).unwrap();
            let report = prober.stop(PATIENCE).unwrap();
            assert!(report.sent >= 100, "{name}: {report:?}");
            assert_eq!(report.received, report.sent, "{name}");
            assert_eq!((report.lost, report.duplicated, report.reordered), (0, 0, 0), "{name}");
            assert_eq!((report.resets, report.refused_by_sender), (0, 0), "{name}");
            assert_eq!(report.last_arrival, report.arrivals.last().map(|(_, at)| *at), "{name}");
        }
    }
}

#[test]
fn a_link_that_is_down_for_a_while_loses_exactly_what_was_sent_then() {
    let lab = LabBuilder::new(Spec::client_router_server()).forwarding(true).build().unwrap();
    let [client, server] = ["client", "server"].map(|name| lab.host(name).unwrap());
    let prober = Prober::udp(client, server, targets(&lab)[0], RATE_PER_SECOND).unwrap();
    prober.wait_received(50, PATIENCE).unwrap();
    let leg = lab.leg("right").unwrap();
    leg.set_up(false).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let during = prober.received();
    leg.set_up(true).unwrap();
    prober.wait_received(during + 50, PATIENCE).unwrap();
    let report = prober.stop(Duration::from_secs(2)).unwrap();
    assert!(report.lost > 0, "{report:?}");
    assert_eq!(report.lost + report.received, report.sent);
    // What waited for the neighbour's address, when the link came back, may have been overtaken.
    let numbers: BTreeSet<_> = report.arrivals.iter().map(|(number, _)| *number).collect();
    let numbers: Vec<_> = numbers.into_iter().collect();
    let missing: u64 = numbers.windows(2).map(|pair| pair[1] - pair[0] - 1).sum();
    assert!(missing > 0, "the loss is not in the middle: {numbers:?}");
    assert!(report.longest_gap() >= Duration::from_millis(200), "{:?}", report.longest_gap());
}

#[test]
fn where_nothing_is_forwarded_nothing_arrives() {
    let lab = LabBuilder::new(Spec::client_router_server()).build().unwrap();
    let [client, server] = ["client", "server"].map(|name| lab.host(name).unwrap());
    for to in targets(&lab) {
        for start in [Prober::udp, Prober::udp_fresh, Prober::tcp_connects] {
            let prober = start(client, server, to, RATE_PER_SECOND).unwrap();
            wait_sent(&prober);
            let report = prober.stop(Duration::from_millis(200)).unwrap();
            assert!(report.sent > 0, "{report:?}");
            assert_eq!((report.received, report.last_arrival), (0, None), "{to}");
        }
        let refused = Prober::tcp(client, server, to, RATE_PER_SECOND).unwrap_err().to_string();
        assert!(refused.contains("connect client to"), "{refused}");
    }
}

#[test]
fn a_stream_that_is_reset_and_one_that_is_cut_are_told_apart() {
    let lab = LabBuilder::new(Spec::client_router_server()).forwarding(true).build().unwrap();
    let [client, server] = ["client", "server"].map(|name| lab.host(name).unwrap());
    let [v4, v6] = targets(&lab)[..] else { panic!("two addresses") };
    let (cut, reset) = (
        Prober::tcp(client, server, v4, RATE_PER_SECOND).unwrap(),
        Prober::tcp(client, server, v6, RATE_PER_SECOND).unwrap(),
    );
    cut.wait_received(20, PATIENCE).unwrap();
    reset.wait_received(20, PATIENCE).unwrap();
    let rules = "table inet t { chain f { type filter hook forward priority 0; \
        meta nfproto ipv4 drop; meta l4proto tcp reject with tcp reset; }; }";
    lab.gateway().output("nft", &[rules]).unwrap();
    let since = std::time::Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    let cut = cut.stop(Duration::from_millis(200)).unwrap();
    let reset = reset.stop(Duration::from_millis(200)).unwrap();
    assert_eq!((cut.resets, reset.resets > 0), (0, true), "{} {}", cut.resets, reset.resets);
    assert!(cut.lost > 0, "{cut:?}");
    assert_eq!((cut.arrivals_after(since), reset.arrivals_after(since)), (0, 0));
}

#[test]
fn attempts_that_are_refused_are_counted_to_the_last() {
    let lab = LabBuilder::new(Spec::client_router_server()).forwarding(true).build().unwrap();
    let [client, server] = ["client", "server"].map(|name| lab.host(name).unwrap());
    let rules = "table inet t { chain f { type filter hook forward priority 0; \
        meta l4proto tcp reject with tcp reset; }; }";
    lab.gateway().output("nft", &[rules]).unwrap();
    for to in targets(&lab) {
        let prober = Prober::tcp_connects(client, server, to, RATE_PER_SECOND).unwrap();
        wait_sent(&prober);
        let report = prober.stop(Duration::from_millis(200)).unwrap();
        assert!(report.sent > 0, "{report:?}");
        assert_eq!((report.resets, report.received), (report.sent, 0), "{to}");
    }
}

#[test]
fn a_probers_numbers_are_its_own() {
    let lab = LabBuilder::new(Spec::client_router_server()).forwarding(true).build().unwrap();
    let [client, server] = ["client", "server"].map(|name| lab.host(name).unwrap());
    let to = targets(&lab)[0];
    let prober = Prober::udp(client, server, to, 1).unwrap();
    prober.wait_received(1, PATIENCE).unwrap();
    let socket = client.run_in(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for stranger in [&b"short"[..], &[0xff; 16], &[0; 17]] {
        socket.send_to(stranger, to).unwrap();
    }
    let report = prober.stop(PATIENCE).unwrap();
    assert_eq!(report.received, report.sent);
    assert!(Prober::udp(client, server, to, 0).unwrap_err().to_string().contains("0 probes a second"));
}
