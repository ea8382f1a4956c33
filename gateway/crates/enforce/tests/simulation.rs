//! A world of failing disks, refusing kernels, lost answers, set clocks and kills, driven by a seed.
//! What must hold whatever happens: nothing is called applied that was not read back equal; every story ends on the
//! last acknowledged policy or closed; no end moves later because a clock was set back.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use enforce::{Command, Desired, Enforcer, Event, Failure, LiveSet, Now, Order, Outcome, Standing};
use jiff::{SignedDuration, Timestamp};
use policy::ruleset::Mark;
use proptest::prelude::*;

/// A policy of the simulated world; odd ones have a flow that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fake {
    id: u32,
    end: Option<Timestamp>,
}

impl Desired for Fake {
    fn live_at(&self, now: Timestamp, trusted: bool) -> BTreeMap<Mark, Option<Timestamp>> {
        let mut live = BTreeMap::from([(Mark(self.id * 2), None)]);
        live.extend(
            self.end.filter(|end| trusted && *end > now).map(|end| (Mark(self.id * 2 + 1), Some(end))),
        );
        live
    }

    fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.end.filter(|end| *end > now)
    }
}

/// A disk without a policy.
fn nothing() -> Result<Fake, String> {
    Err("there is none".to_owned())
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rules {
    /// What a power cut or somebody else left.
    Foreign,
    Closed,
    Holds(u32),
}

/// The outside: it survives a restart of the enforcer.
struct World {
    random: u64,
    /// Out of 100.
    trouble: u64,
    wall: Timestamp,
    elapsed: Duration,
    kernel: Rules,
    /// Deadlines in elapsed time, as a kernel keeps them.
    live: BTreeMap<Mark, Option<Duration>>,
    disk: Option<Fake>,
    candidate: Option<Fake>,
    /// What the enforcer said is applied, last.
    acknowledged: Option<u32>,
    /// Equal since the last change of the kernel?
    read_back: Option<Rules>,
}

impl World {
    fn new(seed: u64, trouble: u64) -> Self {
        World {
            random: seed | 1,
            trouble,
            wall: Timestamp::from_second(1_000_000).unwrap(),
            elapsed: Duration::ZERO,
            kernel: Rules::Foreign,
            live: BTreeMap::new(),
            disk: None,
            candidate: None,
            acknowledged: None,
            read_back: None,
        }
    }

    /// xorshift64: the same seed, the same story.
    fn dice(&mut self, sides: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % sides
    }

    fn fails(&mut self) -> bool {
        self.trouble > 0 && self.dice(100) < self.trouble
    }

    fn now(&self) -> Now {
        Now { wall: self.wall, elapsed: self.elapsed }
    }

    fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.wall += SignedDuration::try_from(time).unwrap();
        let elapsed = self.elapsed;
        self.live.retain(|_, deadline| deadline.is_none_or(|deadline| deadline > elapsed));
    }

    fn hold(&mut self, rules: Rules, live: &LiveSet) {
        self.kernel = rules;
        self.live = live.iter().map(|(mark, rest)| (*mark, rest.map(|rest| self.elapsed + rest))).collect();
        self.read_back = None;
    }

    /// `None`: the answer is lost, though the thing may have been done.
    fn carry_out(&mut self, order: Order<Fake>, enforcer: &mut Enforcer<Fake>) {
        let lost = self.fails() && self.dice(3) == 0;
        let fails = self.fails();
        let failure = || Err(Failure("trouble".to_owned()));
        let result = match order.command {
            Command::ReadBack { want, live } => {
                let wanted = want.map_or(Rules::Closed, |want| Rules::Holds(want.id));
                let remains =
                    |(mark, end): (&Mark, &Option<Duration>)| (*mark, end.map(|end| end - self.elapsed));
                let held: LiveSet = self.live.iter().map(remains).collect();
                let differences = usize::from(self.kernel != wanted) + usize::from(held != live);
                let result = if fails { Err(Failure("trouble".to_owned())) } else { Ok(differences) };
                if !lost {
                    self.read_back = (result == Ok(0)).then_some(wanted);
                    enforcer.handle_read_back(order.step, result, self.now());
                }
                return;
            }
            Command::Persist { .. } if fails => failure(),
            Command::Persist { candidate } => {
                self.candidate = Some(candidate);
                Ok(())
            }
            Command::Apply { .. } | Command::Close | Command::SetLive { .. } if fails => {
                // One transaction: all or nothing; which of both is not always known.
                failure()
            }
            Command::Apply { have, want, live } => {
                if let Some(have) = have {
                    assert_eq!(
                        self.kernel,
                        Rules::Holds(have.id),
                        "a delta must start from what the kernel holds"
                    );
                }
                self.hold(Rules::Holds(want.id), &live);
                Ok(())
            }
            Command::Close => {
                self.hold(Rules::Closed, &LiveSet::new());
                Ok(())
            }
            Command::SetLive { live } => {
                let rules = self.kernel.clone();
                self.hold(rules, &live);
                Ok(())
            }
            Command::Commit { policy } => {
                // A rename may reach the disk although its fsync failed.
                if !fails || self.dice(2) == 0 {
                    self.disk = policy;
                }
                if fails { failure() } else { Ok(()) }
            }
            Command::Surround { .. } => {
                if fails {
                    failure()
                } else {
                    Ok(())
                }
            }
        };
        if !lost {
            enforcer.handle_done(order.step, result, self.now());
        }
    }
}

