//! What must hold, from outside: the oracle sees what the shell sees, and keeps its own short books.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use session::{Command, End, EndReason, Event, Now, Order, Request, Revised, Stand, Terms};

/// A yes that the test itself knows to be good.
#[derive(Clone, Debug)]
pub(crate) struct Good {
    pub(crate) person: String,
    pub(crate) roles: BTreeSet<String>,
    pub(crate) until: Option<Timestamp>,
}

/// How far the traces came.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub(crate) granted: u64,
    pub(crate) opened: u64,
    pub(crate) refused: u64,
    /// Sessions that stood open, or nearly, when another policy came and let them.
    pub(crate) revised: u64,
    /// Sessions that were not over when the factor of somebody was lost who had said yes to them.
    pub(crate) lost: u64,
    pub(crate) ends: BTreeMap<String, u64>,
}

impl Reached {
    pub(crate) fn add(&mut self, other: &Reached) {
        self.granted += other.granted;
        self.opened += other.opened;
        self.refused += other.refused;
        self.revised += other.revised;
        self.lost += other.lost;
        for (end, count) in &other.ends {
            *self.ends.entry(end.clone()).or_default() += count;
        }
    }
}

/// The oracle's books.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) good: Vec<Good>,
    pub(crate) recorder_asked: Option<u64>,
    /// Since when the recorder is known to run, and when it was last heard.
    pub(crate) recorder_heard: Option<Duration>,
    pub(crate) grant: Option<End>,
    pub(crate) grant_answered: Option<bool>,
    pub(crate) revoked: bool,
    pub(crate) opened: bool,
    pub(crate) over: Option<String>,
    pub(crate) absent: bool,
    pub(crate) reached: Reached,
}

impl Oracle {
    /// Judges a command at the moment it is ordered.
    pub(crate) fn command(&mut self, order: &Order, request: &Request, terms: &Terms, now: Now) {
        match &order.command {
            Command::OpenRecorder {} => {
                self.not_over("OpenRecorder");
                assert!(self.recorder_asked.is_none(), "the recorder is opened once");
                assert!(self.approved(terms, now), "the recorder is opened without approval");
                self.recorder_asked = Some(order.step.0);
            }
            Command::Grant { end } => self.grant(*end, request, terms, now),
            Command::Revoke {} => {
                assert!(self.over.is_some(), "revoked, but not over");
                self.revoked = true;
            }
        }
    }

    fn grant(&mut self, end: End, request: &Request, terms: &Terms, now: Now) {
        self.not_over("Grant");
        assert!(self.grant.is_none(), "a second grant");
        assert!(now.trusted, "granted by an untrusted clock");
        assert!(self.approved(terms, now), "granted without approval: {:?}", self.good);
        let heard = self.recorder_heard.expect("granted without a recorder");
        assert!(now.elapsed - heard < Duration::from_secs(3), "granted with a silent recorder");
        assert!(!self.absent, "granted to nobody");
        assert!(request.start.is_none_or(|start| start <= now.wall), "granted before its start");
        let window = terms.windows.as_ref().map(|windows| windows.open_until(&terms.timezone, now.wall));
        let window = window.map(|until| until.expect("granted outside the window"));
        assert!(terms.contract_end.is_none_or(|over| now.wall < over), "granted after the contract");
        let longest = Duration::from_secs(u64::from(request.duration_s));
        assert!(end.wall <= now.wall + longest && end.elapsed <= now.elapsed + longest, "too long");
        let last = [window, terms.contract_end].into_iter().flatten().min();
        assert!(last.is_none_or(|last| end.wall <= last), "beyond the window or the contract");
        let left = Duration::try_from(end.wall.duration_since(now.wall)).unwrap();
        assert!(end.elapsed - now.elapsed <= left, "the two clocks end apart");
        self.grant = Some(end);
        self.reached.granted += 1;
    }

    /// Every yes is from now on worth what its person is in the new policy.
    pub(crate) fn another_policy(&mut self, persons: &BTreeMap<String, Stand>) {
        self.good.retain_mut(|good| match persons.get(&good.person) {
            Some(stand) => {
                (good.roles, good.until) = (stand.roles.clone(), stand.until);
                true
            }
            None => false,
        });
    }

    /// The yes of a person whose factor was lost stands for nothing any more; whether there was one.
    pub(crate) fn factor_lost(&mut self, person: &str) -> bool {
        let before = self.good.len();
        self.good.retain(|good| good.person != person);
        let said_yes = self.good.len() < before;
        if said_yes && self.over.is_none() {
            self.reached.lost += 1;
        }
        said_yes
    }

    /// What is open, or about to be, under a policy that just came into force.
    pub(crate) fn still_allowed(&mut self, request: &Request, policy: &Revised, now: Now) {
        let terms = &policy.terms;
        assert!(self.approved(terms, now), "open without the approvals that the policy asks for");
        assert_eq!(policy.target, request.target, "open to another target");
        assert!(u64::from(request.duration_s) <= terms.max_duration_s, "open for too long");
        if let Some(end) = self.grant {
            let window = terms.windows.as_ref().map(|windows| windows.open_until(&terms.timezone, now.wall));
            let window = window.map(|until| until.expect("open outside the policy's window"));
            let last = [window, terms.contract_end].into_iter().flatten().min();
            assert!(last.is_none_or(|last| end.wall <= last), "open beyond the policy's window or contract");
        }
        self.reached.revised += 1;
    }

    /// Judges what is told.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Requested | Event::Approved { .. } => self.not_over("told"),
            Event::Denied { .. } => self.end("denied"),
            Event::Opened { until } => {
                self.not_over("Opened");
                assert_eq!(self.grant_answered, Some(true), "open without the kernel's yes");
                assert_eq!(self.grant.map(|end| end.wall), Some(*until));
                self.opened = true;
                self.reached.opened += 1;
            }
            Event::Closed { why } => {
                let word = match why {
                    EndReason::Killed { .. } => "killed".to_owned(),
                    other => serde_json::to_string(other).unwrap(),
                };
                self.end(&word);
            }
            Event::RevokeFailed(_) => assert!(self.revoked),
        }
    }

    fn end(&mut self, how: &str) {
        self.not_over(how);
        self.over = Some(how.to_owned());
        *self.reached.ends.entry(how.to_owned()).or_default() += 1;
    }

    fn not_over(&self, what: &str) {
        assert!(self.over.is_none(), "{what} after {:?}", self.over);
    }

    /// Whether some choice of distinct, living persons stands for every role: by trying them all.
    fn approved(&self, terms: &Terms, now: Now) -> bool {
        let living: Vec<&Good> =
            self.good.iter().filter(|good| good.until.is_none_or(|until| now.wall < until)).collect();
        let roles: Vec<&String> = terms.approvals.iter().collect();
        !roles.is_empty() && stand(&roles, &living, &mut BTreeSet::new())
    }
}

fn stand<'a>(roles: &[&String], living: &[&'a Good], used: &mut BTreeSet<&'a str>) -> bool {
    let Some((role, rest)) = roles.split_first() else { return true };
    living.iter().any(|good| {
        if !good.roles.contains(*role) || !used.insert(&good.person) {
            return false;
        }
        let found = stand(rest, living, used);
        used.remove(good.person.as_str());
        found
    })
}
