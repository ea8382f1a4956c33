//! What was measured: small typed facts, each with the instant it was true. The roles make them, [`super::assess()`]
//! judges them. No address, no device of a stranger, no person's name beyond the keys of the policy's own entries.
//!
//! A role says each fact anew whenever it is asked, with the `at` of the *measurement*, not of the question. Lists are
//! bounded, so that a fact stays small whatever the network does.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

mod doors;
mod kernel;
mod services;
mod written;

pub use doors::{Factors, FileDoor, Maintenance};
pub use kernel::{
    Enforcement, Feed, Feeds, FlowLedger, KernelSettings, Neighbours, OUTSIDE, PathFilter, PathMode,
    ReadBack, ReversePath, SettingsFact, Sighting, Sightings, Standing, TimeTrust, ZoneNeighbours,
};
pub use services::{
    Deed, Door, LastDone, Listener, ListenerTransport, Listeners, Log, MetricsDoor, Ntp, Roles,
};
pub use written::{Accountability, Accounts, ExceptionFact, Exceptions, Flows, ZoneFact, Zones};

/// Age at which a fact no longer counts: the control becomes unknown, never ok.
pub const FRESH: SignedDuration = SignedDuration::from_secs(30);
/// How far in the future a fact may lie (clocks are read one after the other) before it does not count.
pub const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(5);
/// Names listed in one [`Named`]; the rest are counted.
pub const NAMES_MAX: usize = 8;
/// Characters of one name.
pub const NAME_CHARS_MAX: usize = 80;
/// Zones, sightings and sockets listed in one fact.
pub const ROWS_MAX: usize = 64;

/// A fact and the instant at which it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// When it was measured.
    pub at: Timestamp,
    /// What was measured.
    pub fact: Observation,
}

/// Things counted, the first few by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawNamed")]
pub struct Named {
    /// How many.
    pub count: u32,
    /// The first [`NAMES_MAX`], in the order given.
    pub first: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNamed {
    count: u32,
    first: Vec<String>,
}

impl From<RawNamed> for Named {
    /// What a peer sent is cut to the bounds.
    fn from(RawNamed { count, first }: RawNamed) -> Self {
        let listed: Named = first.into_iter().collect();
        Named { count: count.max(listed.count), first: listed.first }
    }
}

impl<T: AsRef<str>> FromIterator<T> for Named {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let mut all = Named::default();
        for name in names {
            all.count = all.count.saturating_add(1);
            if all.first.len() < NAMES_MAX {
                all.first.push(name.as_ref().chars().take(NAME_CHARS_MAX).collect());
            }
        }
        all
    }
}

impl Named {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The names, and how many more there are: `a, b (+3)`.
    #[must_use]
    pub fn list(&self) -> String {
        let shown = self.first.join(", ");
        let listed = u32::try_from(self.first.len()).unwrap_or(u32::MAX);
        match self.count.saturating_sub(listed) {
            0 => shown,
            more => format!("{shown} (+{more})"),
        }
    }
}

/// A kind of fact: what [`Observations`] finds it by.
pub trait Fact: Sized {
    /// Which kind.
    const SUBJECT: Subject;

    /// The fact, when the observation is of this kind.
    fn of(observation: &Observation) -> Option<&Self>;
}

