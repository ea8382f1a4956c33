//! Section 9: how the controls of the guideline stand, measured: one fails when a role dies, and recovers.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    patience::until,
    screen::{Screen, columns},
    site::{Said, Site},
};

/// `sekisho controls` when one failed or is unknown.
const ATTENTION: i32 = 9;
/// How many measured controls have to be in order: what only people can do is not done in a demo.
const OK_MIN: usize = 30;
/// The role that dies, the control that says so, and one that rests on what the role measures.
const VICTIM: &str = "watch";
const CONTROL: &str = "network-monitoring";
const RESTING: &str = "access-log";
/// States of what is measured, in the order of a report.
const MEASURED: [&str; 5] = ["failed", "unknown", "warning", "ok", "not-applicable"];
/// The control that remembers section 7, and who looked into it, as the example policy has them.
const TAMPERED: &str = "net-separation";
pub(crate) const PERSON: &str = "佐倉 花子";
/// Lines of the table that are shown.
const ROWS: usize = 14;
const FEW_ROWS: usize = 4;

/// Every control, as the console judged it last.
pub(crate) struct Board {
    rows: Vec<Value>,
    said: Said,
}

/// Shows them, breaks what one measures, and mends it.
pub(crate) fn controls(screen: &mut Screen, site: &mut Site) -> Result<()> {
    screen.section(&screen.words.controls());
    remembered(screen, site)?;
    overview(screen, site)?;
    let failed = break_one(screen, site)?;
    screen.say(&screen.words.controls_restarted(VICTIM));
    site.start_roles()?;
    let site = &*site;
    let ok = turned(site, &[(CONTROL, "ok"), (RESTING, "ok")])?;
    let line = ok.as_ref().map(|(board, _)| board.line(CONTROL)).unwrap_or_default();
    screen.quote(&line);
    let took = ok.as_ref().map(|(_, took)| *took).unwrap_or_default();
    screen.expect(ok.is_some(), &screen.words.controls_back(CONTROL, seconds(took)))?;
    let ok = ok.and_then(|(board, _)| board.evidence(CONTROL));
    recorded(screen, site, [failed, ok])
}

/// What somebody did to the rules in section 7 is not over when the rules are put back: a person has to have looked.
fn remembered(screen: &mut Screen, site: &Site) -> Result<()> {
    let words = screen.words;
    screen.command("sekisho controls");
    let red = turned(site, &[(TAMPERED, "failed")])?.map(|(board, _)| board);
    screen.quote(&red.as_ref().map(|board| board.text(FEW_ROWS)).unwrap_or_default());
    let line = words.controls_remembered(TAMPERED);
    screen.expect(red.and_then(|board| board.evidence(TAMPERED)).is_some(), &line)?;
    let note = words.controls_note();
    let said = site.run(screen, &["audit", "review", "--person", PERSON, "--note", &note])?;
    ensure!(said.ended(0), "the review cannot be recorded: {}", said.text());
    let said = site.run(screen, &["report", "-o", "report.html"])?;
    ensure!(said.ended(0), "no report can be made: {}", said.text());
    Ok(())
}

fn overview(screen: &mut Screen, site: &Site) -> Result<()> {
    let words = screen.words;
    screen.command("sekisho controls");
    // What was just measured for the first time takes a round of the console to show.
    let in_order = |control| move |board: &Board| board.state(control) == Some("ok");
    let enough = |board: &Board| {
        board.count("ok") >= OK_MIN && [CONTROL, TAMPERED].into_iter().all(|control| in_order(control)(board))
    };
    let found = until(|| Ok(Board::read(site)?.filter(|board| enough(board))))?;
    let board = match found {
        Some((board, _)) => board,
        None => Board::read(site)?.context("the console does not say how the controls stand")?,
    };
    screen.quote(&board.text(ROWS));
    let measured: usize = MEASURED.iter().map(|state| board.count(state)).sum();
    let line = words.controls_ok(board.count("ok"), measured, board.rows.len(), OK_MIN);
    Ok(screen.expect(enough(&board), &line)?)
}

