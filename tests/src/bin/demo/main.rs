//! `demo`: the clinic, its gateway, and what was really measured: in numbered lines, each of which can fail.
//!
//! It talks to Sekisho as an admin does, by the command line, and knows nothing of its insides.
//! Exit status: 0 when every expectation held, 1 when one did not, 2 when the demo could not run.
mod applications;
mod controls;
mod doors;
mod factor;
mod inspections;
mod keep;
mod ledger;
mod load;
mod log;
mod maintenance;
mod matrix;
mod metrics;
mod patience;
mod places;
mod policies;
mod probe;
mod probing;
mod prometheus;
mod sabotage;
mod screen;
mod sending;
mod site;
mod start;
mod streams;
mod tampering;
mod timer;
mod transfer;
mod vendor;
mod vpn;
mod words;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Parser;

use self::{
    sabotage::Sabotage,
    screen::{Broken, Screen, Tone},
    site::Site,
    words::Words,
};

/// An expectation did not hold.
const EXIT_BROKEN: u8 = 1;
/// The demo could not run.
const EXIT_UNABLE: u8 = 2;

/// Brings a clinic up in network namespaces, puts the example policy in force, and measures what passes.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit status: 0 every expectation held; 1 one did not; 2 the demo could not run."
)]
struct Arguments {
    /// Leave the clinic running afterwards, and tell how to play with it.
    #[arg(long)]
    keep: bool,
    /// Break something on purpose: the demo must end at the line that measures it.
    #[arg(long, env = "SABOTAGE", value_enum)]
    sabotage: Option<Sabotage>,
    /// Language, `ja` or `en`; else LC_ALL, LC_MESSAGES and LANG are asked.
    #[arg(long)]
    lang: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let words = Words::new(arguments.lang.as_deref());
    let mut screen = Screen::new(words);
    match demo(&mut screen, &arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\n{}", words.could_not_run(format!("{error:#}")));
            ExitCode::from(EXIT_UNABLE)
        }
    }
}

fn demo(screen: &mut Screen, arguments: &Arguments) -> Result<ExitCode> {
    let words = screen.words;
    println!("{}", screen.paint(Tone::Title, &words.title()));
    if let Some(sabotage) = arguments.sabotage {
        let name = format!("{sabotage:?}").to_lowercase();
        println!("{}", screen.paint(Tone::Bad, &words.title_sabotage(name)));
    }
    let began = Instant::now();
    let mut site = Site::build(words, arguments.keep)?;
    let code = match measure(screen, &mut site, arguments.sabotage) {
        Ok(()) => {
            let line = words.all_held(screen.held(), seconds(began));
            screen.summary(Tone::Good, &line);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let broken = error.downcast::<Broken>()?;
            let line = words.one_broken(&broken, screen.held(), seconds(began));
            screen.summary(Tone::Bad, &line);
            ExitCode::from(EXIT_BROKEN)
        }
    };
    if arguments.keep {
        keep::keep(screen, &site)?;
    }
    Ok(code)
}

fn measure(screen: &mut Screen, site: &mut Site, sabotage: Option<Sabotage>) -> Result<()> {
    start::clinic(screen, site)?;
    start::apply(screen, site, sabotage)?;
    matrix::matrix(screen, site, sabotage)?;
    applications::applications(screen, site)?;
    transfer::transfer(screen, site, sabotage)?;
    load::load(screen, site)?;
    tampering::tampering(screen, site)?;
    metrics::metrics(screen, site)?;
    controls::controls(screen, site)?;
    ledger::ledger(screen, site, sabotage)?;
    log::log(screen, site, sabotage)?;
    maintenance::maintenance(screen, site, sabotage)?;
    vpn::vpn(screen, site, sabotage)?;
    doors::doors(screen, site)?;
    timer::timer(screen, site)
}

fn seconds(began: Instant) -> String {
    format!("{:.1}", began.elapsed().as_secs_f64())
}
