//! The kernel's attributes to [`Expr`], strictly: an attribute that is missing, unknown or out of its range makes the
//! whole instruction [`Expr::Foreign`]. Written against nf_tables.h and not on libnftnl, which skips what it does not know.

use super::encode::EXTHDR_TCP_OPTION;
use super::{
    ByteorderOp, CmpOp, CtKey, CtSetKey, Direction, DynsetOp, Expr, FibAddress, FibResult, LimitKind,
    LimitUnit, LogPrefix, MasqueradeFlags, MetaKey, MetaSetKey, PayloadBase, RangeOp, RouteKey, TcpOption,
    Verdict,
};
use crate::attr::{self, Attribute, Attributes, Malformed};
use crate::kernel::{self as k, nfta};
use crate::value::{Data, Name, Register, hex};

/// Decodes the list of instructions of one rule (NFTA_RULE_EXPRESSIONS).
pub(crate) fn decode_list(bytes: &[u8]) -> Result<Vec<Expr>, Malformed> {
    attr::list(bytes).map(|entry| entry?.nested().map(|attributes| decode(&attributes))).collect()
}

fn decode(attributes: &Attributes<'_>) -> Expr {
    let name = attributes.find(nfta::expr::NAME).map(|name| Name::from_kernel(name.bytes).to_string());
    let name = name.unwrap_or_default();
    let body = attributes.bytes(nfta::expr::DATA).unwrap_or_default();
    let fields = match Attributes::parse(body) {
        Ok(fields) => Fields(fields),
        Err(error) => return Expr::Foreign { name, detail: error.to_string() },
    };
    decode_named(&name, &fields).unwrap_or_else(|| Expr::Foreign { name, detail: format!("0x{}", hex(body)) })
}

fn decode_named(name: &str, fields: &Fields<'_>) -> Option<Expr> {
    match name {
        "meta" => meta(fields),
        "payload" => payload(fields),
        "ct" => ct(fields),
        "cmp" => cmp(fields),
        "range" => range(fields),
        "bitwise" => bitwise(fields),
        "byteorder" => byteorder(fields),
        "lookup" => lookup(fields),
        "objref" => objref(fields),
        "counter" => {
            fields.only(&[nfta::counter::BYTES, nfta::counter::PACKETS, nfta::counter::PAD], Expr::Counter)
        }
        "immediate" => immediate(fields),
        "limit" => limit(fields),
        "log" => log(fields),
        "fib" => fib(fields),
        "exthdr" => exthdr(fields),
        "rt" => rt(fields),
        "masq" => masq(fields),
        "dynset" => dynset(fields),
        _ => None,
    }
}

/// The attributes of one instruction, with readers that give none for whatever is not as expected.
struct Fields<'a>(Attributes<'a>);

impl<'a> Fields<'a> {
    fn u32(&self, kind: u16) -> Option<u32> {
        self.0.be32(kind)
    }

    fn byte(&self, kind: u16) -> Option<u8> {
        self.u32(kind)?.try_into().ok()
    }

    fn register(&self, kind: u16) -> Option<Register> {
        Register::from_kernel(self.u32(kind)?)
    }

    fn name(&self, kind: u16) -> Option<Name> {
        self.0.bytes(kind).map(Name::from_kernel)
    }

    fn data(&self, kind: u16) -> Option<Data> {
        data(self.0.find(kind)?)
    }

    fn has(&self, kind: u16) -> bool {
        self.0.find(kind).is_some()
    }

    /// A number that must be absent or zero.
    fn zero(&self, kind: u16) -> Option<()> {
        match self.0.find(kind) {
            None => Some(()),
            Some(attribute) => attribute.bytes.iter().all(|&byte| byte == 0).then_some(()),
        }
    }

    /// The instruction, unless there are attributes besides the known ones.
    fn only(&self, known: &[u16], expr: Expr) -> Option<Expr> {
        self.0.unknown(known).is_none().then_some(expr)
    }
}

