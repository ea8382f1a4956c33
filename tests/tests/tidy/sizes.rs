//! Functions of at most 70 lines, files of at most 600, and a ratchet for what is over: an entry of
//! ratchet.toml may shrink and go, not grow or come.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::tokens::functions;
use super::tree::{self, Complaint, SourceFile};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;
const RATCHET: &str = "tests/tests/tidy/ratchet.toml";

/// How many entries the ratchet may hold. Lower it whenever one goes; to raise it is a decision to defend
/// in review.
const RATCHET_ENTRIES_MAX: usize = 0;

/// What is over the limit and known: from a file, or a file and function, to its lines.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ratchet {
    function_lines: BTreeMap<String, usize>,
    file_lines: BTreeMap<String, usize>,
}

/// One thing that was measured.
#[derive(Debug)]
struct Measure {
    /// `path` or `path::function`.
    key: String,
    path: String,
    line: usize,
    lines: usize,
}

fn function_measures(files: &[SourceFile]) -> Vec<Measure> {
    let of_file = |file: &SourceFile| {
        let measure = |f: super::tokens::Function| Measure {
            key: format!("{}::{}", file.path, f.name),
            path: file.path.clone(),
            line: f.line,
            lines: f.lines,
        };
        functions(file).into_iter().map(measure).collect::<Vec<_>>()
    };
    files.iter().filter(|file| file.is_rust()).flat_map(of_file).collect()
}

fn file_measures(files: &[SourceFile]) -> Vec<Measure> {
    let measure = |file: &SourceFile| Measure {
        key: file.path.clone(),
        path: file.path.clone(),
        line: 1,
        lines: file.text.lines().count(),
    };
    files.iter().filter(|file| is_written_by_hand(file)).map(measure).collect()
}

fn is_written_by_hand(file: &SourceFile) -> bool {
    let is_script = file.path.starts_with("scripts/") || file.path.starts_with(".ci/");
    file.is_rust() || is_script || file.path == "Makefile"
}

/// Complains of what is over `limit` and not in the ratchet, or more than it says there, and of an entry
/// that says more than is so.
fn over(what: &str, limit: usize, measures: &[Measure], ratchet: &BTreeMap<String, usize>) -> Vec<Complaint> {
    let mut largest: BTreeMap<&str, &Measure> = BTreeMap::new();
    for measure in measures {
        let known = largest.entry(&measure.key).or_insert(measure);
        if measure.lines > known.lines {
            *known = measure;
        }
    }
    let too_long = largest.values().filter_map(|measure| {
        let allowed = ratchet.get(&measure.key).copied().unwrap_or(limit);
        let message =
            format!("{what} `{}` has {} lines, {allowed} are allowed; split it", measure.key, measure.lines);
        (measure.lines > allowed).then(|| Complaint::new(&measure.path, measure.line, message))
    });
    let stale = ratchet.iter().filter_map(|(key, &allowed)| {
        let lines = largest.get(key.as_str()).map_or(0, |measure| measure.lines);
        let cure = if lines <= limit { "delete the entry".into() } else { format!("lower it to {lines}") };
        let message = format!("{what} `{key}` is allowed {allowed} lines and has {lines}; {cure}");
        (lines < allowed || allowed <= limit).then(|| Complaint::new(RATCHET, 1, message))
    });
    too_long.chain(stale).collect()
}

fn entries(ratchet: &Ratchet, max: usize) -> Vec<Complaint> {
    let count = ratchet.function_lines.len() + ratchet.file_lines.len();
    let message = format!("the ratchet holds {count} entries, RATCHET_ENTRIES_MAX says {max}; ");
    let cure = if count > max { "split the code instead" } else { "lower the constant" };
    (count != max).then(|| Complaint::new(RATCHET, 1, message + cure)).into_iter().collect()
}

fn ratchet() -> Result<Ratchet> {
    let text = fs::read_to_string(tree::root().join(RATCHET)).context(RATCHET)?;
    toml::from_str(&text).context(RATCHET)
}

/// Median, ninth decile and maximum.
fn summary(measures: &[Measure]) -> String {
    let mut lines: Vec<usize> = measures.iter().map(|measure| measure.lines).collect();
    lines.sort_unstable();
    let at = |tenths: usize| lines.get(lines.len().saturating_sub(1) * tenths / 10).copied().unwrap_or(0);
    format!("{} measured, median {} lines, p90 {}, max {}", lines.len(), at(5), at(9), at(10))
}

#[test]
fn functions_are_short() -> Result<()> {
    let measures = function_measures(&tree::files()?);
    tree::hold(&over("function", FUNCTION_LINES_MAX, &measures, &ratchet()?.function_lines));
    Ok(())
}

#[test]
fn files_are_short() -> Result<()> {
    let measures = file_measures(&tree::files()?);
    tree::hold(&over("file", FILE_LINES_MAX, &measures, &ratchet()?.file_lines));
    Ok(())
}

#[test]
fn ratchet_only_shrinks() -> Result<()> {
    tree::hold(&entries(&ratchet()?, RATCHET_ENTRIES_MAX));
    Ok(())
}

/// Prints the sizes; style asks for medians under 12 (functions) and 250 (files).
#[test]
fn medians() -> Result<()> {
    let files = tree::rust_files()?;
    println!("functions: {}", summary(&function_measures(&files)));
    println!("files:     {}", summary(&file_measures(&files)));
    Ok(())
}

#[test]
fn planted_long_function_is_caught() {
    let of_lines = |lines: usize| format!("\nfn f() {{{}}}\n", "\n".repeat(lines - 1));
    let files = [
        SourceFile::planted("at_limit.rs", &of_lines(FUNCTION_LINES_MAX)),
        SourceFile::planted("over.rs", &of_lines(FUNCTION_LINES_MAX + 1)),
    ];
    let complaints = over("function", FUNCTION_LINES_MAX, &function_measures(&files), &BTreeMap::new());
    tree::caught(&complaints, &[("over.rs", 2)]);
}

#[test]
fn planted_long_file_is_caught() {
    let files = [
        SourceFile::planted("at_limit.rs", &"//\n".repeat(FILE_LINES_MAX)),
        SourceFile::planted("scripts/over", &"#\n".repeat(FILE_LINES_MAX + 1)),
        SourceFile::planted("golden.nft", &"#\n".repeat(FILE_LINES_MAX + 1)),
    ];
    let complaints = over("file", FILE_LINES_MAX, &file_measures(&files), &BTreeMap::new());
    tree::caught(&complaints, &[("scripts/over", 1)]);
}

#[test]
fn planted_ratchet_entries_are_judged() {
    let files = [("grew.rs", 710), ("held.rs", 700), ("shrank.rs", 690), ("small.rs", 10)]
        .map(|(path, lines)| SourceFile::planted(path, &"//\n".repeat(lines)));
    let known = ["gone.rs", "grew.rs", "held.rs", "shrank.rs", "small.rs"];
    let ratchet = Ratchet {
        file_lines: known.iter().map(|path| (String::from(*path), 700)).collect(),
        function_lines: BTreeMap::new(),
    };
    let complaints = over("file", FILE_LINES_MAX, &file_measures(&files), &ratchet.file_lines);
    let named = |name: &str| complaints.iter().filter(|c| c.message.contains(name)).count();
    assert_eq!(known.map(named), [1, 1, 0, 1, 1], "{complaints:#?}");
    assert_eq!(entries(&ratchet, 5), []);
    assert_eq!(entries(&ratchet, 4).len(), 1);
    assert_eq!(entries(&ratchet, 6).len(), 1);
}
