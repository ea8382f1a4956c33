//! Section 11: the decisions of this run are in the log, which proves them to somebody who has the public key only.
use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    Sabotage, sabotage,
    screen::{Screen, columns},
    site::{Said, Site, repository},
    start::id_in_force,
    transfer,
};

/// What is taken along when the first policy is in force: the log's public key, a checkpoint, the policy's identity.
const KEY: &str = "kept.pub";
const CHECKPOINT: &str = "kept.checkpoint";
const POLICY_ID: &str = "kept.policy";
/// Who checks, knowing nothing but what was taken along: another machine.
const AUDITOR: &str = "vendor";
const PROOF: &str = "proof";
const COPY: &str = "audit-copy";
/// Another program, in another language.
const VERIFIER: &str = "verify_tlog.py";
/// `sekisho audit verify` when something is wrong.
const DIFFERS: i32 = 6;
/// Most entries that are asked for.
const LIMIT: &str = "10000";

/// One entry.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) index: u64,
    pub(crate) event: Value,
}

/// Keeps elsewhere what later shows whether the log is still the same.
pub(crate) fn take_along(screen: &Screen, site: &Site) -> Result<()> {
    screen.say(&screen.words.log_take_along());
    for (name, file) in [("key", KEY), ("checkpoint", CHECKPOINT)] {
        screen.command(&format!("sekisho audit {name} > {file}"));
        let said = site.ask(&["audit", name])?;
        ensure!(said.ended(0), "the log's {name} cannot be read: {}", said.text());
        site.write(file, &said.out)?;
    }
    site.write(POLICY_ID, &id_in_force(site)?)
}

/// Lists, verifies, proves.
pub(crate) fn log(screen: &mut Screen, site: &Site, sabotage: Option<Sabotage>) -> Result<()> {
    screen.section(&screen.words.log());
    decisions(screen, site)?;
    if sabotage == Some(Sabotage::Audit) {
        sabotage::change_the_log(screen, site)?;
    }
    let said = site.run(screen, &["audit", "verify"])?;
    let words = screen.words;
    screen.expect(said.ended(0), &if said.ended(0) { words.log_verified() } else { words.log_changed() })?;
    proof(screen, site)?;
    copy(screen, site)
}

/// Every entry of one kind, or of all.
pub(crate) fn entries(site: &Site, kind: Option<&str>) -> Result<Vec<Entry>> {
    let mut arguments = vec!["--json", "audit", "list", "--limit", LIMIT];
    arguments.extend(kind.iter().flat_map(|kind| ["--kind", kind]));
    let said = site.ask(&arguments)?;
    ensure!(said.ended(0), "the log cannot be listed: {}", said.text());
    let answer = said.json()?;
    let rows = answer.get("entries").and_then(Value::as_array).context("the log lists no entries")?;
    let entry = |row: &Value| {
        let index = row.get("index").and_then(Value::as_u64);
        Some(Entry { index: index?, event: row.pointer("/entry/event")?.clone() })
    };
    rows.iter().map(|row| entry(row).context("an entry without number or event")).collect()
}

impl Entry {
    fn kind(&self) -> &str {
        self.event.get("kind").and_then(Value::as_str).unwrap_or("?")
    }

    fn policy(&self) -> &str {
        self.event.get("policy").and_then(Value::as_str).unwrap_or_default()
    }

    fn removes(&self, flow: &str) -> bool {
        let names = self.event.pointer("/removed/first").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|name| name.as_str() == Some(flow)))
    }
}