/// Reads a datum of bytes (NFTA_DATA_VALUE).
pub(crate) fn data(attribute: Attribute<'_>) -> Option<Data> {
    let nested = attribute.nested().ok()?;
    let known = nested.unknown(&[nfta::data::VALUE]).is_none();
    nested.bytes(nfta::data::VALUE).filter(|_| known).and_then(|bytes| Data::new(bytes).ok())
}

/// Reads a datum that is a verdict (NFTA_DATA_VERDICT).
pub(crate) fn verdict(attribute: Attribute<'_>) -> Option<Verdict> {
    let nested = attribute.nested().ok()?;
    let verdict = nested.find(nfta::data::VERDICT)?.nested().ok()?;
    if nested.unknown(&[nfta::data::VERDICT]).is_some()
        || verdict.unknown(&[nfta::verdict::CODE, nfta::verdict::CHAIN]).is_some()
    {
        return None;
    }
    let chain = verdict.bytes(nfta::verdict::CHAIN).map(Name::from_kernel);
    match (verdict.be32(nfta::verdict::CODE)?.cast_signed(), chain) {
        (k::NF_ACCEPT, None) => Some(Verdict::Accept),
        (k::NF_DROP, None) => Some(Verdict::Drop),
        (k::NFT_RETURN, None) => Some(Verdict::Return),
        (k::NFT_JUMP, Some(chain)) => Some(Verdict::Jump(chain)),
        (k::NFT_GOTO, Some(chain)) => Some(Verdict::Goto(chain)),
        _ => None,
    }
}

fn meta(fields: &Fields<'_>) -> Option<Expr> {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    const SREG: u16 = 3;
    let key = fields.u32(KEY)?;
    if fields.has(SREG) {
        let expr = Expr::MetaSet { key: MetaSetKey::from_kernel(key)?, sreg: fields.register(SREG)? };
        return fields.only(&[KEY, SREG], expr);
    }
    let expr = Expr::Meta { key: MetaKey::from_kernel(key)?, dreg: fields.register(DREG)? };
    fields.only(&[KEY, DREG], expr)
}

fn payload(fields: &Fields<'_>) -> Option<Expr> {
    const DREG: u16 = 1;
    const BASE: u16 = 2;
    const OFFSET: u16 = 3;
    const LEN: u16 = 4;
    let expr = Expr::Payload {
        base: PayloadBase::from_kernel(fields.u32(BASE)?)?,
        offset_bytes: fields.u32(OFFSET)?.try_into().ok()?,
        length_bytes: fields.byte(LEN)?,
        dreg: fields.register(DREG)?,
    };
    fields.only(&[DREG, BASE, OFFSET, LEN], expr)
}

fn ct(fields: &Fields<'_>) -> Option<Expr> {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    const DIRECTION: u16 = 3;
    const SREG: u16 = 4;
    let key = fields.u32(KEY)?;
    if fields.has(SREG) {
        let expr = Expr::CtSet { key: CtSetKey::from_kernel(key)?, sreg: fields.register(SREG)? };
        return fields.only(&[KEY, SREG], expr);
    }
    let direction = match fields.0.find(DIRECTION) {
        Some(direction) => Some(Direction::from_kernel(u32::from(direction.u8()?))?),
        None => None,
    };
    let expr = Expr::Ct { key: CtKey::from_kernel(key)?, direction, dreg: fields.register(DREG)? };
    fields.only(&[KEY, DREG, DIRECTION], expr)
}

fn cmp(fields: &Fields<'_>) -> Option<Expr> {
    const SREG: u16 = 1;
    const OP: u16 = 2;
    const DATA: u16 = 3;
    let op = CmpOp::from_kernel(fields.u32(OP)?)?;
    let expr = Expr::Cmp { op, sreg: fields.register(SREG)?, data: fields.data(DATA)? };
    fields.only(&[SREG, OP, DATA], expr)
}

