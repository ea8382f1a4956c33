//! A hundred thousand lives of a session, at random: answers late, lost, repeated and wrong, clocks set, people who may
//! not. Whatever happens, an oracle that knows only what the shell saw judges every command.

#![cfg(test)]

mod driver;
mod oracle;

use driver::Driver;

/// How many lives one run of the test looks at.
const TRACES: u64 = 100_000;
/// Where the dice begin: the same lives in every run.
const SEED: u64 = 0x5EC1_5400;

#[test]
fn no_path_opens_but_as_it_must() {
    let mut reached = oracle::Reached::default();
    for trace in 0..TRACES {
        let mut driver = Driver::new(SEED.wrapping_add(trace));
        driver.live();
        driver.outlive();
        reached.add(&driver.oracle.reached);
    }
    // A test that never gets anywhere proves nothing.
    println!("{reached:?}");
    let floor = TRACES / 100;
    assert!(reached.granted > floor && reached.opened > floor && reached.refused > floor, "{reached:?}");
    assert!(reached.revised > floor / 10 && reached.lost > floor / 10, "{reached:?}");
    assert!(reached.ends.len() == 11, "{:?}", reached.ends.keys());
}
