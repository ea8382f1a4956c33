//! Packets reach a bound log group with what the kernel knew of them, and losses are counted.

use std::net::UdpSocket;
use std::time::Duration;

use netfilter::nflog::{GroupConfig, LogReader, NflogError, bind};

use crate::namespace::{in_namespace, run};

const RULES: &str = "table inet logged { chain out { type filter hook output priority 0;
    udp dport 9 log group 77 prefix \"sekisho deny x \"
    }
}";

#[test]
fn a_logged_packet_comes_with_prefix_interface_and_payload() {
    in_namespace(|| {
        loopback();
        let config = GroupConfig { queue_threshold: 1, timeout_cs: 1, ..GroupConfig::default() };
        let mut reader = LogReader::new(bind(77, config).unwrap());
        assert!(matches!(bind(77, config), Err(NflogError::Permission { group: 77 })));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", "127.0.0.1:9").unwrap();
        let packets = until(&mut reader, 1);
        let packet = &packets[0];
        assert_eq!((packet.prefix.as_str(), packet.family, packet.hook), ("sekisho deny x ", 2, Some(3)));
        assert_eq!((packet.out_index, packet.in_index, packet.sequence), (Some(1), None, Some(0)));
        assert!(packet.payload.ends_with(b"hello"));
        assert_eq!(packet.payload[0], 0x45);
    });
}

#[test]
fn what_a_full_buffer_loses_is_counted() {
    in_namespace(|| {
        loopback();
        let config = GroupConfig {
            queue_threshold: 1,
            timeout_cs: 1,
            receive_buffer_bytes: 4096,
            ..GroupConfig::default()
        };
        let mut reader = LogReader::new(bind(77, config).unwrap());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sent = 2_000_u64;
        for _ in 0..sent {
            socket.send_to(&[0; 100], "127.0.0.1:9").unwrap();
        }
        let mut received = 0;
        loop {
            let overruns = reader.losses().overruns;
            let packets = reader.receive(Duration::from_millis(300)).unwrap();
            received += u64::try_from(packets.len()).unwrap();
            if packets.is_empty() && reader.losses().overruns == overruns {
                break;
            }
        }
        // One more packet shows the gap in the numbers.
        socket.send_to(&[0; 100], "127.0.0.1:9").unwrap();
        received += u64::try_from(until(&mut reader, 1).len()).unwrap();
        let losses = reader.losses();
        assert!(received < sent, "nothing was lost: {received}");
        assert!(losses.overruns >= 1, "{losses:?}");
        assert_eq!(losses.missing + received, sent + 1, "{losses:?}");
    });
}

fn loopback() {
    run("ip", &["link", "set", "lo", "up"], "");
    run("nft", &["-f", "-"], RULES);
}

fn until(reader: &mut LogReader, count: usize) -> Vec<netfilter::nflog::LoggedPacket> {
    let mut packets = Vec::new();
    for _ in 0..50 {
        packets.extend(reader.receive(Duration::from_millis(100)).unwrap());
        if packets.len() >= count {
            break;
        }
    }
    assert!(packets.len() >= count, "{} packets", packets.len());
    packets
}
