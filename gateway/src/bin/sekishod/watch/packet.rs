//! The head of a logged packet. The bytes are a stranger's: etherparse reads what is there, nothing is assumed.

use std::net::IpAddr;

use etherparse::{Icmpv4Type, Icmpv6Type, LaxNetSlice, LaxSlicedPacket, TransportSlice};

use super::ring::Kind;

/// Longest prefix kept, as the kernel has it (NF_LOG_PREFIXLEN).
const PREFIX_BYTES_MAX: usize = 128;
const ICMP6: u8 = 58;

/// A logged packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Head {
    /// The text of the rule that logged it.
    pub(crate) prefix: String,
    /// The number of the interface it came in by.
    pub(crate) in_index: Option<u32>,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// The IP protocol's number.
    pub(crate) number: u8,
    pub(crate) source_port: Option<u16>,
    pub(crate) destination_port: Option<u16>,
    /// The type of an ICMP message.
    pub(crate) icmp_type: Option<u8>,
    /// The identifier of an echo request or reply.
    pub(crate) icmp_id: Option<u16>,
}

/// Reads a packet; `None` when it has no readable IP header.
pub(crate) fn head(prefix: &str, in_index: Option<u32>, payload: &[u8]) -> Option<Head> {
    let packet = LaxSlicedPacket::from_ip(payload).ok()?;
    let (source, destination, number) = match &packet.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload().ip_number)
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload().ip_number)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let (mut ports, mut icmp_type, mut icmp_id) = (None, None, None);
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => ports = Some((tcp.source_port(), tcp.destination_port())),
        Some(TransportSlice::Udp(udp)) => ports = Some((udp.source_port(), udp.destination_port())),
        Some(TransportSlice::Icmpv4(icmp)) => {
            icmp_type = Some(icmp.type_u8());
            icmp_id = match icmp.icmp_type() {
                Icmpv4Type::EchoRequest(echo) | Icmpv4Type::EchoReply(echo) => Some(echo.id),
                _ => None,
            };
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            icmp_type = Some(icmp.type_u8());
            icmp_id = match icmp.icmp_type() {
                Icmpv6Type::EchoRequest(echo) | Icmpv6Type::EchoReply(echo) => Some(echo.id),
                _ => None,
            };
        }
        Some(TransportSlice::Igmp(_)) | None => {}
    }
    Some(Head {
        prefix: prefix.chars().filter(|c| !c.is_control()).take(PREFIX_BYTES_MAX).collect(),
        in_index,
        source,
        destination,
        number: number.0,
        source_port: ports.map(|(source, _)| source),
        destination_port: ports.map(|(_, destination)| destination),
        icmp_type,
        icmp_id,
    })
}

impl Head {
    /// What makes two denied packets one.
    pub(crate) fn kind(&self) -> Kind {
        Kind {
            prefix: self.prefix.clone(),
            source: self.source.to_string(),
            destination: self.destination.to_string(),
            protocol: protocol(self.number, self.icmp_type),
            port: self.destination_port,
        }
    }
}

/// A protocol in words, with the type of an ICMP message: `tcp`, `icmp/8`, `proto/89`.
pub(crate) fn protocol(number: u8, icmp_type: Option<u8>) -> String {
    let word = match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        ICMP6 => "icmpv6",
        number => return format!("proto/{number}"),
    };
    icmp_type.map_or_else(|| word.to_owned(), |kind| format!("{word}/{kind}"))
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
            let head = head("guest>ehr", None, &bytes[..length]).unwrap();
            assert_eq!((head.source_port, head.destination_port), (Some(40000), Some(445)));
            let kind = head.kind();
            assert_eq!(
                (kind.source.as_str(), kind.protocol.as_str(), kind.port),
                ("192.168.90.50", "tcp", Some(445))
            );
        }
        assert!(head("x", None, &bytes[..10]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), prefix in ".{0,300}") {
            if let Some(head) = head(&prefix, None, &bytes) {
                prop_assert!(!head.kind().prefix.contains('\n'));
            }
        }
    }
}
