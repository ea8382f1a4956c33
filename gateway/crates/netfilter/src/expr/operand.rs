//! The typed operands of instructions. The numbers are those of linux/netfilter/nf_tables.h.

use crate::value::Name;

/// Defines a plain enum together with its numbers in the kernel's interface.
macro_rules! kernel_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            pub(crate) const fn to_kernel(self) -> u32 {
                match self { $(Self::$variant => $number,)+ }
            }

            pub(crate) const fn from_kernel(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}
pub(crate) use kernel_enum;

kernel_enum! {
    /// What [`super::Expr::Meta`] loads (NFT_META_*).
    MetaKey {
        /// The packet's length (host order, 4 bytes).
        Length = 0,
        /// The packet's mark (host order, 4 bytes).
        Mark = 3,
        /// The index of the incoming interface (host order, 4 bytes).
        Iif = 4,
        /// The index of the outgoing interface (host order, 4 bytes).
        Oif = 5,
        /// The name of the incoming interface (16 bytes).
        IifName = 6,
        /// The name of the outgoing interface (16 bytes).
        OifName = 7,
        /// The network protocol as an NFPROTO number (1 byte).
        NfProto = 15,
        /// The transport protocol after all extension headers (1 byte).
        L4Proto = 16,
        /// Unicast, broadcast or multicast (1 byte).
        PacketType = 19,
    }
}

kernel_enum! {
    /// What [`super::Expr::MetaSet`] writes.
    MetaSetKey {
        /// The packet's mark.
        Mark = 3,
    }
}

kernel_enum! {
    /// The header that [`super::Expr::Payload`] reads (NFT_PAYLOAD_*_HEADER).
    PayloadBase {
        /// The link layer.
        Link = 0,
        /// The IPv4 or IPv6 header.
        Network = 1,
        /// The header after it; a fragment without one ends the rule.
        Transport = 2,
    }
}

kernel_enum! {
    /// What [`super::Expr::Ct`] loads (NFT_CT_*).
    CtKey {
        /// One bit for the connection's state (host order, 4 bytes).
        State = 0,
        /// 0 for the original direction, 1 for replies (1 byte).
        Direction = 1,
        /// The connection's status bits (host order, 4 bytes).
        Status = 2,
        /// The connection's mark (host order, 4 bytes).
        Mark = 3,
        /// The network protocol as an NFPROTO number (1 byte).
        L3Proto = 7,
        /// The transport protocol (1 byte).
        Protocol = 10,
        /// The source port of a direction (2 bytes).
        ProtoSrc = 11,
        /// The destination port of a direction (2 bytes).
        ProtoDst = 12,
        /// The IPv4 source address of a direction.
        SrcIp = 19,
        /// The IPv4 destination address of a direction.
        DstIp = 20,
        /// The IPv6 source address of a direction.
        SrcIp6 = 21,
        /// The IPv6 destination address of a direction.
        DstIp6 = 22,
    }
}

kernel_enum! {
    /// What [`super::Expr::CtSet`] writes.
    CtSetKey {
        /// The connection's mark.
        Mark = 3,
    }
}

kernel_enum! {
    /// The direction of a packet in its connection (IP_CT_DIR_*).
    Direction {
        /// As the first packet.
        Original = 0,
        /// Against the first packet.
        Reply = 1,
    }
}

kernel_enum! {
    /// How [`super::Expr::Cmp`] compares (NFT_CMP_*).
    CmpOp {
        /// Equal.
        Equal = 0,
        /// Not equal.
        NotEqual = 1,
        /// Less, in network order.
        Less = 2,
        /// Less or equal, in network order.
        LessOrEqual = 3,
        /// Greater, in network order.
        Greater = 4,
        /// Greater or equal, in network order.
        GreaterOrEqual = 5,
    }
}

kernel_enum! {
    /// How [`super::Expr::Range`] compares (NFT_RANGE_*).
    RangeOp {
        /// Inside the range, ends included.
        Inside = 0,
        /// Outside the range.
        Outside = 1,
    }
}

kernel_enum! {
    /// What [`super::Expr::Byteorder`] does (NFT_BYTEORDER_*).
    ByteorderOp {
        /// Network order to the machine's.
        NetworkToHost = 0,
        /// The machine's order to the network's.
        HostToNetwork = 1,
    }
}

