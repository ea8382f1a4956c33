//! The controls engine: every few seconds it asks the roles, measures what is the console's to measure, judges every
//! control, and has each change of a control recorded. The entry's number is the control's evidence.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use events::{Event, Role};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use policy::guideline::observation::{MetricsDoor, Named, Observation, Roles};
use policy::guideline::{Assessment, Catalogue, Change, Context, Observations, Observed, Timeline, assess};
use policy::services::ConsoleSettings;
use serde::{Deserialize, Serialize};

use super::Console;
use super::door::Door;
use super::gather::Gathered;
use super::ntp;
use super::panel::{SelfTest, is_measured, label};
use super::probe;
use super::settings::Settings;
use super::shelf::Shelf;
use super::sockets::Sockets;
use crate::notify::every;

/// How often the settings are looked at, and the door opened where it is not.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Every so many looks the controls are judged.
const JUDGE_EVERY_LOOKS: u32 = 5;
/// How long after the start a role may be missing before controls are judged without it: roles start one after another,
/// and what is not yet there has not failed.
const SETTLE_WAIT: SignedDuration = SignedDuration::from_secs(15);
/// Changes of controls that wait for the record role; the oldest leave, and are counted there as lost.
const PENDING_MAX: usize = 512;
/// The file of the timeline.
const TIMELINE: &str = "timeline";

/// What is kept over a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    timeline: Timeline,
    /// Changes that are not in the record yet.
    pending: VecDeque<Change>,
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Engine {
    console: Rc<Console>,
    shelf: Shelf,
    catalogue: Catalogue,
    settings: Settings,
    door: Door,
    sockets: Sockets,
    observations: Observations,
    kept: Kept,
    /// Failures as last told, so that each is told once.
    told: Vec<String>,
}

impl Engine {
    /// Begins where the last run ended.
    ///
    /// # Errors
    /// When the state directory cannot be read, or the catalogue that was built in is none.
    pub(crate) fn open(console: Rc<Console>, shelf: Shelf, services: &Path) -> Result<Self> {
        Ok(Engine {
            kept: shelf
                .read(TIMELINE)
                .context("the state of the controls cannot be read")?
                .unwrap_or_default(),
            catalogue: Catalogue::shipped().context("the catalogue of controls cannot be read")?,
            settings: Settings::of(services),
            console,
            shelf,
            door: Door::default(),
            sockets: Sockets::default(),
            observations: Observations::default(),
            told: Vec::new(),
        })
    }

    /// Turns for ever.
    pub(crate) async fn run(mut self) {
        let mut look = every(LOOK_EVERY);
        for number in (0..JUDGE_EVERY_LOOKS).cycle() {
            look.tick().await;
            let mut failures = Vec::new();
            if let Err(error) = self.settings.refresh() {
                tracing::error!(%error, "the settings cannot be used; the former ones hold");
            }
            let metrics = self.settings.held().and_then(|settings| settings.metrics.clone());
            if let Err(error) = self.door.settle(&self.console, metrics.as_ref()).await {
                failures.push(format!("the metrics' door cannot open: {error}"));
            }
            if number == 0 {
                self.judge(&mut failures).await;
                self.tell(failures);
            }
        }
    }

    /// One judgement of everything.
    async fn judge(&mut self, failures: &mut Vec<String>) {
        let answers = self.console.answers().await;
        let own = self.measure(&answers, failures).await;
        self.hear(&answers, failures);
        own.into_iter().for_each(|observed| self.observations.handle_observed(observed));
        let now = Timestamp::now();
        let is_here = |role: &Role| *role == Role::Console || answers.contains_key(role);
        let is_whole = self.console.places.expected().all(|role| is_here(&role));
        if !is_whole && now.duration_since(self.console.started_at) < SETTLE_WAIT {
            return;
        }
        let context = Context { now, timezone: self.timezone() };
        let assessments = assess(&self.catalogue, &self.observations, &context);
        let changes = self.kept.timeline.handle_assessments(&assessments, now);
        let mut is_changed = !changes.is_empty();
        let measured = changes.into_iter().filter(|change| is_measured(change.after));
        for change in measured {
            self.console.witness(&event(&change));
            if self.kept.pending.len() >= PENDING_MAX {
                self.kept.pending.pop_front();
            }
            self.kept.pending.push_back(change);
        }
        // Told before it is recorded: a record role that hangs holds nothing back.
        self.show(now, assessments);
        is_changed |= self.record_pending(failures).await;
        self.console.panel.borrow_mut().timeline.clone_from(&self.kept.timeline);
        if is_changed && let Err(error) = self.shelf.write(TIMELINE, &self.kept) {
            failures.push(format!("the state of the controls cannot be kept: {error}"));
        }
    }

    fn show(&self, now: Timestamp, assessments: Vec<Assessment>) {
        let mut panel = self.console.panel.borrow_mut();
        panel.judged_at = Some(now);
        panel.guideline = self.settings.held().map(|settings| settings.guideline.clone());
        panel.assessments = assessments;
        panel.timeline.clone_from(&self.kept.timeline);
    }

