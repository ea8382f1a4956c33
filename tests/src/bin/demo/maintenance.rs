//! Section 12: remote maintenance, from the invitation to the kill; and nothing on the clinic's leg without a session.
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    Sabotage, controls,
    factor::Factor,
    log,
    patience::until,
    probe, sabotage,
    screen::Screen,
    sending,
    site::{POLICY, Site, finish},
    vendor::{Forwarding, Vendor},
};

/// The example, whose window of maintenance is open now.
const OPEN_NOW: &str = "clinic-maintenance.toml";
const WINDOW: &str = "windows = \"Mon-Sun 20:00-06:00\"\n";
/// A person of the example policy, who may approve for the clinic and is an admin.
const PERSON: &str = "佐倉 花子";
pub(crate) const VENDOR: &str = "acme-emr";
const ENGINEER: &str = "鈴木";
const TARGET: &str = "device:ehr-server:ssh";
/// `sekisho`: not permitted.
const NOT_PERMITTED: i32 = 5;
/// `sekisho-vendor`: the session is over.
const OVER: i32 = 6;
/// How long a session may live without a record: its silence is noticed after three seconds.
const CUT_LIMIT: Duration = Duration::from_secs(15);
/// Controls that tell of sessions.
const ACCESS_LOG: &str = "rm-access-log";
const REVIEW: &str = "rm-review";
/// What the engineer does over and over until the session is killed.
const WORK: &str = "while :; do echo working; sleep 0.1; done";
/// How long an ended session is listened to.
const LISTEN: Duration = Duration::from_millis(1500);

/// Everything from the first person's factor to the session's end in the log.
pub(crate) fn maintenance(screen: &mut Screen, site: &mut Site, sabotage: Option<Sabotage>) -> Result<()> {
    while_recorded(screen, site, sabotage)?;
    site.revive("record")?;
    looked_at(screen, site)
}

/// Up to the death of the record role.
fn while_recorded(screen: &mut Screen, site: &Site, sabotage: Option<Sabotage>) -> Result<()> {
    let words = screen.words;
    screen.section(&words.maintenance());
    open_the_window(screen, site)?;
    let factor = persons(screen, site)?;
    let vendor = invited(screen, site)?;
    let session = asked(screen, site, &vendor)?;
    let forwarding = vendor.connect(screen, &session)?;
    closed(screen, site, &vendor, &session)?;
    approved(screen, site, &factor, &session, &forwarding)?;
    worked(screen, site, &vendor)?;
    sending::sending(screen, site, &vendor, &session, sabotage)?;
    killed(screen, site, &vendor, &session, forwarding, sabotage)?;
    told(screen, site, &session)?;
    proved(screen, site, &session)?;
    unrecorded(screen, site, &vendor, &factor, sabotage)
}

fn open_the_window(screen: &mut Screen, site: &Site) -> Result<()> {
    let policy = site.read(POLICY)?;
    ensure!(policy.contains(WINDOW), "{POLICY} no longer says `{WINDOW}`");
    screen.say(&screen.words.maintenance_window());
    screen.quote(&format!("- {WINDOW}"));
    site.write(OPEN_NOW, &policy.replace(WINDOW, ""))?;
    let said = site.run(screen, &["apply", OPEN_NOW])?;
    ensure!(said.ended(0), "{OPEN_NOW} cannot be applied: {}", said.text());
    Ok(())
}

/// The first person's second factor, without which nobody can approve anything.
fn persons(screen: &mut Screen, site: &Site) -> Result<Factor> {
    let factor = Factor::enrol(screen, site, PERSON)?;
    let said = site.run(screen, &["person", "list"])?;
    let listed = site.ask(&["--json", "person", "list"])?.json()?;
    let rows = listed.as_array().into_iter().flatten();
    let enrolled = rows.filter(|row| row.get("enrolled_at").is_some_and(|at| !at.is_null())).count();
    screen.expect(said.ended(0) && enrolled == 1, &screen.words.person_enrolled(PERSON))?;
    Ok(factor)
}

/// The vendor's engineer makes a key, and has it certified with a code that counts once.
fn invited<'a>(screen: &mut Screen, site: &'a Site) -> Result<Vendor<'a>> {
    let words = screen.words;
    let question = ["vendor", "invite", VENDOR, "--engineer", ENGINEER];
    let said = site.run(screen, &question)?;
    let code = said.out.lines().next().filter(|line| line.starts_with("SKV1-"));
    let code = code.with_context(|| format!("no code: {}", said.text()))?;
    let vendor = Vendor::new(site, "vendor-suzuki");
    let enrolled = vendor.enrol(screen, code)?;
    screen.expect(enrolled, &words.vendor_enrolled())?;
    let said = Vendor::new(site, "vendor-stranger").try_to_enrol(screen, code)?;
    screen.expect(!said.ended(0), &words.vendor_once())?;
    Ok(vendor)
}

