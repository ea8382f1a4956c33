//! The shell, the clinic, the engineer and the clocks, all at random and none of them reliable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use policy::time::Schedule;
use session::{
    Approval, Command, Digest, EndReason, Factor, Failure, KeyId, Now, Order, Protocol, RecorderFault,
    Request, Revised, Session, SessionId, Stand, State, Step, Target, Terms, Verifier,
};

use crate::oracle::{Good, Oracle};

const ROLES: [&str; 3] = ["clinic", "it", "owner"];
const PERSONS: [(&str, &[&str]); 5] = [
    ("hanako", &["clinic"]),
    ("taro", &["it"]),
    ("jiro", &["clinic", "it"]),
    ("sakura", &["owner", "clinic", "it"]),
    ("nobody", &["admin"]),
];

/// Splitmix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }
}

struct Book;

impl Verifier for Book {
    type Error = ();

    fn verify(&mut self, _: &str, _: &Digest, code: &str, _: Now) -> Result<(), ()> {
        if code == "good" { Ok(()) } else { Err(()) }
    }
}

pub(crate) struct Driver {
    dice: Dice,
    now: Now,
    session: Session,
    terms: Terms,
    /// Orders that the shell took and has not answered.
    taken: VecDeque<Order>,
    /// A factor that was obtained earlier and is brought late.
    kept: Option<(Factor, String)>,
    moved_at: Duration,
    absent_since: Option<Duration>,
    pub(crate) oracle: Oracle,
}

