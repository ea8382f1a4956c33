//! The console itself is what everybody looks at: when it dies, or its door is shut, that is seen from outside.
use std::{
    thread,
    time::{Duration, Instant},
};

use crate::clinic::{Clinic, SHOWN_LIMIT};

/// `sekisho` when a role cannot be reached, and curl(1) when nobody takes its connection.
const UNREACHABLE: i32 = 4;
const NO_CONNECTION: i32 = 7;
const POLL: Duration = Duration::from_millis(250);

#[test]
fn a_console_that_dies_is_missed_by_people_and_by_the_reader_of_the_metrics() {
    let mut clinic = Clinic::fresh();
    wait("the metrics", || clinic.try_scrape().code == Some(0) && clinic.board().is_some());
    clinic.site.kill_role("sekisho-console");
    clinic.site.run(&["controls"]).failed(UNREACHABLE, &["is the service running?"]);
    assert_eq!(clinic.try_scrape().code, Some(NO_CONNECTION));
    clinic.site.start_role("sekisho-console");
    wait("the metrics of a new console", || clinic.try_scrape().code == Some(0) && clinic.board().is_some());
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < SHOWN_LIMIT, "waited for {what}");
        thread::sleep(POLL);
    }
}
