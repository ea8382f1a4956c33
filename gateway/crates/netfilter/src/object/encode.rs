//! Objects to libnftnl's handles.

use nftnl::nftnl_sys as ffi;

use super::{Chain, ChainKind, Counter, Element, ElementData, KeyType, Rule, SetData, SetSpec, Table};
use crate::expr::{self, Verdict};
use crate::kernel as k;
use crate::sys::{ChainHandle, ElementHandle, Failure, ObjectHandle, RuleHandle, SetHandle};
use crate::value::{Data, Name};

/// User data attributes of nft (libnftnl/udata.h): the comment of a rule, the byte orders of a set.
pub(super) const UDATA_RULE_COMMENT: u8 = 0;
const UDATA_SET_KEY_BYTEORDER: u8 = 0;
const UDATA_SET_DATA_BYTEORDER: u8 = 1;
const BYTEORDER_HOST: u32 = 1;
const BYTEORDER_BIG: u32 = 2;

/// nft's number of the type `mark`, for the data of maps.
pub(super) const DATA_TYPE_MARK: u32 = 19;
/// The bits of one field's type in the type of a concatenation.
pub(super) const CONCAT_TYPE_BITS: u32 = 6;
const MARK_BYTES: u32 = 4;

pub(crate) fn chain_handle(table: &Table, chain: &Chain) -> Result<ChainHandle, Failure> {
    let handle = ChainHandle::new()?
        .text(ffi::NFTNL_CHAIN_TABLE, table.name.as_str())
        .text(ffi::NFTNL_CHAIN_NAME, chain.name.as_str());
    let Some(base) = chain.base else { return handle.checked() };
    let kind = match base.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
    };
    handle
        .text(ffi::NFTNL_CHAIN_TYPE, kind)
        .u32(ffi::NFTNL_CHAIN_HOOKNUM, base.hook.to_kernel())
        .i32(ffi::NFTNL_CHAIN_PRIO, base.priority)
        .u32(ffi::NFTNL_CHAIN_POLICY, base.policy.to_kernel())
        .checked()
}

pub(crate) fn rule_handle(table: &Table, chain: &Name, rule: &Rule) -> Result<RuleHandle, Failure> {
    let mut handle = RuleHandle::new()?
        .text(ffi::NFTNL_RULE_TABLE, table.name.as_str())
        .text(ffi::NFTNL_RULE_CHAIN, chain.as_str());
    if let Some(comment) = &rule.comment {
        let mut text = comment.as_str().as_bytes().to_vec();
        text.push(0);
        let mut udata = Vec::with_capacity(text.len() + 2);
        push_udata(&mut udata, UDATA_RULE_COMMENT, &text)?;
        handle = handle.bytes(ffi::NFTNL_RULE_USERDATA, &udata);
    }
    let mut handle = handle.checked()?;
    for instruction in &rule.exprs {
        handle.push(expr::encode(instruction)?)?;
    }
    Ok(handle)
}

pub(crate) fn counter_handle(table: &Table, counter: &Counter) -> Result<ObjectHandle, Failure> {
    // The type first: the numbers of the other attributes depend on it.
    ObjectHandle::new()?
        .u32(ffi::NFTNL_OBJ_TYPE, k::NFT_OBJECT_COUNTER)
        .text(ffi::NFTNL_OBJ_TABLE, table.name.as_str())
        .text(ffi::NFTNL_OBJ_NAME, counter.name.as_str())
        .u64(ffi::NFTNL_OBJ_CTR_PKTS, counter.packets)
        .u64(ffi::NFTNL_OBJ_CTR_BYTES, counter.bytes)
        .checked()
}

/// A handle that only names a set, to put elements into or to delete it.
pub(crate) fn set_name_handle(table: &Table, set: &Name) -> Result<SetHandle, Failure> {
    SetHandle::new()?
        .text(ffi::NFTNL_SET_TABLE, table.name.as_str())
        .text(ffi::NFTNL_SET_NAME, set.as_str())
        .checked()
}

pub(crate) fn set_handle(table: &Table, set: &SetSpec, id: u32) -> Result<SetHandle, Failure> {
    let key_bytes = u32::try_from(set.key.length_bytes()).map_err(|_| Failure::Unsayable)?;
    let mut handle = set_name_handle(table, &set.name)?
        .u32(ffi::NFTNL_SET_ID, id)
        .u32(ffi::NFTNL_SET_FLAGS, set_flags(set))
        .u32(ffi::NFTNL_SET_KEY_TYPE, key_type(&set.key))
        .u32(ffi::NFTNL_SET_KEY_LEN, key_bytes)
        .bytes(ffi::NFTNL_SET_USERDATA, &set_udata(set)?);
    handle = match set.data {
        SetData::None => handle,
        SetData::Mark => {
            handle.u32(ffi::NFTNL_SET_DATA_TYPE, DATA_TYPE_MARK).u32(ffi::NFTNL_SET_DATA_LEN, MARK_BYTES)
        }
        SetData::Verdict => handle.u32(ffi::NFTNL_SET_DATA_TYPE, k::NFT_DATA_VERDICT),
        SetData::Counter => handle.u32(ffi::NFTNL_SET_OBJ_TYPE, k::NFT_OBJECT_COUNTER),
    };
    if set.interval && set.key.is_concat() {
        let lengths: Vec<u8> = set.key.fields().iter().map(|field| field.length_bytes()).collect();
        handle = handle.bytes(ffi::NFTNL_SET_DESC_CONCAT, &lengths);
    }
    if let Some(timeout_ms) = set.default_timeout_ms {
        handle = handle.u64(ffi::NFTNL_SET_TIMEOUT, timeout_ms);
    }
    if let Some(size) = set.size {
        handle = handle.u32(ffi::NFTNL_SET_DESC_SIZE, size);
    }
    handle.checked()
}