fn asked(screen: &mut Screen, site: &Site, vendor: &Vendor<'_>) -> Result<String> {
    let said = vendor.run(screen, &["request", TARGET, "--purpose", "月次点検", "--for", "30m"])?;
    let session = said.out.split([':', ' ']).next().unwrap_or_default().to_owned();
    let listed = site.ask(&["--json", "session", "list"])?.json()?;
    let row = listed.as_array().into_iter().flatten().find(|row| row.to_string().contains(&session));
    let waits = row.and_then(|row| row.get("target")).and_then(Value::as_str) == Some(TARGET);
    let holds = said.ended(0) && session.starts_with("s-") && waits;
    screen.expect(holds, &screen.words.session_asked(&session))?;
    Ok(session)
}

/// Before the approval: not by the vendor's program, nor by its line to the clinic.
fn closed(screen: &mut Screen, site: &Site, vendor: &Vendor<'_>, session: &str) -> Result<()> {
    let ear = probe::Ear::open(site, probe::TARGET, probe::PORT)?;
    let said = finish(vendor.ssh(screen, "true")?, None)?;
    probe::directly(screen, site)?;
    thread::sleep(LISTEN);
    let arrived = ear.heard()?;
    let holds = !said.ended(0) && arrived == 0;
    Ok(screen.expect(holds, &screen.words.session_closed(session, arrived))?)
}

/// The right person, with a code that counts once, over what was shown.
fn approved(
    screen: &mut Screen,
    site: &Site,
    factor: &Factor,
    session: &str,
    forwarding: &Forwarding,
) -> Result<()> {
    let words = screen.words;
    let question = ["session", "approve", session, "--person", PERSON];
    let said = site.run_with(screen, &question, "000000")?;
    screen.expect(said.ended(NOT_PERMITTED), &words.session_wrong_code())?;
    let said = site.run_with(screen, &question, &factor.code(0)?)?;
    let open = forwarding.wait(&["open until", "接続可能"])?;
    screen.quote(&forwarding.said()?);
    Ok(screen.expect(said.ended(0) && open, &words.session_open(PERSON))?)
}

fn worked(screen: &mut Screen, site: &Site, vendor: &Vendor<'_>) -> Result<()> {
    let ear = probe::Ear::open(site, probe::TARGET, probe::PORT)?;
    let said = finish(vendor.ssh(screen, "echo $SSH_CONNECTION")?, None)?;
    screen.quote(&said.text());
    let arrived = ear.heard()?;
    let holds = said.ended(0) && said.out.trim().ends_with(" 22") && arrived > 0;
    Ok(screen.expect(holds, &screen.words.session_worked(said.out.trim()))?)
}

/// Ends the session under a login that is at work.
fn killed(
    screen: &mut Screen,
    site: &Site,
    vendor: &Vendor<'_>,
    session: &str,
    mut forwarding: Forwarding,
    sabotage: Option<Sabotage>,
) -> Result<()> {
    let words = screen.words;
    let mut login = Login::start(vendor, screen)?;
    let grant = probe::Grant::read(site)?;
    let said = site.run(screen, &["session", "kill", session])?;
    let ended = login.ended()?;
    let over = forwarding.ended()?;
    screen.quote(&forwarding.said()?);
    let milliseconds = ended.map_or(0, |at| at.saturating_duration_since(said.began).as_millis());
    let is_over = over.is_some_and(|(code, _)| code == Some(OVER));
    let holds = said.ended(0) && ended.is_some() && is_over;
    screen.expect(holds, &words.session_killed(milliseconds))?;
    if sabotage == Some(Sabotage::Grant) {
        sabotage::keep_the_grant(screen, site, &grant)?;
    }
    let ear = probe::Ear::open(site, probe::TARGET, probe::PORT)?;
    let said = vendor.run(screen, &["status", session])?;
    grant.try_again(screen, site)?;
    probe::directly(screen, site)?;
    thread::sleep(LISTEN);
    let arrived = ear.heard()?;
    site.thaw()?;
    Ok(screen.expect(said.ended(0) && arrived == 0, &words.session_gone(arrived))?)
}

/// The log tells all of it, and that the way was recorded before it opened.
fn told(screen: &mut Screen, site: &Site, session: &str) -> Result<()> {
    const ORDERS: [[&str; 4]; 2] =
        [["requested", "opening", "opened", "closed"], ["requested", "approved", "opened", "closed"]];
    let all = log::entries(site, Some("session"))?;
    let ours = all.iter().filter(|entry| entry.event.to_string().contains(session));
    let word =
        |event: &Value| event.pointer("/change/what").and_then(Value::as_str).unwrap_or("?").to_owned();
    let mut told: Vec<_> = ours.map(|entry| (entry.index, word(&entry.event))).collect();
    told.sort();
    screen.command("sekisho audit list --kind session");
    screen.quote(&told.iter().map(|(index, word)| format!("{index} {word}\n")).collect::<String>());
    let said = site.run(screen, &["audit", "verify"])?;
    let place = |word: &str| told.iter().position(|(_, found)| found == word);
    let in_order = |order: &[&str]| {
        let places: Vec<_> = order.iter().map(|word| place(word)).collect();
        places.iter().all(Option::is_some) && places.is_sorted()
    };
    let holds = said.ended(0) && ORDERS.iter().all(|order| in_order(order));
    Ok(screen.expect(holds, &screen.words.session_told())?)
}

