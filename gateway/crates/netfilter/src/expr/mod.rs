//! The instructions of a rule, at register level, with a type for every operand (linux/netfilter/nf_tables.h).
//! An instruction that this enum cannot say cannot be sent; one that the kernel reports and the enum cannot say
//! becomes [`Expr::Foreign`], which equals nothing that is ever sent.

mod decode;
mod encode;
mod operand;

pub(crate) use decode::{data, decode_list, verdict};
pub(crate) use encode::{encode, verdict_code};
pub(crate) use operand::kernel_enum;
pub use operand::{
    ByteorderOp, CmpOp, CtKey, CtSetKey, Direction, DynsetOp, FibAddress, FibResult, LOG_PREFIX_MAX_BYTES,
    LimitKind, LimitUnit, LogPrefix, LogPrefixError, MasqueradeFlags, MetaKey, MetaSetKey, PayloadBase,
    RangeOp, RouteKey, TcpOption, Verdict,
};

use crate::value::{Data, Name, Register};

/// One instruction of a rule. Rules run left to right; an instruction that does not match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expr {
    /// Loads packet metadata.
    Meta {
        /// What is loaded.
        key: MetaKey,
        /// Where to.
        dreg: Register,
    },
    /// Writes packet metadata.
    MetaSet {
        /// What is written.
        key: MetaSetKey,
        /// Where from.
        sreg: Register,
    },
    /// Loads bytes of a header.
    Payload {
        /// The header.
        base: PayloadBase,
        /// The first byte, from the start of the header, in bytes.
        offset_bytes: u16,
        /// The number of bytes.
        length_bytes: u8,
        /// Where to.
        dreg: Register,
    },
    /// Loads a property of the packet's connection.
    Ct {
        /// What is loaded.
        key: CtKey,
        /// Which direction's value, for keys that have one for each.
        direction: Option<Direction>,
        /// Where to.
        dreg: Register,
    },
    /// Writes a property of the packet's connection.
    CtSet {
        /// What is written.
        key: CtSetKey,
        /// Where from.
        sreg: Register,
    },
    /// Compares a register with a constant, byte by byte from the first.
    Cmp {
        /// The relation that lets the rule go on.
        op: CmpOp,
        /// The left side.
        sreg: Register,
        /// The right side.
        data: Data,
    },
    /// Compares a register with an inclusive range.
    Range {
        /// Inside or outside.
        op: RangeOp,
        /// The value.
        sreg: Register,
        /// The lowest value inside.
        from: Data,
        /// The highest value inside.
        to: Data,
    },
    /// `dreg = (sreg & mask) ^ xor`; mask and xor have the same length.
    Bitwise {
        /// Where from.
        sreg: Register,
        /// Where to.
        dreg: Register,
        /// The mask.
        mask: Data,
        /// What flips after the mask.
        xor: Data,
    },
    /// Changes the byte order of 16-, 32- or 64-bit words.
    Byteorder {
        /// The direction of the change.
        op: ByteorderOp,
        /// Where from.
        sreg: Register,
        /// Where to.
        dreg: Register,
        /// All bytes to change.
        length_bytes: u8,
        /// The size of one word in bytes.
        word_bytes: u8,
    },
    /// Goes on only if a set holds (or, inverted, lacks) the key.
    Lookup {
        /// The set.
        set: Name,
        /// The key.
        sreg: Register,
        /// Whether the key must be absent.
        inverted: bool,
    },
    /// Fetches the datum of a key from a map into a register, or goes on to the next rule.
    LookupData {
        /// The map.
        map: Name,
        /// The key.
        sreg: Register,
        /// Where the datum goes.
        dreg: Register,
    },
    /// Fetches the verdict of a key from a verdict map and follows it.
    LookupVerdict {
        /// The map.
        map: Name,
        /// The key.
        sreg: Register,
    },
    /// Counts in a named counter.
    CounterNamed {
        /// The counter.
        name: Name,
    },
    /// Counts in the named counter that an object map holds for the key.
    CounterMap {
        /// The object map.
        map: Name,
        /// The key.
        sreg: Register,
    },
    /// Counts in the rule itself. The values are the kernel's business and no part of a rule's identity.
    Counter,
    /// Loads a constant.
    Immediate {
        /// Where to.
        dreg: Register,
        /// The constant.
        data: Data,
    },
    /// Decides about the packet.
    Verdict(Verdict),
    /// Goes on only within (or, inverted, beyond) a rate.
    Limit {
        /// Packets or bytes in each unit of time.
        rate: u64,
        /// The unit of time.
        unit: LimitUnit,
        /// What may come at once.
        burst: u32,
        /// What is counted.
        kind: LimitKind,
        /// Whether the rule goes on beyond the rate instead of within it.
        over: bool,
    },
    /// Sends a copy of the packet to a log group.
    Log {
        /// The NFLOG group.
        group: u16,
        /// The text that joins the copy to the policy.
        prefix: LogPrefix,
        /// How much of the packet is copied; all when absent.
        snaplen_bytes: Option<u32>,
        /// How many packets the kernel collects in one message.
        queue_threshold: Option<u16>,
    },
    /// Asks the routing table.
    Fib {
        /// The address that is looked up.
        address: FibAddress,
        /// Whether the route must lead out of the interface the packet came in by.
        with_iif: bool,
        /// Whether the route must lead out of the interface the packet leaves by.
        with_oif: bool,
        /// What is loaded.
        result: FibResult,
        /// Loads only whether there is a result (1 or 0).
        present: bool,
        /// Where to.
        dreg: Register,
    },
    /// Loads a part of a TCP option, or goes on to the next rule when the packet has none.
    TcpOption {
        /// The option.
        option: TcpOption,
        /// The first byte, counted from the option's start.
        offset_bytes: u8,
        /// The number of bytes.
        length_bytes: u8,
        /// Where to.
        dreg: Register,
    },
    /// Writes a part of a TCP option; the kernel never makes a maximum segment size larger.
    TcpOptionSet {
        /// The option.
        option: TcpOption,
        /// The first byte, counted from the option's start.
        offset_bytes: u8,
        /// The number of bytes.
        length_bytes: u8,
        /// Where from.
        sreg: Register,
    },
    /// Loads a property of the packet's route.
    Route {
        /// What is loaded.
        key: RouteKey,
        /// Where to.
        dreg: Register,
    },
    /// Rewrites the source address to the one of the outgoing interface.
    Masquerade {
        /// How ports are chosen.
        flags: MasqueradeFlags,
    },
    /// Adds to, updates in or deletes from a set while packets pass.
    Dynset {
        /// The change.
        op: DynsetOp,
        /// The set.
        set: Name,
        /// The key.
        sreg_key: Register,
        /// The datum, for maps.
        sreg_data: Option<Register>,
        /// When the element ends by itself.
        timeout_ms: Option<u64>,
    },
    /// An instruction of the kernel's that no part of this enum says.
    Foreign {
        /// The instruction's name.
        name: String,
        /// Its attributes, or why they could not be read.
        detail: String,
    },
}
