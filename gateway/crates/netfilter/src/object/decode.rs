//! The kernel's reports to objects, strictly: what our types cannot say is kept as a text and makes the object foreign.

use super::encode::{CONCAT_TYPE_BITS, DATA_TYPE_MARK, UDATA_RULE_COMMENT, successor};
use super::{
    Base, Chain, ChainKind, Comment, Counter, Element, ElementData, Family, FoundChain, FoundElement,
    FoundObject, FoundRule, FoundSet, FoundTable, Hook, KeyField, KeyType, Policy, Rule, SetData, SetSpec,
};
use crate::attr::{self, Attribute, Attributes, Malformed, Message};
use crate::expr;
use crate::kernel::{self as k, nfta};
use crate::value::{Data, Name, hex};

pub(crate) fn generation(message: &Message<'_>) -> Result<u32, Malformed> {
    let (_, attributes) = message.netfilter()?;
    attributes.be32(nfta::gen_::ID).ok_or(Malformed::new("a generation without its number"))
}

pub(crate) fn table(message: &Message<'_>) -> Result<FoundTable, Malformed> {
    let (family, attributes) = message.netfilter()?;
    let flags = attributes.be32(nfta::table::FLAGS).unwrap_or_default();
    Ok(FoundTable {
        family: Family::from_kernel(family.into()),
        name: name(&attributes, nfta::table::NAME)?,
        flags,
    })
}

pub(crate) fn chain(message: &Message<'_>) -> Result<FoundChain, Malformed> {
    use nfta::chain::{COUNTERS, FLAGS, HANDLE, HOOK, ID, NAME, PAD, POLICY, TABLE, TYPE, USE, USERDATA};
    let (family, attributes) = message.netfilter()?;
    let chain_name = name(&attributes, NAME)?;
    let flags = attributes.be32(FLAGS).unwrap_or_default();
    let hook = attributes.find(HOOK);
    let base = match hook {
        Some(hook) => base(&attributes, hook).map(Some),
        None => Ok(None),
    };
    let known = [COUNTERS, FLAGS, HANDLE, HOOK, ID, NAME, PAD, POLICY, TABLE, TYPE, USE, USERDATA];
    let foreign = match attributes.unknown(&known) {
        Some(attribute) => Some(unknown(attribute)),
        None if flags & !k::NFT_CHAIN_BASE != 0 => Some(format!("chain flags 0x{flags:x}")),
        None => base.as_ref().err().cloned(),
    };
    let said = base.ok().filter(|_| foreign.is_none()).map(|base| Chain { name: chain_name.clone(), base });
    let table = name(&attributes, TABLE)?;
    let family = Family::from_kernel(family.into());
    Ok(FoundChain { family, table, name: chain_name, is_base: hook.is_some(), chain: said, foreign })
}

/// Reads where a base chain hangs, or says what it has that [`Base`] cannot say.
fn base(attributes: &Attributes<'_>, hook: Attribute<'_>) -> Result<Base, String> {
    use nfta::hook::{DEV, DEVS, HOOKNUM, PRIORITY};
    let nest = hook.nested().map_err(|error| error.to_string())?;
    if nest.find(DEV).is_some() || nest.find(DEVS).is_some() {
        return Err("a chain bound to devices".to_owned());
    }
    let kind = match attributes.bytes(nfta::chain::TYPE) {
        Some(b"filter\0") => ChainKind::Filter,
        Some(b"nat\0") => ChainKind::Nat,
        Some(b"route\0") => ChainKind::Route,
        other => return Err(format!("chain type 0x{}", hex(other.unwrap_or_default()))),
    };
    let (hook, policy) = (nest.be32(HOOKNUM).unwrap_or(u32::MAX), attributes.be32(nfta::chain::POLICY));
    Ok(Base {
        kind,
        hook: Hook::from_kernel(hook).ok_or_else(|| format!("chain hook {hook}"))?,
        priority: nest.be32(PRIORITY).ok_or("a base chain without priority")?.cast_signed(),
        policy: policy.and_then(Policy::from_kernel).ok_or("a base chain without a known policy")?,
    })
}

