//! One transaction: requests in order, each with the tag that names it when the kernel refuses it.
//!
//! A batch is bytes until [`crate::Connection::commit`] sends it, whole or not at all. Elements are spread over as many
//! messages as they need.

use std::fmt;
use std::sync::Arc;

use crate::attr::{self, Attributes, Request};
use crate::kernel::{self as k, nfta};
use crate::object::{self, Chain, Counter, Element, Rule, SetSpec, Table};
use crate::sys::{
    ChainHandle, Failure, Header, ObjectHandle, Payload, RuleHandle, Scratch, SetHandle, TableHandle,
};
use crate::value::Name;
use nftnl::nftnl_sys as ffi;

/// The most messages of one transaction.
pub const BATCH_MAX_MESSAGES: usize = 1_000_000;
/// The most bytes of one transaction.
pub const BATCH_MAX_BYTES: usize = 256 * 1024 * 1024;

/// The sequence number of the message that begins a transaction; its requests follow from the next one on.
pub(crate) const BEGIN_SEQUENCE: u32 = 1;

/// The caller's tag of a request: what a refusal is told about, such as a line of the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Arc<str>);

impl Origin {
    /// Makes a tag.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Origin {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What happens when a thing that is added exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The kernel keeps the present one if it is compatible.
    Keep,
    /// The transaction is refused (EEXIST).
    MustBeNew,
}

/// Why a request could not be put into a batch. The batch holds what it held before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{origin}` cannot be sent to the kernel: {reason}")]
pub struct BatchError {
    /// The tag of the request.
    pub origin: Origin,
    /// The index of the element at fault, for requests of many.
    pub element: Option<usize>,
    /// What is wrong with it.
    pub reason: String,
}

/// A transaction on one table, in the making.
#[derive(Debug)]
pub struct Batch {
    table: Table,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    scratch: Scratch,
    next_set_id: u32,
    required_generation: Option<u32>,
}

/// One message of the batch.
#[derive(Debug)]
struct Entry {
    origin: Origin,
    start: usize,
    /// For each stored element of this message, the index of the caller's element it came from.
    elements: Vec<usize>,
}

impl Batch {
    /// Begins a transaction on a table, which need not exist yet.
    pub fn new(table: Table) -> Self {
        Self {
            table,
            bytes: Vec::new(),
            entries: Vec::new(),
            scratch: Scratch::new(),
            next_set_id: 1,
            required_generation: None,
        }
    }

    /// Makes the kernel refuse the transaction (ERESTART) unless its rules are of this generation.
    pub fn require_generation(&mut self, generation: u32) {
        self.required_generation = Some(generation);
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The size in bytes, without the two messages that frame it.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds the table.
    pub fn add_table(&mut self, mode: Mode, origin: &Origin) -> Result<(), BatchError> {
        self.table_message(k::NFT_MSG_NEWTABLE, add_flags(mode), origin)
    }

    /// Deletes the table with all it holds.
    pub fn delete_table(&mut self, origin: &Origin) -> Result<(), BatchError> {
        self.table_message(k::NFT_MSG_DELTABLE, 0, origin)
    }

    /// Adds a chain. A base chain that exists takes over a changed policy, and is refused with another hook or priority.
    pub fn add_chain(&mut self, chain: &Chain, mode: Mode, origin: &Origin) -> Result<(), BatchError> {
        let handle = object::chain_handle(&self.table, chain).map_err(refused(origin))?;
        self.push(k::NFT_MSG_NEWCHAIN, add_flags(mode), &Payload::Chain(&handle), origin)
    }

    /// Deletes a chain; one that still has rules or is jumped to is refused (EBUSY).
    pub fn delete_chain(&mut self, chain: &Name, origin: &Origin) -> Result<(), BatchError> {
        let handle = ChainHandle::new().map_err(refused(origin))?;
        let handle = handle
            .text(ffi::NFTNL_CHAIN_TABLE, self.table.name.as_str())
            .text(ffi::NFTNL_CHAIN_NAME, chain.as_str())
            .checked()
            .map_err(refused(origin))?;
        self.push(k::NFT_MSG_DELCHAIN, 0, &Payload::Chain(&handle), origin)
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &Name, rule: &Rule, origin: &Origin) -> Result<(), BatchError> {
        let handle = object::rule_handle(&self.table, chain, rule).map_err(refused(origin))?;
        self.push(k::NFT_MSG_NEWRULE, k::NLM_F_CREATE | k::NLM_F_APPEND, &Payload::Rule(&handle), origin)
    }

    /// Deletes one rule by the kernel's number.
    pub fn delete_rule(&mut self, chain: &Name, handle: u64, origin: &Origin) -> Result<(), BatchError> {
        self.delete_rules(Some(chain), Some(handle), origin)
    }

    /// Deletes all rules of a chain, which must exist.
    pub fn flush_chain(&mut self, chain: &Name, origin: &Origin) -> Result<(), BatchError> {
        self.delete_rules(Some(chain), None, origin)
    }

    /// Deletes all rules of all chains of the table; chains and sets stay.
    pub fn flush_rules(&mut self, origin: &Origin) -> Result<(), BatchError> {
        self.delete_rules(None, None, origin)
    }

    /// Adds a set or map.
    pub fn add_set(&mut self, set: &SetSpec, mode: Mode, origin: &Origin) -> Result<(), BatchError> {
        let id = self.next_set_id;
        let handle = object::set_handle(&self.table, set, id).map_err(refused(origin))?;
        self.next_set_id = id.wrapping_add(1);
        self.push(k::NFT_MSG_NEWSET, add_flags(mode), &Payload::Set(&handle), origin)
    }

    /// Deletes a set or map; one that a rule uses is refused (EBUSY).
    pub fn delete_set(&mut self, set: &Name, origin: &Origin) -> Result<(), BatchError> {
        let handle = object::set_name_handle(&self.table, set).map_err(refused(origin))?;
        self.push(k::NFT_MSG_DELSET, 0, &Payload::Set(&handle), origin)
    }

    /// Deletes all elements of a set. Never do this to fill it again: a range set of 10,000 takes seconds.
    pub fn flush_set(&mut self, set: &Name, origin: &Origin) -> Result<(), BatchError> {
        let handle = object::set_name_handle(&self.table, set).map_err(refused(origin))?;
        self.push(k::NFT_MSG_DELSETELEM, 0, &Payload::Elements(&handle), origin)
    }

    /// Adds elements. A refusal names the index of the element where the kernel tells it.
    ///
    /// With [`Mode::Keep`] an element that exists stays as it is; on kernels before 6.12 a timed one stays timed and one
    /// added again without a time becomes permanent on none: use [`Mode::MustBeNew`], or delete it first, where time matters.
    pub fn add_elements<'e>(
        &mut self,
        set: &SetSpec,
        elements: impl IntoIterator<Item = &'e Element>,
        mode: Mode,
        origin: &Origin,
    ) -> Result<(), BatchError> {
        self.elements(k::NFT_MSG_NEWSETELEM, add_flags(mode), set, elements, origin)
    }

