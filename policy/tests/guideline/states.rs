//! What holds for every control, whatever it measures.

use policy::guideline::catalogue::Coverage;
use policy::guideline::observation::*;
use policy::guideline::{Catalogue, Observations, Observed, State};

use crate::healthy::*;

fn live() -> Vec<String> {
    let catalogue = Catalogue::shipped().unwrap();
    let live = catalogue.controls().iter().filter(|control| control.coverage == Coverage::Live);
    live.map(|control| control.id.to_string()).collect()
}

#[test]
fn a_healthy_clinic_is_green() {
    for found in with_policy(CLINIC) {
        if live().contains(&found.control.to_string()) {
            let good = matches!(found.state, State::Ok | State::NotApplicable);
            assert!(good, "{}: {:?} {:?}", found.control, found.state, found.reasons);
            assert!(found.measured_at.is_some() && found.next_step.is_none(), "{}", found.control);
        } else {
            assert!(matches!(found.state, State::Organizational | State::NotMeasured), "{}", found.control);
        }
        assert!(!found.reasons.is_empty(), "{} gives no reason", found.control);
    }
}

#[test]
fn what_is_old_or_from_the_future_is_unknown() {
    let facts = facts(&policy(CLINIC));
    for (at, expected) in [(ago(30), false), (ago(31), true), (ago(-5), false), (ago(-6), true)] {
        let observations: Observations =
            facts.iter().map(|fact| Observed { at, fact: fact.clone() }).collect();
        for found in assessed(&observations) {
            if live().contains(&found.control.to_string()) {
                assert_eq!(found.state == State::Unknown, expected, "{} at {at}", found.control);
                assert_eq!(found.next_step.is_some(), expected, "{}", found.control);
            }
        }
    }
}

/// Green cannot lie: each control loses its colour when any one fact it uses is missing, and no fact is for nothing.
#[test]
fn a_missing_fact_is_never_green() {
    let all = facts(&policy(CLINIC));
    let healthy = with_policy(CLINIC);
    for missing in &all {
        let rest = all.iter().filter(|fact| fact.subject() != missing.subject()).cloned();
        let found = assessed(&observed(rest));
        let lost: Vec<_> = healthy.iter().zip(&found).filter(|(before, after)| before != after).collect();
        assert!(!lost.is_empty(), "no control uses {:?}", missing.subject());
        for (before, after) in lost {
            assert_eq!(after.state, State::Unknown, "{} without {:?}", before.control, missing.subject());
        }
    }
}

/// What is known to be bad is said even where something else is not known.
#[test]
fn a_failure_outweighs_a_silence() {
    let mut facts = facts(&policy(CLINIC));
    facts.retain(|fact| !matches!(fact.subject(), Subject::Feeds | Subject::Log));
    facts.push(Log { accepting: false, ..log() }.into());
    let found = assessed(&observed(facts));
    assert_eq!(state_of(&found, "access-log"), State::Failed);
    assert_eq!(state_of(&found, "network-monitoring"), State::Unknown);
}

#[test]
fn when_nothing_passes_nothing_is_green_that_speaks_of_passing() {
    let mut facts = facts(&policy(CLINIC));
    facts.retain(|fact| {
        !matches!(
            fact.subject(),
            Subject::Enforcement
                | Subject::Zones
                | Subject::Flows
                | Subject::Exceptions
                | Subject::Accounts
                | Subject::Accountability
        )
    });
    facts.push(Enforcement { standing: Standing::Closed, policy: None, applied_at: None }.into());
    let found = assessed(&observed(facts));
    for control in
        ["net-separation", "least-communication", "mgmt-interface", "two-factor", "responsible-list"]
    {
        assert_eq!(state_of(&found, control), State::Warning, "{control}");
    }
    assert_eq!(state_of(&found, "time-sync"), State::Ok);
}

/// The clock was an hour ahead and was put right: what was said then does not hold the place for an hour.
#[test]
fn the_last_word_counts_across_a_step_of_the_clock() {
    let mut observations = Observations::default();
    for at in [ago(-HOUR), ago(1)] {
        let fact = Ntp { synchronised: true, stratum: 3, offset_ms: 1, sources: 2 }.into();
        observations.handle_observed(Observed { at, fact });
    }
    assert_eq!(observations.held::<Ntp>().map(|(at, _)| at), Some(ago(1)));
}

#[test]
fn each_fact_has_one_teller() {
    let all = facts(&policy(CLINIC));
    let told = |teller| all.iter().filter(|fact| fact.subject().teller() == teller).count();
    let each = [Teller::Core, Teller::Watch, Teller::Record, Teller::Console, Teller::Files].map(told);
    assert_eq!(each.iter().sum::<usize>(), all.len());
    assert!(each.iter().all(|count| *count > 0));
}

#[test]
fn facts_travel_and_are_bounded() {
    for fact in facts(&policy(CLINIC)) {
        let text = serde_json::to_string(&Observed { at: now(), fact: fact.clone() }).unwrap();
        assert_eq!(serde_json::from_str::<Observed>(&text).unwrap().fact, fact);
    }
    let long: Named = (0..1_000).map(|number| format!("{number}{}", "あ".repeat(500))).collect();
    assert_eq!((long.count, long.first.len()), (1_000, NAMES_MAX));
    assert!(long.first.iter().all(|name| name.chars().count() == NAME_CHARS_MAX));
    assert!(long.list().ends_with("(+992)"));
    let hostile = format!(r#"{{"count":1,"first":[{}"x"]}}"#, r#""y","#.repeat(500));
    let cut: Named = serde_json::from_str(&hostile).unwrap();
    assert_eq!((cut.count, cut.first.len()), (501, NAMES_MAX));
}

#[test]
fn twenty_five_enforced_or_verified_controls_are_live() {
    use policy::guideline::catalogue::Kind;
    let catalogue = Catalogue::shipped().unwrap();
    let counted = catalogue.controls().iter().filter(|control| {
        control.coverage == Coverage::Live && matches!(control.kind, Kind::Enforced | Kind::Verified)
    });
    assert!(counted.count() >= 25);
}
