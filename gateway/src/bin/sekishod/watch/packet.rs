//! The head of a denied packet in words. The bytes are a stranger's: etherparse reads what is there, nothing is assumed.

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use super::ring::Kind;

/// Longest prefix kept, as the kernel has it (NF_LOG_PREFIXLEN).
const PREFIX_BYTES_MAX: usize = 128;

/// What kind of packet this is; `None` when it has no readable IP header.
pub(crate) fn kind(prefix: &str, payload: &[u8]) -> Option<Kind> {
    let packet = LaxSlicedPacket::from_ip(payload).ok()?;
    let (source, destination, number) = match &packet.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            (header.source_addr().to_string(), header.destination_addr().to_string(), ip.payload().ip_number)
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.source_addr().to_string(), header.destination_addr().to_string(), ip.payload().ip_number)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let (protocol, port) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => ("tcp".to_owned(), Some(tcp.destination_port())),
        Some(TransportSlice::Udp(udp)) => ("udp".to_owned(), Some(udp.destination_port())),
        Some(TransportSlice::Icmpv4(icmp)) => (format!("icmp/{}", icmp.type_u8()), None),
        Some(TransportSlice::Icmpv6(icmp)) => (format!("icmpv6/{}", icmp.type_u8()), None),
        Some(TransportSlice::Igmp(_)) => ("igmp".to_owned(), None),
        None => (format!("proto/{}", number.0), None),
    };
    let prefix = prefix.chars().filter(|c| !c.is_control()).take(PREFIX_BYTES_MAX).collect();
    Some(Kind { prefix, source, destination, protocol, port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    #[test]
    fn a_tcp_packet_is_named_also_when_it_is_cut_off() {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([192, 168, 90, 50], [192, 168, 10, 11], 64)
            .tcp(40000, 445, 1, 1000)
            .write(&mut bytes, &[0; 200])
            .unwrap();
        for length in [bytes.len(), 40, 64] {
            let kind = kind("guest>ehr", &bytes[..length]).unwrap();
            assert_eq!(
                (kind.source.as_str(), kind.protocol.as_str(), kind.port),
                ("192.168.90.50", "tcp", Some(445))
            );
        }
        assert!(kind("x", &bytes[..10]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_kind_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), prefix in ".{0,300}") {
            if let Some(kind) = kind(&prefix, &bytes) {
                prop_assert!(!kind.prefix.contains('\n'));
            }
        }
    }
}
