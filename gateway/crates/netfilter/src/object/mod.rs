//! What a table is made of: chains, rules, sets, their elements and named counters, as types that can be sent and that
//! the kernel's reports are read into. Numbers are those of linux/netfilter/nf_tables.h and linux/netfilter.h.

mod decode;
mod encode;

pub(crate) use decode::{chain, counter, elements, generation, key_pairs, rule, set, table};
pub(crate) use encode::{
    chain_handle, counter_handle, element_handles, rule_handle, set_handle, set_name_handle,
};

use crate::expr::{Expr, Verdict, kernel_enum};
use crate::value::{Data, IFNAME_BYTES, Name};

kernel_enum! {
    /// The address family of a table (NFPROTO_*).
    Family {
        /// IPv4 and IPv6 together.
        Inet = 1,
        /// IPv4.
        Ip4 = 2,
        /// ARP.
        Arp = 3,
        /// One device, early.
        Netdev = 5,
        /// A bridge.
        Bridge = 7,
        /// IPv6.
        Ip6 = 10,
    }
}

/// A table's identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// The address family.
    pub family: Family,
    /// The name, unique in the family.
    pub name: Name,
}

/// A chain without its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The name, unique in the table.
    pub name: Name,
    /// Where packets enter it; a chain without one is only jumped to.
    pub base: Option<Base>,
}

/// Where and when packets enter a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What the chain may do.
    pub kind: ChainKind,
    /// The place in the packet's way.
    pub hook: Hook,
    /// The order among chains of the same hook; lower is earlier.
    pub priority: i32,
    /// What happens to a packet that no rule decides about.
    pub policy: Policy,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainKind {
    /// Decide about packets.
    Filter,
    /// Translate addresses; sees the first packet of a connection only.
    Nat,
    /// Change packets, which are then routed again.
    Route,
}

kernel_enum! {
    /// The place of a base chain in the packet's way (NF_INET_*).
    Hook {
        /// Before the routing decision.
        Prerouting = 0,
        /// To the machine itself.
        Input = 1,
        /// Through the machine.
        Forward = 2,
        /// From the machine itself.
        Output = 3,
        /// After the routing decision.
        Postrouting = 4,
        /// Before defragmentation and connection tracking.
        Ingress = 5,
    }
}

kernel_enum! {
    /// What happens at the end of a base chain.
    Policy {
        /// The packet ends.
        Drop = 0,
        /// The packet passes.
        Accept = 1,
    }
}

/// A rule: instructions and what the person who reads it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The instructions, left to right.
    pub exprs: Vec<Expr>,
    /// Shown by `nft list ruleset`; part of the rule's identity.
    pub comment: Option<Comment>,
}

/// A rule's comment: 1 to 126 bytes of printable text without double quotes, as `nft` allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Comment(String);

/// The longest comment; `nft` allows 128 bytes with the closing NUL.
pub const COMMENT_MAX_BYTES: usize = 126;

impl Comment {
    /// Makes a comment of any text: what does not fit is cut at a character, what is not allowed becomes `_`; none
    /// when nothing is left.
    pub fn fit(text: &str) -> Option<Self> {
        let mut comment = String::new();
        for character in text.chars() {
            let shown = if character.is_control() || character == '"' { '_' } else { character };
            if comment.len() + shown.len_utf8() > COMMENT_MAX_BYTES {
                break;
            }
            comment.push(shown);
        }
        (!comment.is_empty()).then_some(Self(comment))
    }

    /// The comment as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

kernel_enum! {
    /// The type of a key's field, numbered as `nft` does (its datatype.h), so that `nft list` prints the values.
    KeyField {
        /// IPv4 address.
        Ip4 = 7,
        /// IPv6 address.
        Ip6 = 8,
        /// Ethernet address.
        Ethernet = 9,
        /// Transport protocol.
        Protocol = 12,
        /// Port of TCP, UDP and their kind.
        Port = 13,
        /// Packet or connection mark.
        Mark = 19,
        /// Interface index.
        InterfaceIndex = 20,
        /// Direction in the connection.
        Direction = 27,
        /// Interface name.
        Interface = 41,
    }
}

impl KeyField {
    /// The bytes of a value, before padding.
    pub const fn length_bytes(self) -> u8 {
        match self {
            Self::Protocol | Self::Direction => 1,
            Self::Port => 2,
            Self::Ip4 | Self::Mark | Self::InterfaceIndex => 4,
            Self::Ethernet => 6,
            Self::Ip6 | Self::Interface => 16,
        }
    }

    /// The bytes that a value takes in a concatenation.
    pub const fn padded_bytes(self) -> u8 {
        self.length_bytes().next_multiple_of(4)
    }

    /// Whether values lie in the machine's byte order.
    pub(crate) const fn is_host_order(self) -> bool {
        match self {
            Self::Protocol | Self::Direction | Self::Mark | Self::InterfaceIndex | Self::Interface => true,
            Self::Ip4 | Self::Ip6 | Self::Ethernet | Self::Port => false,
        }
    }
}

const _: () = assert!(KeyField::Interface.length_bytes() as usize == IFNAME_BYTES);

/// The most fields of a key: `nft` packs their types into one 32-bit number, six bits each.
pub const KEY_FIELDS_MAX: usize = 5;

/// The fields of a key, one or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyType(Vec<KeyField>);

/// A key has no field, more than [`KEY_FIELDS_MAX`], or more bytes than a set takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a set key must have 1 to {KEY_FIELDS_MAX} fields of 64 bytes together, not {fields} fields")]
pub struct KeyTypeError {
    /// The refused number of fields.
    pub fields: usize,
}

impl KeyType {
    /// Checks the fields of a key.
    pub fn new(fields: impl Into<Vec<KeyField>>) -> Result<Self, KeyTypeError> {
        let key = Self(fields.into());
        let fits = (1..=KEY_FIELDS_MAX).contains(&key.0.len());
        let short = key.0.iter().map(|field| usize::from(field.padded_bytes())).sum::<usize>() <= 64;
        if fits && short { Ok(key) } else { Err(KeyTypeError { fields: key.0.len() }) }
    }

