//! A policy, its rule set, and the instants at which both are tried.
use jiff::Timestamp;
use policy::compile::{compile, live_at};
use policy::eval::Clock;
use policy::ledger::Ledger;
use policy::model::Policy;
use policy::raw::Sources;
use policy::resolve::load;
use policy::ruleset::Ruleset;

use crate::kernel::LiveSet;

const CLINIC: &str = include_str!("../../../policy/examples/clinic.toml");
const OVERLAPS: &str = include_str!("overlaps.toml");

/// A policy and what it compiles to.
pub(crate) struct Scene {
    pub(crate) policy: Policy,
    pub(crate) ruleset: Ruleset,
}

impl Scene {
    /// The example policy as it stands.
    pub(crate) fn clinic() -> Self {
        Self::of(CLINIC.to_owned())
    }

    /// The example policy with flows that overlap in every way.
    pub(crate) fn overlapping() -> Self {
        Self::of(format!("{CLINIC}{OVERLAPS}"))
    }

    fn of(text: String) -> Self {
        let now = day().now;
        let policy = match load(&Sources::single("clinic.toml", text), now) {
            Ok(resolved) => resolved.policy,
            Err(report) => panic!("the test's own policy is refused: {report:#?}"),
        };
        let ruleset = compile(&policy, &Ledger::default()).expect("compiles").ruleset;
        Scene { policy, ruleset }
    }

    /// The marks that are live at a time, without ends: the kernel must not change its mind during a trial.
    pub(crate) fn live(&self, clock: Clock) -> LiveSet {
        let live = live_at(&self.policy, &self.ruleset, clock.now, clock.trusted);
        live.into_keys().map(|mark| (mark, None)).collect()
    }
}

/// The clocks of a trial, in an order in which every timed flow opens and closes under running connections.
pub(crate) fn clocks() -> Vec<(&'static str, Clock)> {
    vec![
        ("an evening", evening()),
        ("a day", day()),
        ("the evening again", evening()),
        ("an evening nobody vouches for", Clock { trusted: false, ..evening() }),
        ("after every end", at("2031-01-07T20:00:00+09:00")),
    ]
}

/// A Tuesday in consulting hours: schedules are closed, ends are far.
pub(crate) fn day() -> Clock {
    at("2026-11-24T10:00:00+09:00")
}

/// The evening of that day: schedules are open.
pub(crate) fn evening() -> Clock {
    at("2026-11-24T20:00:00+09:00")
}

fn at(text: &str) -> Clock {
    Clock { now: text.parse::<Timestamp>().expect("an instant"), trusted: true }
}
