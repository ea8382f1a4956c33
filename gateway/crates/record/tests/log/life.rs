//! The life of a log: appended, sealed, read, proved, closed, opened again; and everything that can be wrong with its
//! directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::{entry, fill, open, scratch, try_open};
use record::key::{KeyError, public_key};
use record::log::Item;
use record::reader::ReadError;
use record::tile::files_of;
use record::verify::Watchdog;
use record::{
    AppendError, Budget, Checkpoint, Class, Committer, Full, Log, OpenError, TreeHash, View, verify,
};

const fn ordinary(bytes: &[u8]) -> Item<'_> {
    Item { bytes, class: Class::Ordinary }
}

#[test]
fn what_is_appended_is_read_and_proved_at_every_size() {
    let directory = scratch();
    let mut log = open(directory.path());
    let key = log.key();
    let mut earlier: Vec<Checkpoint> = vec![log.sealed().clone()];
    for size in [1, 2, 255, 256, 257, 512, 700] {
        fill(&mut log, size);
        log.seal().unwrap();
        let mut view = View::open(directory.path(), &key).unwrap();
        assert_eq!(view.checkpoint().size, size);
        for index in [0, size / 2, size - 1] {
            let proof = view.prove_inclusion(index).unwrap();
            assert_eq!(proof.check(&entry(index), &key).unwrap().size, size);
            assert!(proof.check(&entry(index + 1), &key).is_err());
        }
        for before in &earlier {
            let proof = view.prove_consistency(before.size).unwrap();
            assert_eq!(&proof.check(before, &key).unwrap(), log.sealed());
            let other = Checkpoint { root: TreeHash::leaf(b"other"), ..before.clone() };
            assert!(proof.check(&other, &key).is_err());
            assert_eq!(view.root_at(before.size).unwrap(), before.root);
        }
        earlier.push(log.sealed().clone());
        assert!(matches!(view.prove_inclusion(size), Err(ReadError::Beyond { .. })));
        assert!(matches!(view.prove_consistency(size + 1), Err(ReadError::Beyond { .. })));
        assert!(verify(directory.path(), &key, &[]).is_good());
    }
    let view = View::open(directory.path(), &key).unwrap();
    let all = view.entries(0..700, usize::MAX).unwrap();
    assert!(all.iter().all(|(index, bytes)| *bytes == entry(*index)) && all.len() == 700);
    assert_eq!(view.entries(255..258, usize::MAX).unwrap().len(), 3, "over the edge of a bundle");
    assert_eq!(view.entries(10..600, 1).unwrap().len(), 1, "at least one, however long");
    assert!(matches!(view.entries(699..701, usize::MAX), Err(ReadError::Beyond { index: 700, .. })));
}

#[test]
fn a_closed_log_goes_on_where_it_was_and_so_does_one_that_was_not_closed() {
    let directory = scratch();
    let mut log = open(directory.path());
    fill(&mut log, 300);
    log.seal().unwrap();
    fill(&mut log, 333);
    // Not sealed: as after a kill.
    drop(log);
    let (mut log, recovery) = try_open(directory.path(), Budget::new(1 << 30)).unwrap();
    assert_eq!((recovery.replayed, recovery.created, log.size()), (33, false, 333));
    let report = verify(directory.path(), &log.key(), &[]);
    assert!(report.is_good() && report.unsealed == 33 && report.entries == 300, "{report:?}");
    log.seal().unwrap();
    fill(&mut log, 1000);
    log.seal().unwrap();
    let report = verify(directory.path(), &log.key(), &[]);
    assert!(report.is_good() && report.unsealed == 0 && report.entries == 1000, "{report:?}");
    let files = crate::common::files(&directory.path().join("tile"));
    assert_eq!(files.iter().filter(|path| path.to_str().unwrap().contains(".p/")).count(), 3, "{files:?}");
}

