//! What traffic looks like by protocol and port: remote control, tunnels, clear text, servers that nobody put there.
//! By port only: a tool that hides behind 443 is not told apart, and the report says so.

use serde::{Deserialize, Serialize};

/// Kinds of traffic that some control asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspect {
    /// Somebody else answers DHCP (UDP from port 67 or 547 to a client).
    RogueDhcp,
    /// Somebody else announces himself as an IPv6 router (ICMPv6 type 134).
    RogueRouter,
    /// RDP, TCP and UDP 3389.
    Rdp,
    /// VNC, TCP 5500 and 5900 to 5910.
    Vnc,
    /// TeamViewer, TCP and UDP 5938.
    TeamViewer,
    /// AnyDesk, TCP 6568 and 7070.
    AnyDesk,
    /// RustDesk, TCP 21115 to 21119 and UDP 21116.
    RustDesk,
    /// PPTP, TCP 1723.
    Pptp,
    /// GRE, IP protocol 47: not encrypted.
    Gre,
    /// L2TP, UDP 1701: not encrypted by itself.
    L2tp,
    /// OpenVPN, TCP and UDP 1194.
    OpenVpn,
    /// SSL-VPN appliances and SoftEther, TCP 992, 4433, 5555 and 10443; UDP 4433.
    SslVpn,
    /// WireGuard, UDP 51820.
    WireGuard,
    /// DICOM without TLS, TCP 104 and 11112.
    Dicom,
    /// HL7 MLLP without TLS, TCP 2575.
    Hl7,
    /// FTP, TCP 20 and 21.
    Ftp,
    /// Telnet, TCP 23.
    Telnet,
    /// SMB and NetBIOS, TCP 139 and 445.
    Smb,
    /// HTTP, TCP 80 and 8080.
    Http,
}

/// What a kind is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A server or router that nobody put there.
    Rogue,
    /// Control of a computer from afar.
    RemoteControl,
    /// A tunnel that is not counted as safe.
    WeakTunnel,
    /// An SSL-VPN.
    SslVpn,
    /// Another tunnel.
    Tunnel,
    /// Medical data or logins in clear text.
    ClearCare,
    /// Other clear text.
    ClearOther,
}

/// A range of destination ports of one transport, or an IP protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// TCP destination ports, inclusive.
    Tcp(u16, u16),
    /// UDP destination ports, inclusive.
    Udp(u16, u16),
    /// An IP protocol.
    Ip(u8),
}

/// Every kind that is told by destination port or protocol. Rogue servers are told by [`rogue`].
const MARKS: [(Mark, Suspect); 30] = [
    (Mark::Tcp(3389, 3389), Suspect::Rdp),
    (Mark::Udp(3389, 3389), Suspect::Rdp),
    (Mark::Tcp(5500, 5500), Suspect::Vnc),
    (Mark::Tcp(5900, 5910), Suspect::Vnc),
    (Mark::Tcp(5938, 5938), Suspect::TeamViewer),
    (Mark::Udp(5938, 5938), Suspect::TeamViewer),
    (Mark::Tcp(6568, 6568), Suspect::AnyDesk),
    (Mark::Tcp(7070, 7070), Suspect::AnyDesk),
    (Mark::Tcp(21115, 21119), Suspect::RustDesk),
    (Mark::Udp(21116, 21116), Suspect::RustDesk),
    (Mark::Tcp(1723, 1723), Suspect::Pptp),
    (Mark::Ip(47), Suspect::Gre),
    (Mark::Udp(1701, 1701), Suspect::L2tp),
    (Mark::Tcp(1194, 1194), Suspect::OpenVpn),
    (Mark::Udp(1194, 1194), Suspect::OpenVpn),
    (Mark::Tcp(992, 992), Suspect::SslVpn),
    (Mark::Tcp(4433, 4433), Suspect::SslVpn),
    (Mark::Udp(4433, 4433), Suspect::SslVpn),
    (Mark::Tcp(5555, 5555), Suspect::SslVpn),
    (Mark::Tcp(10443, 10443), Suspect::SslVpn),
    (Mark::Udp(51820, 51820), Suspect::WireGuard),
    (Mark::Tcp(104, 104), Suspect::Dicom),
    (Mark::Tcp(11112, 11112), Suspect::Dicom),
    (Mark::Tcp(2575, 2575), Suspect::Hl7),
    (Mark::Tcp(20, 21), Suspect::Ftp),
    (Mark::Tcp(23, 23), Suspect::Telnet),
    (Mark::Tcp(139, 139), Suspect::Smb),
    (Mark::Tcp(445, 445), Suspect::Smb),
    (Mark::Tcp(80, 80), Suspect::Http),
    (Mark::Tcp(8080, 8080), Suspect::Http),
];

