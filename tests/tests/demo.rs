//! The demo itself: it holds when nothing is broken, and ends at the right line when something is. Needs root.
#![cfg(test)]
use std::process::{Command, Output};

/// Runs the demo in English, broken in this way.
fn demo(sabotage: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(["--lang", "en"]).env_remove("SABOTAGE");
    command.envs(sabotage.map(|name| ("SABOTAGE", name)));
    command.output().expect("the demo starts")
}

/// Fails unless the demo ended with status 1, and with this line as the only one that did not hold.
fn assert_ends_at(sabotage: &str, line: &str) {
    let output = demo(Some(sabotage));
    let text = String::from_utf8_lossy(&output.stdout);
    let broken: Vec<_> = text.lines().filter(|line| line.starts_with(" ✖ ")).collect();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let expected = format!(" ✖ {line} ");
    assert!(matches!(*broken, [only] if only.starts_with(&expected)), "{broken:#?}\n{text}");
}

#[test]
fn every_expectation_holds() {
    let output = demo(None);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let held = text.lines().filter(|line| line.starts_with(" ✔ ")).count();
    assert!(held >= 74 && text.contains(&format!("all {held} expectations held")), "{held}\n{text}");
}

#[test]
fn a_flow_behind_the_policys_back_is_found_in_the_matrix() {
    assert_ends_at("flow", "3.1");
}

#[test]
fn a_gate_that_does_not_close_is_found_in_the_transfer() {
    assert_ends_at("gate", "5.2");
}

#[test]
fn an_edited_rule_is_found_by_the_read_back() {
    assert_ends_at("readback", "2.2");
}

#[test]
fn a_connection_that_the_kernel_did_not_tell_of_is_missed_by_the_comparison() {
    assert_ends_at("ledger", "10.1");
}

#[test]
fn a_changed_byte_of_the_log_is_found_by_its_verification() {
    assert_ends_at("audit", "11.2");
}

#[test]
fn an_inspection_that_finds_nothing_is_found_by_the_macro_that_arrives() {
    assert_ends_at("inspect", "12.10");
}

#[test]
fn a_grant_that_outlives_its_session_is_found_on_the_clinics_leg() {
    assert_ends_at("grant", "12.12");
}

#[test]
fn a_session_that_nobody_records_is_found_to_go_on() {
    assert_ends_at("recorder", "12.15");
}

#[test]
fn a_tunnel_that_leads_further_is_found_on_the_clinics_leg() {
    assert_ends_at("tunnel", "13.3");
}
