//! Opening and ending grants, and knowing which should be open.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use policy::ruleset::{GRANTS_IP4, Ruleset};

use super::transaction::{GRANTS_ORIGIN, Transaction};
use super::{ApplyError, LIVE_ATTEMPTS_MAX, Netfilter};
use crate::error::NetlinkError;
use crate::grants::{self, Grant, GrantError, GrantSet, OPEN_MAX};
use crate::lower;
use crate::object::FoundElement;
use rustix::io::Errno;

/// How long after the end by our clock an element is still taken for ours.
const LINGER_MAX: Duration = Duration::from_secs(1);

impl Netfilter {
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
        self.grants.extend(wanted.iter().filter_map(end));
        Ok(())
    }

    /// Ends grants at once, for new and running connections alike. Those that have ended by themselves are no error.
    ///
    /// # Errors
    /// [`GrantError::Apply`] when the kernel could not be changed: they still end by themselves.
    pub fn remove_grants(&mut self, ended: &[Grant]) -> Result<(), GrantError> {
        let mut present: Vec<Grant> = ended.to_vec();
        let mut attempt = 1;
        loop {
            present.sort_unstable();
            present.dedup();
            if present.is_empty() {
                break;
            }
            let transaction = Transaction::grants(&self.table, &GrantSet::new(), &present)?;
            match self.commit(transaction, &Ruleset::default()) {
                Ok(_) => break,
                Err(ApplyError::Refused { refusal, .. })
                    if refusal.origin.as_str() == GRANTS_ORIGIN
                        && refusal.errno == Errno::NOENT
                        && attempt < LIVE_ATTEMPTS_MAX =>
                {
                    let open = self.grants().map_err(ApplyError::Netlink)?;
                    present.retain(|grant| open.contains_key(grant));
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        for grant in ended {
            self.grants.remove(grant);
        }
        Ok(())
    }

    /// The grants in the kernel, each with what is left of its life: none for one that somebody else made without an end.
    ///
    /// # Errors
    /// [`NetlinkError`] when the kernel could not be asked; that there is no such set, too.
    pub fn grants(&mut self) -> Result<BTreeMap<Grant, Option<Duration>>, NetlinkError> {
        Ok(self.granted()?.iter().filter_map(grants::found).collect())
    }

    /// Says which grants should be open, as after a start of the caller: what [`Netfilter::verify`] expects and
    /// [`Netfilter::replace`] puts back. It changes nothing in the kernel.
    pub fn expect_grants(&mut self, open: &GrantSet) {
        let now = Instant::now();
        let end = |(grant, left): (&Grant, &Duration)| Some((*grant, now.checked_add(*left)?));
        self.grants = open.iter().filter_map(end).collect();
    }

    /// The grants that should be open now, with what is left of them.
    pub fn expected_grants(&mut self) -> GrantSet {
        self.recent_grants().into_iter().filter(|(_, left)| !left.is_zero()).collect()
    }

    /// The same, and with nothing left those that the kernel may still hold: its clock began a little after ours.
    pub(super) fn recent_grants(&mut self) -> GrantSet {
        let now = Instant::now();
        self.grants.retain(|_, end| now.saturating_duration_since(*end) < LINGER_MAX);
        self.grants.iter().map(|(grant, end)| (*grant, end.saturating_duration_since(now))).collect()
    }

    /// A rule set without the sets of grants ends them all.
    pub(super) fn end_grants_without(&mut self, want: &Ruleset) {
        if !want.sets.contains_key(GRANTS_IP4) {
            self.grants.clear();
        }
    }

    /// Reads the grants back and compares them with what was asked for a moment ago.
    fn confirm(&mut self, wanted: &GrantSet) -> Result<(), GrantError> {
        let found = self.granted().map_err(ApplyError::Netlink)?;
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

    fn granted(&mut self) -> Result<Vec<FoundElement>, NetlinkError> {
        let malformed = |_| NetlinkError::Malformed { what: "the sets of grants" };
        let mut found = Vec::new();
        for name in grants::SETS {
            let set = lower::set(name, &grants::set(name)).map_err(malformed)?;
            found.extend(self.connection.elements(&self.table, &set)?);
        }
        Ok(found)
    }
}