kernel_enum! {
    /// The unit of time of a rate, numbered by its seconds.
    LimitUnit {
        /// A second.
        Second = 1,
        /// A minute.
        Minute = 60,
        /// An hour.
        Hour = 3600,
        /// A day.
        Day = 86400,
    }
}

kernel_enum! {
    /// What a rate counts (NFT_LIMIT_*).
    LimitKind {
        /// Packets.
        Packets = 0,
        /// Bytes.
        Bytes = 1,
    }
}

kernel_enum! {
    /// What [`super::Expr::Fib`] loads (NFT_FIB_RESULT_*).
    FibResult {
        /// The index of the route's interface (host order, 4 bytes).
        Oif = 1,
        /// The name of the route's interface (16 bytes).
        OifName = 2,
        /// The type of the address: local, unicast, broadcast and so on (host order, 4 bytes).
        AddressType = 3,
    }
}

/// The address that [`super::Expr::Fib`] looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FibAddress {
    /// The packet's source.
    Source,
    /// The packet's destination.
    Destination,
}

kernel_enum! {
    /// A TCP option by its kind (RFC 9293, 3.1).
    TcpOption {
        /// The maximum segment size.
        MaxSegment = 2,
    }
}

kernel_enum! {
    /// What [`super::Expr::Route`] loads (NFT_RT_*).
    RouteKey {
        /// The largest TCP segment that fits the route (host order, 2 bytes).
        TcpMss = 3,
    }
}

kernel_enum! {
    /// What [`super::Expr::Dynset`] does (NFT_DYNSET_OP_*).
    DynsetOp {
        /// Adds the element unless it is there.
        Add = 0,
        /// Adds the element, or starts its timeout again.
        Update = 1,
        /// Deletes the element.
        Delete = 2,
    }
}

kernel_enum! {
    /// How [`super::Expr::Masquerade`] chooses ports (NF_NAT_RANGE_*).
    MasqueradeFlags {
        /// The kernel's way: keep the port when it is free.
        None = 0,
        /// A random port.
        Random = 4,
        /// A random port from a stronger generator.
        FullyRandom = 16,
    }
}

/// What is decided about a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Lets the packet pass this base chain.
    Accept,
    /// Ends the packet.
    Drop,
    /// Goes back to the calling chain.
    Return,
    /// Goes through a chain and comes back.
    Jump(Name),
    /// Goes to a chain for good.
    Goto(Name),
}

/// The text that a log message carries: at most 127 bytes, printable ASCII (NF_LOG_PREFIXLEN is 128).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPrefix(String);

/// The longest log prefix.
pub const LOG_PREFIX_MAX_BYTES: usize = 127;

/// A text is too long for a log prefix or holds a character that a log line must not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a log prefix must be at most {LOG_PREFIX_MAX_BYTES} printable ASCII characters without `\"`, not `{text}`"
)]
pub struct LogPrefixError {
    /// The refused text.
    pub text: String,
}

impl LogPrefix {
    /// Checks a text.
    pub fn new(text: &str) -> Result<Self, LogPrefixError> {
        let printable = text.bytes().all(|byte| (byte.is_ascii_graphic() || byte == b' ') && byte != b'"');
        if text.is_empty() || text.len() > LOG_PREFIX_MAX_BYTES || !printable {
            return Err(LogPrefixError { text: text.chars().take(LOG_PREFIX_MAX_BYTES).collect() });
        }
        Ok(Self(text.to_owned()))
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operand_survives_its_number() {
        for &key in MetaKey::ALL {
            assert_eq!(MetaKey::from_kernel(key.to_kernel()), Some(key));
        }
        for &key in CtKey::ALL {
            assert_eq!(CtKey::from_kernel(key.to_kernel()), Some(key));
        }
        assert_eq!(LimitUnit::from_kernel(61), None);
    }

    #[test]
    fn a_log_prefix_keeps_to_the_kernels_length() {
        assert!(LogPrefix::new(&"x".repeat(127)).is_ok());
        assert!(LogPrefix::new(&"x".repeat(128)).is_err());
        assert!(LogPrefix::new("line\nbreak").is_err());
    }
}
