//! `dashboards` writes what is generated into `dashboard/`; `dashboards --check` says what differs, and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Directories that hold generated files and nothing else.
const OWNED: [&str; 4] = ["grafana/ja", "grafana/en", "runbooks/ja", "runbooks/en"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_check = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--check"] => true,
        _ => {
            eprintln!("usage: dashboards [--check]");
            return ExitCode::from(2);
        }
    };
    match run(is_check) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells whether all is as it should be in the end.
fn run(is_check: bool) -> Result<bool, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = dashboard::files()?;
    let changed = changed(root, &files);
    let stale = stale(root, &files)?;
    for path in changed.iter().copied().chain(stale.iter().map(String::as_str)) {
        println!("{} {path}", if is_check { "differs:" } else { "written:" });
    }
    if is_check {
        if !changed.is_empty() || !stale.is_empty() {
            eprintln!("error: generated files differ; run `make dashboards` and commit the result");
        }
        return Ok(changed.is_empty() && stale.is_empty());
    }
    for (path, text) in files.iter().filter(|(path, _)| changed.contains(path.as_str())) {
        let place = root.join(path);
        fs::create_dir_all(place.parent().unwrap_or(root))?;
        fs::write(place, text)?;
    }
    for path in stale {
        fs::remove_file(root.join(path))?;
    }
    println!("{} files are as generated", files.len());
    Ok(true)
}

fn changed<'a>(root: &Path, files: &'a BTreeMap<String, String>) -> BTreeSet<&'a str> {
    let differs = |path: &str, text: &str| fs::read_to_string(root.join(path)).ok().as_deref() != Some(text);
    files.iter().filter(|(path, text)| differs(path, text)).map(|(path, _)| path.as_str()).collect()
}

/// Files that were generated once and are no longer.
fn stale(root: &Path, files: &BTreeMap<String, String>) -> io::Result<Vec<String>> {
    let mut stale = Vec::new();
    for directory in OWNED.into_iter().filter(|directory| root.join(directory).is_dir()) {
        for entry in fs::read_dir(root.join(directory))? {
            let path = PathBuf::from(directory).join(entry?.file_name());
            let path = path.to_string_lossy().into_owned();
            if !files.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    stale.sort();
    Ok(stale)
}