fn range(fields: &Fields<'_>) -> Option<Expr> {
    const SREG: u16 = 1;
    const OP: u16 = 2;
    const FROM: u16 = 3;
    const TO: u16 = 4;
    let expr = Expr::Range {
        op: RangeOp::from_kernel(fields.u32(OP)?)?,
        sreg: fields.register(SREG)?,
        from: fields.data(FROM)?,
        to: fields.data(TO)?,
    };
    fields.only(&[SREG, OP, FROM, TO], expr)
}

fn bitwise(fields: &Fields<'_>) -> Option<Expr> {
    const SREG: u16 = 1;
    const DREG: u16 = 2;
    const LEN: u16 = 3;
    const MASK: u16 = 4;
    const XOR: u16 = 5;
    const OP: u16 = 6;
    let (mask, xor) = (fields.data(MASK)?, fields.data(XOR)?);
    let length = usize::from(fields.byte(LEN)?);
    // Operation 0 is mask and xor; the shifts are foreign.
    fields.zero(OP)?;
    if mask.as_bytes().len() != length || xor.as_bytes().len() != length {
        return None;
    }
    let expr = Expr::Bitwise { sreg: fields.register(SREG)?, dreg: fields.register(DREG)?, mask, xor };
    fields.only(&[SREG, DREG, LEN, MASK, XOR, OP], expr)
}

fn byteorder(fields: &Fields<'_>) -> Option<Expr> {
    const SREG: u16 = 1;
    const DREG: u16 = 2;
    const OP: u16 = 3;
    const LEN: u16 = 4;
    const SIZE: u16 = 5;
    let expr = Expr::Byteorder {
        op: ByteorderOp::from_kernel(fields.u32(OP)?)?,
        sreg: fields.register(SREG)?,
        dreg: fields.register(DREG)?,
        length_bytes: fields.byte(LEN)?,
        word_bytes: fields.byte(SIZE)?,
    };
    fields.only(&[SREG, DREG, OP, LEN, SIZE], expr)
}

fn lookup(fields: &Fields<'_>) -> Option<Expr> {
    const SET: u16 = 1;
    const SREG: u16 = 2;
    const DREG: u16 = 3;
    const FLAGS: u16 = 5;
    let (set, sreg) = (fields.name(SET)?, fields.register(SREG)?);
    let flags = if fields.has(FLAGS) { fields.u32(FLAGS)? } else { 0 };
    let expr = match (fields.has(DREG), flags) {
        (false, 0) => Expr::Lookup { set, sreg, inverted: false },
        (false, k::NFT_LOOKUP_F_INV) => Expr::Lookup { set, sreg, inverted: true },
        (true, 0) if fields.u32(DREG)? == k::NFT_REG_VERDICT => Expr::LookupVerdict { map: set, sreg },
        (true, 0) => Expr::LookupData { map: set, sreg, dreg: fields.register(DREG)? },
        _ => return None,
    };
    fields.only(&[SET, SREG, DREG, FLAGS], expr)
}

fn objref(fields: &Fields<'_>) -> Option<Expr> {
    const IMM_TYPE: u16 = 1;
    const IMM_NAME: u16 = 2;
    const SET_SREG: u16 = 3;
    const SET_NAME: u16 = 4;
    if fields.has(SET_NAME) {
        let expr = Expr::CounterMap { map: fields.name(SET_NAME)?, sreg: fields.register(SET_SREG)? };
        return fields.only(&[SET_SREG, SET_NAME], expr);
    }
    let expr = Expr::CounterNamed { name: fields.name(IMM_NAME)? };
    let counter = fields.u32(IMM_TYPE)? == k::NFT_OBJECT_COUNTER;
    fields.only(&[IMM_TYPE, IMM_NAME], expr).filter(|_| counter)
}