    /// Deletes elements by their keys; one that is not there is refused (ENOENT).
    pub fn delete_elements<'e>(
        &mut self,
        set: &SetSpec,
        elements: impl IntoIterator<Item = &'e Element>,
        origin: &Origin,
    ) -> Result<(), BatchError> {
        self.elements(k::NFT_MSG_DELSETELEM, 0, set, elements, origin)
    }

    /// Adds a named counter. One that exists keeps its values.
    pub fn add_counter(&mut self, counter: &Counter, mode: Mode, origin: &Origin) -> Result<(), BatchError> {
        let handle = object::counter_handle(&self.table, counter).map_err(refused(origin))?;
        self.push(k::NFT_MSG_NEWOBJ, add_flags(mode), &Payload::Object(&handle), origin)
    }

    /// Deletes a named counter; one that is used is refused (EBUSY).
    pub fn delete_counter(&mut self, name: &Name, origin: &Origin) -> Result<(), BatchError> {
        let handle = ObjectHandle::new().map_err(refused(origin))?;
        let handle = handle
            .u32(ffi::NFTNL_OBJ_TYPE, k::NFT_OBJECT_COUNTER)
            .text(ffi::NFTNL_OBJ_TABLE, self.table.name.as_str())
            .text(ffi::NFTNL_OBJ_NAME, name.as_str())
            .checked()
            .map_err(refused(origin))?;
        self.push(k::NFT_MSG_DELOBJ, 0, &Payload::Object(&handle), origin)
    }

    /// Adds a flow table without devices, to ask whether the kernel has them.
    pub(crate) fn add_flowtable(&mut self, name: &Name, origin: &Origin) -> Result<(), BatchError> {
        let family = u8::try_from(self.table.family.to_kernel()).unwrap_or_default();
        let hook = Request::nest()
            .attribute(nfta::hook::HOOKNUM, &0_u32.to_be_bytes())
            .attribute(nfta::hook::PRIORITY, &0_u32.to_be_bytes())
            .finish_nest();
        let (table, name) = (self.table.name.to_string(), name.as_str());
        let request = |sequence| {
            let kind = (k::NFNL_SUBSYS_NFTABLES << 8) | k::NFT_MSG_NEWFLOWTABLE;
            Request::new(kind, k::NLM_F_REQUEST | k::NLM_F_CREATE, sequence, family, 0)
                .text(nfta::flowtable::TABLE, &table)
                .text(nfta::flowtable::NAME, name)
                .attribute(nfta::flowtable::HOOK, &hook)
                .finish()
        };
        self.reserve(origin, |sequence, bytes, _| {
            bytes.extend(request(sequence));
            Ok(())
        })
    }

    fn table_message(&mut self, kind: u16, flags: u16, origin: &Origin) -> Result<(), BatchError> {
        let handle = TableHandle::new().map_err(refused(origin))?;
        let handle = handle.text(ffi::NFTNL_TABLE_NAME, self.table.name.as_str());
        let handle = handle.checked().map_err(refused(origin))?;
        self.push(kind, flags, &Payload::Table(&handle), origin)
    }

    fn delete_rules(
        &mut self,
        chain: Option<&Name>,
        handle: Option<u64>,
        origin: &Origin,
    ) -> Result<(), BatchError> {
        let mut rule = RuleHandle::new().map_err(refused(origin))?;
        rule = rule.text(ffi::NFTNL_RULE_TABLE, self.table.name.as_str());
        if let Some(chain) = chain {
            rule = rule.text(ffi::NFTNL_RULE_CHAIN, chain.as_str());
        }
        if let Some(handle) = handle {
            rule = rule.u64(ffi::NFTNL_RULE_HANDLE, handle);
        }
        let rule = rule.checked().map_err(refused(origin))?;
        self.push(k::NFT_MSG_DELRULE, 0, &Payload::Rule(&rule), origin)
    }

    fn elements<'e>(
        &mut self,
        kind: u16,
        flags: u16,
        set: &SetSpec,
        elements: impl IntoIterator<Item = &'e Element>,
        origin: &Origin,
    ) -> Result<(), BatchError> {
        let with_data = kind == k::NFT_MSG_NEWSETELEM;
        let mut chunk = Chunk::new(&self.table, set, origin)?;
        for (index, element) in elements.into_iter().enumerate() {
            let at = |failure: Failure| BatchError { element: Some(index), ..refused(origin)(failure) };
            for handle in object::element_handles(set, element, with_data).map_err(at)? {
                if let Err(handle) = chunk.handle.push(handle) {
                    let full = std::mem::replace(&mut chunk, Chunk::new(&self.table, set, origin)?);
                    self.push_chunk(kind, flags, full, origin)?;
                    chunk.handle.push(handle).map_err(|_| at(Failure::TooLong))?;
                }
                chunk.elements.push(index);
            }
        }
        if chunk.elements.is_empty() { Ok(()) } else { self.push_chunk(kind, flags, chunk, origin) }
    }

    fn push_chunk(&mut self, kind: u16, flags: u16, chunk: Chunk, origin: &Origin) -> Result<(), BatchError> {
        self.push(kind, flags, &Payload::Elements(&chunk.handle), origin)?;
        if let Some(entry) = self.entries.last_mut() {
            entry.elements = chunk.elements;
        }
        Ok(())
    }

    fn push(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &Payload<'_>,
        origin: &Origin,
    ) -> Result<(), BatchError> {
        let (kind, flags) = ((k::NFNL_SUBSYS_NFTABLES << 8) | kind, flags | k::NLM_F_REQUEST);
        let family = self.table.family;
        self.reserve(origin, |sequence, bytes, scratch| {
            scratch.append(Header { kind, flags, family, sequence }, payload, bytes)
        })
    }

    /// Appends one message, within the bounds of a batch.
    fn reserve(
        &mut self,
        origin: &Origin,
        write: impl FnOnce(u32, &mut Vec<u8>, &mut Scratch) -> Result<(), Failure>,
    ) -> Result<(), BatchError> {
        let start = self.bytes.len();
        let sequence =
            u32::try_from(self.entries.len()).unwrap_or(u32::MAX).saturating_add(BEGIN_SEQUENCE + 1);
        if self.entries.len() >= BATCH_MAX_MESSAGES || start >= BATCH_MAX_BYTES {
            return Err(BatchError { origin: origin.clone(), element: None, reason: too_large() });
        }
        write(sequence, &mut self.bytes, &mut self.scratch).map_err(refused(origin))?;
        self.entries.push(Entry { origin: origin.clone(), start, elements: Vec::new() });
        Ok(())
    }
}

