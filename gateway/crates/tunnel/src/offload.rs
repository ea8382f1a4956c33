//! Segmentation offload on the side of the device: the kernel hands over and takes pieces that are many packets of one
//! stream (Documentation/networking/segmentation-offloads.rst; their header is `virtio_net_hdr` of the virtio standard,
//! section 5.1.6). [`Cut`] makes packets of a piece, [`Joiner`] makes pieces of packets; neither moves a payload.
//!
//! Pure: bytes in, bytes out. Whatever a peer puts into its packets, they come out as they went in, or joined so that the
//! kernel cuts them to what they were.

mod cut;
mod join;
mod shape;

pub use cut::{Cut, Packet, SPARE_BYTES};
pub use join::Joiner;

/// Bytes in front of each piece: the header that tells the kernel about offloads.
pub const HEAD_BYTES: usize = tun_rs::VIRTIO_NET_HDR_LEN;
/// As long as IP lets a packet be.
pub const PIECE_BYTES: usize = 65_535;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is only begun; whoever takes the piece completes it, in each packet that is cut.
const NEEDS_CHECKSUM: u8 = 1;

/// At most so many bytes, put by while something else lies in their place.
#[derive(Clone, Copy, Debug)]
struct Saved<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Saved<N> {
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut saved = Self { bytes: [0; N], length: bytes.len() };
        saved.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(saved)
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn put(&self, buffer: &mut [u8], at: usize) {
        put(buffer, at, self.bytes());
    }
}

/// Writes bytes into a buffer; beyond its end nothing.
fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// Reads bytes of a buffer; zeros where it has none.
fn get<const N: usize>(buffer: &[u8], at: usize) -> [u8; N] {
    let found = buffer.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests;
