//! Captures see every frame with its direction; injected frames arrive; pinned neighbours need no owner.
use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lab::{Capture, Direction, Injector, Lab, LabBuilder, Spec};

const PATIENCE: Duration = Duration::from_secs(30);

fn frame(to: [u8; 6], from: [u8; 6], tag: u8) -> Vec<u8> {
    // 0x88b5: IEEE 802 local experimental, which nobody answers.
    [&to[..], &from[..], &[0x88, 0xb5], &[tag; 50]].concat()
}

#[test]
fn a_capture_sees_every_injected_frame_once_with_its_direction() {
    let lab = LabBuilder::new(Spec::client_router_server()).build().unwrap();
    let (client, gateway) = (lab.host("client").unwrap().leg(), lab.leg("left").unwrap());
    let sent = frame(gateway.mac(), client.mac(), 7);
    let mut ends = [
        (Capture::start(client).unwrap(), Direction::Out),
        (Capture::start(gateway).unwrap(), Direction::In),
    ];
    let mut elsewhere = Capture::start(lab.leg("right").unwrap()).unwrap();
    let injector = Injector::new(client).unwrap();
    for _ in 0..20_000 {
        injector.send(&sent).unwrap();
    }
    for (capture, direction) in &mut ends {
        let seen = capture.wait_for(20_000, PATIENCE, |frame| frame.bytes == sent).unwrap();
        assert_eq!(seen.len(), 20_000);
        assert!(seen.iter().all(|frame| frame.direction == *direction));
        assert!(seen.is_sorted_by_key(|frame| frame.at));
        assert_eq!(capture.dropped(), 0);
    }
    assert!(elsewhere.drain().unwrap().iter().all(|frame| frame.bytes != sent));
}

#[test]
fn an_overflowing_capture_tells_how_many_frames_it_lost() {
    let lab = LabBuilder::new(Spec::client_router_server()).build().unwrap();
    let (client, gateway) = (lab.host("client").unwrap().leg(), lab.leg("left").unwrap());
    let mut capture = Capture::with_buffer(gateway, 64 << 10).unwrap();
    let injector = Injector::new(client).unwrap();
    let (flood, last) = (frame(gateway.mac(), client.mac(), 1), frame(gateway.mac(), client.mac(), 2));
    for _ in 0..5_000 {
        injector.send(&flood).unwrap();
    }
    let seen = capture.drain_filtered(|frame| frame.bytes == flood).unwrap().len();
    injector.send(&last).unwrap();
    assert_eq!(capture.wait_for(1, PATIENCE, |frame| frame.bytes == last).unwrap().len(), 1);
    assert!(seen < 5_000, "the buffer was large enough, so the test tests nothing");
    // The hosts' own neighbour and group messages may be among the dropped.
    let counted = seen + capture.dropped() as usize;
    assert!((5_000..5_100).contains(&counted), "{seen} seen and {} dropped", capture.dropped());
}

#[test]
fn a_capture_started_under_load_sees_its_own_leg_only() {
    let lab = LabBuilder::new(Spec::client_router_server()).build().unwrap();
    let (server, right) = (lab.host("server").unwrap().leg(), lab.leg("right").unwrap());
    let elsewhere = frame(right.mac(), server.mac(), 3);
    let injector = Injector::new(server).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                injector.send(&elsewhere).unwrap();
            }
        });
        let leaked: usize = (0..300)
            .map(|_| {
                let mut capture = Capture::start(lab.leg("left").unwrap()).unwrap();
                capture.drain_filtered(|frame| frame.bytes == elsewhere).unwrap().len()
            })
            .sum();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(leaked, 0);
    });
}

#[test]
fn a_host_on_a_bridge_hears_only_what_is_for_it() {
    let lab = Lab::clinic().unwrap();
    let [server, pacs] = ["ehr-server", "pacs"].map(|name| lab.host(name).unwrap().leg());
    let (mut at_server, mut at_pacs) = (Capture::start(server).unwrap(), Capture::start(pacs).unwrap());
    let injector = Injector::new(lab.leg("ehr").unwrap()).unwrap();
    // The bridge floods until it has heard the addressee once.
    let teach = Injector::new(pacs).unwrap();
    teach.send(&frame([0xff; 6], pacs.mac(), 1)).unwrap();
    let sent = frame(pacs.mac(), injector.leg().mac(), 2);
    injector.send(&sent).unwrap();
    assert_eq!(at_pacs.wait_for(1, PATIENCE, |frame| frame.bytes == sent).unwrap().len(), 1);
    let heard = at_server.drain().unwrap();
    assert!(heard.iter().all(|frame| frame.bytes != sent));
    assert!(heard.iter().any(|frame| frame.bytes[..6] == [0xff; 6]), "the broadcast should have arrived");
}

#[test]
fn packets_to_pinned_neighbours_leave_on_the_right_leg_without_an_owner() {
    let lab = LabBuilder::new(Spec::clinic()).forwarding(true).build().unwrap();
    let nobody = ["192.168.10.200".parse().unwrap(), "fd51:7ec5:0:10::200".parse().unwrap()];
    lab.pin_neighbours(&nobody.map(|address| ("ehr", address))).unwrap();
    let entries = lab.gateway().output("ip", &["neighbour", "show", "nud", "permanent"]).unwrap();
    assert!(nobody.iter().all(|address| entries.contains(&format!("{address} "))), "{entries}");
    let mut capture = Capture::start(lab.leg("ehr").unwrap()).unwrap();
    let owners = ["ehr-server", "pacs"].map(|name| lab.host(name).unwrap().leg().mac());
    for address in nobody {
        let sent = lab.host("ct").unwrap().run_in(|| {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            UdpSocket::bind(any).and_then(|socket| socket.send_to(b"to nobody", (address, 4242)))
        });
        assert_eq!(sent.unwrap().unwrap(), 9);
        let seen = capture.wait_for(1, PATIENCE, |frame| frame.bytes.ends_with(b"to nobody")).unwrap();
        assert_eq!(seen.len(), 1, "{address}");
        assert_eq!(seen[0].direction, Direction::Out);
        assert!(owners.iter().any(|mac| seen[0].bytes.starts_with(mac)), "{address}");
    }
    assert!(lab.pin_neighbours(&[("attic", nobody[0])]).unwrap_err().to_string().contains("no zone `attic`"));
}
