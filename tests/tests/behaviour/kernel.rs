//! A policy in the lab's kernel without a daemon: what core does, without its state and its time.
use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use lab::Lab;
use netfilter::{Applied, LiveSet, Netfilter};
use policy::{
    compile,
    diagnostic::Severity,
    ledger::Ledger,
    raw::Sources,
    ruleset::{Mark, Ruleset},
};

/// How far an end in the kernel may be off what it should be when it is read back.
const SLACK: Duration = Duration::from_secs(3);

/// The policy that is in force in a lab.
pub(crate) struct InForce {
    filter: Netfilter,
    ledger: Ledger,
    ruleset: Ruleset,
    live: LiveSet,
}

impl InForce {
    /// Loads a first policy.
    pub(crate) fn load(lab: &Lab, text: &str) -> Self {
        let filter = lab.gateway().run_in(Netfilter::open).unwrap().unwrap();
        let (ruleset, live) = (compile::closed(), LiveSet::new());
        let mut this = Self { filter, ledger: Ledger::default(), ruleset, live };
        this.replace(text);
        this
    }

    /// Goes to another policy by what differs.
    pub(crate) fn update(&mut self, text: &str) -> Applied {
        let (ruleset, live) = self.compile(text);
        let applied = self.filter.update(&self.ruleset, &ruleset, &live).unwrap();
        (self.ruleset, self.live) = (ruleset, live);
        applied
    }

    /// Goes to another policy by loading it whole.
    pub(crate) fn replace(&mut self, text: &str) -> Applied {
        let (ruleset, live) = self.compile(text);
        let applied = self.filter.replace(&ruleset, &live).unwrap();
        (self.ruleset, self.live) = (ruleset, live);
        applied
    }

    /// Fails unless the kernel holds exactly the policy.
    pub(crate) fn assert_read_back(&mut self) {
        let differences = self.filter.verify(&self.ruleset, &self.live, SLACK).unwrap();
        assert!(differences.is_empty(), "{differences:?}");
    }

    /// The packets that each named counter saw.
    pub(crate) fn packets(&mut self) -> BTreeMap<String, u64> {
        let counters = self.filter.counters().unwrap();
        counters.into_iter().map(|(name, (packets, _))| (name, packets)).collect()
    }

    fn compile(&mut self, text: &str) -> (Ruleset, LiveSet) {
        let now = Timestamp::now();
        let loaded = policy::resolve::load(&Sources::single("test.toml", text), now);
        let policy = loaded.unwrap_or_else(|report| panic!("{report}")).policy;
        let found = policy::check::check(&policy, now);
        assert!(found.iter().all(|finding| finding.severity != Severity::Error), "{found:?}");
        let compiled = compile::compile(&policy, &self.ledger).unwrap();
        self.ledger = compiled.ledger;
        let left = |end: Timestamp| Duration::try_from(end.duration_since(now)).unwrap_or_default();
        let live = compile::live_at(&policy, &compiled.ruleset, now, true);
        let live = live.into_iter().map(|(mark, end): (Mark, _)| (mark, end.map(left))).collect();
        (compiled.ruleset, live)
    }
}