/// Lets the enforcer act until it rests or a kill strikes; checks what it tells.
fn settle(world: &mut World, enforcer: &mut Enforcer<Fake>, kill_within: Option<u64>) {
    let mut steps = 0;
    loop {
        while let Some(event) = enforcer.poll_event() {
            check(world, enforcer, &event);
        }
        if kill_within.is_some_and(|limit| steps >= limit) {
            return;
        }
        steps += 1;
        assert!(steps < 100_000, "no end");
        match enforcer.poll_command() {
            Some(order) => world.carry_out(order, enforcer),
            None if enforcer.is_idle() => return,
            None => {
                // The answer was lost.
                world.pass(enforce::machine::ANSWER_WAIT);
                enforcer.handle_timeout(world.now());
            }
        }
    }
}

fn check(world: &mut World, enforcer: &Enforcer<Fake>, event: &Event) {
    let standing = enforcer.standing().policy().map(|policy| policy.id);
    match event {
        Event::Finished(_, Outcome::Applied) => {
            let id = standing.expect("applied stands");
            assert_eq!(world.kernel, Rules::Holds(id));
            assert_eq!(world.read_back, Some(Rules::Holds(id)), "applied without a read-back");
            assert_eq!(world.disk.as_ref().map(|fake| fake.id), Some(id), "applied without being durable");
            world.acknowledged = Some(id);
        }
        Event::Finished(_, Outcome::RolledBack(_)) | Event::Restored(_) | Event::Adopted { .. } => {
            assert_eq!(standing, world.acknowledged, "back to anything but the last acknowledged policy");
            assert_eq!(world.read_back, world.acknowledged.map(Rules::Holds));
        }
        Event::Closed(_) => assert_eq!(world.read_back, Some(Rules::Closed)),
        Event::Finished(_, Outcome::Refused(_) | Outcome::Closed(_))
        | Event::CloseFailed(_)
        | Event::Jumped(_)
        | Event::LiveChanged
        | Event::SurroundFailed(_)
        | Event::NotDurable(_) => {}
    }
}

/// A while without trouble: whatever can be repaired is.
fn calm(world: &mut World, enforcer: &mut Enforcer<Fake>) {
    let trouble = std::mem::replace(&mut world.trouble, 0);
    for _ in 0..4 {
        world.pass(Duration::from_secs(60));
        enforcer.handle_timeout(world.now());
        settle(world, enforcer, None);
    }
    match enforcer.standing() {
        Standing::Unknown => panic!("neither applied nor closed"),
        Standing::Closed => assert_eq!(world.kernel, Rules::Closed),
        Standing::Applied(policy) => {
            assert_eq!(Some(policy.id), world.acknowledged);
            assert_eq!(world.kernel, Rules::Holds(policy.id));
            assert_eq!(
                world.live.keys().collect::<Vec<_>>(),
                enforcer.live(world.now()).keys().collect::<Vec<_>>()
            );
        }
    }
    assert_eq!(
        world.disk.as_ref().map(|fake| fake.id),
        world.acknowledged,
        "the disk has the acknowledged policy"
    );
    world.trouble = trouble;
}

