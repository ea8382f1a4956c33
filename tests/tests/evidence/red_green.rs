//! Done-when 2 of "Evidence": each live control red, and green again.
use std::collections::BTreeSet;

use policy::guideline::{Catalogue, catalogue::Coverage};

use crate::{
    cases::{Case, DOORS, DYING, FRESH, KEPT, MEASURED, WRITTEN, turned},
    clinic::{Clinic, SHOWN_LIMIT},
};

/// The ids of the live controls.
pub(crate) fn live() -> Vec<String> {
    let catalogue = Catalogue::shipped().unwrap();
    let live = catalogue.controls().iter().filter(|control| control.coverage == Coverage::Live);
    live.map(|control| control.id.to_string()).collect()
}

/// A control that no test can turn red is not measured, and the catalogue has to say so.
#[test]
fn every_live_control_has_a_case() {
    let live: BTreeSet<_> = live().into_iter().collect();
    let turned: BTreeSet<_> = turned().map(str::to_owned).collect();
    assert_eq!(live, turned, "live controls, and controls that are turned");
}

#[test]
fn what_people_have_not_done_and_what_the_policy_says_shows() {
    let clinic = Clinic::fresh();
    let took = clinic.wait(FRESH, SHOWN_LIMIT, "what people have not done to show");
    println!("a fresh box: red after {took:.1?}");
    turn(clinic, WRITTEN);
}

#[test]
fn what_goes_over_the_wires_shows() {
    turn(Clinic::fresh(), MEASURED);
}

#[test]
fn what_the_box_keeps_and_lives_by_shows() {
    turn(Clinic::fresh(), KEPT);
}

#[test]
fn what_happens_at_the_doors_shows() {
    turn(Clinic::fresh(), DOORS);
}

#[test]
fn a_role_that_dies_shows() {
    turn(Clinic::fresh(), DYING);
}

/// Does what people have to do, then breaks and mends one thing after another.
fn turn(mut clinic: Clinic, cases: &[Case]) {
    let took = clinic.put_in_order(&live());
    println!("all in order after {took:.1?}");
    for case in cases {
        let Case { what, breaks, shows, exports } = case;
        let mend = breaks(&mut clinic);
        let red = clinic.wait(shows, SHOWN_LIMIT, what);
        clinic.wait_lines(exports, what);
        mend(&mut clinic);
        let green: Vec<_> = shows.iter().map(|(control, _)| (*control, "ok")).collect();
        let again = clinic.wait(&green, SHOWN_LIMIT, &format!("the end of: {what}"));
        let line = |(control, state): &(&str, &str)| {
            format!("sekisho_control_state{{control=\"{control}\",state=\"{state}\"}} 1")
        };
        let lines: Vec<_> = green.iter().map(line).collect();
        clinic.wait_lines(&lines.iter().map(String::as_str).collect::<Vec<_>>(), what);
        println!("{what}: red after {red:.1?}, green after {again:.1?}");
    }
}
