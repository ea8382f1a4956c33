//! Netlink messages and attributes as bounded byte slices (linux/netlink.h): reading never trusts a length.

use std::collections::BTreeMap;

use crate::kernel::{NFGENMSG_BYTES, NLMSG_HEADER_BYTES};

/// The type bits of an attribute, without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const NLA_TYPE_MASK: u16 = 0x3fff;
const NLA_HEADER_BYTES: usize = 4;
const ALIGN_BYTES: usize = 4;

/// A message or attribute whose length contradicts its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed netlink data: {what}")]
pub(crate) struct Malformed {
    pub(crate) what: &'static str,
}

impl Malformed {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what }
    }
}

/// One netlink message inside of a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The address family and the attributes of a netfilter message (after `struct nfgenmsg`).
    pub(crate) fn netfilter(&self) -> Result<(u8, Attributes<'a>), Malformed> {
        let (header, rest) = self
            .payload
            .split_at_checked(NFGENMSG_BYTES)
            .ok_or(Malformed::new("a netfilter message shorter than its header"))?;
        let family = header.first().copied().unwrap_or_default();
        Ok((family, Attributes::parse(rest)?))
    }
}

/// Walks the messages of one datagram.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match split_message(rest) {
            Ok((message, after)) => {
                rest = after;
                Some(Ok(message))
            }
            Err(error) => {
                rest = &[];
                Some(Err(error))
            }
        }
    })
}

fn split_message(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), Malformed> {
    let short = Malformed::new("a message shorter than its header");
    let (header, _) = bytes.split_first_chunk::<NLMSG_HEADER_BYTES>().ok_or(short)?;
    let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).map_err(|_| short)?;
    let whole = bytes.get(..length).ok_or(Malformed::new("a message longer than its datagram"))?;
    let payload = whole.get(NLMSG_HEADER_BYTES..).ok_or(short)?;
    let after = bytes.get(length.next_multiple_of(ALIGN_BYTES)..).unwrap_or_default();
    let message = Message {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        payload,
    };
    Ok((message, after))
}

/// One attribute: its type without flags, and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(crate) fn u8(&self) -> Option<u8> {
        self.bytes.first().copied().filter(|_| self.bytes.len() == 1)
    }

    /// A number in network order, as nearly all of nf_tables are.
    pub(crate) fn be16(&self) -> Option<u16> {
        self.bytes.try_into().ok().map(u16::from_be_bytes)
    }

    pub(crate) fn be32(&self) -> Option<u32> {
        self.bytes.try_into().ok().map(u32::from_be_bytes)
    }

    pub(crate) fn be64(&self) -> Option<u64> {
        self.bytes.try_into().ok().map(u64::from_be_bytes)
    }

    /// The bytes it takes with its header and padding.
    pub(crate) fn padded_bytes(&self) -> usize {
        (self.bytes.len() + NLA_HEADER_BYTES).next_multiple_of(ALIGN_BYTES)
    }

    pub(crate) fn nested(&self) -> Result<Attributes<'a>, Malformed> {
        Attributes::parse(self.bytes)
    }
}

/// The attributes of one nest by type; a type that occurs twice is malformed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes<'a>(BTreeMap<u16, Attribute<'a>>);

impl<'a> Attributes<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = BTreeMap::new();
        for attribute in list(bytes) {
            let attribute = attribute?;
            if found.insert(attribute.kind, attribute).is_some() {
                return Err(Malformed::new("an attribute that occurs twice"));
            }
        }
        Ok(Self(found))
    }

    pub(crate) fn find(&self, kind: u16) -> Option<Attribute<'a>> {
        self.0.get(&kind).copied()
    }

    /// The first attribute whose type is not among the known ones.
    pub(crate) fn unknown(&self, known: &[u16]) -> Option<Attribute<'a>> {
        self.0.values().find(|attribute| !known.contains(&attribute.kind)).copied()
    }

    pub(crate) fn be32(&self, kind: u16) -> Option<u32> {
        self.find(kind)?.be32()
    }

    pub(crate) fn be64(&self, kind: u16) -> Option<u64> {
        self.find(kind)?.be64()
    }

    pub(crate) fn bytes(&self, kind: u16) -> Option<&'a [u8]> {
        self.find(kind).map(|attribute| attribute.bytes)
    }
}