pub(crate) fn rule(message: &Message<'_>) -> Result<FoundRule, Malformed> {
    use nfta::rule::{CHAIN, EXPRESSIONS, HANDLE, PAD, POSITION, TABLE, USERDATA};
    let (_, attributes) = message.netfilter()?;
    let exprs = expr::decode_list(attributes.bytes(EXPRESSIONS).unwrap_or_default())?;
    let (comment, strange) = match attributes.bytes(USERDATA) {
        None => (None, None),
        Some(udata) => match comment(udata) {
            Some(comment) => (Some(comment), None),
            None => (None, Some(format!("user data 0x{}", hex(udata)))),
        },
    };
    let known = [CHAIN, EXPRESSIONS, HANDLE, PAD, POSITION, TABLE, USERDATA];
    Ok(FoundRule {
        chain: name(&attributes, CHAIN)?,
        handle: attributes.be64(HANDLE).unwrap_or_default(),
        rule: Rule { exprs, comment },
        foreign: attributes.unknown(&known).map(unknown).or(strange),
    })
}

/// The comment, when it is all that a rule's user data holds.
fn comment(udata: &[u8]) -> Option<Comment> {
    let ([kind, length], text) = udata.split_first_chunk::<2>()?;
    let text = text
        .strip_suffix(&[0])
        .filter(|_| text.len() == usize::from(*length) && *kind == UDATA_RULE_COMMENT)?;
    let text = std::str::from_utf8(text).ok()?;
    Comment::fit(text).filter(|comment| comment.as_str() == text)
}

pub(crate) fn set(message: &Message<'_>) -> Result<FoundSet, Malformed> {
    let (_, attributes) = message.netfilter()?;
    let set_name = name(&attributes, nfta::set::NAME)?;
    let flags = attributes.be32(nfta::set::FLAGS).unwrap_or_default();
    let (set, foreign) = match set_spec(set_name.clone(), &attributes) {
        Ok(set) => (Some(set), None),
        Err(foreign) => (None, Some(foreign)),
    };
    Ok(FoundSet { name: set_name, is_anonymous: flags & k::NFT_SET_ANONYMOUS != 0, set, foreign })
}

fn set_spec(name: Name, attributes: &Attributes<'_>) -> Result<SetSpec, String> {
    use nfta::set::{
        COUNT, DATA_LEN, DATA_TYPE, DESC, FLAGS, GC_INTERVAL, HANDLE, KEY_LEN, KEY_TYPE, NAME, OBJ_TYPE, PAD,
        POLICY, TABLE, TIMEOUT, TYPE, USERDATA,
    };
    let known = [
        COUNT,
        DATA_LEN,
        DATA_TYPE,
        DESC,
        FLAGS,
        GC_INTERVAL,
        HANDLE,
        KEY_LEN,
        KEY_TYPE,
        NAME,
        OBJ_TYPE,
        PAD,
        POLICY,
        TABLE,
        TIMEOUT,
        TYPE,
        USERDATA,
    ];
    if let Some(attribute) = attributes.unknown(&known) {
        return Err(unknown(attribute));
    }
    let flags = attributes.be32(FLAGS).unwrap_or_default();
    let key = attributes.be32(KEY_TYPE).and_then(key_type).ok_or("a key of an unknown type")?;
    if attributes.be32(KEY_LEN) != u32::try_from(key.length_bytes()).ok() {
        return Err("a key whose length is not that of its type".to_owned());
    }
    let interval = flags & k::NFT_SET_INTERVAL != 0;
    let concat = flags & k::NFT_SET_CONCAT != 0;
    let strange = flags & (k::NFT_SET_ANONYMOUS | k::NFT_SET_CONSTANT);
    let beyond = flags & !(k::NFT_SET_CONCAT | (k::NFT_SET_CONCAT - 1));
    if strange != 0 || beyond != 0 || concat != (interval && key.is_concat()) {
        return Err(format!("set flags 0x{flags:x}"));
    }
    let (size, lengths) = description(attributes)?;
    if !lengths.is_empty()
        && !lengths.iter().copied().eq(key.fields().iter().map(|field| field.length_bytes()))
    {
        return Err("fields whose lengths are not those of their types".to_owned());
    }
    Ok(SetSpec {
        name,
        data: set_data(flags, attributes)?,
        key,
        interval,
        timeout: flags & k::NFT_SET_TIMEOUT != 0,
        dynamic: flags & k::NFT_SET_EVAL != 0,
        default_timeout_ms: attributes.be64(TIMEOUT),
        size,
    })
}

