//! Reading the kernel's rules: each list whole or not at all, and everything of a table from one generation.

use std::collections::BTreeMap;

use crate::attr::{Malformed, Message, Request};
use crate::error::NetlinkError;
use crate::kernel::{self as k, nfta};
use crate::object::{
    self, Counter, Family, FoundChain, FoundElement, FoundObject, FoundRule, FoundSet, FoundTable, SetSpec,
    Table,
};
use crate::socket::Connection;
use crate::value::Name;

/// How often a table is read again because it changed meanwhile.
const SNAPSHOT_ATTEMPTS_MAX: u32 = 16;

/// Everything of one table, and what stands beside it, at one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The generation.
    pub generation: u32,
    /// All tables of all families.
    pub tables: Vec<FoundTable>,
    /// All chains of all tables.
    pub chains: Vec<FoundChain>,
    /// The table's rules, in order within each chain.
    pub rules: Vec<FoundRule>,
    /// The table's sets.
    pub sets: Vec<FoundSet>,
    /// The elements of those sets that our types can say, by the set's name.
    pub elements: BTreeMap<Name, Vec<FoundElement>>,
    /// The table's objects.
    pub objects: Vec<FoundObject>,
    /// The number of the table's flow tables.
    pub flowtables: usize,
}

impl Connection {
    /// The generation of the rules: it changes with every transaction of anybody.
    pub fn generation(&mut self) -> Result<u32, NetlinkError> {
        // A single answer without an end, so the acknowledgement is asked for and ends the list.
        let request = |sequence| {
            Request::new(message_kind(k::NFT_MSG_GETGEN), ASK, sequence, k::NFPROTO_UNSPEC, 0).finish()
        };
        let found = self.dump(request, |message| entry(message, k::NFT_MSG_NEWGEN, object::generation))?;
        found.first().copied().ok_or(NetlinkError::Malformed { what: "no generation" })
    }

    /// All tables of all families.
    pub fn tables(&mut self) -> Result<Vec<FoundTable>, NetlinkError> {
        let request = |sequence| list(k::NFT_MSG_GETTABLE, k::NFPROTO_UNSPEC, sequence).finish();
        self.dump(request, |message| entry(message, k::NFT_MSG_NEWTABLE, object::table))
    }

    /// All chains of all tables.
    pub fn chains(&mut self) -> Result<Vec<FoundChain>, NetlinkError> {
        let request = |sequence| list(k::NFT_MSG_GETCHAIN, k::NFPROTO_UNSPEC, sequence).finish();
        self.dump(request, |message| entry(message, k::NFT_MSG_NEWCHAIN, object::chain))
    }

    /// The rules of a table, in order within each chain; none when there is no such table.
    pub fn rules(&mut self, table: &Table) -> Result<Vec<FoundRule>, NetlinkError> {
        let request = |sequence| {
            let request = list(k::NFT_MSG_GETRULE, family(table.family), sequence);
            request.text(nfta::rule::TABLE, table.name.as_str()).finish()
        };
        self.dump(request, |message| entry(message, k::NFT_MSG_NEWRULE, object::rule))
    }

    /// The sets and maps of a table; a missing table is refused (ENOENT).
    pub fn sets(&mut self, table: &Table) -> Result<Vec<FoundSet>, NetlinkError> {
        let request = |sequence| {
            let request = list(k::NFT_MSG_GETSET, family(table.family), sequence);
            request.text(nfta::set::TABLE, table.name.as_str()).finish()
        };
        self.dump(request, |message| entry(message, k::NFT_MSG_NEWSET, object::set))
    }

    /// The elements of a set; a missing set is refused (ENOENT).
    pub fn elements(&mut self, table: &Table, set: &SetSpec) -> Result<Vec<FoundElement>, NetlinkError> {
        let request = |sequence| {
            list(k::NFT_MSG_GETSETELEM, family(table.family), sequence)
                .text(nfta::elements::TABLE, table.name.as_str())
                .text(nfta::elements::SET, set.name.as_str())
                .finish()
        };
        let stored = self.dump(request, |message| {
            if message.kind == message_kind(k::NFT_MSG_NEWSETELEM) {
                object::elements(message)
            } else {
                Ok(Vec::new())
            }
        })?;
        Ok(object::key_pairs(set, stored))
    }

