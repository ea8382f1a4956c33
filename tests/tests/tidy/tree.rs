//! The files of this repository, as git sees them, and the form of a complaint.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs};

use anyhow::{Context, Result, ensure};

/// One text file of the repository.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// The path from the root of the repository, with `/` between its parts.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    /// Makes the sample files of the tests.
    pub(crate) fn planted(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// What is wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Complaint {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Complaint {
    pub(crate) fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.into(), line, message: message.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Fails the test with every complaint on a line of its own.
#[track_caller]
pub(crate) fn hold(complaints: &[Complaint]) {
    let lines: String = complaints.iter().map(|complaint| format!("\n  {complaint}")).collect();
    assert!(complaints.is_empty(), "{} complaint(s):{lines}", complaints.len());
}

/// Fails the test unless the planted samples led to complaints at just these places.
#[track_caller]
pub(crate) fn caught(complaints: &[Complaint], places: &[(&str, usize)]) {
    let found: Vec<_> =
        complaints.iter().map(|complaint| (complaint.path.as_str(), complaint.line)).collect();
    assert_eq!(found, places, "complaints: {complaints:#?}");
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads every text file that is tracked, or would be if it were added.
pub(crate) fn files() -> Result<Vec<SourceFile>> {
    let output = Command::new("git")
        // In a container the clone often belongs to another user.
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("cannot run `git`; the tidy test asks it which files belong to the repository")?;
    ensure!(
        output.status.success(),
        "`git ls-files` failed ({}); run the tidy test in a clone",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let files: Vec<_> = names.split_terminator('\0').filter_map(read).collect();
    ensure!(files.len() > 20, "only {} files found: this is not the whole repository", files.len());
    Ok(files)
}

pub(crate) fn rust_files() -> Result<Vec<SourceFile>> {
    Ok(files()?.into_iter().filter(SourceFile::is_rust).collect())
}

/// Reads one file; a symbolic link, a deleted file and a binary file have no text to judge.
fn read(path: &str) -> Option<SourceFile> {
    let full = root().join(path);
    let is_file = fs::symlink_metadata(&full).is_ok_and(|metadata| metadata.is_file());
    let text = is_file.then(|| fs::read_to_string(&full).ok()).flatten()?;
    Some(SourceFile { path: path.into(), text })
}

/// The number of the first line for which `wanted` holds, counted from 1; 1 where there is none.
pub(crate) fn line_where(text: &str, wanted: impl Fn(&str) -> bool) -> usize {
    text.lines().position(wanted).map_or(1, |index| index + 1)
}