fn set_data(flags: u32, attributes: &Attributes<'_>) -> Result<SetData, String> {
    let kind = attributes.be32(nfta::set::DATA_TYPE);
    let object = attributes.be32(nfta::set::OBJ_TYPE);
    match (flags & (k::NFT_SET_MAP | k::NFT_SET_OBJECT), kind, object) {
        (0, None, None) => Ok(SetData::None),
        (k::NFT_SET_MAP, Some(DATA_TYPE_MARK), None) if attributes.be32(nfta::set::DATA_LEN) == Some(4) => {
            Ok(SetData::Mark)
        }
        (k::NFT_SET_MAP, Some(k::NFT_DATA_VERDICT), None) => Ok(SetData::Verdict),
        (k::NFT_SET_OBJECT, None, Some(k::NFT_OBJECT_COUNTER)) => Ok(SetData::Counter),
        _ => Err(format!("map data of type {kind:?} or objects of type {object:?}")),
    }
}

fn key_type(number: u32) -> Option<KeyType> {
    let mut fields = Vec::new();
    let mut rest = number;
    while rest != 0 {
        fields.push(KeyField::from_kernel(rest & ((1 << CONCAT_TYPE_BITS) - 1))?);
        rest >>= CONCAT_TYPE_BITS;
    }
    fields.reverse();
    KeyType::new(fields).ok()
}

/// The largest number of elements and the field lengths of a concatenation (NFTA_SET_DESC).
fn description(attributes: &Attributes<'_>) -> Result<(Option<u32>, Vec<u8>), String> {
    let Some(desc) = attributes.find(nfta::set::DESC) else { return Ok((None, Vec::new())) };
    let text = |error: Malformed| error.to_string();
    let nest = desc.nested().map_err(text)?;
    let mut lengths = Vec::new();
    for field in attr::list(nest.bytes(nfta::desc::CONCAT).unwrap_or_default()) {
        let length = field.and_then(|field| field.nested()).map_err(text)?.be32(nfta::desc::FIELD_LEN);
        lengths.push(length.and_then(|length| u8::try_from(length).ok()).ok_or("a field without length")?);
    }
    Ok((nest.be32(nfta::desc::SIZE), lengths))
}

/// One entry of a set as the kernel stores it.
pub(crate) struct StoredElement {
    found: FoundElement,
    is_end: bool,
}

pub(crate) fn elements(message: &Message<'_>) -> Result<Vec<StoredElement>, Malformed> {
    let (_, attributes) = message.netfilter()?;
    let list = attributes.bytes(nfta::elements::ELEMENTS).unwrap_or_default();
    attr::list(list).map(|entry| stored_element(&entry?.nested()?)).collect()
}

fn stored_element(attributes: &Attributes<'_>) -> Result<StoredElement, Malformed> {
    use nfta::element::{DATA, EXPIRATION, FLAGS, KEY, KEY_END, OBJREF, PAD, TIMEOUT, USERDATA};
    let flags = attributes.be32(FLAGS).unwrap_or_default();
    let known = [DATA, EXPIRATION, FLAGS, KEY, KEY_END, OBJREF, PAD, TIMEOUT, USERDATA];
    let mut foreign = attributes.unknown(&known).map(unknown);
    if flags & !k::NFT_SET_ELEM_INTERVAL_END != 0 {
        foreign = Some(format!("element flags 0x{flags:x}"));
    }
    let data = match element_data(attributes) {
        Ok(data) => data,
        Err(strange) => {
            foreign = Some(strange);
            ElementData::None
        }
    };
    // A catch-all element has no key: an impossible one stands for it, and the flag makes it foreign.
    let key = attributes.find(KEY).and_then(expr::data).unwrap_or_else(|| Data::byte(0));
    let key_end = attributes.find(KEY_END).and_then(expr::data);
    let element = Element { key, key_end, data, timeout_ms: attributes.be64(TIMEOUT) };
    let expires_ms = attributes.be64(EXPIRATION);
    let is_end = flags & k::NFT_SET_ELEM_INTERVAL_END != 0;
    Ok(StoredElement { found: FoundElement { element, expires_ms, foreign }, is_end })
}