/// The entry without which the way would not have opened, shown to somebody who knows nothing else.
fn proved(screen: &mut Screen, site: &Site, session: &str) -> Result<()> {
    let all = log::entries(site, Some("session"))?;
    let opening = |entry: &&log::Entry| {
        let is = |place: &str, word: &str| entry.event.pointer(place).and_then(Value::as_str) == Some(word);
        is("/session", session) && is("/change/what", "opening")
    };
    let index =
        all.iter().find(opening).context("the session's opening is not in the log")?.index.to_string();
    let shown = log::show(screen, site, &index, "session-proof")?;
    let holds = shown.holds && shown.text.contains(session) && shown.text.contains("approved_by");
    Ok(screen.expect(holds, &screen.words.session_proved(session, index))?)
}

/// A second session, which loses its record: it ends with that, whatever the engineer is doing.
fn unrecorded(
    screen: &mut Screen,
    site: &Site,
    vendor: &Vendor<'_>,
    factor: &Factor,
    sabotage: Option<Sabotage>,
) -> Result<()> {
    let words = screen.words;
    screen.say(&words.session_unrecorded());
    let said = vendor.run(screen, &["request", TARGET, "--purpose", "記録の試験", "--for", "30m"])?;
    let session = said.out.split([':', ' ']).next().unwrap_or_default().to_owned();
    let mut forwarding = vendor.connect(screen, &session)?;
    // A step ahead: the code of an earlier one may have been used.
    let said =
        site.run_with(screen, &["session", "approve", &session, "--person", PERSON], &factor.code(1)?)?;
    ensure!(said.ended(0) && forwarding.wait(&["open until", "接続可能"])?, "not open: {}", said.text());
    let mut login = Login::start(vendor, screen)?;
    if sabotage == Some(Sabotage::Recorder) {
        site.freeze()?;
    }
    let begun = Instant::now();
    site.strike(screen, "record")?;
    let ended = login.ended_within(CUT_LIMIT)?;
    let is_over = ended.is_some() && forwarding.ended()?.is_some_and(|(code, _)| code == Some(OVER));
    screen.quote(&forwarding.said()?);
    site.thaw()?;
    let told = ["recorder-failed", "記録"]
        .iter()
        .any(|word| forwarding.said().is_ok_and(|said| said.contains(word)));
    let milliseconds = ended.map_or(0, |at| at.saturating_duration_since(begun).as_millis());
    Ok(screen.expect(is_over && told, &words.session_cut(milliseconds))?)
}

/// What could not be recorded has to be looked into by a person.
fn looked_at(screen: &mut Screen, site: &Site) -> Result<()> {
    screen.command("sekisho controls");
    let red = controls::turned(site, &[(ACCESS_LOG, "failed")])?.map(|(board, _)| board);
    screen.quote(&red.as_ref().map(|board| board.line(ACCESS_LOG)).unwrap_or_default());
    let note = screen.words.controls_note();
    let said = site.run(screen, &["audit", "review", "--person", controls::PERSON, "--note", &note])?;
    ensure!(said.ended(0), "the review cannot be recorded: {}", said.text());
    let green = controls::turned(site, &[(ACCESS_LOG, "ok"), (REVIEW, "ok")])?.map(|(board, _)| board);
    screen.quote(&green.as_ref().map(|board| board.line(ACCESS_LOG)).unwrap_or_default());
    let holds = red.is_some() && green.is_some();
    Ok(screen.expect(holds, &screen.words.session_looked_at(ACCESS_LOG))?)
}

/// A login that is at work.
struct Login {
    child: Child,
    output: BufReader<Box<dyn Read + Send>>,
}

impl Login {
    fn start(vendor: &Vendor<'_>, screen: &Screen) -> Result<Self> {
        let mut command = vendor.ssh(screen, WORK)?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout: Box<dyn Read + Send> = Box::new(child.stdout.take().context("no output")?);
        let mut login = Self { child, output: BufReader::new(stdout) };
        let mut line = String::new();
        login.output.read_line(&mut line)?;
        ensure!(line.contains("working"), "the login does not work: `{line}`");
        Ok(login)
    }

    /// Waits for its end; when that was.
    fn ended(&mut self) -> Result<Option<Instant>> {
        let found = until(|| Ok(self.child.try_wait()?))?;
        Ok(found.map(|_| Instant::now()))
    }

    /// The same, for so long at the most.
    fn ended_within(&mut self, limit: Duration) -> Result<Option<Instant>> {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if self.child.try_wait()?.is_some() {
                return Ok(Some(Instant::now()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