impl Driver {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let wall: Timestamp = "2026-11-22T19:50:00Z".parse().unwrap();
        let wall = wall + Duration::from_secs(dice.below(12 * 3600));
        let now = Now { wall, elapsed: Duration::from_secs(5000), trusted: true };
        loop {
            let terms = terms(&mut dice, now);
            let request = request(&mut dice, now);
            if let Ok(session) = Session::request(request, terms.clone(), now) {
                let (taken, moved_at) = (VecDeque::new(), now.elapsed);
                let oracle = Oracle::default();
                let mut driver = Driver {
                    dice,
                    now,
                    session,
                    terms,
                    taken,
                    kept: None,
                    moved_at,
                    absent_since: None,
                    oracle,
                };
                driver.settle();
                return driver;
            }
        }
    }

    /// Up to forty things happen.
    pub(crate) fn live(&mut self) {
        for _ in 0..10 + self.dice.below(30) {
            self.act();
            self.settle();
        }
    }

    /// Then the clinic goes home: whatever stood open must be over, and taken back.
    pub(crate) fn outlive(&mut self) {
        for _ in 0..400 {
            let Some(at) = self.session.poll_timeout(self.now) else { break };
            let passed = at.saturating_sub(self.now.elapsed).max(Duration::from_secs(3600));
            self.pass(passed);
            self.session.handle_timeout(self.now);
            self.settle();
            while !self.taken.is_empty() {
                self.answer(true);
                self.settle();
            }
        }
        assert!(self.oracle.over.is_some(), "still {:?}", self.session.state(self.now));
        assert!(self.oracle.grant.is_none() || self.oracle.revoked, "a grant was left");
        assert!(self.session.is_finished());
    }

    fn act(&mut self) {
        match self.dice.below(26) {
            0..=4 => self.approve(),
            5..=10 => self.answer(false),
            11..=13 => {
                self.session.handle_recorder_alive(self.now);
                self.heard();
            }
            14 | 15 => self.time(),
            16 => self.set_clock(),
            17 => self.come_or_go(),
            18 => {
                self.session.handle_activity(self.now);
                self.moved_at = self.now.elapsed;
            }
            19 => self.end(),
            20 => self.connect(),
            21 => self.strange_answer(),
            22 => self.record_fault(),
            23 => self.another_policy(),
            24 => self.lose_factor(),
            _ => self.deny(),
        }
    }

    fn approve(&mut self) {
        let (person, roles) = self.dice.pick(&PERSONS);
        let right = *self.session.digest();
        let other = Digest::of(b"another request");
        let shown = if self.dice.one_in(10) { other } else { right };
        let verified = if self.dice.one_in(10) { other } else { right };
        let until = self.dice.one_in(4).then(|| {
            let ahead = self.dice.below(1200);
            self.now.wall - Duration::from_secs(300) + Duration::from_secs(ahead)
        });
        let code = if self.dice.one_in(10) { "bad" } else { "good" };
        let Ok(mut factor) = Factor::obtain(&mut Book, person, &verified, code, self.now) else { return };
        let mut proved = (person.to_owned(), verified == right);
        if self.dice.one_in(8) {
            let mine = (factor, person.to_owned());
            let Some((older, owner)) = self.kept.replace(mine) else { return };
            // An older factor of somebody, perhaps of the same person: its age is not known here, so it never counts
            // as good, and the driver waits until it is stale.
            self.pass(Duration::from_secs(31));
            factor = older;
            proved = (owner, false);
        }
        let good = proved == (person.to_owned(), true) && shown == right && self.now.trusted;
        let living = until.is_none_or(|until| self.now.wall < until);
        let roles: BTreeSet<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        let approval =
            Approval { person: person.to_owned(), roles: roles.clone(), until, digest: shown, factor };
        let before = self.session.state(self.now);
        let taken = self.session.handle_approval(approval, self.now).is_ok();
        if taken {
            assert!(good && living && matches!(before, State::Requested { .. }), "a yes that is none");
            self.oracle.good.push(Good { person: person.to_owned(), roles, until });
        } else {
            self.oracle.reached.refused += 1;
        }
    }

    /// Answers an order that was taken, the oldest first, mostly well.
    fn answer(&mut self, kindly: bool) {
        let Some(order) = self.taken.pop_front() else { return };
        let well = kindly || !self.dice.one_in(8);
        if !kindly && self.dice.one_in(16) {
            self.taken.push_back(order.clone());
        }
        let failure = || Failure("no".to_owned());
        match order.command {
            Command::OpenRecorder {} => {
                if well && self.oracle.over.is_none() && self.oracle.recorder_heard.is_none() {
                    self.oracle.recorder_heard = Some(self.now.elapsed);
                }
                let fault = || RecorderFault::Failed("no".to_owned());
                self.session.handle_recorder(order.step, if well { Ok(()) } else { Err(fault()) }, self.now);
            }
            Command::Grant { .. } => {
                self.oracle.grant_answered.get_or_insert(well);
                self.moved_at = self.now.elapsed;
                self.session.handle_granted(order.step, if well { Ok(()) } else { Err(failure()) }, self.now);
            }
            Command::Revoke {} => {
                self.session.handle_revoked(order.step, if well { Ok(()) } else { Err(failure()) }, self.now);
            }
        }
    }

    /// An answer to a question that nobody asked.
    fn strange_answer(&mut self) {
        let step = Step(100 + self.dice.below(5));
        match self.dice.below(3) {
            0 => self.session.handle_recorder(step, Ok(()), self.now),
            1 => self.session.handle_granted(step, Ok(()), self.now),
            _ => self.session.handle_revoked(step, Ok(()), self.now),
        }
    }

    fn heard(&mut self) {
        if let Some(heard) = &mut self.oracle.recorder_heard {
            *heard = self.now.elapsed;
        }
    }

    fn record_fault(&mut self) {
        if self.dice.one_in(3) {
            let fault = if self.dice.one_in(2) {
                RecorderFault::DiskFull
            } else {
                RecorderFault::Failed(String::new())
            };
            self.session.handle_recorder_fault(&fault, self.now);
        }
    }

    fn time(&mut self) {
        let scale = self.dice.pick(&[500, 2_000, 4_000, 60_000, 1_000_000, 20_000_000]);
        let passed = Duration::from_millis(self.dice.below(scale));
        self.pass(passed);
        self.session.handle_timeout(self.now);
    }

    fn pass(&mut self, passed: Duration) {
        self.now.elapsed += passed;
        self.now.wall += passed;
    }

    fn set_clock(&mut self) {
        let by = Duration::from_secs(self.dice.below(90_000));
        match self.dice.below(4) {
            0 => self.now.wall += by,
            1 => self.now.wall -= by,
            2 => self.now.trusted = false,
            _ => self.now.trusted = true,
        }
        self.session.handle_timeout(self.now);
    }

    fn come_or_go(&mut self) {
        if self.dice.one_in(2) {
            self.oracle.absent = true;
            self.absent_since.get_or_insert(self.now.elapsed);
            self.session.handle_absent(self.now);
        } else {
            self.oracle.absent = false;
            self.absent_since = None;
            self.session.handle_present(self.now);
        }
    }

    fn end(&mut self) {
        if self.dice.one_in(2) {
            return;
        }
        let why = match self.dice.below(4) {
            0 => EndReason::Killed { by: "hanako".to_owned() },
            1 => EndReason::Finished {},
            2 => EndReason::PolicyChanged {},
            _ => EndReason::Revoked {},
        };
        self.session.handle_end(why, self.now);
    }

    fn deny(&mut self) {
        if self.dice.one_in(3) {
            let _ = self.session.handle_denial("hanako", "no", self.now);
        }
    }

    /// A person's factor is taken away: nothing goes on that he said yes to.
    fn lose_factor(&mut self) {
        let (person, _) = self.dice.pick(&PERSONS);
        self.session.handle_factor_lost(person, self.now);
        if self.oracle.factor_lost(person) {
            let state = self.session.state(self.now);
            let over = matches!(state, State::Closed { .. } | State::Denied { .. });
            assert!(over, "{state:?} by the yes of {person}, whose factor is lost");
        }
    }

    /// Another policy comes into force: what goes on is what it allows, as it allows it.
    fn another_policy(&mut self) {
        if self.dice.one_in(10) {
            self.session.handle_policy(None, self.now);
            return;
        }
        let mut terms =
            if self.dice.one_in(2) { self.terms.clone() } else { terms(&mut self.dice, self.now) };
        terms.max_duration_s = self.dice.pick(&[7200, 7200, 7200, 1800]);
        let mut target = self.session.asked().target.clone();
        target.port = if self.dice.one_in(20) { 23 } else { 22 };
        let mut persons = BTreeMap::new();
        for (person, roles) in PERSONS {
            if self.dice.one_in(20) {
                continue;
            }
            let roles = if self.dice.one_in(8) { &[][..] } else { roles };
            let until = self.dice.one_in(8).then(|| {
                let ahead = self.dice.below(1200);
                self.now.wall - Duration::from_secs(300) + Duration::from_secs(ahead)
            });
            let roles = roles.iter().map(|role| (*role).to_owned()).collect();
            persons.insert(person.to_owned(), Stand { roles, until });
        }
        self.session.handle_timeout(self.now);
        self.settle();
        let revised = Revised { target, terms: terms.clone(), persons: persons.clone() };
        self.session.handle_policy(Some(revised.clone()), self.now);
        self.terms = terms;
        self.oracle.another_policy(&persons);
        let state = self.session.state(self.now);
        if matches!(state, State::Opening {} | State::Open { .. }) {
            self.oracle.still_allowed(self.session.asked(), &revised, self.now);
        }
    }

    fn connect(&mut self) {
        if let Ok(end) = self.session.handle_connect(self.now) {
            assert_eq!(self.oracle.grant_answered, Some(true), "connected without the kernel's yes");
            assert_eq!(self.oracle.grant, Some(end));
        }
    }

    /// After each thing: commands are taken, words are heard, and what stands open is judged.
    fn settle(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.oracle.event(&event);
        }
        while let Some(order) = self.session.poll_command() {
            self.oracle.command(&order, self.session.asked(), &self.terms, self.now);
            self.taken.push_back(order);
        }
        if self.oracle.over.is_some() && self.oracle.grant.is_some() {
            assert!(self.oracle.revoked, "over, and the grant not taken back");
        }
        self.judge_open();
    }

    fn judge_open(&mut self) {
        self.session.handle_timeout(self.now);
        let state = self.session.state(self.now);
        let elapsed = self.now.elapsed;
        if let State::Open { until } = state {
            let end = self.oracle.grant.unwrap();
            assert!(self.oracle.opened && until == end.wall);
            assert!(self.now.wall < end.wall && elapsed < end.elapsed, "open beyond its end");
            let heard = self.oracle.recorder_heard.unwrap();
            assert!(elapsed - heard < Duration::from_secs(3), "open with a silent recorder");
            assert!(elapsed - self.moved_at < self.terms.idle_limit, "open and idle");
            let gone = self.absent_since.is_some_and(|since| elapsed - since >= Duration::from_secs(60));
            assert!(!gone, "open for nobody");
        }
        let over = matches!(state, State::Closed { .. } | State::Denied { .. });
        if over && self.oracle.over.is_none() {
            self.settle();
        }
    }
}

