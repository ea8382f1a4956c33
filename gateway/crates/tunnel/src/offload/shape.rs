//! Where the parts of a TCP or UDP packet are, and its checksums.

use tun_rs::{checksum, checksum_no_fold};

use super::{get, put};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
/// Flags of TCP (RFC 9293, section 3.1).
pub(super) const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
pub(super) const CWR: u8 = 0x80;
/// Where TCP has its flags.
pub(super) const FLAGS_AT: usize = 13;

pub(super) const V4_BYTES: usize = 20;
pub(super) const V6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
/// "Don't fragment" and nothing else of the field.
const WHOLE: u16 = 0x4000;
/// "More fragments", and where a fragment belongs.
const FRAGMENT: u16 = 0x3FFF;

/// Where the parts of a packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) is_v6: bool,
    pub(super) protocol: u8,
    /// Where the transport's header begins.
    pub(super) transport: usize,
    /// Where the payload begins.
    pub(super) payload: usize,
}

impl Shape {
    /// Tells the parts of a packet that may be joined with others: whole, without options of IP, its lengths true, and of
    /// TCP nothing but data. An IPv4 packet that may be fragmented has an identity to keep, so it is none (RFC 6864).
    pub(super) fn of_joinable(packet: &[u8]) -> Option<Self> {
        let (is_v6, protocol, transport) = match packet.first()? {
            0x45 => {
                let whole = u16::from_be_bytes(get(packet, 6)) == WHOLE;
                let length = usize::from(u16::from_be_bytes(get(packet, 2)));
                (whole && length == packet.len()).then_some((false, *packet.get(9)?, V4_BYTES))?
            }
            0x60..=0x6F => {
                let length = usize::from(u16::from_be_bytes(get(packet, 4)));
                (length + V6_BYTES == packet.len()).then_some((true, *packet.get(6)?, V6_BYTES))?
            }
            _ => return None,
        };
        let payload = match protocol {
            TCP => {
                let [offset, flags] = get(packet, transport + 12);
                let header = usize::from(offset >> 4) * 4;
                let is_data = offset & 0x0F == 0 && flags | PSH == ACK | PSH && header >= TCP_BYTES;
                // All ones is the same as zero, and rare: cut again it would be zero.
                let is_summed = get(packet, transport + 16) != [0xFF, 0xFF];
                (is_data && is_summed).then_some(transport + header)?
            }
            UDP => {
                let length = usize::from(u16::from_be_bytes(get(packet, transport + 4)));
                let is_summed = get(packet, transport + 6) != [0, 0];
                (is_summed && transport + length == packet.len()).then_some(transport + UDP_BYTES)?
            }
            _ => return None,
        };
        (payload < packet.len()).then_some(Self { is_v6, protocol, transport, payload })
    }

    /// Where the transport's checksum is, from where its header begins.
    pub(super) fn checksum_offset(&self) -> usize {
        if self.protocol == TCP { 16 } else { 6 }
    }

    /// Where the transport's checksum is.
    pub(super) fn checksum_at(&self) -> usize {
        self.transport + self.checksum_offset()
    }

    /// Sums what TCP and UDP add to their own bytes (RFC 9293, section 3.1; RFC 8200, section 8.1).
    pub(super) fn pseudo_header(&self, packet: &[u8]) -> u64 {
        let addresses = if self.is_v6 { packet.get(8..40) } else { packet.get(12..20) };
        let length = packet.len().saturating_sub(self.transport) as u64;
        checksum_no_fold(addresses.unwrap_or_default(), u64::from(self.protocol) + length)
    }

    /// Says whether the checksums are right: joined, the packet gets new ones, and what was damaged would look whole.
    pub(super) fn is_intact(&self, packet: &[u8]) -> bool {
        let header = packet.get(..self.transport).unwrap_or_default();
        let rest = packet.get(self.transport..).unwrap_or_default();
        let is_whole = |sum: u16| sum == u16::MAX;
        (self.is_v6 || is_whole(checksum(header, 0))) && is_whole(checksum(rest, self.pseudo_header(packet)))
    }

    /// Says whether the sender wants what came so far to be delivered.
    pub(super) fn is_pushed(&self, packet: &[u8]) -> bool {
        self.protocol == TCP && get::<1>(packet, self.transport + FLAGS_AT)[0] & PSH != 0
    }

    /// Writes the lengths that the packet has now, and the checksum of IPv4; the transport's is left alone.
    pub(super) fn write_lengths(&self, packet: &mut [u8]) {
        let bytes = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        let length = packet.len();
        if self.is_v6 {
            put(packet, 4, &bytes(length.saturating_sub(V6_BYTES)));
        } else {
            put(packet, 2, &bytes(length));
            put(packet, 10, &[0, 0]);
            let sum = checksum(packet.get(..self.transport).unwrap_or_default(), 0);
            put(packet, 10, &(!sum).to_be_bytes());
        }
        if self.protocol == UDP {
            put(packet, self.transport + 4, &bytes(length.saturating_sub(self.transport)));
        }
    }
}

/// Who speaks with whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    version: u8,
    addresses: [u8; 32],
    /// The protocol and the ports, where they are to be seen.
    ports: Option<(u8, [u8; 4])>,
}

impl Flow {
    pub(super) fn of(packet: &[u8]) -> Self {
        let version = packet.first().map_or(0, |byte| byte >> 4);
        let mut addresses = [0; 32];
        let (protocol, transport) = if version == 6 {
            addresses = get(packet, 8);
            (get::<1>(packet, 6)[0], V6_BYTES)
        } else {
            put(&mut addresses, 0, &get::<8>(packet, 12));
            (get::<1>(packet, 9)[0], V4_BYTES)
        };
        // Not of a fragment, nor behind options: where it might be of the same stream it is taken for that.
        let is_plain = version == 6
            || packet.first() == Some(&0x45) && u16::from_be_bytes(get(packet, 6)) & FRAGMENT == 0;
        let has_ports = is_plain && [TCP, UDP].contains(&protocol);
        Self { version, addresses, ports: has_ports.then(|| (protocol, get(packet, transport))) }
    }

    /// Says whether the order of packets of the two may matter to anybody.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let may_be_same = match (self.ports, other.ports) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.version == other.version && self.addresses == other.addresses && may_be_same
    }
}