    /// The objects of a table; none when there is no such table.
    pub fn objects(&mut self, table: &Table) -> Result<Vec<FoundObject>, NetlinkError> {
        let request = |sequence| {
            let request = list(k::NFT_MSG_GETOBJ, family(table.family), sequence);
            request.text(nfta::object::TABLE, table.name.as_str()).finish()
        };
        self.dump(request, |message| entry(message, k::NFT_MSG_NEWOBJ, object::counter))
    }

    /// The named counters of a table with their values.
    pub fn counters(&mut self, table: &Table) -> Result<Vec<Counter>, NetlinkError> {
        Ok(self.objects(table)?.into_iter().filter_map(|object| object.counter).collect())
    }

    /// Everything of a table from one generation. A table that is missing from `tables` has nothing.
    pub fn snapshot(&mut self, table: &Table) -> Result<Snapshot, NetlinkError> {
        for _ in 0..SNAPSHOT_ATTEMPTS_MAX {
            let generation = self.generation()?;
            match self.read_all(table, generation) {
                Ok(snapshot) if self.generation()? == generation => return Ok(snapshot),
                // A set that vanished between two lists is a change, too.
                Ok(_) => {}
                Err(NetlinkError::Refused(_)) if self.generation()? != generation => {}
                Err(error) => return Err(error),
            }
        }
        Err(NetlinkError::Unsteady { attempts: SNAPSHOT_ATTEMPTS_MAX })
    }

    fn read_all(&mut self, table: &Table, generation: u32) -> Result<Snapshot, NetlinkError> {
        let tables = self.tables()?;
        let chains = self.chains()?;
        let mut snapshot = Snapshot {
            generation,
            tables,
            chains,
            rules: Vec::new(),
            sets: Vec::new(),
            elements: BTreeMap::new(),
            objects: Vec::new(),
            flowtables: 0,
        };
        let is_ours = |found: &FoundTable| found.family == Some(table.family) && found.name == table.name;
        if !snapshot.tables.iter().any(is_ours) {
            return Ok(snapshot);
        }
        snapshot.rules = self.rules(table)?;
        snapshot.sets = self.sets(table)?;
        for set in snapshot.sets.iter().filter_map(|found| found.set.as_ref()) {
            snapshot.elements.insert(set.name.clone(), self.elements(table, set)?);
        }
        snapshot.objects = self.objects(table)?;
        snapshot.flowtables = self.flowtables(table)?;
        Ok(snapshot)
    }

    fn flowtables(&mut self, table: &Table) -> Result<usize, NetlinkError> {
        let request = |sequence| {
            let request = list(k::NFT_MSG_GETFLOWTABLE, family(table.family), sequence);
            request.text(nfta::flowtable::TABLE, table.name.as_str()).finish()
        };
        let read = |message: &Message<'_>| entry(message, k::NFT_MSG_NEWFLOWTABLE, |_| Ok(()));
        Ok(self.dump(request, read)?.len())
    }
}

const ASK: u16 = k::NLM_F_REQUEST | k::NLM_F_ACK;

fn message_kind(kind: u16) -> u16 {
    (k::NFNL_SUBSYS_NFTABLES << 8) | kind
}

fn list(kind: u16, family: u8, sequence: u32) -> Request {
    Request::new(message_kind(kind), k::NLM_F_REQUEST | k::NLM_F_DUMP, sequence, family, 0)
}

fn family(family: Family) -> u8 {
    u8::try_from(family.to_kernel()).unwrap_or_default()
}

/// Reads a message of the expected kind and passes over others.
fn entry<T>(
    message: &Message<'_>,
    kind: u16,
    read: impl Fn(&Message<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    if message.kind == message_kind(kind) { Ok(vec![read(message)?]) } else { Ok(Vec::new()) }
}