fn set_flags(set: &SetSpec) -> u32 {
    let data = match set.data {
        SetData::None => 0,
        SetData::Mark | SetData::Verdict => k::NFT_SET_MAP,
        SetData::Counter => k::NFT_SET_OBJECT,
    };
    // The concat flag asks for a set that ranges over every field; it is EINVAL for hash sets.
    let concat = if set.interval && set.key.is_concat() { k::NFT_SET_CONCAT } else { 0 };
    let interval = if set.interval { k::NFT_SET_INTERVAL } else { 0 };
    let timeout = if set.timeout { k::NFT_SET_TIMEOUT } else { 0 };
    let dynamic = if set.dynamic { k::NFT_SET_EVAL } else { 0 };
    data | concat | interval | timeout | dynamic
}

fn key_type(key: &KeyType) -> u32 {
    key.fields().iter().fold(0, |number, field| (number << CONCAT_TYPE_BITS) | field.to_kernel())
}

/// The byte orders of key and data, which `nft list` needs to print marks.
fn set_udata(set: &SetSpec) -> Result<Vec<u8>, Failure> {
    let mut udata = Vec::new();
    let key_order = match set.key.fields() {
        [single] if single.is_host_order() => BYTEORDER_HOST,
        [_] => BYTEORDER_BIG,
        // The order of a concatenation is that of each field's type.
        _ => 0,
    };
    push_udata(&mut udata, UDATA_SET_KEY_BYTEORDER, &key_order.to_ne_bytes())?;
    if set.data == SetData::Mark {
        push_udata(&mut udata, UDATA_SET_DATA_BYTEORDER, &BYTEORDER_HOST.to_ne_bytes())?;
    }
    Ok(udata)
}

fn push_udata(udata: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<(), Failure> {
    let length = u8::try_from(value.len()).map_err(|_| Failure::Unsayable)?;
    udata.extend_from_slice(&[kind, length]);
    udata.extend_from_slice(value);
    Ok(())
}

/// One element as the kernel stores it: a range over a single field is a start and an end of their own.
pub(crate) fn element_handles(
    set: &SetSpec,
    element: &Element,
    with_data: bool,
) -> Result<Vec<ElementHandle>, Failure> {
    check_lengths(set, element)?;
    let split = set.interval && !set.key.is_concat();
    let mut start = ElementHandle::new()?.data(ffi::NFTNL_SET_ELEM_KEY, &element.key);
    let mut handles = Vec::with_capacity(2);
    if set.interval {
        let end = element.key_end.as_ref().unwrap_or(&element.key);
        if !split {
            start = start.data(ffi::NFTNL_SET_ELEM_KEY_END, end);
        } else if let Some(after) = successor(end) {
            let end = ElementHandle::new()?
                .data(ffi::NFTNL_SET_ELEM_KEY, &after)
                .u32(ffi::NFTNL_SET_ELEM_FLAGS, k::NFT_SET_ELEM_INTERVAL_END);
            handles.push(end.checked()?);
        }
    }
    if with_data {
        start = with_element_data(start, element);
    }
    handles.insert(0, start.checked()?);
    Ok(handles)
}

fn check_lengths(set: &SetSpec, element: &Element) -> Result<(), Failure> {
    let expected = set.key.length_bytes();
    let ends = element.key_end.iter().all(|end| set.interval && end.as_bytes().len() == expected);
    let data = matches!(
        (set.data, &element.data),
        (SetData::None, ElementData::None)
            | (SetData::Mark, ElementData::Mark(_))
            | (SetData::Verdict, ElementData::Verdict(_))
            | (SetData::Counter, ElementData::Counter(_))
    );
    let timed = element.timeout_ms.is_none() || set.timeout;
    if element.key.as_bytes().len() == expected && ends && data && timed {
        Ok(())
    } else {
        Err(Failure::Mismatch)
    }
}

fn with_element_data(handle: ElementHandle, element: &Element) -> ElementHandle {
    let handle = match element.timeout_ms {
        Some(timeout_ms) => handle.u64(ffi::NFTNL_SET_ELEM_TIMEOUT, timeout_ms),
        None => handle,
    };
    match &element.data {
        ElementData::None => handle,
        ElementData::Mark(mark) => handle.data(ffi::NFTNL_SET_ELEM_DATA, &Data::host32(*mark)),
        ElementData::Counter(name) => handle.text(ffi::NFTNL_SET_ELEM_OBJREF, name.as_str()),
        ElementData::Verdict(verdict) => {
            let handle = handle.u32(ffi::NFTNL_SET_ELEM_VERDICT, expr::verdict_code(verdict));
            match verdict {
                Verdict::Jump(chain) | Verdict::Goto(chain) => {
                    handle.text(ffi::NFTNL_SET_ELEM_CHAIN, chain.as_str())
                }
                Verdict::Accept | Verdict::Drop | Verdict::Return => handle,
            }
        }
    }
}

/// The next key in network order, none after the last.
pub(super) fn successor(key: &Data) -> Option<Data> {
    let mut bytes = key.as_bytes().to_vec();
    for byte in bytes.iter_mut().rev() {
        let (next, overflowed) = byte.overflowing_add(1);
        *byte = next;
        if !overflowed {
            return Data::new(bytes).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_after_the_last_is_none() {
        assert_eq!(successor(&Data::new([1, 255]).unwrap()), Some(Data::new([2, 0]).unwrap()));
        assert_eq!(successor(&Data::new([255, 255]).unwrap()), None);
    }
}
