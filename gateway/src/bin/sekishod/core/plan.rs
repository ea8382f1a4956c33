//! A policy ready to be put in force: text, model, rule set and ledger, made together so that they cannot disagree.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use enforce::Desired;
use gateway::store::Stored;
use gateway::wire::{Change, SourceTexts};
use jiff::Timestamp;
use policy::compile::{self, CompileError};
use policy::diagnostic::{Report, Severity};
use policy::ledger::Ledger;
use policy::model::Policy;
use policy::raw::Sources;
use policy::ruleset::{Mark, Ruleset, RulesetId};
use thiserror::Error;

/// What a [`Plan`] is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) policy: Policy,
    pub(crate) ruleset: Ruleset,
    pub(crate) stored: Stored,
    pub(crate) warnings: Vec<serde_json::Value>,
}

/// A policy ready to be put in force, cheap to pass about.
#[derive(Clone, Debug)]
pub(crate) struct Plan(Arc<Parts>);

/// Why a text does not become a plan.
#[derive(Debug, Error)]
pub(crate) enum PlanError {
    /// The policy is refused, with findings.
    #[error("{0}")]
    Refused(Report),
    /// The policy is valid and cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The record role did not take the request down.
    #[error("it could not be recorded: {0}")]
    Unrecorded(#[source] gateway::recorder::RecordError),
    /// The work was broken off.
    #[error("reading the policy was broken off: {0}")]
    Broken(#[source] tokio::task::JoinError),
}

impl Plan {
    /// Reads, checks and compiles a policy that somebody wants in force.
    pub(crate) fn prepare(
        sources: SourceTexts,
        ledger: &Ledger,
        now: Timestamp,
        user: u32,
    ) -> Result<Plan, PlanError> {
        let texts = Sources::from(sources.clone());
        let resolved = policy::resolve::load(&texts, now).map_err(PlanError::Refused)?;
        let found = policy::check::check(&resolved.policy, now);
        let names = texts.names();
        if found.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(PlanError::Refused(Report::new(found, names)));
        }
        let warnings =
            resolved.warnings.iter().chain(&found).map(|finding| finding.to_json(&names)).collect();
        Plan::compile(resolved.policy, sources, ledger, now, user, warnings)
    }

    /// Makes the plan again that was in force; it was checked when it was applied, and is read as of that time.
    pub(crate) fn revive(stored: Stored) -> Result<Plan, PlanError> {
        let Stored { sources, ledger, ruleset, applied_at, applied_by, .. } = stored;
        let resolved =
            policy::resolve::load(&Sources::from(sources.clone()), applied_at).map_err(PlanError::Refused)?;
        let plan = Plan::compile(resolved.policy, sources, &ledger, applied_at, applied_by, Vec::new())?;
        if plan.stored.ruleset != ruleset {
            tracing::warn!(was = %ruleset, is = %plan.stored.ruleset, "this version compiles the applied policy differently");
        }
        Ok(plan)
    }

    fn compile(
        policy: Policy,
        sources: SourceTexts,
        ledger: &Ledger,
        at: Timestamp,
        user: u32,
        warnings: Vec<serde_json::Value>,
    ) -> Result<Plan, PlanError> {
        let compiled = compile::compile(&policy, ledger)?;
        let stored = Stored::new(sources, compiled.ledger, compiled.ruleset.id(), at, user);
        Ok(Plan(Arc::new(Parts { policy, ruleset: compiled.ruleset, stored, warnings })))
    }

    /// Identity of the rule set.
    pub(crate) fn id(&self) -> &RulesetId {
        &self.stored.ruleset
    }

    /// Whether this is the very same plan, not only an equal one.
    pub(crate) fn is(&self, other: &Plan) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What putting this in force changes, given what is.
    pub(crate) fn change_from(&self, before: Option<&Plan>) -> Change {
        let new = self.marks_by_name();
        let old = before.map(Plan::marks_by_name).unwrap_or_default();
        let names = |flows: Vec<&&str>| flows.into_iter().map(|name| (*name).to_owned()).collect();
        let kept = new.iter().filter(|(name, mark)| old.get(*name) == Some(mark)).count();
        Change {
            id: self.id().to_string(),
            added: names(new.keys().filter(|name| !old.contains_key(*name)).collect()),
            removed: names(old.keys().filter(|name| !new.contains_key(*name)).collect()),
            narrowed: names(
                new.iter()
                    .filter(|(name, mark)| old.get(*name).is_some_and(|was| was != *mark))
                    .map(|(n, _)| n)
                    .collect(),
            ),
            kept,
            warnings: self.warnings.clone(),
        }
    }

    fn marks_by_name(&self) -> BTreeMap<&str, Mark> {
        self.ruleset.marks.iter().map(|(mark, info)| (info.name.as_str(), *mark)).collect()
    }
}

impl Deref for Plan {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Desired for Plan {
    fn live_at(&self, now: Timestamp, trusted: bool) -> BTreeMap<Mark, Option<Timestamp>> {
        compile::live_at(&self.policy, &self.ruleset, now, trusted)
    }

    fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let timezone = &self.policy.clinic.timezone;
        self.ruleset.marks.values().filter_map(|info| info.timing.next_change(timezone, now)).min()
    }
}
