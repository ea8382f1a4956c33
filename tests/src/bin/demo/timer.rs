//! Section 14: an end comes by the kernel's timer with every process dead; then the daemon comes back.
use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp, Unit};
use lab::Prober;

use crate::{
    log, policies,
    screen::{Screen, columns},
    site::{POLICY, Site, TIMEZONE},
    start::id_in_force,
    streams::{GRACE, Stream},
};

const TIMED: &str = "clinic-temporary.toml";
const PORT: u16 = 5000;
const OTHER_PORT: u16 = 443;
const RATE_PER_SECOND: u32 = 200;
const RUNNING: u64 = 20;
/// From now to the end of the flow.
const AHEAD: SignedDuration = SignedDuration::from_secs(5);
/// How long is listened after the end.
const LISTEN: Duration = Duration::from_secs(2);
/// How far the last packet may be off the end: the kernel's timer, and a loaded machine.
const SLACK_MS: i128 = 1000;

/// Kills everything before the end, measures the end, starts again.
pub(crate) fn timer(screen: &mut Screen, site: &mut Site) -> Result<()> {
    let words = screen.words;
    screen.section(&words.timer());
    let end = Timestamp::now().round(Unit::Second)? + AHEAD;
    let written = end.in_tz(TIMEZONE)?.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    screen.say(&words.timer_until(&written));
    let flow = policies::flow(
        "temporary-copy",
        ["device:ct", "device:pacs"],
        &["tcp/5000", "udp/5000"],
        "一時的な画像の複写",
        &format!("until = {written}\n"),
    );
    screen.quote(&flow);
    site.write(TIMED, &policies::with(&site.read(POLICY)?, &flow))?;
    let said = site.run(screen, &["apply", TIMED])?;
    screen.expect(said.ended(0), &words.timer_applied())?;
    let id = id_in_force(site)?;
    let written = log::entries(site, Some("applied"))?;
    let beside = measure(screen, site, end)?;
    site.start_roles()?;
    let now = id_in_force(site)?;
    site.run(screen, &["status"])?;
    screen.expect(now == id, &words.timer_back(&now))?;
    let said = site.run(screen, &["verify"])?;
    screen.expect(said.ended(0), &words.timer_verified())?;
    let said = site.run(screen, &["audit", "verify"])?;
    let kept = said.ended(0) && !written.is_empty() && log::entries(site, Some("applied"))? == written;
    screen.expect(kept, &words.timer_logged(written.len()))?;
    let beside = beside.stop(GRACE)?;
    Ok(screen.expect(beside.is_whole(), &words.timer_beside(beside.sent(), beside.lost()))?)
}

/// Returns a transfer that goes on all the time.
fn measure(screen: &mut Screen, site: &mut Site, end: Timestamp) -> Result<Stream> {
    let words = screen.words;
    let ending = [
        Stream::start(site, Prober::tcp_push, ["ct", "pacs"], PORT, RATE_PER_SECOND)?,
        Stream::start(site, Prober::udp, ["ct", "pacs"], PORT, RATE_PER_SECOND)?,
    ];
    let beside = Stream::start(site, Prober::tcp_push, ["reception", "pacs"], OTHER_PORT, RATE_PER_SECOND)?;
    ending.iter().chain([&beside]).try_for_each(|stream| stream.wait(RUNNING))?;
    site.kill_roles()?;
    let alive = processes_left(site)?;
    screen.say(&format!("{} {}", words.timer_killed(), alive.len()));
    screen.quote(&columns(&alive));
    let (wall, moment) = (Timestamp::now(), Instant::now());
    let left = Duration::try_from(end.duration_since(wall)).unwrap_or_default();
    ensure!(!left.is_zero(), "the machine is too slow: the end came before the kill");
    let at_kill: u64 = ending.iter().map(Stream::received).sum();
    thread::sleep(left + LISTEN);
    let mut arrived = 0;
    let mut offsets = Vec::new();
    for stream in ending {
        let outcome = stream.stop(Duration::ZERO)?;
        arrived += outcome.received();
        for report in outcome.reports {
            let last = report.last_arrival.context("nothing arrived")?;
            let after = last.saturating_duration_since(moment).as_millis();
            offsets.push(i128::try_from(after)? - i128::try_from(left.as_millis())?);
        }
    }
    screen.expect(
        alive.is_empty() && arrived > at_kill,
        &words.timer_after_kill(arrived.saturating_sub(at_kill)),
    )?;
    offsets.sort_by_key(|offset| offset.abs());
    let worst = offsets.last().copied().context("no stream ended")?;
    let on_time = worst.abs() <= SLACK_MS;
    screen.expect(on_time, &words.timer_ended(format!("{worst:+}")))?;
    Ok(beside)
}

/// Finds the processes of Sekisho in the gateway.
fn processes_left(site: &Site) -> Result<Vec<Vec<String>>> {
    let namespace = site.host(lab::GATEWAY)?.namespace().name().to_owned();
    let mut command = std::process::Command::new("ip");
    let output = command.args(["netns", "pids", &namespace]).output()?;
    let pids = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let ours = pids.lines().filter(|pid| name(pid).starts_with("sekisho"));
    Ok(ours.map(|pid| vec![pid.to_owned(), name(pid).trim().to_owned()]).collect())
}