fn element_data(attributes: &Attributes<'_>) -> Result<ElementData, String> {
    if let Some(object) = attributes.bytes(nfta::element::OBJREF) {
        return Ok(ElementData::Counter(Name::from_kernel(object)));
    }
    let Some(data) = attributes.find(nfta::element::DATA) else { return Ok(ElementData::None) };
    if let Some(verdict) = expr::verdict(data) {
        return Ok(ElementData::Verdict(verdict));
    }
    let mark = expr::data(data).and_then(|data| data.to_host32());
    mark.map(ElementData::Mark).ok_or_else(|| format!("element data 0x{}", hex(data.bytes)))
}

/// Joins starts and ends again where the kernel stores them apart (ranges over a single field).
pub(crate) fn key_pairs(set: &SetSpec, stored: Vec<StoredElement>) -> Vec<FoundElement> {
    if !set.interval || set.key.is_concat() {
        return stored.into_iter().map(|entry| entry.found).collect();
    }
    let mut stored = stored;
    // An end at the key where the next range starts comes first.
    stored.sort_by(|a, b| (&a.found.element.key, !a.is_end).cmp(&(&b.found.element.key, !b.is_end)));
    let mut found: Vec<FoundElement> = Vec::new();
    for entry in stored {
        let open = found.last_mut().filter(|last| last.element.key_end.is_none());
        match (entry.is_end, open) {
            (true, Some(open)) => open.element.key_end = predecessor(&entry.found.element.key),
            // An end without a start says where nothing is: nft adds one at zero.
            (true, None) => {}
            (false, Some(open)) => {
                open.foreign = Some("a range without an end".to_owned());
                found.push(entry.found);
            }
            (false, None) => found.push(entry.found),
        }
    }
    if let Some(open) = found.last_mut().filter(|last| last.element.key_end.is_none()) {
        let last = Data::new(vec![0xff; open.element.key.as_bytes().len()]).ok();
        open.element.key_end = last.filter(|last| successor(last).is_none());
    }
    found
}

fn predecessor(key: &Data) -> Option<Data> {
    let mut bytes = key.as_bytes().to_vec();
    for byte in bytes.iter_mut().rev() {
        let (previous, borrowed) = byte.overflowing_sub(1);
        *byte = previous;
        if !borrowed {
            return Data::new(bytes).ok();
        }
    }
    None
}

pub(crate) fn counter(message: &Message<'_>) -> Result<FoundObject, Malformed> {
    let (_, attributes) = message.netfilter()?;
    let name = name(&attributes, nfta::object::NAME)?;
    if attributes.be32(nfta::object::TYPE) != Some(k::NFT_OBJECT_COUNTER) {
        return Ok(FoundObject { name, counter: None });
    }
    let values = Attributes::parse(attributes.bytes(nfta::object::DATA).unwrap_or_default())?;
    let counter = Counter {
        name: name.clone(),
        packets: values.be64(nfta::counter::PACKETS).unwrap_or_default(),
        bytes: values.be64(nfta::counter::BYTES).unwrap_or_default(),
    };
    Ok(FoundObject { name, counter: Some(counter) })
}

fn name(attributes: &Attributes<'_>, kind: u16) -> Result<Name, Malformed> {
    attributes.bytes(kind).map(Name::from_kernel).ok_or(Malformed::new("an object without a name"))
}

fn unknown(attribute: Attribute<'_>) -> String {
    format!("attribute {} 0x{}", attribute.kind, hex(attribute.bytes))
}
