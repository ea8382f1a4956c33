//! Opening and ending grants, and knowing which should be open.
//!
//! Ending must wait for nothing: beside [`Netfilter`], which one thread holds for as long as an apply or a comparison takes,
//! a [`GrantEnder`] ends grants by a socket of its own. Both know the same list. A load that was made with a grant that is
//! ended meanwhile is refused by the kernel, for it names the generation before, and is made again without it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use policy::ruleset::{GRANTS_IP4, Ruleset};

use super::transaction::{GRANTS_ORIGIN, Transaction};
use super::{ApplyError, LIVE_ATTEMPTS_MAX, Netfilter};
use crate::error::NetlinkError;
use crate::grants::{self, Grant, GrantError, GrantSet, OPEN_MAX};
use crate::lower;
use crate::object::{FoundElement, Table};
use crate::socket::Connection;
use rustix::io::Errno;

/// How long after the end by our clock an element is still taken for ours.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// The grants that should be open, for all who open and end them.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenGrants(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// Each with its end.
    ends: BTreeMap<Grant, Instant>,
    /// How often grants were ended before their time.
    endings: u64,
}

impl OpenGrants {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // The list is changed in single steps: it is as good as it was, whoever panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves when somebody ended grants; while one is being ended, this waits.
    pub(super) fn endings(&self) -> u64 {
        self.lock().endings
    }
}

/// Ends grants, whatever the [`Netfilter`] that opened them is doing.
#[derive(Debug)]
pub struct GrantEnder {
    connection: Connection,
    table: Table,
    open: OpenGrants,
}

impl GrantEnder {
    /// Ends grants at once, as [`Netfilter::remove_grants`] does.
    ///
    /// # Errors
    /// [`GrantError::Apply`] when the kernel could not be changed: they still end by themselves.
    pub fn end(&mut self, ended: &[Grant]) -> Result<(), GrantError> {
        end(&mut self.connection, &self.table, &self.open, ended)
    }
}

impl Netfilter {
    /// A hand that ends grants beside this one; it opens nothing.
    ///
    /// # Errors
    /// [`NetlinkError`] when there is no further socket.
    pub fn grant_ender(&self) -> Result<GrantEnder, NetlinkError> {
        let (table, open) = (self.table.clone(), self.grants.clone());
        Ok(GrantEnder { connection: Connection::open()?, table, open })
    }

    /// Opens grants, all of them or none, and reads them back. From then on they belong to what [`Netfilter::verify`]
    /// expects and what [`Netfilter::replace`] puts back, until they end.
    ///
    /// # Errors
    /// [`GrantError`] when one of them is no grant, exists already, or is not in the kernel as it was asked for.
    pub fn add_grants(&mut self, wanted: &GrantSet) -> Result<(), GrantError> {
        for (grant, life) in wanted {
            grants::check(grant, *life)?;
        }
        if self.expected_grants().len() + wanted.len() > OPEN_MAX {
            return Err(GrantError::TooMany);
        }
        let transaction = Transaction::grants(&self.table, wanted, &[])?;
        let sent = Instant::now();
        match self.commit(transaction, &Ruleset::default()) {
            Ok(_) => {}
            Err(refused @ ApplyError::Refused { .. }) => return Err(refused.into()),
            // Whether it happened is unknown.
            Err(error) => return Err(self.taken_back(wanted, error.into())),
        }
        if let Err(error) = self.confirm(wanted) {
            return Err(self.taken_back(wanted, error));
        }
        let end = |(grant, life): (&Grant, &Duration)| Some((*grant, sent.checked_add(*life)?));
        self.grants.lock().ends.extend(wanted.iter().filter_map(end));
        Ok(())
    }

    /// Ends grants at once, for new and running connections alike. Those that have ended by themselves are no error.
    ///
    /// # Errors
    /// [`GrantError::Apply`] when the kernel could not be changed: they still end by themselves.
    pub fn remove_grants(&mut self, ended: &[Grant]) -> Result<(), GrantError> {
        self.has_stragglers = true;
        end(&mut self.connection, &self.table, &self.grants, ended)
    }

    /// The grants in the kernel, each with what is left of its life: none for one that somebody else made without an end.
    ///
    /// # Errors
    /// [`NetlinkError`] when the kernel could not be asked; that there is no such set, too.
    pub fn grants(&mut self) -> Result<BTreeMap<Grant, Option<Duration>>, NetlinkError> {
        let found = granted(&mut self.connection, &self.table)?;
        Ok(found.iter().filter_map(grants::found).collect())
    }

