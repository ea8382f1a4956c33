//! [`Expr`] to libnftnl's expressions.

use std::ffi::CStr;

use nftnl::nftnl_sys as ffi;

use super::{ByteorderOp, CtKey, Direction, Expr, FibAddress, LimitKind, LimitUnit, LogPrefix, Verdict};
use crate::kernel as k;
use crate::sys::{Expression, Failure};
use crate::value::{Data, Name, Register};

/// NFT_EXTHDR_OP_TCPOPT.
pub(super) const EXTHDR_TCP_OPTION: u32 = 1;

type Encoded = Result<Expression, Failure>;

pub(crate) fn encode(expr: &Expr) -> Encoded {
    match expr {
        Expr::Meta { key, dreg } => meta(key.to_kernel(), (ffi::NFTNL_EXPR_META_DREG, *dreg)),
        Expr::MetaSet { key, sreg } => meta(key.to_kernel(), (ffi::NFTNL_EXPR_META_SREG, *sreg)),
        Expr::Payload { base, offset_bytes, length_bytes, dreg } => {
            payload(base.to_kernel(), *offset_bytes, *length_bytes, *dreg)
        }
        Expr::Ct { key, direction, dreg } => ct(*key, *direction, *dreg),
        Expr::CtSet { key, sreg } => ct_set(key.to_kernel(), *sreg),
        Expr::Cmp { op, sreg, data } => cmp(op.to_kernel(), *sreg, data),
        Expr::Range { op, sreg, from, to } => range(op.to_kernel(), *sreg, from, to),
        Expr::Bitwise { sreg, dreg, mask, xor } => bitwise(*sreg, *dreg, mask, xor),
        Expr::Byteorder { op, sreg, dreg, length_bytes, word_bytes } => {
            byteorder(*op, *sreg, *dreg, [*length_bytes, *word_bytes])
        }
        Expr::Lookup { set, sreg, inverted } => lookup(set, *sreg, None, *inverted),
        Expr::LookupData { map, sreg, dreg } => lookup(map, *sreg, Some(dreg.to_kernel()), false),
        Expr::LookupVerdict { map, sreg } => lookup(map, *sreg, Some(k::NFT_REG_VERDICT), false),
        Expr::CounterNamed { name } => counter_named(name),
        Expr::CounterMap { map, sreg } => counter_map(map, *sreg),
        Expr::Counter => {
            let counter = Expression::new(c"counter")?;
            counter.u64(ffi::NFTNL_EXPR_CTR_PACKETS, 0).u64(ffi::NFTNL_EXPR_CTR_BYTES, 0).checked()
        }
        Expr::Immediate { dreg, data } => {
            let immediate = Expression::new(c"immediate")?.u32(ffi::NFTNL_EXPR_IMM_DREG, dreg.to_kernel());
            immediate.data(ffi::NFTNL_EXPR_IMM_DATA, data).checked()
        }
        Expr::Verdict(verdict) => decide(verdict),
        Expr::Limit { rate, unit, burst, kind, over } => limit(*rate, *unit, *burst, *kind, *over),
        Expr::Log { group, prefix, snaplen_bytes, queue_threshold } => {
            log(*group, prefix, *snaplen_bytes, *queue_threshold)
        }
        Expr::Fib { address, with_iif, with_oif, result, present, dreg } => {
            fib(fib_flags(*address, *with_iif, *with_oif, *present), result.to_kernel(), *dreg)
        }
        Expr::TcpOption { option, offset_bytes, length_bytes, dreg } => {
            let register = (ffi::NFTNL_EXPR_EXTHDR_DREG, *dreg);
            tcp_option(option.to_kernel(), *offset_bytes, *length_bytes, register)
        }
        Expr::TcpOptionSet { option, offset_bytes, length_bytes, sreg } => {
            let register = (ffi::NFTNL_EXPR_EXTHDR_SREG, *sreg);
            tcp_option(option.to_kernel(), *offset_bytes, *length_bytes, register)
        }
        Expr::Route { key, dreg } => route(key.to_kernel(), *dreg),
        Expr::Masquerade { flags } => masquerade(flags.to_kernel()),
        Expr::Dynset { op, set, sreg_key, sreg_data, timeout_ms } => {
            dynset(op.to_kernel(), set, (*sreg_key, *sreg_data), *timeout_ms)
        }
        Expr::Foreign { .. } => Err(Failure::Unsayable),
    }
}