fn terms(dice: &mut Dice, now: Now) -> Terms {
    let approvals = ROLES.iter().filter(|_| dice.one_in(2)).map(|role| (*role).to_owned()).collect();
    let windows = match dice.below(3) {
        0 => None,
        1 => Some(Schedule::parse("Mon-Sun 20:00-06:00").unwrap()),
        _ => Some(Schedule::parse("Mon-Fri 09:00-17:00").unwrap()),
    };
    let contract = dice.one_in(6).then(|| now.wall + Duration::from_secs(dice.below(40_000)));
    let idle_limit = Duration::from_secs(dice.pick(&[2, 30, 900]));
    Terms {
        approvals,
        max_duration_s: 7200,
        windows,
        timezone: TimeZone::UTC,
        contract_end: contract,
        idle_limit,
    }
}

fn request(dice: &mut Dice, now: Now) -> Request {
    let target = Target {
        name: "device:ehr-server:ssh".to_owned(),
        address: "192.168.10.10".parse().unwrap(),
        protocol: Protocol::Tcp,
        port: 22,
    };
    Request {
        session: SessionId::from_random(dice.roll().to_be_bytes()),
        vendor: "acme-emr".to_owned(),
        engineer: KeyId::from_bytes([7; 32]),
        engineer_name: "鈴木".to_owned(),
        target,
        purpose: "月次更新".to_owned(),
        start: dice.one_in(4).then(|| now.wall + Duration::from_secs(dice.below(40_000))),
        duration_s: u32::try_from(60 + dice.below(7000)).unwrap(),
    }
}
