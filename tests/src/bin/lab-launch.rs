//! `lab-launch`: becomes a role's program, confined as its unit says; started by the lab, not by hand.
use std::{env, process::ExitCode};

fn main() -> ExitCode {
    lab::launch::run(env::args_os())
}