#[test]
fn every_file_of_a_log_can_be_named_and_read() {
    let directory = scratch();
    let mut log = open(directory.path());
    fill(&mut log, 700);
    log.seal().unwrap();
    let view = View::open(directory.path(), &log.key()).unwrap();
    let named: Vec<_> = files_of(700).map(|tile| directory.path().join(tile.path())).collect();
    let mut there = crate::common::files(&directory.path().join("tile"));
    assert!(named.iter().all(|path| there.contains(path)), "{named:?}");
    there.retain(|path| !named.contains(path));
    assert!(there.is_empty(), "{there:?}");
    for tile in files_of(700) {
        assert_eq!(view.file(tile).unwrap(), fs::read(directory.path().join(tile.path())).unwrap());
    }
    assert!(view.file(files_of(1000).last().unwrap()).is_err());
}

#[test]
fn one_process_has_the_log() {
    let directory = scratch();
    let _log = open(directory.path());
    assert!(matches!(Log::open(directory.path(), Budget::new(0)), Err(OpenError::Locked(_))));
}

#[test]
fn a_key_that_is_missing_wrong_or_open_to_others_is_not_replaced() {
    let directory = scratch();
    let key = directory.path().join("key");
    let mut log = open(directory.path());
    fill(&mut log, 3);
    log.seal().unwrap();
    drop(log);
    let reopen = || try_open(directory.path(), Budget::new(0)).map(drop).unwrap_err();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(reopen(), OpenError::Key(KeyError::Exposed { mode: 0o640, .. })));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let secret = fs::read(&key).unwrap();
    fs::write(&key, b"PRIVATE+KEY+nonsense").unwrap();
    assert!(matches!(reopen(), OpenError::Key(KeyError::Malformed { .. })));
    let other = scratch();
    drop(open(other.path()));
    fs::copy(other.path().join("key"), &key).unwrap();
    assert!(matches!(reopen(), OpenError::Key(KeyError::Unpaired(_))));
    fs::copy(other.path().join("key.pub"), directory.path().join("key.pub")).unwrap();
    assert!(matches!(reopen(), OpenError::Checkpoint { .. }), "another log's key");
    fs::remove_file(&key).unwrap();
    assert!(matches!(reopen(), OpenError::Key(KeyError::Missing(_))));
    fs::write(&key, secret).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(directory.path().join("key.pub")).unwrap();
    assert_eq!(open(directory.path()).size(), 3, "the public half can be made again");
}

#[test]
fn a_checkpoint_that_is_missing_torn_or_older_is_an_error() {
    let directory = scratch();
    let path = directory.path().join("checkpoint");
    let mut log = open(directory.path());
    fill(&mut log, 300);
    log.seal().unwrap();
    let old = fs::read(&path).unwrap();
    fill(&mut log, 600);
    log.seal().unwrap();
    drop(log);
    let reopen = || try_open(directory.path(), Budget::new(0)).map(drop).unwrap_err();
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(matches!(reopen(), OpenError::Checkpoint { .. }));
    fs::write(&path, &old).unwrap();
    assert!(matches!(reopen(), OpenError::Disk(_) | OpenError::Damaged { .. }));
    fs::remove_file(&path).unwrap();
    assert!(matches!(reopen(), OpenError::CheckpointMissing(_)));
    fs::write(&path, &good).unwrap();
    assert_eq!(open(directory.path()).size(), 600);
}