/// Walks attributes in their order, as in lists, where every entry has the same type.
pub(crate) fn list(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match split_attribute(rest) {
            Ok((attribute, after)) => {
                rest = after;
                Some(Ok(attribute))
            }
            Err(error) => {
                rest = &[];
                Some(Err(error))
            }
        }
    })
}

fn split_attribute(bytes: &[u8]) -> Result<(Attribute<'_>, &[u8]), Malformed> {
    let short = Malformed::new("an attribute shorter than its header");
    let (&[l0, l1, k0, k1], _) = bytes.split_first_chunk::<NLA_HEADER_BYTES>().ok_or(short)?;
    let length = usize::from(u16::from_ne_bytes([l0, l1]));
    let whole = bytes.get(..length).ok_or(Malformed::new("an attribute longer than its container"))?;
    let value = whole.get(NLA_HEADER_BYTES..).ok_or(short)?;
    let after = bytes.get(length.next_multiple_of(ALIGN_BYTES)..).unwrap_or_default();
    let kind = u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK;
    Ok((Attribute { kind, bytes: value }, after))
}

/// Writes the few requests that need no libnftnl: dumps, the ends of a batch, log configuration.
#[derive(Debug)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// Begins a netfilter request (`struct nfgenmsg`).
    pub(crate) fn new(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16) -> Self {
        let [high, low] = resource.to_be_bytes();
        Self::with_head(kind, flags, sequence, &[family, 0, high, low])
    }

    /// Begins a request with another protocol's head.
    pub(crate) fn with_head(kind: u16, flags: u16, sequence: u32, head: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(head);
        Self(bytes)
    }

    /// Begins the attributes of a nest.
    pub(crate) fn nest() -> Self {
        Self(Vec::new())
    }

    /// The attributes of a nest.
    pub(crate) fn finish_nest(self) -> Vec<u8> {
        self.0
    }

    /// Appends an attribute; one too long for its length field becomes empty, which the kernel refuses.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let fitting = u16::try_from(value.len() + NLA_HEADER_BYTES);
        let (length, value) = fitting.map_or((4, &[][..]), |length| (length, value));
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGN_BYTES), 0);
        self
    }

    pub(crate) fn text(self, kind: u16, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.attribute(kind, &value)
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or_default().to_ne_bytes();
        self.0.iter_mut().zip(length).for_each(|(slot, byte)| *slot = byte);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_written() {
        let bytes = Request::new(0x0a07, 0x301, 9, 1, 5).text(1, "sekisho").attribute(2, &[1, 2]).finish();
        let message = messages(&bytes).next().unwrap().unwrap();
        assert_eq!((message.kind, message.flags, message.sequence), (0x0a07, 0x301, 9));
        let (family, attributes) = message.netfilter().unwrap();
        assert_eq!(family, 1);
        assert_eq!(attributes.bytes(1), Some(&b"sekisho\0"[..]));
        assert_eq!(attributes.unknown(&[1]).map(|attribute| attribute.kind), Some(2));
        assert_eq!(messages(&bytes).count(), 1);
    }

    #[test]
    fn every_truncation_and_every_changed_length_is_an_error_or_a_shorter_list() {
        let whole = Request::new(0x0a07, 0, 9, 1, 0).text(1, "sekisho").attribute(2, &[1, 2, 3]).finish();
        for cut in 1..whole.len() {
            assert!(messages(&whole[..cut]).next().unwrap().is_err(), "{cut}");
        }
        for place in 0..whole.len() {
            for value in 0..=255 {
                let mut bytes = whole.clone();
                bytes[place] = value;
                for message in messages(&bytes).flatten() {
                    let _ = message.netfilter();
                }
            }
        }
    }

    #[test]
    fn a_doubled_attribute_is_malformed() {
        let bytes = Request::new(0, 0, 0, 0, 0).attribute(1, &[1]).attribute(1, &[2]).finish();
        assert!(messages(&bytes).next().unwrap().unwrap().netfilter().is_err());
    }
}
