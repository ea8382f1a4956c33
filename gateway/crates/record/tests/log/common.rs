//! Logs for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use record::log::Item;
use record::{Budget, Class, Log, OpenError, Recovery};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A place in memory where there is one: these tests do not cut the power.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What is appended at a number.
pub(crate) fn entry(number: u64) -> Vec<u8> {
    format!("{{\"entry\":{number},\"text\":\"{}\"}}", "記録".repeat(usize::try_from(number % 7).unwrap()))
        .into_bytes()
}

/// Opens a log with plenty of room.
pub(crate) fn open(directory: &Path) -> Log {
    try_open(directory, Budget::new(1 << 30)).unwrap().0
}

/// Opens a log; waits while it is locked: another test that starts a program has the lock's file for a moment, too.
pub(crate) fn try_open(directory: &Path, budget: Budget) -> Result<(Log, Recovery), OpenError> {
    let start = Instant::now();
    loop {
        match Log::open(directory, budget) {
            Err(OpenError::Locked(_)) if start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

/// Appends entries up to a number, in groups.
pub(crate) fn fill(log: &mut Log, until: u64) {
    while log.size() < until {
        let first = log.size();
        let entries: Vec<Vec<u8>> = (first..until.min(first + 97)).map(entry).collect();
        let items: Vec<Item<'_>> =
            entries.iter().map(|bytes| Item { bytes, class: Class::Ordinary }).collect();
        for (expected, result) in (first..).zip(log.append(&items)) {
            assert_eq!(result.unwrap(), expected);
        }
    }
}

/// Every file below a directory, sorted.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { directories.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Copies a directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

/// Numbers from a seed (SplitMix64), so that a failing case can be run again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Gives the next number.
    pub(crate) fn next_u32(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap()
    }
}
