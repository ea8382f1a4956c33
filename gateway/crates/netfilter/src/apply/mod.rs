//! The policy's rule set into the kernel: whole, or by its difference to the one that is there.

mod grace;
mod grants;
mod transaction;

use std::collections::BTreeMap;
use std::time::Duration;

use policy::model::Place;
use policy::ruleset::{DataType, LIVE, Mark, Ruleset, Set};

use crate::batch::BatchError;
use crate::delta::{self, Stages};
use crate::error::{NetlinkError, Refusal};
use crate::live::{self, LiveChanges, LiveSet, Running};
use crate::lower::{self, LowerError};
use crate::object::Table;
use crate::socket::{Committed, Connection};
use crate::verify::{self, Difference};
use rustix::io::Errno;

pub use self::grants::GrantEnder;
use self::grants::OpenGrants;
use self::transaction::Transaction;
pub(crate) use self::transaction::mark_of;

/// How often a whole load is tried again because somebody else wrote meanwhile.
const REPLACE_ATTEMPTS_MAX: u32 = 8;
/// How often a change of the live set is tried again because an element ended by itself meanwhile.
const LIVE_ATTEMPTS_MAX: u32 = 4;
/// How long the end of marks waits for packets that other flows may still allow: what is denied is denied now.
const END_WAIT_MAX: Duration = Duration::from_millis(50);

/// Sets of exact keys from this size on are looked at again when they seem to differ: the kernel makes their tables larger
/// some time after they were filled, and a reading meanwhile misses elements and gives others twice.
const REHASH_MIN_ELEMENTS: usize = 256;
const REHASH_LOOKS_MAX: u32 = 8;
const REHASH_WAIT: Duration = Duration::from_millis(150);
/// How often a comparison is begun anew because somebody ended a grant while the kernel was read.
const STALE_LOOKS_MAX: u32 = 8;

/// The kernel's copy of the rule set, through one netlink socket.
#[derive(Debug)]
pub struct Netfilter {
    connection: Connection,
    table: Table,
    /// Whether packets may still be among rules that are no longer in force.
    has_stragglers: bool,
    /// The grants that should be open.
    grants: OpenGrants,
    /// How many endings had been when packets were last waited for.
    endings: u64,
}

/// What an apply did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The generation of the kernel's rules after the last transaction.
    pub generation: u32,
    /// The number of transactions: none when nothing was to do.
    pub transactions: u32,
}

/// Why a rule set is not in force. The kernel's rules are as before, but for [`ApplyError::Half`].
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A part of the rule set has no form in the kernel.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// A part of the rule set cannot be sent.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The kernel refused a part of the rule set.
    #[error("{}{refusal}", flow_text(.flow.as_deref()))]
    Refused {
        /// The flow that the refused element belongs to.
        flow: Option<Box<RefusedFlow>>,
        /// What the kernel said.
        refusal: Box<Refusal>,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(NetlinkError),
    /// What is new is in force and a later transaction failed, so some of what should have ended has not. Only a load of
    /// the whole rule set leads on from here.
    #[error("what is new is in force, what should end is not yet: {0}; load the whole rule set")]
    Half(#[source] Box<ApplyError>),
}

/// The flow of a refused element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedFlow {
    /// Its mark.
    pub mark: Mark,
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub place: Option<Place>,
}

fn flow_text(flow: Option<&RefusedFlow>) -> String {
    match flow {
        None => String::new(),
        Some(RefusedFlow { name, place: Some(place), .. }) => {
            format!("flow `{name}` (line {}): ", place.line)
        }
        Some(RefusedFlow { name, place: None, .. }) => format!("flow `{name}`: "),
    }
}