fn immediate(fields: &Fields<'_>) -> Option<Expr> {
    const DREG: u16 = 1;
    const DATA: u16 = 2;
    let expr = if fields.u32(DREG)? == k::NFT_REG_VERDICT {
        Expr::Verdict(verdict(fields.0.find(DATA)?)?)
    } else {
        Expr::Immediate { dreg: fields.register(DREG)?, data: fields.data(DATA)? }
    };
    fields.only(&[DREG, DATA], expr)
}

fn limit(fields: &Fields<'_>) -> Option<Expr> {
    const RATE: u16 = 1;
    const UNIT: u16 = 2;
    const BURST: u16 = 3;
    const TYPE: u16 = 4;
    const FLAGS: u16 = 5;
    const PAD: u16 = 6;
    let over = match fields.u32(FLAGS)? {
        0 => false,
        k::NFT_LIMIT_F_INV => true,
        _ => return None,
    };
    let expr = Expr::Limit {
        rate: fields.0.be64(RATE)?,
        unit: LimitUnit::from_kernel(fields.0.be64(UNIT)?.try_into().ok()?)?,
        burst: fields.u32(BURST)?,
        kind: LimitKind::from_kernel(fields.u32(TYPE)?)?,
        over,
    };
    fields.only(&[RATE, UNIT, BURST, TYPE, FLAGS, PAD], expr)
}

fn log(fields: &Fields<'_>) -> Option<Expr> {
    const GROUP: u16 = 1;
    const PREFIX: u16 = 2;
    const SNAPLEN: u16 = 3;
    const QTHRESHOLD: u16 = 4;
    let prefix = fields.0.bytes(PREFIX)?.split(|&byte| byte == 0).next()?;
    let snaplen_bytes = if fields.has(SNAPLEN) { Some(fields.u32(SNAPLEN)?) } else { None };
    let queue_threshold = match fields.0.find(QTHRESHOLD) {
        Some(threshold) => Some(threshold.be16()?),
        None => None,
    };
    let expr = Expr::Log {
        group: fields.0.find(GROUP)?.be16()?,
        prefix: LogPrefix::new(std::str::from_utf8(prefix).ok()?).ok()?,
        snaplen_bytes,
        queue_threshold,
    };
    fields.only(&[GROUP, PREFIX, SNAPLEN, QTHRESHOLD], expr)
}

fn fib(fields: &Fields<'_>) -> Option<Expr> {
    const DREG: u16 = 1;
    const RESULT: u16 = 2;
    const FLAGS: u16 = 3;
    const SIDE_FLAGS: u32 = k::NFTA_FIB_F_IIF | k::NFTA_FIB_F_OIF | k::NFTA_FIB_F_PRESENT;
    let flags = fields.u32(FLAGS)?;
    let address = match flags & !SIDE_FLAGS {
        k::NFTA_FIB_F_SADDR => FibAddress::Source,
        k::NFTA_FIB_F_DADDR => FibAddress::Destination,
        _ => return None,
    };
    let expr = Expr::Fib {
        address,
        with_iif: flags & k::NFTA_FIB_F_IIF != 0,
        with_oif: flags & k::NFTA_FIB_F_OIF != 0,
        result: FibResult::from_kernel(fields.u32(RESULT)?)?,
        present: flags & k::NFTA_FIB_F_PRESENT != 0,
        dreg: fields.register(DREG)?,
    };
    fields.only(&[DREG, RESULT, FLAGS], expr)
}

