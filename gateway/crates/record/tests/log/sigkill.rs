//! A process that appends is killed 200 times at random moments: every entry it was told is durable is there, the log
//! opens, verifies, and goes on.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Random, try_open};
use record::key::public_key;
use record::{Budget, View, verify};

const KILLS: u32 = 200;

/// Runs the appender for a while; gives the entries that it was told are durable.
fn run_and_kill(directory: &Path, patience: Duration) -> BTreeMap<u64, String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_record-appender"))
        .arg("many")
        .arg(directory)
        .arg("4")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(patience);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    // The last line may be cut off.
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    lines
        .map(|line| {
            let (index, entry) = line.split_once(' ').unwrap();
            (index.parse().unwrap(), entry.to_owned())
        })
        .collect()
}

#[test]
fn two_hundred_kills_lose_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut random = Random(42);
    let (mut acknowledged, mut cut_journals, mut seen) = (BTreeMap::new(), 0, 0_u64);
    let mut earlier = Vec::new();
    for kill in 0..KILLS {
        // Some die while they open the log, most while they append and seal.
        let patience = Duration::from_micros(u64::from(random.next_u32() % 90_000) + 2_000);
        let told = run_and_kill(path, patience);
        for (index, entry) in told {
            assert!(
                acknowledged.insert(index, entry).is_none(),
                "kill {kill}: number {index} was given twice"
            );
        }
        let (mut log, recovery) = try_open(path, Budget::new(1 << 30)).unwrap();
        cut_journals += u32::from(recovery.replayed > 0 || recovery.torn_bytes > 0);
        assert!(log.size() >= seen, "kill {kill}: the log became shorter");
        seen = log.size();
        log.seal().unwrap();
        drop(log);
        let key = public_key(path).unwrap();
        let report = verify(path, &key, &earlier);
        assert!(report.is_good(), "kill {kill}: {report}");
        earlier = vec![std::fs::read(path.join("checkpoint")).unwrap()];
    }
    let view = View::open(path, &public_key(path).unwrap()).unwrap();
    let entries: BTreeMap<u64, Vec<u8>> = view.entries(0..seen, usize::MAX).unwrap().into_iter().collect();
    for (index, entry) in &acknowledged {
        assert_eq!(entries.get(index).map(Vec::as_slice), Some(entry.as_bytes()), "entry {index}");
    }
    assert!(acknowledged.len() > 1000, "only {} entries were acknowledged", acknowledged.len());
    assert!(cut_journals > KILLS / 10, "only {cut_journals} kills met a log between checkpoints");
}