    /// Takes up what each role says of its own.
    fn hear(&mut self, answers: &Gathered, failures: &mut Vec<String>) {
        for (role, measured) in answers {
            let (own, others): (Vec<_>, Vec<_>) =
                measured.observations.iter().partition(|observed| is_own(*role, observed));
            own.into_iter().for_each(|observed| self.observations.handle_observed(observed.clone()));
            if !others.is_empty() {
                failures.push(format!("`{}` speaks for other roles, and is not heard", role.word()));
            }
        }
    }

    /// Has waiting changes recorded, in their order; tells whether any was.
    async fn record_pending(&mut self, failures: &mut Vec<String>) -> bool {
        let mut is_changed = false;
        while let Some(change) = self.kept.pending.front() {
            // It is kept until the answer came, and may have been brought by a former run.
            match self.console.recorder.record_again(change.at, event(change)).await {
                Ok(index) => {
                    if let (Some(index), Some(change)) = (index, self.kept.pending.pop_front()) {
                        self.kept.timeline.handle_recorded(&change, index);
                    }
                    is_changed = true;
                }
                Err(error) => {
                    failures.push(format!("changes of controls are not recorded yet: {error}"));
                    break;
                }
            }
        }
        is_changed
    }

    /// What only the console can measure.
    async fn measure(&mut self, answers: &Gathered, failures: &mut Vec<String>) -> Vec<Observed> {
        let mut own = vec![self.roles(answers)];
        let door = self.door(failures).await;
        let time = self.time(failures).await;
        own.extend(door);
        own.extend(time);
        own.extend(self.listeners());
        self.console.panel.borrow_mut().own.clone_from(&own);
        own
    }

    fn roles(&self, answers: &Gathered) -> Observed {
        let is_here = |role: &Role| *role == Role::Console || answers.contains_key(role);
        let words = |here: bool| -> Named {
            self.console
                .places
                .expected()
                .filter(|role| is_here(role) == here)
                .map(|role| role.word())
                .collect()
        };
        let fact =
            Roles { answering: words(true), silent: words(false), scraped_at: self.console.scraped_at.get() };
        Observed { at: Timestamp::now(), fact: fact.into() }
    }

    /// The door as readers and strangers find it.
    async fn door(&mut self, failures: &mut Vec<String>) -> Option<Observed> {
        let settings = self.settings.held()?;
        let fact = match (&settings.metrics, self.door.open_at()) {
            (None, _) => MetricsDoor::NotDeclared,
            (Some(_), None) => MetricsDoor::Silent,
            (Some(_), Some((at, auth))) => match probe::door(&self.console, at, auth).await {
                Ok(fact) => fact,
                Err(error) => {
                    failures.push(error.to_string());
                    MetricsDoor::Silent
                }
            },
        };
        let at = Timestamp::now();
        let mut panel = self.console.panel.borrow_mut();
        panel.door_ends = None;
        if let MetricsDoor::Open(door) = &fact {
            panel.door_ends = Some(door.not_after);
            if door.tls13_only && door.stranger_refused {
                panel.tested.insert(SelfTest::MetricsDoor, at);
            }
        }
        Some(Observed { at, fact: fact.into() })
    }

    async fn time(&mut self, failures: &mut Vec<String>) -> Option<Observed> {
        let told = ntp::ask(ntp::CHRONYD).await;
        let at = Timestamp::now();
        let mut panel = self.console.panel.borrow_mut();
        match told {
            Ok(told) => {
                let fact = Observation::from(told.fact.clone());
                panel.time = Some(told);
                panel.tested.insert(SelfTest::Time, at);
                Some(Observed { at, fact })
            }
            Err(error) => {
                panel.time = None;
                failures.push(error.to_string());
                None
            }
        }
    }

    fn listeners(&mut self) -> Option<Observed> {
        let at = Timestamp::now();
        let listeners = self.sockets.read(self.settings.held()?, at)?;
        self.console.panel.borrow_mut().tested.insert(SelfTest::Listeners, at);
        Some(Observed { at, fact: listeners.into() })
    }

    fn timezone(&self) -> TimeZone {
        let name = self.settings.held().map(|settings: &ConsoleSettings| settings.timezone.as_str());
        name.and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC)
    }

    /// Tells each failure once, until it is over.
    fn tell(&mut self, failures: Vec<String>) {
        for failure in failures.iter().filter(|failure| !self.told.contains(failure)) {
            tracing::warn!("{failure}");
        }
        self.told = failures;
    }
}

/// Whether a role may say this. One that a stranger took over does not speak for another.
fn is_own(role: Role, observed: &Observed) -> bool {
    observed.fact.subject().teller().slug() == role.word()
}

/// A change as an event.
fn event(change: &Change) -> Event {
    let Change { control, before, after, at: _, reason } = change;
    Event::ControlChanged {
        control: control.to_string(),
        from: before.map_or_else(|| "none".to_owned(), label),
        to: label(*after),
        why: reason.as_ref().map(|reason| events::event::text(&reason.en)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::guideline::observation::TimeTrust;

    #[test]
    fn a_role_speaks_for_itself_only() {
        let trust = Observed { at: Timestamp::UNIX_EPOCH, fact: TimeTrust { trusted: true }.into() };
        let roles = Observed { at: Timestamp::UNIX_EPOCH, fact: Roles::default().into() };
        for role in Role::ALL {
            assert_eq!(is_own(role, &trust), role == Role::Core, "{role:?}");
            assert_eq!(is_own(role, &roles), role == Role::Console, "{role:?}");
        }
    }
}