fn exthdr(fields: &Fields<'_>) -> Option<Expr> {
    const DREG: u16 = 1;
    const TYPE: u16 = 2;
    const OFFSET: u16 = 3;
    const LEN: u16 = 4;
    const FLAGS: u16 = 5;
    const OP: u16 = 6;
    const SREG: u16 = 7;
    let option = TcpOption::from_kernel(u32::from(fields.0.find(TYPE)?.u8()?))?;
    let (offset_bytes, length_bytes) = (fields.byte(OFFSET)?, fields.byte(LEN)?);
    fields.zero(FLAGS)?;
    if fields.u32(OP)? != EXTHDR_TCP_OPTION {
        return None;
    }
    let expr = if fields.has(SREG) {
        Expr::TcpOptionSet { option, offset_bytes, length_bytes, sreg: fields.register(SREG)? }
    } else {
        Expr::TcpOption { option, offset_bytes, length_bytes, dreg: fields.register(DREG)? }
    };
    fields.only(&[DREG, TYPE, OFFSET, LEN, FLAGS, OP, SREG], expr)
}

fn rt(fields: &Fields<'_>) -> Option<Expr> {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    let expr = Expr::Route { key: RouteKey::from_kernel(fields.u32(KEY)?)?, dreg: fields.register(DREG)? };
    fields.only(&[DREG, KEY], expr)
}

fn masq(fields: &Fields<'_>) -> Option<Expr> {
    const FLAGS: u16 = 1;
    let flags = if fields.has(FLAGS) { fields.u32(FLAGS)? } else { 0 };
    fields.only(&[FLAGS], Expr::Masquerade { flags: MasqueradeFlags::from_kernel(flags)? })
}

fn dynset(fields: &Fields<'_>) -> Option<Expr> {
    const SET_NAME: u16 = 1;
    const OP: u16 = 3;
    const SREG_KEY: u16 = 4;
    const SREG_DATA: u16 = 5;
    const TIMEOUT: u16 = 6;
    const PAD: u16 = 8;
    const FLAGS: u16 = 9;
    fields.zero(FLAGS)?;
    let sreg_data = if fields.has(SREG_DATA) { Some(fields.register(SREG_DATA)?) } else { None };
    // The kernel reports "no timeout" as zero.
    let timeout_ms = fields.0.be64(TIMEOUT).filter(|&timeout_ms| timeout_ms != 0);
    let expr = Expr::Dynset {
        op: DynsetOp::from_kernel(fields.u32(OP)?)?,
        set: fields.name(SET_NAME)?,
        sreg_key: fields.register(SREG_KEY)?,
        sreg_data,
        timeout_ms,
    };
    fields.only(&[SET_NAME, OP, SREG_KEY, SREG_DATA, TIMEOUT, PAD, FLAGS], expr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::Request;

    #[test]
    fn an_unknown_instruction_or_attribute_is_foreign_and_keeps_its_bytes() {
        let unknown = list_of("sneaky", &[(1, &[0, 0, 0, 1])]);
        let [Expr::Foreign { name, detail }] = &unknown[..] else { panic!("{unknown:?}") };
        assert_eq!((name.as_str(), detail.as_str()), ("sneaky", "0x0800010000000001"));
        let extended = list_of("meta", &[(1, &[0, 0, 0, 8]), (2, &[0, 0, 0, 3]), (9, &[1])]);
        assert!(matches!(&extended[..], [Expr::Foreign { .. }]), "{extended:?}");
    }

    #[test]
    fn a_known_instruction_is_read() {
        let mark = list_of("meta", &[(1, &[0, 0, 0, 8]), (2, &[0, 0, 0, 3])]);
        assert_eq!(mark, [Expr::Meta { key: MetaKey::Mark, dreg: Register::FIRST }]);
    }

    fn list_of(name: &str, attributes: &[(u16, &[u8])]) -> Vec<Expr> {
        let body = nest(|request| {
            attributes.iter().fold(request, |request, (kind, bytes)| request.attribute(*kind, bytes))
        });
        let expr = nest(|request| request.text(nfta::expr::NAME, name).attribute(nfta::expr::DATA, &body));
        decode_list(&nest(|request| request.attribute(nfta::LIST_ELEM, &expr))).unwrap()
    }

    fn nest(fill: impl FnOnce(Request) -> Request) -> Vec<u8> {
        fill(Request::nest()).finish_nest()
    }
}
