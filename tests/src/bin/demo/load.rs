//! Section 6: the policy changes twenty times while permitted and forbidden traffic runs.
use std::{thread, time::Duration};

use anyhow::Result;
use lab::Prober;

use crate::{
    policies,
    screen::Screen,
    site::{POLICY, Site},
    streams::{Begin, GRACE, Outcome, Stream},
};

const APPLIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(30);

/// Is one stream: how, from and to whom, to which port, how many a second.
type Kind = (Begin, [&'static str; 2], u16, u32);

/// Allowed by every policy below, under one name or another.
const PERMITTED: [Kind; 5] = [
    (Prober::udp, ["reception", "ehr-server"], 443, 500),
    (Prober::udp_fresh, ["reception", "pacs"], 443, 200),
    (Prober::tcp, ["ct", "ehr-server"], 9100, 200),
    (Prober::tcp_push, ["receipt", "ehr-server"], 8000, 200),
    (Prober::tcp, ["reception", "web"], 443, 200),
];
/// Allowed by none.
const FORBIDDEN: [Kind; 4] = [
    (Prober::udp_fresh, ["phone", "ehr-server"], 5000, 200),
    (Prober::udp, ["ct", "ehr-server"], 5001, 500),
    (Prober::tcp_connects, ["phone", "pacs"], 443, 20),
    (Prober::udp_fresh, ["web", "reception"], 5002, 200),
];

/// Applies under load and counts.
pub(crate) fn load(screen: &mut Screen, site: &Site) -> Result<()> {
    let words = screen.words;
    screen.section(&words.load());
    let files = variants(site)?;
    let said = site.run(screen, &["apply", POLICY])?;
    anyhow::ensure!(said.ended(0), "the example policy cannot be applied again: {}", said.text());
    let (permitted, forbidden) = (start(site, &PERMITTED)?, start(site, &FORBIDDEN)?);
    permitted.iter().try_for_each(|stream| stream.wait(50))?;
    // Each stream runs over both families.
    screen.say(&words.load_intro(2 * PERMITTED.len(), 2 * FORBIDDEN.len()));
    screen.command(&format!("sekisho apply {}", files.join(" | ")));
    let mut took_ms = Vec::new();
    let mut failure = None;
    for file in files.iter().cycle().take(APPLIES) {
        let said = site.ask(&["apply", file])?;
        if !said.ended(0) {
            failure = Some(said.text());
            break;
        }
        took_ms.push(said.took.as_millis());
        thread::sleep(PAUSE);
    }
    let (permitted, forbidden) =
        (Outcome::of(permitted, GRACE)?, Outcome::of(forbidden, Duration::from_millis(200))?);
    screen.quote(&failure.unwrap_or_default());
    took_ms.sort_unstable();
    let at = |index: usize| took_ms.get(index).copied().unwrap_or_default();
    let (median, worst) = (at(took_ms.len() / 2), at(took_ms.len().saturating_sub(1)));
    screen.expect(took_ms.len() == APPLIES, &words.load_applies(took_ms.len(), median, worst))?;
    let kept = words.load_kept(permitted.sent(), permitted.lost(), permitted.resets());
    screen.expect(permitted.is_whole(), &kept)?;
    let stopped = words.load_stopped(forbidden.sent(), forbidden.received());
    // A reset would be an answer: something reached the other side.
    let none = forbidden.sent() > 0 && forbidden.received() == 0 && forbidden.resets() == 0;
    Ok(screen.expect(none, &stopped)?)
}

/// Writes policies that differ from the example: a flow less, a flow more, and a flow in use under another name,
/// whose running connections all go over to another mark.
fn variants(site: &Site) -> Result<[&'static str; 4]> {
    const FILES: [&str; 4] = ["clinic-renamed.toml", "clinic-more.toml", "clinic-less.toml", POLICY];
    let [renamed, more, less, _] = FILES;
    let policy = site.read(POLICY)?;
    site.write(renamed, &policies::renamed(&policy, "staff-ehr", "staff-records")?)?;
    let report = policies::flow(
        "staff-reports",
        ["zone:staff", "device:ehr-server"],
        &["tcp/9443", "udp/9000-9009"],
        "帳票の印刷",
        "",
    );
    site.write(more, &policies::with(&policy, &report))?;
    site.write(less, &policies::without(&policy, "guest-web")?.0)?;
    Ok(FILES)
}

fn start(site: &Site, kinds: &[Kind]) -> Result<Vec<Stream>> {
    kinds.iter().map(|(begin, way, port, rate)| Stream::start(site, *begin, *way, *port, *rate)).collect()
}