/// What a connection needs of a finished batch.
impl Batch {
    /// The three parts to send in one go, and the sequence number whose acknowledgement means success.
    ///
    /// Only the last request asks for an acknowledgement: kernels before 6.10 do not acknowledge the end of a batch, and
    /// acknowledgements of the others prove nothing, since they are sent for a batch that is given up, too.
    pub(crate) fn finish(&mut self) -> ([Vec<u8>; 3], u32) {
        let last = u32::try_from(self.entries.len()).unwrap_or(u32::MAX).saturating_add(BEGIN_SEQUENCE);
        if let Some(entry) = self.entries.last() {
            let flags = entry.start + 6..entry.start + 8;
            for slot in self.bytes.get_mut(flags).into_iter().flatten().zip(k::NLM_F_ACK.to_ne_bytes()) {
                *slot.0 |= slot.1;
            }
        }
        let frame = |kind, sequence| {
            Request::new(kind, k::NLM_F_REQUEST, sequence, k::NFPROTO_UNSPEC, k::NFNL_SUBSYS_NFTABLES)
        };
        let mut begin = frame(k::NFNL_MSG_BATCH_BEGIN, BEGIN_SEQUENCE);
        if let Some(generation) = self.required_generation {
            begin = begin.attribute(k::NFNL_BATCH_GENID, &generation.to_be_bytes());
        }
        let end = frame(k::NFNL_MSG_BATCH_END, last.saturating_add(1));
        ([begin.finish(), std::mem::take(&mut self.bytes), end.finish()], last)
    }

