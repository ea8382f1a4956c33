//! The state directory under kills, damage and a full disk.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gateway::store::{DoorFile, Store, StoreError, Stored, TimeRecord};
use gateway::wire::SourceTexts;
use jiff::Timestamp;
use policy::ledger::Ledger;
use policy::ruleset::Ruleset;
use tempfile::TempDir;

fn stored(name: &str, next: u32, bytes: usize) -> Stored {
    let texts = BTreeMap::from([(name.to_owned(), "#".repeat(bytes))]);
    let mut ledger = Ledger::default();
    ledger.raise_floor(next);
    let sources = SourceTexts { main: name.to_owned(), texts, authorities: BTreeMap::new() };
    Stored::new(sources, ledger, Ruleset::default().id(), Timestamp::UNIX_EPOCH, 0)
}

fn name(store: &Store) -> Option<String> {
    store.applied().unwrap().map(|applied| applied.sources.main)
}

fn open() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("state")).unwrap();
    (directory, store)
}

/// Opens a store that this process has just let go of: a program that another test is starting meanwhile holds what its
/// parent held until it runs.
fn reopen(state: &Path) -> Store {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Store::open(state) {
            Err(StoreError::Locked(_)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome.unwrap(),
        }
    }
}

#[test]
fn a_candidate_counts_only_once_it_is_committed() {
    let (directory, store) = open();
    assert_eq!(name(&store), None);
    store.persist(&stored("a", 5, 10)).unwrap();
    assert_eq!(name(&store), None);
    store.commit().unwrap();
    assert_eq!(name(&store).as_deref(), Some("a"));
    store.persist(&stored("b", 9, 10)).unwrap();
    drop(store);
    let store = reopen(&directory.path().join("state"));
    assert_eq!(name(&store).as_deref(), Some("a"), "killed before the commit");
    assert_eq!(store.floor().unwrap(), 9, "the marks of an abandoned candidate are used up");
    store.persist(&stored("c", 3, 10)).unwrap();
    assert_eq!(store.floor().unwrap(), 9, "the floor never falls");
    store.forget_applied().unwrap();
    store.forget_applied().unwrap();
    assert_eq!(name(&store), None);
}

#[test]
fn what_a_kill_leaves_half_written_is_never_read() {
    let (directory, store) = open();
    store.write_applied(&stored("a", 1, 10)).unwrap();
    let state = directory.path().join("state");
    for leftover in [".applied.new", ".candidate.new", ".ledger-floor.new", ".time.new", "candidate"] {
        fs::write(state.join(leftover), b"{\"half").unwrap();
    }
    assert_eq!(name(&store).as_deref(), Some("a"));
    store.persist(&stored("b", 2, 10)).unwrap();
    store.commit().unwrap();
    assert_eq!(name(&store).as_deref(), Some("b"));
}

#[test]
fn damage_is_named_and_kept_aside() {
    let (directory, store) = open();
    let state = directory.path().join("state");
    for (number, bytes) in
        [b"".as_slice(), b"\xff\xfe\x00", b"[]", b"{\"format\":1}", b"{\"format\":1,\"more\":2}"]
            .into_iter()
            .enumerate()
    {
        fs::write(state.join("applied"), bytes).unwrap();
        let error = store.applied().unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        let kept = state.join(format!("applied.damaged-{}", number + 1));
        assert_eq!(fs::read(kept).unwrap(), bytes);
        assert_eq!(name(&store), None, "and then there is none");
    }
    let mut value = serde_json::to_value(stored("a", 1, 1)).unwrap();
    value.as_object_mut().unwrap().insert("format".to_owned(), 99.into());
    fs::write(state.join("applied"), value.to_string()).unwrap();
    assert!(store.applied().unwrap_err().to_string().contains("99"));
}

#[test]
fn a_second_daemon_is_refused_and_the_directory_is_private() {
    let (directory, store) = open();
    let state = directory.path().join("state");
    assert!(matches!(Store::open(&state), Err(StoreError::Locked(_))));
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    store.write_applied(&stored("a", 1, 1)).unwrap();
    assert_eq!(fs::metadata(state.join("applied")).unwrap().permissions().mode() & 0o777, 0o600);
    drop(store);
    reopen(&state);
}

#[test]
fn the_time_record_survives() {
    let (_directory, store) = open();
    assert_eq!(store.time().unwrap(), None);
    let record = TimeRecord { floor: Timestamp::UNIX_EPOCH, boot: "b".to_owned(), uptime_s: 7 };
    store.record_time(&record).unwrap();
    assert_eq!(store.time().unwrap(), Some(record));
}

/// A small tmpfs, unmounted whatever happens.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "sekisho-test"])
            .arg(disk.path())
            .status();
        assert!(mounted.unwrap().success(), "this test mounts a small disk: run it as root");
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing more can be done about a failure here than mount tables show.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_a_candidate_and_keeps_what_is_applied() {
    let disk = SmallDisk::mount();
    let store = Store::open(disk.path()).unwrap();
    store.persist(&stored("a", 1, 60_000)).unwrap();
    store.commit().unwrap();
    let error = store.persist(&stored("b", 2, 400_000)).unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert_eq!(name(&store).as_deref(), Some("a"));
    store.persist(&stored("c", 3, 60_000)).unwrap();
    fs::write(disk.path().join("filler"), vec![0; 1 << 20]).unwrap_err();
    store.commit().unwrap();
    assert_eq!(name(&store).as_deref(), Some("c"), "a commit takes no room");
}

#[test]
fn what_a_door_kept_is_missed_until_another_takes_its_place_or_it_is_removed() {
    let (directory, store) = open();
    let state = directory.path().join("state");
    let read = || store.door::<u32>(DoorFile::GrantMarks);
    assert_eq!(read().unwrap(), None, "a new box");
    fs::write(state.join("grant-marks"), b"12x").unwrap();
    assert!(matches!(read(), Err(StoreError::Damaged { .. })));
    fs::write(state.join("grant-marks.damaged-7"), b"later").unwrap();
    for _ in 0..2 {
        let Err(StoreError::Lost { path, kept }) = read() else {
            panic!("an empty one was begun in silence")
        };
        let places = ["grant-marks", "grant-marks.damaged-7"].map(|name| state.join(name));
        assert_eq!([path, kept], places);
    }
    store.keep_door(DoorFile::GrantMarks, &3_u32).unwrap();
    assert_eq!(read().unwrap(), Some(3), "another took its place");
    for name in ["grant-marks", "grant-marks.damaged-1", "grant-marks.damaged-7"] {
        fs::remove_file(state.join(name)).unwrap();
    }
    // Neither is a file kept aside of this one.
    for name in ["grant-marks.damaged-x", "engineers.damaged-1"] {
        fs::write(state.join(name), b"?").unwrap();
    }
    assert_eq!(read().unwrap(), None);
    assert!(matches!(store.door::<u32>(DoorFile::Engineers), Err(StoreError::Lost { .. })));
}