/// The kind of a packet by its IP protocol number and destination port (0 for protocols without ports).
#[must_use]
pub fn recognise(protocol: u8, destination_port: u16) -> Option<Suspect> {
    let hit = |mark: &Mark| match *mark {
        Mark::Tcp(low, high) => protocol == 6 && (low..=high).contains(&destination_port),
        Mark::Udp(low, high) => protocol == 17 && (low..=high).contains(&destination_port),
        Mark::Ip(number) => protocol == number,
    };
    MARKS.iter().find(|(mark, _)| hit(mark)).map(|(_, suspect)| *suspect)
}

/// A server that nobody put there, by a packet that came *in* from a zone of the clinic: a DHCP answer (RFC 2131,
/// RFC 9915: from the server's port) or a router advertisement (RFC 4861: ICMPv6 type 134).
#[must_use]
pub fn rogue(
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    icmp6_type: Option<u8>,
) -> Option<Suspect> {
    match (protocol, source_port, destination_port) {
        (17, 67, 68) | (17, 547, 546) => Some(Suspect::RogueDhcp),
        (58, _, _) if icmp6_type == Some(134) => Some(Suspect::RogueRouter),
        _ => None,
    }
}

impl Suspect {
    /// What the kind is about.
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Suspect::RogueDhcp | Suspect::RogueRouter => Class::Rogue,
            Suspect::Rdp | Suspect::Vnc | Suspect::TeamViewer | Suspect::AnyDesk | Suspect::RustDesk => {
                Class::RemoteControl
            }
            Suspect::Pptp | Suspect::Gre | Suspect::L2tp => Class::WeakTunnel,
            Suspect::OpenVpn | Suspect::SslVpn => Class::SslVpn,
            Suspect::WireGuard => Class::Tunnel,
            Suspect::Dicom | Suspect::Hl7 | Suspect::Ftp | Suspect::Telnet | Suspect::Smb => Class::ClearCare,
            Suspect::Http => Class::ClearOther,
        }
    }

    /// The kind's name, the same in both languages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Suspect::RogueDhcp => "DHCP",
            Suspect::RogueRouter => "IPv6 RA",
            Suspect::Rdp => "RDP",
            Suspect::Vnc => "VNC",
            Suspect::TeamViewer => "TeamViewer",
            Suspect::AnyDesk => "AnyDesk",
            Suspect::RustDesk => "RustDesk",
            Suspect::Pptp => "PPTP",
            Suspect::Gre => "GRE",
            Suspect::L2tp => "L2TP",
            Suspect::OpenVpn => "OpenVPN",
            Suspect::SslVpn => "SSL-VPN",
            Suspect::WireGuard => "WireGuard",
            Suspect::Dicom => "DICOM",
            Suspect::Hl7 => "HL7",
            Suspect::Ftp => "FTP",
            Suspect::Telnet => "Telnet",
            Suspect::Smb => "SMB",
            Suspect::Http => "HTTP",
        }
    }
}

/// Kinds that a protocol of a flow allows at least in part.
pub(super) fn within(protocol: crate::model::Protocol) -> impl Iterator<Item = Suspect> {
    use crate::model::Protocol;
    let meets = move |mark: Mark| match (mark, protocol) {
        (Mark::Tcp(low, high), Protocol::Tcp(first, last))
        | (Mark::Udp(low, high), Protocol::Udp(first, last)) => low <= last && first <= high,
        (Mark::Ip(number), Protocol::Ip(asked)) => number == asked,
        (Mark::Tcp(..) | Mark::Udp(..) | Mark::Ip(_), _) => false,
    };
    MARKS.iter().filter(move |(mark, _)| meets(*mark)).map(|(_, suspect)| *suspect)
}