    /// Joins a sequence number and an offset of the kernel's to the caller's tag, element and instruction.
    pub(crate) fn blame(&self, sequence: u32, offset: Option<u32>, body: &[u8]) -> Blame {
        let index = sequence.checked_sub(BEGIN_SEQUENCE + 1).and_then(|index| usize::try_from(index).ok());
        let Some(entry) = index.and_then(|index| self.entries.get(index)) else {
            // The kernel answers to the beginning when the transaction as a whole fails.
            return Blame {
                origin: Origin::from("the transaction as a whole"),
                element: None,
                instruction: None,
            };
        };
        let place = offset.and_then(|offset| usize::try_from(offset).ok());
        let message =
            body.get(entry.start..).and_then(|rest| attr::messages(rest).next()).and_then(Result::ok);
        let found = place.zip(message).and_then(|(offset, message)| locate(&message, offset));
        let (element, instruction) = match found {
            Some(Located::Element(stored)) => (entry.elements.get(stored).copied(), None),
            Some(Located::Instruction(name)) => (None, Some(name)),
            None => (None, None),
        };
        Blame { origin: entry.origin.clone(), element, instruction }
    }
}

/// What a refusal is about.
pub(crate) struct Blame {
    pub(crate) origin: Origin,
    pub(crate) element: Option<usize>,
    pub(crate) instruction: Option<String>,
}

enum Located {
    Element(usize),
    Instruction(String),
}

/// Finds the entry of the message's list that an offset (from the message's start) lies in.
fn locate(message: &attr::Message<'_>, offset: usize) -> Option<Located> {
    let elements = (k::NFNL_SUBSYS_NFTABLES << 8) | k::NFT_MSG_NEWSETELEM;
    let deletions = (k::NFNL_SUBSYS_NFTABLES << 8) | k::NFT_MSG_DELSETELEM;
    let is_elements = message.kind == elements || message.kind == deletions;
    let list_kind = if is_elements { nfta::elements::ELEMENTS } else { nfta::rule::EXPRESSIONS };
    // The list's own header, then each entry's, lie before its bytes.
    let mut start = k::NLMSG_HEADER_BYTES + k::NFGENMSG_BYTES;
    for outer in attr::list(message.payload.get(k::NFGENMSG_BYTES..)?) {
        let outer = outer.ok()?;
        if outer.kind != list_kind {
            start += outer.padded_bytes();
            continue;
        }
        let mut place = start + 4;
        for (index, entry) in attr::list(outer.bytes).enumerate() {
            let entry = entry.ok()?;
            if (place..place + entry.padded_bytes()).contains(&offset) {
                return Some(if is_elements {
                    Located::Element(index)
                } else {
                    let name = Attributes::parse(entry.bytes).ok()?.bytes(nfta::expr::NAME)?;
                    Located::Instruction(Name::from_kernel(name).to_string())
                });
            }
            place += entry.padded_bytes();
        }
        return None;
    }
    None
}

/// Elements on their way into one message.
struct Chunk {
    handle: SetHandle,
    elements: Vec<usize>,
}

impl Chunk {
    fn new(table: &Table, set: &SetSpec, origin: &Origin) -> Result<Self, BatchError> {
        let handle = object::set_name_handle(table, &set.name).map_err(refused(origin))?;
        Ok(Self { handle, elements: Vec::new() })
    }
}

fn add_flags(mode: Mode) -> u16 {
    match mode {
        Mode::Keep => k::NLM_F_CREATE,
        Mode::MustBeNew => k::NLM_F_CREATE | k::NLM_F_EXCL,
    }
}

fn refused(origin: &Origin) -> impl Fn(Failure) -> BatchError + '_ {
    move |failure| BatchError { origin: origin.clone(), element: None, reason: failure.to_string() }
}

fn too_large() -> String {
    format!("a transaction holds at most {BATCH_MAX_MESSAGES} messages and {BATCH_MAX_BYTES} bytes")
}
