//! Section 5: a flow ends while a transfer runs, and another transfer beside it notices nothing.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use lab::Prober;

use crate::{
    Sabotage, policies, sabotage,
    screen::Screen,
    site::{POLICY, Site},
    streams::{GRACE, Outcome, Stream},
};

const WITHOUT: &str = "clinic-without-viewer.toml";
/// The flow that is taken out.
pub(crate) const FLOW: &str = "staff-pacs-viewer";
const PORT: u16 = 443;
const RATE_PER_SECOND: u32 = 500;
/// Records that must have arrived before the flow is taken out.
const RUNNING: u64 = 100;
/// What has crossed the gateway by then may still rest in the receiver's own buffer when the command returns.
const IN_BUFFERS: Duration = Duration::from_millis(300);
/// How long is listened for what should not come any more: a few retransmissions.
const LISTEN: Duration = Duration::from_millis(1500);

/// Takes the flow out and measures.
pub(crate) fn transfer(screen: &mut Screen, site: &Site, sabotage: Option<Sabotage>) -> Result<()> {
    let words = screen.words;
    screen.section(&words.ending());
    let push = |from| Stream::start(site, Prober::tcp_push, ["reception", from], PORT, RATE_PER_SECOND);
    let (images, records) = (push("pacs")?, push("ehr-server")?);
    images.wait(RUNNING)?;
    records.wait(RUNNING)?;
    screen.say(&words.transfers());
    let (policy, gone) = policies::without(&site.read(POLICY)?, FLOW)?;
    site.write(WITHOUT, &policy)?;
    screen.quote(&gone.lines().map(|line| format!("- {line}\n")).collect::<String>());
    let said = site.run(screen, &["apply", WITHOUT])?;
    let over = Instant::now() + IN_BUFFERS;
    if sabotage == Some(Sabotage::Gate) {
        sabotage::bypass_the_gate(screen, site)?;
    }
    screen.expect(said.ended(0), &words.transfer_applied(said.took.as_millis()))?;
    thread::sleep(LISTEN);
    let images = images.stop(Duration::ZERO)?;
    site.thaw()?;
    let after = images.arrivals_after(over);
    let last = images.last_arrival().map_or(0, |at| at.saturating_duration_since(said.began).as_millis());
    let [v4, v6] = received_by_family(&images);
    // Records that were sent and did not arrive: it was cut short, and not over by itself.
    let cut = images.reports.iter().all(|report| report.lost > 0) && images.resets() == 0;
    let holds = after == 0 && v4 >= RUNNING && v6 >= RUNNING && cut;
    let line = if after == 0 { words.ended(last, v4, v6) } else { words.goes_on(after) };
    screen.expect(holds, &line)?;
    let records = records.stop(GRACE)?;
    screen.expect(records.is_whole(), &words.beside(records.sent(), records.lost()))?;
    Ok(())
}

/// Probers are made in the order of a host's addresses, IPv4 first.
fn received_by_family(outcome: &Outcome) -> [u64; 2] {
    let mut received = outcome.reports.iter().map(|report| report.received);
    [received.next().unwrap_or_default(), received.next().unwrap_or_default()]
}