/// The kernel's number of a verdict (NF_ACCEPT, NF_DROP, NFT_RETURN, NFT_JUMP, NFT_GOTO).
pub(crate) fn verdict_code(verdict: &Verdict) -> u32 {
    match verdict {
        Verdict::Accept => k::NF_ACCEPT,
        Verdict::Drop => k::NF_DROP,
        Verdict::Return => k::NFT_RETURN,
        Verdict::Jump(_) => k::NFT_JUMP,
        Verdict::Goto(_) => k::NFT_GOTO,
    }
    .cast_unsigned()
}

/// An expression all of whose attributes are 32-bit numbers.
fn numbers(name: &CStr, attributes: &[(u32, u32)]) -> Encoded {
    let start = Expression::new(name)?;
    attributes.iter().fold(start, |expression, (kind, value)| expression.u32(*kind, *value)).checked()
}

fn meta(key: u32, register: (u32, Register)) -> Encoded {
    numbers(c"meta", &[(ffi::NFTNL_EXPR_META_KEY, key), (register.0, register.1.to_kernel())])
}

fn payload(base: u32, offset_bytes: u16, length_bytes: u8, dreg: Register) -> Encoded {
    numbers(
        c"payload",
        &[
            (ffi::NFTNL_EXPR_PAYLOAD_BASE, base),
            (ffi::NFTNL_EXPR_PAYLOAD_OFFSET, u32::from(offset_bytes)),
            (ffi::NFTNL_EXPR_PAYLOAD_LEN, u32::from(length_bytes)),
            (ffi::NFTNL_EXPR_PAYLOAD_DREG, dreg.to_kernel()),
        ],
    )
}

fn ct(key: CtKey, direction: Option<Direction>, dreg: Register) -> Encoded {
    let ct = Expression::new(c"ct")?
        .u32(ffi::NFTNL_EXPR_CT_KEY, key.to_kernel())
        .u32(ffi::NFTNL_EXPR_CT_DREG, dreg.to_kernel());
    match direction {
        Some(direction) => ct.u8(ffi::NFTNL_EXPR_CT_DIR, direction.to_kernel() as u8),
        None => ct,
    }
    .checked()
}

fn ct_set(key: u32, sreg: Register) -> Encoded {
    numbers(c"ct", &[(ffi::NFTNL_EXPR_CT_KEY, key), (ffi::NFTNL_EXPR_CT_SREG, sreg.to_kernel())])
}

fn cmp(op: u32, sreg: Register, data: &Data) -> Encoded {
    Expression::new(c"cmp")?
        .u32(ffi::NFTNL_EXPR_CMP_SREG, sreg.to_kernel())
        .u32(ffi::NFTNL_EXPR_CMP_OP, op)
        .data(ffi::NFTNL_EXPR_CMP_DATA, data)
        .checked()
}

fn range(op: u32, sreg: Register, from: &Data, to: &Data) -> Encoded {
    Expression::new(c"range")?
        .u32(ffi::NFTNL_EXPR_RANGE_SREG, sreg.to_kernel())
        .u32(ffi::NFTNL_EXPR_RANGE_OP, op)
        .data(ffi::NFTNL_EXPR_RANGE_FROM_DATA, from)
        .data(ffi::NFTNL_EXPR_RANGE_TO_DATA, to)
        .checked()
}