/// The closed list of facts, one struct each.
macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Everything that can be measured.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Observation {
            $($(#[$doc])* $name($name),)+
            /// Somebody did something that is to be done again and again (record); one fact per deed.
            LastDone(LastDone),
        }

        /// Kinds of fact.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Subject {
            $($(#[$doc])* $name,)+
            /// A deed.
            LastDone(Deed),
        }

        impl Observation {
            /// Which kind of fact it is.
            #[must_use]
            pub fn subject(&self) -> Subject {
                match self {
                    $(Observation::$name(_) => Subject::$name,)+
                    Observation::LastDone(done) => Subject::LastDone(done.deed),
                }
            }
        }

        $(
            impl Fact for $name {
                const SUBJECT: Subject = Subject::$name;

                fn of(observation: &Observation) -> Option<&Self> {
                    if let Observation::$name(fact) = observation { Some(fact) } else { None }
                }
            }

            impl From<$name> for Observation {
                fn from(fact: $name) -> Self {
                    Observation::$name(fact)
                }
            }
        )+

        impl From<LastDone> for Observation {
            fn from(fact: LastDone) -> Self {
                Observation::LastDone(fact)
            }
        }
    };
}

facts! {
    /// The zones of the policy in force (core, by [`super::posture()`]).
    Zones,
    /// The flows of the policy in force (core, by [`super::posture()`]).
    Flows,
    /// Accepted exceptions (core, by [`super::posture()`]).
    Exceptions,
    /// Persons, VPN peers and vendors (core, by [`super::posture()`]).
    Accounts,
    /// Who answers for what (core, by [`super::posture()`]).
    Accountability,
    /// What is in force (core).
    Enforcement,
    /// The last comparison of the kernel with the policy in force (core).
    ReadBack,
    /// Reverse-path filters of the zones' interfaces (core).
    ReversePath,
    /// Settings of the kernel (core).
    KernelSettings,
    /// Whether the wall clock may be believed (core).
    TimeTrust,
    /// Devices seen on the wire against the ledger (core).
    Neighbours,
    /// Second factors (core).
    Factors,
    /// The event feeds from the kernel (watch).
    Feeds,
    /// The flow ledger on disk (watch).
    FlowLedger,
    /// Suspicious traffic that was seen (watch).
    Sightings,
    /// Roles that answer (console).
    Roles,
    /// Sockets on which the gateway listens (console).
    Listeners,
    /// The metrics listener, as a handshake with it went (console).
    MetricsDoor,
    /// The time daemon (console).
    Ntp,
    /// The audit log (record).
    Log,
    /// What the log holds of maintenance (record).
    Maintenance,
    /// The door for files (files).
    FileDoor,
}

/// The last word on each kind of fact.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observations {
    facts: BTreeMap<Subject, Observed>,
}

impl Observations {
    /// Takes a fact in, in place of what was said of its kind before. The last word counts, not the latest `at`: after
    /// a step of the clock an older word from the future would otherwise hold the place.
    pub fn handle_observed(&mut self, observed: Observed) {
        self.facts.insert(observed.fact.subject(), observed);
    }

    /// The fact of a kind, whatever its age.
    #[must_use]
    pub fn held<F: Fact>(&self) -> Option<(Timestamp, &F)> {
        let observed = self.facts.get(&F::SUBJECT)?;
        F::of(&observed.fact).map(|fact| (observed.at, fact))
    }

    /// The last time of a deed, whatever the fact's age.
    #[must_use]
    pub fn deed(&self, deed: Deed) -> Option<(Timestamp, &LastDone)> {
        let observed = self.facts.get(&Subject::LastDone(deed))?;
        if let Observation::LastDone(done) = &observed.fact { Some((observed.at, done)) } else { None }
    }
}

impl FromIterator<Observed> for Observations {
    fn from_iter<I: IntoIterator<Item = Observed>>(observed: I) -> Self {
        let mut all = Observations::default();
        observed.into_iter().for_each(|one| all.handle_observed(one));
        all
    }
}

/// Roles that tell facts. Each may tell its own kinds only: one that a stranger took over does not speak for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Teller {
    /// core.
    Core,
    /// watch.
    Watch,
    /// record.
    Record,
    /// console.
    Console,
    /// files.
    Files,
}

impl Teller {
    /// The role's name.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Teller::Core => "core",
            Teller::Watch => "watch",
            Teller::Record => "record",
            Teller::Console => "console",
            Teller::Files => "files",
        }
    }
}

impl Subject {
    /// The only role whose word counts about this kind.
    #[must_use]
    pub fn teller(self) -> Teller {
        match self {
            Subject::Zones
            | Subject::Flows
            | Subject::Exceptions
            | Subject::Accounts
            | Subject::Accountability
            | Subject::Enforcement
            | Subject::ReadBack
            | Subject::ReversePath
            | Subject::KernelSettings
            | Subject::TimeTrust
            | Subject::Neighbours
            | Subject::Factors => Teller::Core,
            Subject::Feeds | Subject::FlowLedger | Subject::Sightings => Teller::Watch,
            Subject::Roles | Subject::Listeners | Subject::MetricsDoor | Subject::Ntp => Teller::Console,
            Subject::Log | Subject::Maintenance | Subject::LastDone(_) => Teller::Record,
            Subject::FileDoor => Teller::Files,
        }
    }
}

/// Whether a fact measured at `at` still counts at `now`: neither old nor from the future.
#[must_use]
pub fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(at);
    age <= FRESH && -age <= AHEAD_MAX
}