#[test]
fn a_damaged_right_edge_or_journal_is_an_error() {
    let directory = scratch();
    let mut log = open(directory.path());
    fill(&mut log, 300);
    log.seal().unwrap();
    fill(&mut log, 310);
    let _ = log.append(&[ordinary(b"last")]);
    drop(log);
    for name in ["tile/entries/001.p/44", "tile/0/001.p/44", "tile/1/000.p/1", "journal"] {
        let path = directory.path().join(name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[31] ^= 4;
        fs::write(&path, &bad).unwrap();
        let error = try_open(directory.path(), Budget::new(0)).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{name}: {error}");
        fs::write(&path, &good).unwrap();
    }
    fs::remove_file(directory.path().join("journal")).unwrap();
    let (_, recovery) = try_open(directory.path(), Budget::new(0)).unwrap();
    assert!(recovery.journal_missing && recovery.replayed == 0, "said, for it may have held something");
}

#[test]
fn an_entry_may_be_empty_and_as_long_as_the_format_allows_and_no_longer() {
    let directory = scratch();
    let mut log = open(directory.path());
    let (longest, too_long) = (vec![7; 65_535], vec![7; 65_536]);
    let results = log.append(&[ordinary(b""), ordinary(&too_long), ordinary(&longest)]);
    assert!(matches!(results[1], Err(AppendError::TooLong(65_536))));
    assert_eq!((results[0].as_ref().unwrap(), results[2].as_ref().unwrap()), (&0, &1));
    // More than the journal holds at once: it seals by itself.
    let many: Vec<Item<'_>> = (0..300).map(|_| ordinary(&longest)).collect();
    assert!(log.append(&many).into_iter().all(|result| result.is_ok()));
    log.seal().unwrap();
    let view = View::open(directory.path(), &log.key()).unwrap();
    assert_eq!(view.entries(301..302, usize::MAX).unwrap()[0].1, longest);
    assert!(verify(directory.path(), &log.key(), &[]).is_good());
}

#[test]
fn a_budget_that_is_used_up_keeps_its_reserve_for_what_is_critical() {
    let directory = scratch();
    let budget = Budget::new(Budget::BYTES_MIN);
    let (mut log, _) = try_open(directory.path(), budget).unwrap();
    let big = vec![b'x'; 60_000];
    let mut count = 0;
    while log.append(&[ordinary(&big)])[0].is_ok() {
        count += 1;
        assert!(count < 1000, "the budget is not held");
    }
    assert!(count > 100);
    assert_eq!(log.full(), Some(Full::Budget));
    let item = |class| Item { bytes: b"small", class };
    assert!(matches!(log.append(&[item(Class::Gate)])[0], Ok(_) | Err(AppendError::Full(Full::Budget))));
    let results = log.append(&[
        ordinary(&big),
        Item { bytes: &big, class: Class::Gate },
        Item { bytes: &big, class: Class::Critical },
    ]);
    assert!(matches!(results[0], Err(AppendError::Full(Full::Budget))));
    assert!(matches!(results[1], Err(AppendError::Full(Full::Budget))));
    assert_eq!(*results[2].as_ref().unwrap(), log.size() - 1, "critical: out of the reserve");
    log.seal().unwrap();
    assert!(log.used_bytes() <= budget.bytes_max);
    assert!(log.append(&[item(Class::Critical)])[0].is_ok(), "a checkpoint leaves the reserve alone");
    // Raised in the policy: there is room again.
    log.set_budget(Budget::new(1 << 30));
    assert!(log.full().is_none() && log.append(&[ordinary(&big)])[0].is_ok());
    // Lowered below what it holds: what gives more room again can still be recorded.
    for _ in 0..20 {
        assert!(log.append(&[ordinary(&big)])[0].is_ok());
    }
    log.set_budget(budget);
    log.seal().unwrap();
    let results = log.append(&[ordinary(b"small"), item(Class::Critical)]);
    assert!(matches!(results[0], Err(AppendError::Full(Full::Budget))));
    assert!(results[1].is_ok(), "{results:?}");
    log.set_budget(Budget::new(1 << 30));
    log.seal().unwrap();
    let used = log.used_bytes();
    drop(log);
    let log = open(directory.path());
    assert!(
        log.used_bytes().abs_diff(used) < 1 << 20,
        "what is taken is counted again when the log is opened"
    );
    assert!(matches!(
        try_open(scratch().path(), Budget { bytes_max: 1, reserve_bytes: 0 }).map(drop),
        Err(OpenError::Budget)
    ));
}

#[test]
fn many_appenders_share_writes_and_each_is_told_its_number() {
    let directory = scratch();
    let committer = Committer::start(open(directory.path()), Duration::from_millis(5)).unwrap();
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let appenders: Vec<_> = (0..8_u64)
            .map(|appender| {
                let handle = committer.handle();
                scope.spawn(move || {
                    (0..200)
                        .map(|number| handle.append(entry(appender * 1000 + number), Class::Gate).unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        appenders.into_iter().flat_map(|appender| appender.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1600).collect::<Vec<_>>());
    let handle = committer.handle();
    assert_eq!(handle.seal().unwrap().size, 1600);
    assert_eq!((handle.status().size, handle.status().refused), (1600, 0));
    assert!(matches!(handle.append(vec![0; 70_000], Class::Critical), Err(AppendError::TooLong(70_000))));
    drop(committer);
    assert!(matches!(handle.append(vec![0], Class::Critical), Err(AppendError::Closed)));
    let key = public_key(directory.path()).unwrap();
    assert!(verify(directory.path(), &key, &[]).is_good());
}

#[test]
fn a_log_is_sealed_soon_after_an_append_and_when_it_is_closed() {
    let directory = scratch();
    let committer = Committer::start(open(directory.path()), Duration::from_millis(1)).unwrap();
    let handle = committer.handle();
    handle.append(b"one".to_vec(), Class::Ordinary).unwrap();
    while handle.status().sealed.size < 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(committer);
    let committer = Committer::start(open(directory.path()), Duration::from_secs(3600)).unwrap();
    let handle = committer.handle();
    handle.append(b"two".to_vec(), Class::Ordinary).unwrap();
    assert_eq!(handle.status().sealed.size, 1, "not yet");
    handle.append(b"three".to_vec(), Class::Critical).unwrap();
    while handle.status().sealed.size < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    handle.append(b"four".to_vec(), Class::Ordinary).unwrap();
    drop(committer);
    assert_eq!(open(directory.path()).sealed().size, 4);
}

#[test]
fn a_log_that_grows_is_verified_while_it_grows() {
    let directory = scratch();
    let committer = Committer::start(open(directory.path()), Duration::from_millis(50)).unwrap();
    let key = public_key(directory.path()).unwrap();
    let mut watchdog = Watchdog::new(directory.path(), key.clone());
    std::thread::scope(|scope| {
        let handle = committer.handle();
        let appender = scope.spawn(move || {
            for number in 0..1500 {
                handle.append(entry(number), Class::Ordinary).unwrap();
                std::thread::sleep(Duration::from_micros(700));
            }
        });
        while !appender.is_finished() {
            let report = watchdog.check_new();
            assert!(report.is_good(), "{report}");
            let report = verify(directory.path(), &key, &[]);
            assert!(report.is_good(), "{report}");
        }
    });
    drop(committer);
    let report = watchdog.check_new();
    assert!(report.is_good() && report.entries < 1500, "only what is new is read: {report:?}");
    assert_eq!(watchdog.check_all().entries, 1500);
    // What was good is looked at again by a whole run, not by one for what is new.
    let bundle = directory.path().join("tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[9] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    assert!(watchdog.check_new().is_good());
    assert!(!watchdog.check_all().is_good());
}

#[test]
fn a_log_put_back_to_an_earlier_state_is_not_forgotten_by_reading_it_all() {
    for (earlier, later) in [(300, 900), (900, 901), (1, 2)] {
        let directory = scratch();
        let mut log = open(directory.path());
        fill(&mut log, earlier);
        log.seal().unwrap();
        let [before, after] = ["before", "after"].map(|name| directory.path().with_extension(name));
        let copy = |from: &Path, to: &Path| {
            let _ = fs::remove_dir_all(to);
            assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
        };
        copy(directory.path(), &before);
        fill(&mut log, later);
        log.seal().unwrap();
        copy(directory.path(), &after);
        let mut watchdog = Watchdog::new(directory.path(), public_key(directory.path()).unwrap());
        assert!(watchdog.check_all().is_good());
        copy(&before, directory.path());
        // By itself it is in order: only who saw more of it knows.
        assert!(verify(directory.path(), &public_key(directory.path()).unwrap(), &[]).is_good());
        for round in 0..2 {
            let [all, new] = [watchdog.check_all(), watchdog.check_new()];
            for report in [all, new] {
                assert!(!report.is_good(), "round {round}: {earlier} of {later}: {report}");
            }
        }
        copy(&after, directory.path());
        assert!(watchdog.check_new().is_good() && watchdog.check_all().is_good());
        [&before, &after].into_iter().for_each(|copied| fs::remove_dir_all(copied).unwrap());
    }
}

#[test]
fn who_asks_sees_how_long_a_write_takes() {
    let directory = scratch();
    let committer = Committer::start(open(directory.path()), Duration::from_secs(3600)).unwrap();
    let handle = committer.handle();
    assert_eq!(handle.status().at_work, None);
    let (free, held) = std::sync::mpsc::channel::<()>();
    handle.submit(b"one".to_vec(), Class::Ordinary, move |_| {
        let _ = held.recv();
    });
    let long = Duration::from_millis(20);
    while handle.status().at_work.is_none_or(|taken| taken < long) {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(free);
    while handle.status().at_work.is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_entry_is_found_wherever_it_lies_among_the_last_few_thousand() {
    let directory = scratch();
    let mut log = open(directory.path());
    for size in [1, 255, 256, 257, 600, 5000] {
        fill(&mut log, size);
        let earlier = size.saturating_sub(300);
        assert_eq!(log.find(&entry(size - 1)), Some(size - 1), "not sealed, of {size}");
        assert_eq!((log.find(&entry(earlier)), log.find(&entry(size))), (Some(earlier), None));
        log.seal().unwrap();
        assert_eq!(log.find(&entry(size - 1)), Some(size - 1), "sealed");
    }
    assert_eq!(
        (log.find(&entry(1000)), log.find(&entry(0))),
        (Some(1000), None),
        "what is long ago is not read"
    );
    log.append(&[ordinary(&entry(7)), ordinary(&entry(4999))]);
    drop(log);
    let log = open(directory.path());
    assert_eq!(
        (log.find(&entry(7)), log.find(&entry(4999))),
        (Some(5000), Some(5001)),
        "of the journal, the newest"
    );
    // A tile that cannot be read holds nothing, and stops nobody.
    for path in crate::common::files(&directory.path().join("tile/0")) {
        fs::write(path, b"").unwrap();
    }
    assert_eq!((log.find(&entry(1000)), log.find(&entry(7))), (None, Some(5000)));
}

#[test]
fn what_is_handed_over_again_is_one_entry() {
    let directory = scratch();
    let committer = Committer::start(open(directory.path()), Duration::from_secs(3600)).unwrap();
    let handle = committer.handle();
    let (send, receive) = std::sync::mpsc::channel();
    let told = || {
        let send = send.clone();
        move |result: Result<u64, AppendError>| send.send(result.unwrap()).unwrap()
    };
    for number in 0..300 {
        // Most of them while the first ones still wait; once in a while of another entry in between.
        handle.submit(entry(number), Class::Ordinary, told());
        handle.submit_again(entry(number / 2), Class::Critical, told());
        handle.submit_again(entry(number), Class::Ordinary, told());
    }
    let mut numbers: Vec<u64> = receive.iter().take(900).collect();
    numbers.sort_unstable();
    let mut expected: Vec<u64> = (0..300).flat_map(|number| [number, number, number / 2]).collect();
    expected.sort_unstable();
    assert_eq!(numbers, expected);
    // What was never there is appended.
    handle.submit_again(entry(1000), Class::Ordinary, told());
    assert_eq!(receive.recv().unwrap(), 300);
    // Said for the first time, it is another entry, whatever it says.
    assert_eq!(handle.append(entry(1000), Class::Ordinary).unwrap(), 301);
    drop(committer);
    assert_eq!(open(directory.path()).size(), 302);
}
