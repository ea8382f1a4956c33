//! The clinic as a specification: six zones, the wan, and behind it a vendor, a doctor and the web.
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    ServerKind,
    spec::{HostSpec, Spec, ZoneSpec, net4, net6},
};

/// The gateway's address on the wan.
pub const GATEWAY_WAN_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The gateway's IPv6 address on the wan.
pub const GATEWAY_WAN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 2);
const ISP_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const ISP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
/// The clinic's own IPv6 prefix, which the provider routes to the gateway as a delegated one would be.
const CLINIC_V6: Ipv6Addr = Ipv6Addr::new(0xfd51, 0x7ec5, 0, 0, 0, 0, 0, 0);

impl Spec {
    /// Describes the clinic of the documentation's picture.
    #[must_use]
    pub fn clinic() -> Self {
        use ServerKind::{Dicom, Http, Ssh, TcpEcho};
        Self::new("clinic")
            .zone(wan())
            .zone(
                zone("ehr", "lan-ehr", 10)
                    .host(ehr_server())
                    .host(device("pacs", 10, 11).server(Dicom.on(104)).server(Dicom.on(11112))),
            )
            .zone(zone("billing", "lan-bill", 11).host(device("receipt", 11, 10).server(Http.on(80))))
            .zone(
                zone("modality", "lan-mod", 20)
                    .host(device("ct", 20, 21).server(Dicom.on(104)).server(Ssh.on(22))),
            )
            .zone(zone("staff", "lan-staff", 30).host(device("reception", 30, 31).server(Http.on(80))))
            .zone(zone("guest", "lan-guest", 90).host(device("phone", 90, 50).server(TcpEcho.on(7))))
            .zone(zone("management", "lan-mgmt", 99).host(device("admin", 99, 5).server(Ssh.on(22))))
    }
}

fn ehr_server() -> HostSpec {
    use ServerKind::{Http, Pusher, Ssh, TcpEcho, UdpEcho};
    let servers = [Ssh.on(22), Http.on(80), TcpEcho.on(7), UdpEcho.on(7), Pusher.on(19)];
    servers.into_iter().fold(device("ehr-server", 10, 10), HostSpec::server)
}

/// Describes a zone of the clinic: 192.168.N.0/24 and fd51:7ec5:0:N::/64 with N in decimal digits.
fn zone(name: &str, interface: &str, number: u8) -> ZoneSpec {
    let v4 = net4(Ipv4Addr::new(192, 168, number, 1), 24);
    ZoneSpec::new(name, interface, Some(v4), Some(net6(clinic_v6(number, 1), 64)))
}

fn device(name: &str, zone: u8, host: u8) -> HostSpec {
    HostSpec::new(name, Some(Ipv4Addr::new(192, 168, zone, host)), Some(clinic_v6(zone, host)))
}

fn clinic_v6(zone: u8, host: u8) -> Ipv6Addr {
    let [a, b, ..] = CLINIC_V6.segments();
    Ipv6Addr::new(a, b, 0, decimal_digits(zone), 0, 0, 0, decimal_digits(host))
}

/// Writes a number's decimal digits as a hexadecimal group, so that 90 becomes `90` in the address.
fn decimal_digits(number: u8) -> u16 {
    let number = u16::from(number);
    (number / 100) << 8 | (number / 10 % 10) << 4 | (number % 10)
}

fn wan() -> ZoneSpec {
    let site = |last| Ipv4Addr::new(198, 51, 100, last);
    let v6 = |group, last| Ipv6Addr::new(0x2001, 0xdb8, group, 0, 0, 0, 0, last);
    let web = |last| Ipv4Addr::new(192, 0, 2, last);
    let http = ServerKind::Http.on(80);
    let internet = HostSpec::new("internet", Some(ISP_V4), Some(ISP_V6))
        .route(net6(CLINIC_V6, 48), GATEWAY_WAN_V6)
        .behind(
            ZoneSpec::new("vendor-site", "vendor", Some(net4(site(1), 26)), Some(net6(v6(0x51, 1), 64)))
                .host(
                    HostSpec::new("vendor", Some(site(10)), Some(v6(0x51, 0x10)))
                        .server(ServerKind::Ssh.on(22))
                        .server(http),
                ),
        )
        .behind(
            ZoneSpec::new("doctor-home", "doctor", Some(net4(site(65), 26)), Some(net6(v6(0x77, 1), 64)))
                .host(HostSpec::new("doctor", Some(site(77)), Some(v6(0x77, 0x77)))),
        )
        .behind(
            ZoneSpec::new("web-site", "web", Some(net4(web(1), 24)), Some(net6(v6(0x80, 1), 64))).host(
                HostSpec::new("web", Some(web(80)), Some(v6(0x80, 0x80)))
                    .server(http)
                    .server(ServerKind::TcpEcho.on(7))
                    .server(ServerKind::UdpEcho.on(7)),
            ),
        );
    ZoneSpec::new("wan", "eth0", Some(net4(GATEWAY_WAN_V4, 24)), Some(net6(GATEWAY_WAN_V6, 64)))
        .host(internet)
        .uplink()
}