/// As many applies as the demo asked for, and among them the one that took a flow out.
fn decisions(screen: &mut Screen, site: &Site) -> Result<()> {
    let all = entries(site, None)?;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|entry| *kinds.entry(entry.kind()).or_default() += 1);
    let rows: Vec<_> =
        kinds.iter().map(|(kind, count)| vec![(*kind).to_owned(), count.to_string()]).collect();
    screen.command("sekisho --json audit list | jq '.entries[].entry.event.kind' | sort | uniq -c");
    screen.quote(&columns(&rows));
    let asked: Vec<_> = all.iter().filter(|entry| entry.kind() == "apply-requested").collect();
    let taken_out = asked.iter().find(|entry| entry.removes(transfer::FLOW));
    if let Some(entry) = taken_out {
        site.run(screen, &["audit", "show", &entry.index.to_string()])?;
    }
    let applied = kinds.get("applied").copied().unwrap_or_default();
    let holds = taken_out.is_some() && applied == site.applies() && asked.len() == applied;
    let line = screen.words.log_decisions(all.len(), applied, site.applies());
    Ok(screen.expect(holds, &line)?)
}

/// The apply of section 2, shown to somebody who has nothing but the entry, its proof and the key.
fn proof(screen: &mut Screen, site: &Site) -> Result<()> {
    let words = screen.words;
    let id = site.read(POLICY_ID)?;
    let applied = entries(site, Some("applied"))?;
    let entry = applied.iter().find(|entry| entry.policy().starts_with(&id));
    let index = entry.with_context(|| format!("no entry of the apply of {id}"))?.index.to_string();
    let Shown { proof: shown, text, holds } = show(screen, site, &index, PROOF)?;
    screen.expect(holds && text.contains(&id), &words.log_proved(&index, &id))?;
    // The same of another policy.
    let forged = format!("{PROOF}/forged.json");
    let other: String = id.chars().rev().collect();
    site.write(&forged, &text.replacen(&id, &other, 1))?;
    let said = check(screen, site, &shown, &forged)?;
    Ok(screen.expect(other != id && said.ended(DIFFERS), &words.log_forged())?)
}

/// An entry, shown to somebody who has nothing but it, its proof and the key.
pub(crate) struct Shown {
    proof: String,
    pub(crate) text: String,
    /// Whether the proof held.
    pub(crate) holds: bool,
}

/// Has an entry proved, in a directory that is not there yet.
pub(crate) fn show(screen: &Screen, site: &Site, index: &str, directory: &str) -> Result<Shown> {
    let said = site.run(screen, &["audit", "prove", index, "-o", directory])?;
    ensure!(said.ended(0), "entry {index} cannot be proved: {}", said.text());
    let (file, proof) =
        (format!("{directory}/entry-{index}.json"), format!("{directory}/entry-{index}.tlog-proof"));
    let text = site.read(&file)?;
    screen.quote(&text);
    let holds = check(screen, site, &proof, &file)?.ended(0);
    Ok(Shown { proof, text, holds })
}

/// Checks a proof on another machine, which has no way to the gateway's roles.
fn check(screen: &Screen, site: &Site, proof: &str, entry: &str) -> Result<Said> {
    let arguments = ["audit", "verify", "--proof", proof, "--entry", entry, "--key", KEY];
    screen.command(&format!("[{AUDITOR}] sekisho {}", arguments.join(" ")));
    let program = site.programs().join("sekisho");
    let program = program.to_str().context("the path of `sekisho` is not text")?;
    let locale = format!("LC_ALL={}", screen.words.locale());
    let said =
        site.quietly_on(AUDITOR, "env", &[&[locale.as_str(), program], arguments.as_slice()].concat())?;
    screen.quote(&said.text());
    Ok(said)
}

/// The whole log, read by another program in another language, against what was taken along at the beginning.
fn copy(screen: &mut Screen, site: &Site) -> Result<()> {
    let said = site.run(screen, &["audit", "export", COPY])?;
    ensure!(said.ended(0), "the log cannot be exported: {}", said.text());
    // Key and verifier lie in the copy, too; but who checks does not take them from there.
    fs::copy(repository().join("gateway/crates/record").join(VERIFIER), site.files().join(VERIFIER))?;
    let arguments = [VERIFIER, COPY, KEY, "--checkpoint", CHECKPOINT];
    let said = site.on(screen, AUDITOR, "python3", &arguments)?;
    screen.quote(&said.text());
    Ok(screen.expect(said.ended(0), &screen.words.log_copy())?)
}