    /// The fields in order.
    pub fn fields(&self) -> &[KeyField] {
        &self.0
    }

    /// Whether the key is a concatenation.
    pub fn is_concat(&self) -> bool {
        self.0.len() > 1
    }

    /// The bytes of a whole key.
    pub fn length_bytes(&self) -> usize {
        match self.0.as_slice() {
            [single] => usize::from(single.length_bytes()),
            fields => fields.iter().map(|field| usize::from(field.padded_bytes())).sum(),
        }
    }
}

/// What the elements of a set carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetData {
    /// Nothing: a plain set.
    None,
    /// A mark.
    Mark,
    /// A verdict.
    Verdict,
    /// A named counter.
    Counter,
}

/// A set or map without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// The name, unique in the table.
    pub name: Name,
    /// The fields of the key.
    pub key: KeyType,
    /// What elements carry.
    pub data: SetData,
    /// Whether keys are ranges.
    pub interval: bool,
    /// Whether elements may end by themselves.
    pub timeout: bool,
    /// Whether rules may add elements.
    pub dynamic: bool,
    /// How long elements live that name no time of their own.
    pub default_timeout_ms: Option<u64>,
    /// The most elements the kernel takes.
    pub size: Option<u32>,
}

impl SetSpec {
    /// A plain set of exact keys that never end.
    pub fn new(name: Name, key: KeyType) -> Self {
        Self {
            name,
            key,
            data: SetData::None,
            interval: false,
            timeout: false,
            dynamic: false,
            default_timeout_ms: None,
            size: None,
        }
    }
}

/// What one element carries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ElementData {
    /// Nothing.
    None,
    /// A mark.
    Mark(u32),
    /// A verdict.
    Verdict(Verdict),
    /// A named counter.
    Counter(Name),
}

/// One element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The key, or the low end of its range.
    pub key: Data,
    /// The high end of the range, itself inside; none in sets of exact keys.
    pub key_end: Option<Data>,
    /// What it carries.
    pub data: ElementData,
    /// When it ends by itself, counted from its addition.
    pub timeout_ms: Option<u64>,
}

/// A named counter and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// The name, unique among the table's counters.
    pub name: Name,
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far.
    pub bytes: u64,
}

/// A table as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTable {
    /// The address family, none when it is one that we do not know.
    pub family: Option<Family>,
    /// The name.
    pub name: Name,
    /// NFT_TABLE_F_* bits: 1 dormant, 2 owned by a socket, 4 persistent.
    pub flags: u32,
}

/// A chain as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundChain {
    /// The address family, none when it is one that we do not know.
    pub family: Option<Family>,
    /// The table.
    pub table: Name,
    /// The chain's name.
    pub name: Name,
    /// Whether packets enter it without a jump.
    pub is_base: bool,
    /// The chain in our words, none when they do not say all of it.
    pub chain: Option<Chain>,
    /// What our words do not say.
    pub foreign: Option<String>,
}

/// A rule as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRule {
    /// The chain.
    pub chain: Name,
    /// The kernel's number of the rule.
    pub handle: u64,
    /// The instructions and the comment.
    pub rule: Rule,
    /// Properties of the rule that our words do not say.
    pub foreign: Option<String>,
}

/// A set as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSet {
    /// The set's name.
    pub name: Name,
    /// Whether it belongs to one rule and ends with it.
    pub is_anonymous: bool,
    /// The set in our words, none when they do not say all of it.
    pub set: Option<SetSpec>,
    /// What our words do not say.
    pub foreign: Option<String>,
}

/// An element as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundElement {
    /// The element.
    pub element: Element,
    /// How long it still lives, for those that end.
    pub expires_ms: Option<u64>,
    /// Properties that our words do not say.
    pub foreign: Option<String>,
}

/// An object (counter or another kind) as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundObject {
    /// The object's name.
    pub name: Name,
    /// The counter, none when the object is of another kind.
    pub counter: Option<Counter>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_cut_at_a_character_and_keeps_out_quotes() {
        assert_eq!(Comment::fit(""), None);
        assert_eq!(Comment::fit("a\"b\n").unwrap().as_str(), "a_b_");
        let long = Comment::fit(&"関".repeat(50)).unwrap();
        assert_eq!(long.as_str(), "関".repeat(42));
    }

    #[test]
    fn keys_are_bounded() {
        assert!(KeyType::new([]).is_err());
        assert!(KeyType::new([KeyField::Ip6; 4]).is_ok());
        assert!(KeyType::new([KeyField::Ip6; 5]).is_err());
        assert!(KeyType::new([KeyField::Mark; 6]).is_err());
        let key = KeyType::new([KeyField::Direction, KeyField::Interface, KeyField::Interface]).unwrap();
        assert_eq!(key.length_bytes(), 36);
        assert_eq!(KeyType::new([KeyField::Port]).unwrap().length_bytes(), 2);
    }
}
