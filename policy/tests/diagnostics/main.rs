//! Every finding: its code, its line, and its words in both languages as people see them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests may fail loudly, and one test reads the sources"
)]

use std::collections::BTreeSet;

use miette::{GraphicalReportHandler, GraphicalTheme};
use policy::diagnostic::{Diagnostic, Language};
use policy::raw::Sources;
use policy::resolve::load;

mod cases;
mod doors;
mod evidence;

use cases::{Case, FLOWS, FORM, PEOPLE, PLACES};
use doors::DOORS;
use evidence::EVIDENCE;

const BASE: &str = include_str!("base.toml");
const FILE: &str = "clinic.toml";

fn now() -> jiff::Timestamp {
    "2026-11-20T10:00:00+09:00".parse().unwrap()
}

fn every_case() -> impl Iterator<Item = &'static Case> {
    FORM.iter().chain(PLACES).chain(FLOWS).chain(PEOPLE).chain(EVIDENCE).chain(DOORS)
}

fn text(case: &Case) -> String {
    if case.old.is_empty() {
        return format!("{BASE}\n{}", case.new);
    }
    assert_eq!(BASE.matches(case.old).count(), 1, "{}: the text to replace is not there once", case.name);
    BASE.replacen(case.old, case.new, 1)
}

fn findings(sources: &Sources) -> Vec<Diagnostic> {
    match load(sources, now()) {
        Ok(resolved) => resolved.warnings,
        Err(report) => report.diagnostics,
    }
}

fn line_of(case: &Case, text: &str) -> usize {
    let found: Vec<usize> = text.match_indices(case.at).map(|(at, _)| at).collect();
    assert_eq!(found.len(), 1, "{}: `{}` is not in the text once", case.name, case.at);
    text[..found[0]].matches('\n').count() + 1
}

fn render(found: &Diagnostic, sources: &Sources, language: Language) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
    let mut out = String::new();
    handler.render_report(&mut out, &found.view(sources, language)).unwrap();
    out
}

#[test]
fn the_base_is_without_fault() {
    let found = findings(&Sources::single(FILE, BASE));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_bad_policy_gives_its_code_on_its_line() {
    let mut wrong = Vec::new();
    for case in every_case() {
        let text = text(case);
        let line = line_of(case, &text);
        let found = findings(&Sources::single(FILE, text));
        let hit = |found: &Diagnostic| {
            found.code == case.code && found.place().is_some_and(|place| place.line == line)
        };
        if !found.iter().any(hit) {
            let got: Vec<_> =
                found.iter().map(|found| (found.code, found.place().map(|place| place.line))).collect();
            wrong.push(format!("{}: expected {} on line {line}, got {got:?}", case.name, case.code));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_finding_reads_well_in_both_languages() {
    for case in every_case() {
        let sources = Sources::single(FILE, text(case));
        let found = findings(&sources);
        let found = found.iter().find(|found| found.code == case.code).unwrap();
        let files = sources.names();
        let shown = format!(
            "{}\n{}\n{}\n{}",
            render(found, &sources, Language::En),
            render(found, &sources, Language::Ja),
            found.text(&files, Language::En),
            found.text(&files, Language::Ja),
        );
        insta::assert_snapshot!(case.name, shown);
    }
}

#[test]
fn every_finding_says_what_to_do_in_both_languages() {
    for case in every_case() {
        for found in findings(&Sources::single(FILE, text(case))) {
            let japanese = |text: &str| {
                text.chars().any(|c| matches!(c, '\u{3040}'..='\u{30FF}' | '\u{4E00}'..='\u{9FFF}'))
            };
            assert!(
                !found.message_en.is_empty() && !found.help_en.is_empty(),
                "{}: {}",
                case.name,
                found.code
            );
            assert!(japanese(&found.message_ja) && japanese(&found.help_ja), "{}: {}", case.name, found.code);
            assert!(!japanese(&found.help_en.replace(|c: char| !c.is_ascii(), "")), "{}", case.name);
            assert!(!found.message_en.ends_with('.'), "{}: a full stop", case.name);
        }
    }
}

/// A code that no case provokes is a message that nobody has ever read.
#[test]
fn every_code_in_the_source_has_a_case() {
    let known: BTreeSet<&str> = every_case().map(|case| case.code).collect();
    // Provoked by tests of their own: sizes, includes and several sources.
    let elsewhere = BTreeSet::from([
        "no-source",
        "too-many-sources",
        "source-too-large",
        "include-too-deep",
        "unused-source",
        "duplicate-section",
        "too-many",
        "too-many-pairs",
        "text-too-long",
        "list-too-long",
        "authority-unreadable",
        "authority-ended",
        "bad-authority",
        "shared-authority",
    ]);
    let missing: Vec<String> = codes_in_source()
        .into_iter()
        .filter(|code| !known.contains(code.as_str()) && !elsewhere.contains(code.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(codes_in_source().len() > 60);
}

/// String literals that follow `Diagnostic::error(`, `Diagnostic::warning(` or begin a table of words.
fn codes_in_source() -> BTreeSet<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut codes = BTreeSet::new();
    let files = ["raw", "resolve", "resolve/vpn"].iter();
    let files = files.flat_map(|dir| std::fs::read_dir(format!("{root}/{dir}")).unwrap());
    let files = files.map(|file| file.unwrap().path());
    for file in files.filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(file).unwrap();
        for mark in [
            "Diagnostic::error(",
            "Diagnostic::warning(",
            ": Words = (",
            "context.twice(",
            "context.unknown(",
        ] {
            for rest in text.split(mark).skip(1) {
                if let Some(code) =
                    rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
                {
                    codes.insert(code.to_owned());
                }
            }
        }
    }
    codes
}