/// A kill and a start from what the disk holds.
fn restart(world: &mut World, before: Enforcer<Fake>) -> Enforcer<Fake> {
    let committing =
        before.standing().policy().map(|policy| policy.id) != world.disk.as_ref().map(|fake| fake.id);
    let trusted = before.clock().is_trusted();
    drop(before);
    if committing {
        // Killed between the rename and the answer: the disk decides, as whoever asked got no answer.
        world.acknowledged = world.disk.as_ref().map(|fake| fake.id);
    }
    Enforcer::start(world.disk.clone().ok_or_else(String::new), trusted, world.now())
}

fn story(seed: u64, trouble: u64, length: u32) {
    let mut world = World::new(seed, trouble);
    let mut enforcer = Enforcer::start(nothing(), false, world.now());
    settle(&mut world, &mut enforcer, None);
    for id in 1..=length {
        match world.dice(8) {
            0 => enforcer.handle_time_trusted(world.now()),
            1 => {
                let kill = world.dice(8);
                let _ = enforcer.handle_request(Fake { id, end: None }, world.now());
                settle(&mut world, &mut enforcer, Some(kill));
                enforcer = restart(&mut world, enforcer);
            }
            2 => world.wall -= SignedDuration::from_secs(3600),
            3 => {
                world.kernel = Rules::Foreign;
                world.read_back = None;
                enforcer.handle_drift("somebody else".to_owned(), world.now());
            }
            4 => calm(&mut world, &mut enforcer),
            _ => {
                let end = (id % 2 == 1).then(|| world.wall + SignedDuration::from_secs(90));
                let _ = enforcer.handle_request(Fake { id, end }, world.now());
            }
        }
        settle(&mut world, &mut enforcer, None);
        let time = world.dice(50);
        world.pass(Duration::from_secs(time));
        enforcer.handle_timeout(world.now());
        settle(&mut world, &mut enforcer, None);
    }
    calm(&mut world, &mut enforcer);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_story_ends_on_the_last_acknowledged_policy_or_closed(seed in any::<u64>(), trouble in 0u64..60) {
        story(seed, trouble, 60);
    }
}

#[test]
fn without_trouble_every_request_is_applied() {
    let mut world = World::new(7, 0);
    let mut enforcer = Enforcer::start(nothing(), true, world.now());
    settle(&mut world, &mut enforcer, None);
    for id in 1..20 {
        enforcer.handle_request(Fake { id, end: None }, world.now()).unwrap();
        settle(&mut world, &mut enforcer, None);
        assert_eq!(world.acknowledged, Some(id));
    }
}

#[test]
fn an_end_comes_when_it_was_promised_although_the_clock_is_set_back_and_trusted_again() {
    let mut world = World::new(7, 0);
    let mut enforcer = Enforcer::start(nothing(), true, world.now());
    settle(&mut world, &mut enforcer, None);
    let end = Some(world.wall + SignedDuration::from_secs(100));
    enforcer.handle_request(Fake { id: 1, end }, world.now()).unwrap();
    settle(&mut world, &mut enforcer, None);
    assert!(world.live.contains_key(&Mark(3)));
    for _ in 0..11 {
        world.pass(Duration::from_secs(10));
        world.wall -= SignedDuration::from_secs(5);
        enforcer.handle_time_trusted(world.now());
        settle(&mut world, &mut enforcer, None);
    }
    assert!(!world.live.contains_key(&Mark(3)), "the end moved later");
}

#[test]
fn a_second_request_is_told_to_wait() {
    let world = World::new(7, 0);
    let mut enforcer = Enforcer::start(nothing(), true, world.now());
    assert!(enforcer.handle_request(Fake { id: 1, end: None }, world.now()).is_err());
}

#[test]
fn untrusted_time_opens_nothing_that_ends() {
    let mut world = World::new(7, 0);
    let mut enforcer = Enforcer::start(nothing(), false, world.now());
    settle(&mut world, &mut enforcer, None);
    let end = Some(world.wall + SignedDuration::from_secs(1000));
    enforcer.handle_request(Fake { id: 1, end }, world.now()).unwrap();
    settle(&mut world, &mut enforcer, None);
    assert!(!world.live.contains_key(&Mark(3)));
    enforcer.handle_time_trusted(world.now());
    settle(&mut world, &mut enforcer, None);
    assert!(world.live.contains_key(&Mark(3)));
}