impl Netfilter {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        let malformed = |_| NetlinkError::Malformed { what: "the name of the table" };
        let table = lower::table().map_err(malformed)?;
        // Another process may have changed the rules a moment ago.
        let (connection, grants) = (Connection::open()?, OpenGrants::default());
        Ok(Self { connection, table, has_stragglers: true, grants, endings: 0 })
    }

    /// Loads a rule set, whatever the table holds, with the marks and grants that should be open. Base chains stay where they are, counters that are wanted keep their
    /// values, and every other thing in the table goes. One transaction puts all of it in force; where a table is in
    /// force already, others before and after it let the rules go over to new sets without a gap.
    pub fn replace(&mut self, want: &Ruleset, live: &LiveSet) -> Result<Applied, ApplyError> {
        self.end_grants_without(want);
        let mut attempt = 1;
        loop {
            match self.replace_once(want, live) {
                // Somebody wrote between the snapshot and this.
                Err(ApplyError::Refused { refusal, .. })
                    if refusal.errno == Errno::RESTART && attempt < REPLACE_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                outcome => {
                    self.let_packets_leave();
                    return outcome;
                }
            }
        }
    }

    fn replace_once(&mut self, want: &Ruleset, live: &LiveSet) -> Result<Applied, ApplyError> {
        let present = self.connection.snapshot(&self.table).map_err(ApplyError::Netlink)?;
        if !transaction::can_stage(&self.table, &present, want)? {
            let grants = self.recent_grants();
            let running = Running { live, grants: &grants };
            let transaction = Transaction::replace(&self.table, &present, want, running)?;
            let committed = self.step(transaction, want)?;
            return Ok(Applied { generation: committed.generation, transactions: 1 });
        }
        let staged = delta::staged_whole(want);
        let copies: Vec<&str> =
            staged.sets.keys().map(String::as_str).filter(|name| !want.sets.contains_key(*name)).collect();
        let prepare = Transaction::prepare(&self.table, &present, &staged, &copies)?;
        let prepared = self.step(prepare, want)?;
        // As late as can be: what is sent is the time that is left.
        let grants = self.recent_grants();
        let running = Running { live, grants: &grants };
        let switch = Transaction::switch(&self.table, &present, prepared.generation, &staged, running)?;
        if let Err(error) = self.step(switch, want) {
            self.undo(Transaction::without_sets(&self.table, &copies));
            return Err(error);
        }
        let mut steps = Steps { generation: prepared.generation, transactions: 2 };
        let clean = Transaction::clean(&self.table, &present, want).map_err(half)?;
        steps.count(self.step(clean, want).map_err(half)?);
        self.settle(&staged, want, &mut steps).map_err(half)?;
        Ok(Applied { generation: steps.generation, transactions: steps.transactions })
    }

    /// Goes from a rule set that is in the kernel to another by what differs: what is new in one transaction, then what
    /// ends in another; where sets are replaced, more before and after them. Open grants stay as they are. See [`delta`].
    pub fn update(&mut self, have: &Ruleset, want: &Ruleset, live: &LiveSet) -> Result<Applied, ApplyError> {
        if replaces_references(have, want) {
            return self.replace(want, live);
        }
        self.end_grants_without(want);
        let mut steps = Steps { generation: 0, transactions: 0 };
        match delta::stages(have, want) {
            None => self.go(have, want, live, &mut steps)?,
            Some(stages) => {
                let prepare = delta::plan(have, &stages.prepared).make;
                let prepare = Transaction::make(
                    &self.table,
                    &prepare,
                    have,
                    &stages.prepared,
                    &LiveChanges::default(),
                )?;
                let committed = self.step(prepare, want)?;
                steps.count(committed);
                if let Err(error) = self.go(&stages.prepared, &stages.switched, live, &mut steps) {
                    if !matches!(error, ApplyError::Half(_)) {
                        let end = delta::plan(&stages.prepared, have).end;
                        self.undo(Transaction::end(
                            &self.table,
                            &end,
                            &stages.prepared,
                            &LiveChanges::default(),
                        ));
                    }
                    return Err(error);
                }
                if stages.rebuilt != *want {
                    self.rebuild(&stages, want, &mut steps).map_err(half)?;
                    self.settle(&stages.rebuilt, want, &mut steps).map_err(half)?;
                }
            }
        }
        // Now, when what should end has ended, and not when the next change is urgent.
        self.let_packets_leave();
        if steps.transactions == 0 {
            steps.generation = self.connection.generation().map_err(ApplyError::Netlink)?;
        }
        Ok(Applied { generation: steps.generation, transactions: steps.transactions })
    }

    /// What is new, then what ends.
    fn go(
        &mut self,
        have: &Ruleset,
        want: &Ruleset,
        live: &LiveSet,
        steps: &mut Steps,
    ) -> Result<(), ApplyError> {
        let delta = delta::plan(have, want);
        let changes = LiveChanges::between(&self.live().map_err(ApplyError::Netlink)?, live);
        let make = Transaction::make(&self.table, &delta.make, have, want, &changes)?;
        let is_made = !make.is_empty();
        if is_made {
            let committed = self.step(make, want)?;
            steps.count(committed);
        }
        self.end(&delta.end, have, want, live, steps)
            .map_err(|error| if is_made { half(error) } else { error })
    }

    /// Takes away what was prepared for a step that then failed. Should this fail, too, the next load clears it.
    fn undo(&mut self, transaction: Result<Transaction, ApplyError>) {
        let undone = transaction.and_then(|transaction| self.step(transaction, &Ruleset::default()));
        if let Err(error) = undone {
            tracing::warn!(%error, "prepared sets are left in the kernel; nothing uses them");
        }
    }

    /// Makes the replaced sets new, while nothing uses them.
    fn rebuild(&mut self, stages: &Stages, want: &Ruleset, steps: &mut Steps) -> Result<(), ApplyError> {
        let Stages { switched, rebuilt, .. } = stages;
        let make = delta::plan(switched, rebuilt).make;
        let rebuild = Transaction::make(&self.table, &make, switched, rebuilt, &LiveChanges::default())?;
        steps.count(self.step(rebuild, want)?);
        Ok(())
    }

    /// Takes the rules from the copies of sets to the sets themselves, and then the copies away: a packet that is still
    /// among the old rules when a map is deleted finds it empty.
    fn settle(&mut self, switched: &Ruleset, want: &Ruleset, steps: &mut Steps) -> Result<(), ApplyError> {
        let delta = delta::plan(switched, want);
        let none = LiveChanges::default();
        let switch = Transaction::make(&self.table, &delta.make, switched, want, &none)?;
        steps.count(self.step(switch, want)?);
        let end = Transaction::end(&self.table, &delta.end, switched, &none)?;
        steps.count(self.step(end, want)?);
        Ok(())
    }

    /// Sends the second transaction of an update, again when a mark ended by itself while it was made. On a machine so
    /// busy that packets cannot be waited for in time, the marks that end do so before it.
    fn end(
        &mut self,
        end: &delta::End,
        have: &Ruleset,
        want: &Ruleset,
        live: &LiveSet,
        steps: &mut Steps,
    ) -> Result<(), ApplyError> {
        let mut attempt = 1;
        loop {
            let changes = LiveChanges::between(&self.live().map_err(ApplyError::Netlink)?, live);
            let is_hurried = !changes.ended.is_empty() && !self.have_packets_left_within(END_WAIT_MAX);
            let transaction = if is_hurried {
                let ended = LiveChanges { ended: changes.ended, ..LiveChanges::default() };
                Transaction::live(&self.table, &ended)?
            } else {
                Transaction::end(&self.table, end, have, &changes)?
            };
            if transaction.is_empty() {
                return Ok(());
            }
            let outcome =
                if is_hurried { self.commit(transaction, want) } else { self.step(transaction, want) };
            match outcome {
                Err(ApplyError::Refused { refusal, .. })
                    if is_stale(&refusal) && attempt < LIVE_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
                Ok(committed) => {
                    steps.count(committed);
                    if !is_hurried {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Changes which marks are live, in one transaction. `have` is what the caller believes the kernel holds; when that
    /// turns out wrong, as when a mark ended by itself, the kernel is asked and the change made again.
    pub fn set_live(&mut self, have: &LiveSet, want: &LiveSet) -> Result<(), ApplyError> {
        let mut have = have.clone();
        let mut attempt = 1;
        loop {
            let changes = LiveChanges::between(&have, want);
            if changes.is_empty() {
                return Ok(());
            }
            let transaction = Transaction::live(&self.table, &changes)?;
            // Without a wait: it changes no rule, and what ends shall end now.
            match self.commit(transaction, &Ruleset::default()) {
                Err(ApplyError::Refused { refusal, .. })
                    if is_stale(&refusal) && attempt < LIVE_ATTEMPTS_MAX =>
                {
                    have = self.live().map_err(ApplyError::Netlink)?;
                    attempt += 1;
                }
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Reads the kernel's rules back and compares them rule by rule and element by element; nothing found is equality.
    /// Times of live marks and of grants may differ by `slack`.
    pub fn verify(
        &mut self,
        want: &Ruleset,
        live: &LiveSet,
        slack: Duration,
    ) -> Result<Vec<Difference>, NetlinkError> {
        let is_large = |set: &Set| !set.interval && set.elements.len() >= REHASH_MIN_ELEMENTS;
        let mut looks = if want.sets.values().any(is_large) { REHASH_LOOKS_MAX } else { 1 };
        let mut stale = 0;
        loop {
            let endings = self.grants.endings();
            let found = self.connection.snapshot(&self.table)?;
            let grants = self.recent_grants();
            if self.grants.endings() != endings && stale < STALE_LOOKS_MAX {
                // What was read is older than the list.
                stale += 1;
                continue;
            }
            let running = Running { live, grants: &grants };
            let differences = verify::compare(&self.table, want, running, slack, &found);
            looks -= 1;
            if differences.is_empty() || looks == 0 {
                return Ok(differences);
            }
            std::thread::sleep(REHASH_WAIT);
        }
    }

    /// Packets and bytes of every named counter.
    pub fn counters(&mut self) -> Result<BTreeMap<String, (u64, u64)>, NetlinkError> {
        let counters = self.connection.counters(&self.table)?;
        let entry =
            |counter: crate::object::Counter| (counter.name.to_string(), (counter.packets, counter.bytes));
        Ok(counters.into_iter().map(entry).collect())
    }

    /// The marks that are live, and for how long still.
    pub fn live(&mut self) -> Result<LiveSet, NetlinkError> {
        let malformed = |_| NetlinkError::Malformed { what: "the live set" };
        let set = lower::set(LIVE, &live::set()).map_err(malformed)?;
        let found = self.connection.elements(&self.table, &set)?;
        Ok(found.iter().filter_map(verify::live_entry).collect())
    }

    /// The generation of the kernel's rules: it changes with every transaction of anybody.
    pub fn generation(&mut self) -> Result<u32, NetlinkError> {
        self.connection.generation()
    }

    /// Deletes the table if it is there, and with it every rule of ours.
    pub fn remove(&mut self) -> Result<(), ApplyError> {
        let transaction = Transaction::remove(&self.table)?;
        self.commit(transaction, &Ruleset::default()).map(drop)
    }

    /// Sends a transaction when no packet is among rules older than those in force: the kernel keeps the rules of two
    /// generations, so a packet that were there over two transactions would meet chains of the one and sets of the other.
    fn step(&mut self, transaction: Transaction, ruleset: &Ruleset) -> Result<Committed, ApplyError> {
        // What a `GrantEnder` sent meanwhile made a generation, too.
        let endings = self.grants.endings();
        self.has_stragglers |= std::mem::replace(&mut self.endings, endings) != endings;
        self.let_packets_leave();
        self.commit(transaction, ruleset)
    }

    /// Waits as long as that for packets to leave, and tells whether they have.
    fn have_packets_left_within(&mut self, limit: Duration) -> bool {
        self.has_stragglers = self.has_stragglers && !grace::have_packets_left_within(limit);
        !self.has_stragglers
    }

    fn let_packets_leave(&mut self) {
        if std::mem::take(&mut self.has_stragglers) {
            grace::let_packets_leave();
        }
    }

    fn commit(&mut self, transaction: Transaction, ruleset: &Ruleset) -> Result<Committed, ApplyError> {
        let Transaction { batch, marks } = transaction;
        self.has_stragglers = true;
        match self.connection.commit(batch) {
            Ok(committed) => Ok(committed),
            Err(NetlinkError::Refused(refusal)) => {
                let element = refusal
                    .element
                    .and_then(|index| marks.get(&refusal.origin)?.get(index).copied().flatten());
                let flow = element.and_then(|mark| {
                    let info = ruleset.marks.get(&mark)?;
                    Some(Box::new(RefusedFlow { mark, name: info.name.clone(), place: info.place }))
                });
                Err(ApplyError::Refused { flow, refusal })
            }
            Err(error) => Err(ApplyError::Netlink(error)),
        }
    }
}

/// The transactions of an update so far.
struct Steps {
    generation: u32,
    transactions: u32,
}

impl Steps {
    fn count(&mut self, committed: Committed) {
        self.generation = committed.generation;
        self.transactions += 1;
    }
}

/// Whether a map of verdicts or counters is replaced. Its copy has to come after the chains or counters that it names,
/// which only a load of the whole does in a transaction of its own.
fn replaces_references(have: &Ruleset, want: &Ruleset) -> bool {
    let replaced = delta::plan(have, want).make.replaced_sets;
    replaced.iter().filter_map(|name| want.sets.get(name)).any(|set| match set.data {
        Some(DataType::Verdict | DataType::Counter) => true,
        None | Some(DataType::Mark) => false,
    })
}

fn half(error: ApplyError) -> ApplyError {
    ApplyError::Half(Box::new(error))
}

/// Whether a refusal says that an element was there, or not there, against what was believed.
fn is_stale(refusal: &Refusal) -> bool {
    let is_live = refusal.origin.as_str() == transaction::LIVE_ORIGIN;
    is_live && matches!(refusal.errno, Errno::NOENT | Errno::EXIST)
}