    /// Says which grants should be open, as after a start of the caller: what [`Netfilter::verify`] expects and
    /// [`Netfilter::replace`] puts back. It changes nothing in the kernel.
    pub fn expect_grants(&mut self, open: &GrantSet) {
        let now = Instant::now();
        let end = |(grant, left): (&Grant, &Duration)| Some((*grant, now.checked_add(*left)?));
        self.grants.lock().ends = open.iter().filter_map(end).collect();
    }

    /// The grants that should be open now, with what is left of them.
    pub fn expected_grants(&mut self) -> GrantSet {
        self.recent_grants().into_iter().filter(|(_, left)| !left.is_zero()).collect()
    }

    /// The same, and with nothing left those that the kernel may still hold: its clock began a little after ours.
    pub(super) fn recent_grants(&mut self) -> GrantSet {
        let now = Instant::now();
        let ends = &mut self.grants.lock().ends;
        ends.retain(|_, end| now.saturating_duration_since(*end) < LINGER_MAX);
        ends.iter().map(|(grant, end)| (*grant, end.saturating_duration_since(now))).collect()
    }

    /// A rule set without the sets of grants ends them all.
    pub(super) fn end_grants_without(&mut self, want: &Ruleset) {
        if !want.sets.contains_key(GRANTS_IP4) {
            self.grants.lock().ends.clear();
        }
    }

    /// Reads the grants back and compares them with what was asked for a moment ago.
    fn confirm(&mut self, wanted: &GrantSet) -> Result<(), GrantError> {
        let found = granted(&mut self.connection, &self.table).map_err(ApplyError::Netlink)?;
        for (grant, life) in wanted {
            let here = found.iter().find(|one| grants::found(one).is_some_and(|(found, _)| found == *grant));
            if here.is_some_and(|here| grants::is_as_asked(here, *life)) {
                continue;
            }
            let found = match here {
                None => "not at all".to_owned(),
                Some(here) => format!("for {:?} of {:?} ms", here.expires_ms, here.element.timeout_ms),
            };
            return Err(GrantError::NotEqual { grant: *grant, wanted: *life, found });
        }
        Ok(())
    }

    /// Takes back what may have been opened; should this fail, too, the next comparison tells of it.
    fn taken_back(&mut self, wanted: &GrantSet, error: GrantError) -> GrantError {
        let all: Vec<Grant> = wanted.keys().copied().collect();
        if let Err(left) = self.remove_grants(&all) {
            tracing::warn!(error = %left, "grants that were not confirmed could not be taken back");
        }
        error
    }
}

fn end(
    connection: &mut Connection,
    table: &Table,
    open: &OpenGrants,
    ended: &[Grant],
) -> Result<(), GrantError> {
    // INVARIANT: nobody reads the list between the kernel's change and the list's own.
    let mut open = open.lock();
    open.endings += 1;
    let mut present: Vec<Grant> = ended.to_vec();
    let mut attempt = 1;
    loop {
        present.sort_unstable();
        present.dedup();
        if present.is_empty() {
            break;
        }
        let Transaction { batch, marks: _ } = Transaction::grants(table, &GrantSet::new(), &present)?;
        match connection.commit(batch) {
            Ok(_) => break,
            Err(NetlinkError::Refused(refusal))
                if refusal.origin.as_str() == GRANTS_ORIGIN
                    && refusal.errno == Errno::NOENT
                    && attempt < LIVE_ATTEMPTS_MAX =>
            {
                let found = granted(connection, table).map_err(ApplyError::Netlink)?;
                let found: GrantsFound = found.iter().filter_map(grants::found).collect();
                present.retain(|grant| found.contains_key(grant));
                attempt += 1;
            }
            Err(NetlinkError::Refused(refusal)) => {
                return Err(ApplyError::Refused { flow: None, refusal }.into());
            }
            Err(error) => return Err(ApplyError::Netlink(error).into()),
        }
    }
    for grant in ended {
        open.ends.remove(grant);
    }
    Ok(())
}

/// What the kernel holds: none for a grant that somebody else made without an end.
type GrantsFound = BTreeMap<Grant, Option<Duration>>;

fn granted(connection: &mut Connection, table: &Table) -> Result<Vec<FoundElement>, NetlinkError> {
    let malformed = |_| NetlinkError::Malformed { what: "the sets of grants" };
    let mut found = Vec::new();
    for name in grants::SETS {
        let set = lower::set(name, &grants::set(name)).map_err(malformed)?;
        found.extend(connection.elements(table, &set)?);
    }
    Ok(found)
}