fn bitwise(sreg: Register, dreg: Register, mask: &Data, xor: &Data) -> Encoded {
    let length = u32::try_from(mask.as_bytes().len()).map_err(|_| Failure::Unsayable)?;
    Expression::new(c"bitwise")?
        .u32(ffi::NFTNL_EXPR_BITWISE_SREG, sreg.to_kernel())
        .u32(ffi::NFTNL_EXPR_BITWISE_DREG, dreg.to_kernel())
        .u32(ffi::NFTNL_EXPR_BITWISE_LEN, length)
        .data(ffi::NFTNL_EXPR_BITWISE_MASK, mask)
        .data(ffi::NFTNL_EXPR_BITWISE_XOR, xor)
        .checked()
}

fn byteorder(op: ByteorderOp, sreg: Register, dreg: Register, [length, word]: [u8; 2]) -> Encoded {
    numbers(
        c"byteorder",
        &[
            (ffi::NFTNL_EXPR_BYTEORDER_SREG, sreg.to_kernel()),
            (ffi::NFTNL_EXPR_BYTEORDER_DREG, dreg.to_kernel()),
            (ffi::NFTNL_EXPR_BYTEORDER_OP, op.to_kernel()),
            (ffi::NFTNL_EXPR_BYTEORDER_LEN, u32::from(length)),
            (ffi::NFTNL_EXPR_BYTEORDER_SIZE, u32::from(word)),
        ],
    )
}

fn lookup(set: &Name, sreg: Register, dreg: Option<u32>, inverted: bool) -> Encoded {
    let mut lookup = Expression::new(c"lookup")?
        .text(ffi::NFTNL_EXPR_LOOKUP_SET, set.as_str())
        .u32(ffi::NFTNL_EXPR_LOOKUP_SREG, sreg.to_kernel());
    if let Some(dreg) = dreg {
        lookup = lookup.u32(ffi::NFTNL_EXPR_LOOKUP_DREG, dreg);
    }
    if inverted {
        lookup = lookup.u32(ffi::NFTNL_EXPR_LOOKUP_FLAGS, k::NFT_LOOKUP_F_INV);
    }
    lookup.checked()
}

fn counter_named(name: &Name) -> Encoded {
    Expression::new(c"objref")?
        .u32(ffi::NFTNL_EXPR_OBJREF_IMM_TYPE, k::NFT_OBJECT_COUNTER)
        .text(ffi::NFTNL_EXPR_OBJREF_IMM_NAME, name.as_str())
        .checked()
}

fn counter_map(map: &Name, sreg: Register) -> Encoded {
    Expression::new(c"objref")?
        .u32(ffi::NFTNL_EXPR_OBJREF_SET_SREG, sreg.to_kernel())
        .text(ffi::NFTNL_EXPR_OBJREF_SET_NAME, map.as_str())
        .checked()
}

fn decide(verdict: &Verdict) -> Encoded {
    let immediate = Expression::new(c"immediate")?
        .u32(ffi::NFTNL_EXPR_IMM_DREG, k::NFT_REG_VERDICT)
        .u32(ffi::NFTNL_EXPR_IMM_VERDICT, verdict_code(verdict));
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => {
            immediate.text(ffi::NFTNL_EXPR_IMM_CHAIN, chain.as_str())
        }
        Verdict::Accept | Verdict::Drop | Verdict::Return => immediate,
    }
    .checked()
}

fn limit(rate: u64, unit: LimitUnit, burst: u32, kind: LimitKind, over: bool) -> Encoded {
    Expression::new(c"limit")?
        .u64(ffi::NFTNL_EXPR_LIMIT_RATE, rate)
        .u64(ffi::NFTNL_EXPR_LIMIT_UNIT, u64::from(unit.to_kernel()))
        .u32(ffi::NFTNL_EXPR_LIMIT_BURST, burst)
        .u32(ffi::NFTNL_EXPR_LIMIT_TYPE, kind.to_kernel())
        .u32(ffi::NFTNL_EXPR_LIMIT_FLAGS, if over { k::NFT_LIMIT_F_INV } else { 0 })
        .checked()
}

