//! Core's view of the packet filter: plans in, differences out.

use std::collections::BTreeMap;
use std::time::Duration;

use enforce::{Failure, LiveSet};
use netfilter::grants::{Grant, GrantError, GrantSet};
use netfilter::{Difference, GrantEnder, Netfilter, NetlinkError, Subject};
use policy::compile;
use policy::ruleset::Ruleset;

use super::plan::Plan;

/// How far an end in the kernel may be off what it should be: the time a read-back takes, with room.
const SLACK: Duration = Duration::from_secs(3);

/// The packet filter.
#[derive(Debug)]
pub(crate) struct Kernel {
    filter: Netfilter,
    closed: Ruleset,
    /// The generation after our own last change or look: another one means that somebody else changed something.
    generation: Option<u32>,
    /// Whether our chains were all there at the last comparison, whatever their rules.
    guarded: bool,
}

/// What a comparison found.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Differences inside Sekisho's own table.
    pub(crate) own: Vec<String>,
    /// Other tables that see packets. They cannot let a packet pass that ours drops, so they are told, not fought.
    pub(crate) foreign: Vec<String>,
}

impl Kernel {
    /// Connects.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Ok(Kernel { filter: Netfilter::open()?, closed: compile::closed(), generation: None, guarded: false })
    }

    /// From one plan to another; from anything when `have` is `None`.
    pub(crate) fn apply(&mut self, have: Option<&Plan>, want: &Plan, live: &LiveSet) -> Result<(), Failure> {
        let applied = match have {
            Some(have) => self.filter.update(&have.ruleset, &want.ruleset, live),
            None => self.filter.replace(&want.ruleset, live),
        };
        applied.map(drop).map_err(failure)
    }

    /// Nothing passes.
    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        self.filter.replace(&self.closed, &LiveSet::new()).map(drop).map_err(failure)
    }

    /// Changes the live set from whatever the kernel holds: elements may have ended since they were written.
    pub(crate) fn set_live(&mut self, want: &LiveSet) -> Result<(), Failure> {
        let have = self.filter.live().map_err(failure)?;
        self.filter.set_live(&have, want).map_err(failure)
    }

    /// Compares the kernel with a plan, or with the closed state.
    pub(crate) fn compare(
        &mut self,
        want: Option<&Plan>,
        live: &LiveSet,
    ) -> Result<Comparison, NetlinkError> {
        // Known only once it was looked at: what could not be read is read again.
        self.generation = None;
        let generation = self.filter.generation()?;
        let ruleset = want.map_or(&self.closed, |plan| &plan.ruleset);
        let found = self.filter.verify(ruleset, live, SLACK)?;
        self.generation = Some(generation);
        self.guarded = !found.iter().any(is_gap);
        let (foreign, own): (Vec<_>, Vec<_>) = found.into_iter().partition(is_foreign);
        let words = |found: Vec<Difference>| found.iter().map(ToString::to_string).collect();
        Ok(Comparison { own: words(own), foreign: words(foreign) })
    }

    /// Opens a grant, read back equal.
    pub(crate) fn open_grant(&mut self, grant: Grant, life: Duration) -> Result<(), GrantError> {
        self.filter.add_grants(&GrantSet::from([(grant, life)]))
    }

    /// A hand that ends grants whatever this one is doing.
    pub(crate) fn ender(&self) -> Result<GrantEnder, NetlinkError> {
        self.filter.grant_ender()
    }

    /// Ends a grant; one that has ended is no error, be it by itself or with the sets that held it, as when all is closed.
    pub(crate) fn end_grant(&mut self, grant: &Grant) -> Result<(), GrantError> {
        let Err(error) = self.filter.remove_grants(&[*grant]) else { return Ok(()) };
        let is_gone = match self.filter.grants() {
            Ok(open) => !open.contains_key(grant),
            Err(_) => !self.filter.expected_grants().contains_key(grant),
        };
        if is_gone { Ok(()) } else { Err(error) }
    }

    /// Ends every grant that a former run left; gives how many there were.
    pub(crate) fn end_all_grants(&mut self) -> Result<usize, GrantError> {
        // Without our table there are no grants.
        let Ok(found) = self.filter.grants() else { return Ok(0) };
        let found: Vec<Grant> = found.into_keys().collect();
        if !found.is_empty() {
            self.filter.remove_grants(&found)?;
        }
        Ok(found.len())
    }

    /// Whether our chains were all there at the last comparison: the guard stands, though its rules may be old.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// Whether the packet filter changed since the last comparison.
    pub(crate) fn is_changed(&mut self) -> Result<bool, NetlinkError> {
        Ok(self.generation != Some(self.filter.generation()?))
    }

    /// Packets and bytes of every named counter.
    pub(crate) fn counters(&mut self) -> Result<BTreeMap<String, (u64, u64)>, NetlinkError> {
        self.filter.counters()
    }
}

fn is_foreign(difference: &Difference) -> bool {
    matches!(difference.what, Subject::ForeignTable(_))
}

/// A chain that is missing or does not hang where it should.
fn is_gap(difference: &Difference) -> bool {
    match difference.what {
        Subject::Table
        | Subject::TableFlags
        | Subject::Chain(_)
        | Subject::ChainBase(_)
        | Subject::Flowtables => true,
        Subject::ForeignTable(_)
        | Subject::Rule(..)
        | Subject::Set(_)
        | Subject::Element(..)
        | Subject::Timeout(..)
        | Subject::Object(_)
        | Subject::Unsayable => false,
    }
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure(error.to_string())
}
