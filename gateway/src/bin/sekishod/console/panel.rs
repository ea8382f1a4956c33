//! What was judged last: the controls as they stand, the console's own measurements, and the samples of both.

use std::collections::BTreeMap;

use events::{Family, Sample};
use gateway::wire::console::Controls;
use jiff::{SignedDuration, Timestamp};
use policy::guideline::{Assessment, Observed, State, Timeline};

use super::ntp::Told;
use super::seconds;

/// Age at which a judgement no longer counts: every measured control is then unknown.
const JUDGED_AGE_MAX: SignedDuration = SignedDuration::from_secs(30);

/// States of a measured control, in the order of the metric's help.
const MEASURED: [State; 5] = [State::Ok, State::Warning, State::Failed, State::NotApplicable, State::Unknown];

/// Tests that the gateway makes of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SelfTest {
    /// Which sockets listen.
    Listeners,
    /// The metrics' door, as readers and strangers find it.
    MetricsDoor,
    /// How the time daemon keeps the clock.
    Time,
}

impl SelfTest {
    fn word(self) -> &'static str {
        match self {
            SelfTest::Listeners => "listeners",
            SelfTest::MetricsDoor => "metrics_door",
            SelfTest::Time => "time",
        }
    }
}

/// The panel.
#[derive(Debug, Default)]
pub(crate) struct Panel {
    /// When the controls were judged; `None` before that.
    pub(crate) judged_at: Option<Timestamp>,
    /// Guideline version that the policy names.
    pub(crate) guideline: Option<String>,
    /// How the controls stand.
    pub(crate) assessments: Vec<Assessment>,
    /// Since when.
    pub(crate) timeline: Timeline,
    /// What this role measured itself.
    pub(crate) own: Vec<Observed>,
    /// When each test last succeeded.
    pub(crate) tested: BTreeMap<SelfTest, Timestamp>,
    /// What the time daemon said.
    pub(crate) time: Option<Told>,
    /// When the door's certificate ends.
    pub(crate) door_ends: Option<Timestamp>,
}

impl Panel {
    /// The controls as they stand, once they were judged; unknown when that was too long ago.
    pub(crate) fn controls(&self, now: Timestamp) -> Option<Controls> {
        let assessed_at = self.judged_at?;
        let is_stale = is_stale(assessed_at, now);
        let mut assessments = self.assessments.clone();
        for assessment in assessments.iter_mut().filter(|one| is_stale && is_measured(one.state)) {
            assessment.state = State::Unknown;
        }
        let (guideline, timeline) = (self.guideline.clone(), self.timeline.clone());
        Some(Controls { assessed_at, guideline, assessments, timeline })
    }

    /// What this role measured itself.
    pub(crate) fn observations(&self) -> Vec<Observed> {
        self.own.clone()
    }

    /// Everything for the metrics.
    pub(crate) fn samples(&self, now: Timestamp) -> Vec<Sample> {
        let mut samples = self.of_controls(now);
        let tested = self.tested.iter();
        samples.extend(tested.map(|(test, at)| Sample::new(Family::SelfTest, &[test.word()], seconds(*at))));
        if let Some(Told { fact, offset_s }) = &self.time {
            samples.push(Sample::new(Family::ClockOffset, &[], *offset_s));
            let stratum = if fact.synchronised { fact.stratum } else { 16 };
            samples.push(Sample::new(Family::ClockStratum, &[], stratum.into()));
        }
        samples.extend(self.door_ends.map(|at| Sample::new(Family::Certificate, &["metrics"], seconds(at))));
        samples
    }

    fn of_controls(&self, now: Timestamp) -> Vec<Sample> {
        let Some(controls) = self.controls(now) else { return Vec::new() };
        let mut samples = Vec::new();
        let mut counts: BTreeMap<State, u32> = State::ALL.into_iter().map(|state| (state, 0)).collect();
        for Assessment { control, state, measured_at, .. } in &controls.assessments {
            *counts.entry(*state).or_default() += 1;
            if !is_measured(*state) {
                continue;
            }
            let id = control.as_str();
            samples.extend(MEASURED.map(|one| {
                let value = if one == *state { 1.0 } else { 0.0 };
                Sample::new(Family::ControlState, &[id, &label(one)], value)
            }));
            let since = controls.timeline.span(control).map(|span| span.since);
            samples.extend(since.map(|at| Sample::new(Family::ControlSince, &[id], seconds(at))));
            let checked = measured_at.map(|at| Sample::new(Family::ControlChecked, &[id], seconds(at)));
            samples.extend(checked);
        }
        let count =
            |(state, count): (State, u32)| Sample::new(Family::Controls, &[&label(state)], count.into());
        samples.extend(counts.into_iter().map(count));
        samples
    }
}

/// Whether a control in this state is judged by measurements.
pub(crate) fn is_measured(state: State) -> bool {
    match state {
        State::Ok | State::Warning | State::Failed | State::NotApplicable | State::Unknown => true,
        State::Organizational | State::NotMeasured => false,
    }
}

/// The word of a state in metrics and events.
pub(crate) fn label(state: State) -> String {
    state.slug().replace('-', "_")
}

fn is_stale(judged_at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(judged_at).abs() > JUDGED_AGE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::guideline::{ControlId, Words};

    fn panel() -> Panel {
        let assessment = |id: &str, state| Assessment {
            control: ControlId::try_from(id.to_owned()).unwrap(),
            state,
            reasons: vec![Words::new("理由", "reason")],
            measured_at: Some(Timestamp::UNIX_EPOCH),
            next_step: None,
        };
        let assessments =
            vec![assessment("time-sync", State::Ok), assessment("zoning", State::Organizational)];
        let mut timeline = Timeline::default();
        timeline.handle_assessments(&assessments, Timestamp::UNIX_EPOCH);
        let judged_at = Some(Timestamp::UNIX_EPOCH);
        Panel { judged_at, assessments, timeline, ..Panel::default() }
    }

    fn state_of(samples: &[Sample], control: &str) -> Vec<String> {
        let of = samples
            .iter()
            .filter(|s| s.family == Family::ControlState && s.labels[0] == control && s.value == 1.0);
        of.map(|sample| sample.labels[1].clone()).collect()
    }

    #[test]
    fn a_measured_control_is_a_state_set_and_an_organizational_one_is_counted_only() {
        let samples = panel().samples(Timestamp::UNIX_EPOCH);
        assert_eq!(state_of(&samples, "time-sync"), ["ok"]);
        assert_eq!(samples.iter().filter(|sample| sample.family == Family::ControlState).count(), 5);
        let counted = samples.iter().find(|s| s.family == Family::Controls && s.labels == ["organizational"]);
        assert_eq!(counted.unwrap().value, 1.0);
    }

    #[test]
    fn green_does_not_outlive_its_judgement() {
        let late = Timestamp::UNIX_EPOCH + JUDGED_AGE_MAX + SignedDuration::from_secs(1);
        assert_eq!(state_of(&panel().samples(late), "time-sync"), ["unknown"]);
        let states = panel().controls(late).unwrap().assessments;
        let states: Vec<_> = states.iter().map(|one| one.state).collect();
        assert_eq!(states, [State::Unknown, State::Organizational]);
        assert!(Panel::default().samples(late).is_empty());
    }
}
