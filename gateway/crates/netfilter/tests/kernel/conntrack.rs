//! Ends of connections reach a bound socket with the kernel's counts and nothing else does, losses are counted one by
//! one, and a list asked for on the binder's copy of the socket reaches the reader, which may have no capability.

use std::fs;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use netfilter::conntrack::{
    Connection, ConntrackReader, Detail, Event, bind, receive_buffer_bytes, request_dump,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::namespace::{in_namespace, run};

/// Marks by port, as the gateway does, and tracks what loopback carries.
const RULES: &str = "table inet marked {
    counter seen { }
    chain out { type filter hook output priority 0;
        udp dport 5000-5999 ct mark set 7 counter name seen
        tcp dport 5000-5999 ct mark set 8
    }
}";
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_connection_is_told_at_its_counted_end_alone() {
    in_namespace(|| {
        let mut reader = prepared(receive_buffer_bytes()).1;
        let listener = TcpListener::bind("127.0.0.1:5001").unwrap();
        let client = TcpStream::connect("127.0.0.1:5001").unwrap();
        let port = client.local_addr().unwrap().port();
        let served = listener.accept().unwrap().0;
        drop((client, served, listener));
        run("conntrack", &["-D", "-p", "tcp"], "");
        let told = until(&mut reader, |event| matches!(event, Event::Ended(_)));
        // Neither its beginning nor its changes were told before.
        let [Event::Ended(end)] = &told[..] else { panic!("{told:?}") };
        assert_eq!((end.tuple.detail, end.mark), (Detail::Ports { source: port, destination: 5001 }, 8));
        assert!(end.is_answered && end.tcp_state.is_some(), "{end:?}");
        // SYN, ACK, FIN, ACK; SYN-ACK, ACK or FIN-ACK, FIN: some are combined, none is missing.
        let (sent, returned) = (end.sent.unwrap(), end.returned.unwrap());
        assert!(sent.packets >= 3 && returned.packets >= 2, "{end:?}");
        assert!(end.started_at.unwrap() < end.ended_at.unwrap(), "{end:?}");
    });
}

#[test]
fn counts_of_datagrams_are_exact_in_both_families() {
    in_namespace(|| {
        let mut reader = prepared(receive_buffer_bytes()).1;
        for (host, head_bytes) in [("127.0.0.1", 28), ("[::1]", 48)] {
            let server = UdpSocket::bind(format!("{host}:5002")).unwrap();
            let client = UdpSocket::bind(format!("{host}:0")).unwrap();
            for _ in 0..10 {
                client.send_to(&[0; 100], format!("{host}:5002")).unwrap();
            }
            let (_, caller) = server.recv_from(&mut [0; 100]).unwrap();
            server.send_to(&[0; 50], caller).unwrap();
            run("conntrack", &["-D", "-p", "udp", "-f", if head_bytes == 28 { "ipv4" } else { "ipv6" }], "");
            let ended = until(&mut reader, |event| matches!(event, Event::Ended(_)));
            let Some(Event::Ended(end)) = ended.last() else { panic!("{ended:?}") };
            assert_eq!(end.tuple.destination, host.trim_matches(['[', ']']).parse::<IpAddr>().unwrap());
            let (sent, returned) = (end.sent.unwrap(), end.returned.unwrap());
            assert_eq!((sent.packets, sent.bytes), (10, 10 * (100 + head_bytes)));
            assert_eq!((returned.packets, returned.bytes), (1, 50 + head_bytes));
        }
    });
}

#[test]
fn a_list_comes_to_a_reader_without_capabilities() {
    in_namespace(|| {
        let (held, mut reader) = prepared(receive_buffer_bytes());
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in 5000..5500 {
            let _ = client.send_to(b"x", ("127.0.0.1", port));
        }
        request_dump(&held).unwrap();
        let events = without_capabilities(|| {
            assert!(request_dump(reader.as_fd()).is_ok(), "sending is free, being heard is not");
            until(&mut reader, |event| matches!(event, Event::ListEnd { complete: true }))
        });
        let mut open: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Open(connection) if connection.mark == 7 => {
                    assert_eq!(connection.sent.unwrap().packets, 1, "{connection:?}");
                    Some(destination(connection))
                }
                _ => None,
            })
            .collect();
        open.sort_unstable();
        open.dedup();
        assert_eq!(open, (5000..5500).collect::<Vec<_>>());
    });
}

#[test]
fn every_event_without_room_is_counted() {
    in_namespace(|| {
        let (held, mut reader) = prepared(8192);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sent = 900_u64;
        for port in 5000..5900 {
            let _ = client.send_to(b"x", ("127.0.0.1", port));
        }
        run("conntrack", &["-D", "-p", "udp"], "");
        let ended = count_ended(&mut reader);
        let losses = reader.losses();
        assert!(ended < sent, "nothing was lost: {ended}");
        assert!(losses.overruns >= 1, "{losses:?}");
        assert_eq!(ended + losses.dropped, sent, "{losses:?}");
        // What is open now can still be learned, and the next end arrives.
        let _ = client.send_to(b"x", ("127.0.0.1", 5901));
        request_dump(&held).unwrap();
        let events = until(&mut reader, |event| matches!(event, Event::ListEnd { complete: true }));
        let open: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Open(connection) if connection.mark == 7 => Some(destination(connection)),
                _ => None,
            })
            .collect();
        assert_eq!(open, [5901]);
        run("conntrack", &["-D", "-p", "udp"], "");
        until(&mut reader, |event| matches!(event, Event::Ended(c) if destination(c) == 5901));
        // A reader that comes later knows what was lost before it.
        let later = ConntrackReader::new(held).unwrap();
        assert_eq!(later.losses().dropped, losses.dropped);
    });
}

/// A namespace that tracks connections; the binder's copy of the socket, and the reader.
fn prepared(buffer_bytes: usize) -> (OwnedFd, ConntrackReader) {
    run("ip", &["link", "set", "lo", "up"], "");
    run("nft", &["-f", "-"], RULES);
    for name in ["nf_conntrack_acct", "nf_conntrack_timestamp", "nf_conntrack_events"] {
        fs::write(format!("/proc/sys/net/netfilter/{name}"), "1").unwrap();
    }
    let socket = bind(buffer_bytes).unwrap();
    let copy = socket.try_clone().unwrap();
    (socket, ConntrackReader::new(copy).unwrap())
}

fn until(reader: &mut ConntrackReader, last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !events.iter().any(&last) {
        assert!(Instant::now() < deadline, "{} events, not the one: {:?}", events.len(), events.last());
        if !reader.receive(64, |event| events.push(event)).unwrap() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    events
}

fn count_ended(reader: &mut ConntrackReader) -> u64 {
    let mut ended = 0;
    let mut count = |event: Event| ended += u64::from(matches!(event, Event::Ended(c) if c.mark == 7));
    while reader.receive(64, &mut count).unwrap() {}
    reader.count_dropped().unwrap();
    ended
}

fn destination(connection: &Connection) -> u16 {
    match connection.tuple.detail {
        Detail::Ports { destination, .. } => destination,
        Detail::Icmp { .. } | Detail::None => 0,
    }
}

/// Runs on this thread, which ends with the test, without any capability.
fn without_capabilities<T>(work: impl FnOnce() -> T) -> T {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: capabilities(None).unwrap().permitted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).unwrap();
    work()
}