fn log(group: u16, prefix: &LogPrefix, snaplen_bytes: Option<u32>, queue_threshold: Option<u16>) -> Encoded {
    let mut log = Expression::new(c"log")?
        .u16(ffi::NFTNL_EXPR_LOG_GROUP, group)
        .text(ffi::NFTNL_EXPR_LOG_PREFIX, prefix.as_str());
    if let Some(snaplen_bytes) = snaplen_bytes {
        log = log.u32(ffi::NFTNL_EXPR_LOG_SNAPLEN, snaplen_bytes);
    }
    if let Some(queue_threshold) = queue_threshold {
        log = log.u16(ffi::NFTNL_EXPR_LOG_QTHRESHOLD, queue_threshold);
    }
    log.checked()
}

fn fib(flags: u32, result: u32, dreg: Register) -> Encoded {
    numbers(
        c"fib",
        &[
            (ffi::NFTNL_EXPR_FIB_FLAGS, flags),
            (ffi::NFTNL_EXPR_FIB_RESULT, result),
            (ffi::NFTNL_EXPR_FIB_DREG, dreg.to_kernel()),
        ],
    )
}

fn fib_flags(address: FibAddress, with_iif: bool, with_oif: bool, present: bool) -> u32 {
    let address = match address {
        FibAddress::Source => k::NFTA_FIB_F_SADDR,
        FibAddress::Destination => k::NFTA_FIB_F_DADDR,
    };
    [(with_iif, k::NFTA_FIB_F_IIF), (with_oif, k::NFTA_FIB_F_OIF), (present, k::NFTA_FIB_F_PRESENT)]
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .fold(address, |flags, (_, flag)| flags | flag)
}

fn tcp_option(option: u32, offset_bytes: u8, length_bytes: u8, register: (u32, Register)) -> Encoded {
    Expression::new(c"exthdr")?
        .u8(ffi::NFTNL_EXPR_EXTHDR_TYPE, u8::try_from(option).map_err(|_| Failure::Unsayable)?)
        .u32(ffi::NFTNL_EXPR_EXTHDR_OFFSET, u32::from(offset_bytes))
        .u32(ffi::NFTNL_EXPR_EXTHDR_LEN, u32::from(length_bytes))
        .u32(ffi::NFTNL_EXPR_EXTHDR_OP, EXTHDR_TCP_OPTION)
        .u32(register.0, register.1.to_kernel())
        .checked()
}

fn route(key: u32, dreg: Register) -> Encoded {
    numbers(c"rt", &[(ffi::NFTNL_EXPR_RT_KEY, key), (ffi::NFTNL_EXPR_RT_DREG, dreg.to_kernel())])
}

fn masquerade(flags: u32) -> Encoded {
    match flags {
        0 => numbers(c"masq", &[]),
        flags => numbers(c"masq", &[(ffi::NFTNL_EXPR_MASQ_FLAGS, flags)]),
    }
}

fn dynset(op: u32, set: &Name, registers: (Register, Option<Register>), timeout_ms: Option<u64>) -> Encoded {
    let (sreg_key, sreg_data) = registers;
    let mut dynset = Expression::new(c"dynset")?
        .text(ffi::NFTNL_EXPR_DYNSET_SET_NAME, set.as_str())
        .u32(ffi::NFTNL_EXPR_DYNSET_OP, op)
        .u32(ffi::NFTNL_EXPR_DYNSET_SREG_KEY, sreg_key.to_kernel());
    if let Some(sreg_data) = sreg_data {
        dynset = dynset.u32(ffi::NFTNL_EXPR_DYNSET_SREG_DATA, sreg_data.to_kernel());
    }
    if let Some(timeout_ms) = timeout_ms {
        dynset = dynset.u64(ffi::NFTNL_EXPR_DYNSET_TIMEOUT, timeout_ms);
    }
    dynset.checked()
}
