//! The doors: sessions as the log holds them, factors, files.

use policy::guideline::State;
use policy::guideline::observation::*;

use crate::broken::expect;
use crate::healthy::*;

fn named(name: &str) -> Named {
    [name].into_iter().collect()
}

#[test]
fn a_session_was_opened_and_nobody_approved_it() {
    let found = with(Maintenance { unapproved: named("s-a"), ..maintenance() });
    expect(&found, "rm-preapproval", State::Failed);
    expect(&found, "rm-access-log", State::Ok);
    expect(&with(ReadBack { differences: 1, ..ReadBack::default() }), "rm-preapproval", State::Failed);
}

#[test]
fn a_session_could_not_be_recorded_to_its_end() {
    let cut = |hours| with(Maintenance { cut_off_at: Some(ago(hours * HOUR)), ..maintenance() });
    for (hours, state) in [(1, State::Failed), (30, State::Warning), (80, State::Ok)] {
        expect(&cut(hours), "rm-access-log", state);
    }
    expect(&with(Maintenance { unended: named("s-a"), ..maintenance() }), "rm-access-log", State::Warning);
    expect(&with(Log { accepting: false, ..log() }), "rm-access-log", State::Failed);
}

/// The last review of the healthy clinic was three days ago.
#[test]
fn nobody_has_looked_at_a_session_that_ended() {
    let ended = |seconds| Maintenance { ended_at: Some(ago(seconds)), ..maintenance() };
    expect(&with(ended(HOUR)), "rm-review", State::Warning);
    expect(&with(ended(4 * DAY)), "rm-review", State::Ok);
    expect(&with(Maintenance { ended_at: None, ..maintenance() }), "rm-review", State::Ok);
    let never = LastDone { deed: Deed::LogReview, done_at: None, by: None, policy: None };
    let mut facts = facts(&policy(CLINIC));
    facts
        .retain(|fact| ![Subject::Maintenance, Subject::LastDone(Deed::LogReview)].contains(&fact.subject()));
    facts.extend([ended(8 * DAY).into(), never.into()]);
    expect(&assessed(&observed(facts)), "rm-review", State::Failed);
}

#[test]
fn without_vendors_there_is_nothing_to_judge() {
    let (before, rest) = CLINIC.split_once("[vendor.acme-emr.maintenance]").unwrap();
    let (_, after) = rest.split_once("[vendor.acme-emr.files]").unwrap();
    let found = with_policy(&format!("{before}[vendor.acme-emr.files]{after}"));
    for control in ["rm-preapproval", "rm-access-log", "rm-review"] {
        expect(&found, control, State::NotApplicable);
    }
    let found = with(FileDoor { vendors: 0, ..file_door() });
    expect(&found, "file-sanitization", State::NotApplicable);
    expect(&found, "rm-sanitization", State::NotApplicable);
}

#[test]
fn inspection_lets_a_macro_pass_or_nothing() {
    for control in ["file-sanitization", "rm-sanitization"] {
        expect(&with(FileDoor { stops_macro: false, ..file_door() }), control, State::Failed);
        expect(&with(FileDoor { passes_harmless: false, ..file_door() }), control, State::Warning);
        expect(&with(FileDoor { tried_at: None, ..file_door() }), control, State::Unknown);
        expect(&with(FileDoor { tried_at: Some(ago(121)), ..file_door() }), control, State::Unknown);
    }
    let found = with(FileDoor { unattested: named("acme-emr"), ..file_door() });
    expect(&found, "rm-sanitization", State::Warning);
    expect(&found, "file-sanitization", State::Ok);
}

#[test]
fn a_factor_is_missing_or_locked() {
    let absent = Factors { enrolled: 0, absent: named("hanako"), locked: Named::default() };
    expect(&with(absent), "two-factor", State::Warning);
    let locked = Factors { enrolled: 1, absent: Named::default(), locked: named("hanako") };
    expect(&with(locked), "two-factor", State::Warning);
}

#[test]
fn one_side_does_not_prove_itself() {
    let door = |door| with(MetricsDoor::Open(door));
    expect(&door(Door { client_certificate: false, ..door_of() }), "mutual-authentication", State::Warning);
    expect(&door(Door { stranger_refused: false, ..door_of() }), "mutual-authentication", State::Failed);
    expect(&with(MetricsDoor::Silent), "mutual-authentication", State::Unknown);
    expect(&with(MetricsDoor::NotDeclared), "mutual-authentication", State::Ok);
}

fn door_of() -> Door {
    crate::healthy::door()
}