/// Kills a role; gives the entry of the log that tells of the failure.
fn break_one(screen: &mut Screen, site: &mut Site) -> Result<Option<u64>> {
    let words = screen.words;
    site.kill_role(screen, VICTIM)?;
    let site = &*site;
    let failed = turned(site, &[(CONTROL, "failed"), (RESTING, "unknown")])?;
    let lines = failed.as_ref().map(|(board, _)| [CONTROL, RESTING].map(|control| board.line(control)));
    screen.quote(&lines.unwrap_or_default().join("\n"));
    let took = failed.as_ref().map(|(_, took)| *took).unwrap_or_default();
    screen.expect(failed.is_some(), &words.controls_failed(CONTROL, RESTING, seconds(took)))?;
    let query = format!("sekisho_control_state{{control=\"{CONTROL}\",state=\"failed\"}} == 1");
    let exported = until(|| Ok((!site.prometheus()?.query(site, &query)?.is_empty()).then_some(())))?;
    screen.expect(exported.is_some(), &words.controls_exported(&query))?;
    Ok(failed.and_then(|(board, _)| board.evidence(CONTROL)))
}

/// Waits until controls stand so, and the log has an entry of it: that comes a moment later.
pub(crate) fn turned(site: &Site, wanted: &[(&str, &str)]) -> Result<Option<(Board, Duration)>> {
    let stands = |board: &Board| {
        wanted
            .iter()
            .all(|(control, state)| board.state(control) == Some(state) && board.evidence(control).is_some())
    };
    until(|| Ok(Board::read(site)?.filter(|board| stands(board))))
}

/// The entries that the control names as evidence tell of it, one of the failure and a later one of the recovery.
fn recorded(screen: &mut Screen, site: &Site, evidence: [Option<u64>; 2]) -> Result<()> {
    let mut told = Vec::new();
    for (index, state) in evidence.iter().zip(["failed", "ok"]) {
        let index = index.with_context(|| format!("{CONTROL} names no entry of the log"))?;
        let said = site.run(screen, &["audit", "show", &index.to_string()])?;
        let entry: Value = serde_json::from_str(&said.out).unwrap_or_default();
        let is = |place: &str, word: &str| entry.pointer(place).and_then(Value::as_str) == Some(word);
        let changed = is("/event/kind", "control-changed") && is("/writer/role", "console");
        told.push(changed && is("/event/control", CONTROL) && is("/event/to", state));
    }
    Ok(screen.expect(told == [true, true], &screen.words.controls_recorded())?)
}

impl Board {
    /// Asks; there is nothing while the console does not say.
    fn read(site: &Site) -> Result<Option<Self>> {
        let said = site.ask(&["--json", "controls"])?;
        if !said.ended(0) && !said.ended(ATTENTION) {
            return Ok(None);
        }
        let rows = said.json()?.get("controls").and_then(Value::as_array).cloned();
        let said = site.ask(&["controls"])?;
        Ok(rows.map(|rows| Self { rows, said }))
    }

    fn row(&self, control: &str) -> Option<&Value> {
        self.rows.iter().find(|row| row.get("control").and_then(Value::as_str) == Some(control))
    }

    fn state(&self, control: &str) -> Option<&str> {
        self.row(control)?.get("state")?.as_str()
    }

    /// The entry of the log by which the control is as it is.
    fn evidence(&self, control: &str) -> Option<u64> {
        self.row(control)?.get("evidence")?.as_u64()
    }

    fn count(&self, state: &str) -> usize {
        self.rows.iter().filter(|row| row.get("state").and_then(Value::as_str) == Some(state)).count()
    }

    /// One control as the command line shows it: symbol, word, name, since when, by which entry, why.
    pub(crate) fn line(&self, control: &str) -> String {
        let titles = self.row(control).and_then(|row| row.get("title")).and_then(Value::as_object);
        let titles: Vec<_> = titles.into_iter().flat_map(|titles| titles.values()).collect();
        let names =
            |line: &&str| titles.iter().any(|title| title.as_str().is_some_and(|title| line.contains(title)));
        self.said.out.lines().find(names).unwrap_or_default().to_owned()
    }

    /// The summary, and the first rows of the table.
    fn text(&self, rows: usize) -> String {
        let mut parts = self.said.out.split("\n\n");
        let summary = parts.next().unwrap_or_default();
        let rows: Vec<_> = parts.next().unwrap_or_default().lines().take(rows).collect();
        let rows: Vec<_> = rows.into_iter().map(|row| vec![row.to_owned()]).collect();
        format!("{summary}\n{}", columns(&rows))
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1}", took.as_secs_f64())
}
