//! A log whose process is cut off at each step it makes on disk, one after the other, and opened again.

use std::path::Path;

use super::{Budget, Class, Item, Log};
use crate::verify::verify;

fn budget() -> Budget {
    Budget::new(1 << 30)
}

/// Appends a few groups and seals between them; gives the entries that were acknowledged.
fn work(log: &mut Log, round: u32) -> Vec<(u64, Vec<u8>)> {
    let mut acknowledged = Vec::new();
    // Over the edge of a bundle and of the first level.
    for (step, count) in [3_usize, 254, 1, 300].into_iter().enumerate() {
        let entries: Vec<Vec<u8>> = (0..count)
            .map(|number| format!("round {round} step {step} entry {number}").into_bytes())
            .collect();
        let items: Vec<Item<'_>> =
            entries.iter().map(|bytes| Item { bytes, class: Class::Ordinary }).collect();
        let results = log.append(&items);
        for (entry, result) in entries.iter().zip(results) {
            acknowledged.extend(result.ok().map(|index| (index, entry.clone())));
        }
        let _ = log.seal();
    }
    acknowledged
}

fn holds(directory: &Path, log: &mut Log, acknowledged: &[(u64, Vec<u8>)]) {
    log.seal().unwrap();
    let report = verify(directory, &log.key(), &[]);
    assert!(report.is_good(), "{report}");
    let view = crate::reader::View::open(directory, &log.key()).unwrap();
    let entries = view.entries(0..log.size(), usize::MAX).unwrap();
    for (index, entry) in acknowledged {
        assert_eq!(&entries[usize::try_from(*index).unwrap()].1, entry);
    }
}

#[test]
fn cut_off_at_any_step_nothing_acknowledged_is_lost() {
    let directory = crate::disk::in_memory();
    let path = directory.path();
    let mut acknowledged = Vec::new();
    let mut steps = 0;
    let mut cuts = 0;
    loop {
        let (mut log, _) = Log::open(path, budget()).unwrap();
        holds(path, &mut log, &acknowledged);
        log.disk.fuse.set(Some(steps));
        let before = log.size();
        acknowledged.extend(work(&mut log, steps));
        if log.broken().is_none() {
            break;
        }
        assert!(log.append(&[Item { bytes: b"after", class: Class::Critical }])[0].is_err());
        assert!(log.size() >= before);
        cuts += 1;
        // Most cuts fall into seals, whose steps repeat: every step of the first two, then every third.
        steps += if steps < 60 { 1 } else { 3 };
    }
    assert!(cuts > 50, "only {cuts} cuts: the fuse does not burn");
}

#[test]
fn a_log_cut_off_while_it_is_made_is_made_by_the_next_open() {
    // Each file of a new log, as a cut right after it leaves the directory.
    let whole = tempfile::tempdir().unwrap();
    drop(Log::open(whole.path(), budget()).unwrap());
    let order = ["key", "key.pub", "checkpoint", "journal"];
    for count in 0..=order.len() {
        let directory = crate::disk::in_memory();
        for name in order.iter().take(count) {
            std::fs::copy(whole.path().join(name), directory.path().join(name)).unwrap();
        }
        let (mut log, recovery) = Log::open(directory.path(), budget()).unwrap();
        assert_eq!(recovery.created, count < 3, "{count} files");
        assert!(log.append(&[Item { bytes: b"first", class: Class::Gate }])[0].is_ok());
        holds(directory.path(), &mut log, &[(0, b"first".to_vec())]);
    }
}
