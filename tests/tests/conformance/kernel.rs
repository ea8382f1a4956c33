//! The rule set under test in the kernel of the lab's gateway.
use std::time::Duration;

use lab::Lab;
use netfilter::{Netfilter, Subject};
use policy::ruleset::Ruleset;

use crate::ground::MUTE_TABLE;

pub(crate) use netfilter::LiveSet;

/// What the kernel's clock and ours may differ by.
pub(crate) const SLACK: Duration = Duration::from_secs(5);

/// The gateway's nf_tables, and what was put there.
pub(crate) struct Kernel {
    pub(crate) netfilter: Netfilter,
    live: LiveSet,
}

impl Kernel {
    pub(crate) fn open(lab: &Lab) -> Self {
        let netfilter =
            lab.gateway().run_in(Netfilter::open).expect("the gateway's namespace").expect("nf_tables");
        Kernel { netfilter, live: LiveSet::new() }
    }

    /// Loads a rule set and proves that it is there: a trial of something else would prove nothing.
    pub(crate) fn apply(&mut self, ruleset: &Ruleset, live: &LiveSet) {
        self.netfilter.replace(ruleset, live).unwrap_or_else(|error| panic!("{error}"));
        self.live = live.clone();
        let mut found = self.netfilter.verify(ruleset, live, SLACK).unwrap_or_else(|error| panic!("{error}"));
        // The table that keeps the gateway from answering by itself.
        found.retain(|difference| difference.what != Subject::ForeignTable(format!("inet {MUTE_TABLE}")));
        assert!(found.is_empty(), "the kernel does not hold what was loaded: {found:?}");
    }

    pub(crate) fn set_live(&mut self, live: &LiveSet) {
        self.netfilter.set_live(&self.live, live).unwrap_or_else(|error| panic!("{error}"));
        self.live = live.clone();
    }
}
