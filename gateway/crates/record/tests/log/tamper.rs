//! A thousand ways, drawn from a seed, to change a log behind its back: each is found by verification with nothing but the
//! files, the public key and, for a log put back whole to what it once was, one checkpoint kept elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Random, copy, files, fill, open, scratch};
use record::verify::Fault;
use record::{VerifierKey, verify};
use tempfile::TempDir;

const CASES: u32 = 1000;
/// How many of them the slower verifier in Python judges too.
const PYTHON_EVERY: u32 = 25;
/// Deep enough for two levels of tiles and partial files on each.
const SIZE: u64 = 700;
const EARLIER: u64 = 300;

struct Scene {
    _directory: TempDir,
    /// The log of [`SIZE`] sealed entries and some in its journal.
    good: PathBuf,
    /// The same log when it had [`EARLIER`] entries.
    past: PathBuf,
    /// Its checkpoint then, kept elsewhere.
    kept: Vec<u8>,
    key: VerifierKey,
}

fn scene() -> Scene {
    let directory = scratch();
    let (good, past) = (directory.path().join("good"), directory.path().join("past"));
    let mut log = open(&good);
    fill(&mut log, EARLIER);
    log.seal().unwrap();
    copy(&good, &past);
    fill(&mut log, SIZE);
    log.seal().unwrap();
    let kept = fs::read(good.join("checkpoint")).unwrap();
    // A fresh journal, so that all of it that is not zero means something.
    drop(log);
    fs::remove_file(good.join("journal")).unwrap();
    let mut log = open(&good);
    fill(&mut log, SIZE + 20);
    let _ = fs::remove_dir(good.join("unfinished"));
    Scene { key: log.key(), good, past, kept, _directory: directory }
}

/// What was done to a log, in words.
type Deed = String;

fn pick<'a, T>(random: &mut Random, from: &'a [T]) -> &'a T {
    &from[random.next_u32() as usize % from.len()]
}

fn below(random: &mut Random, limit: usize) -> usize {
    random.next_u32() as usize % limit.max(1)
}

/// Files that a log is made of; the key is the verifier's own and the lock is empty.
fn parts(log: &Path) -> Vec<PathBuf> {
    let is_part =
        |path: &PathBuf| !["key", "key.pub", "lock"].contains(&path.file_name().unwrap().to_str().unwrap());
    files(log).into_iter().filter(is_part).collect()
}

/// How many bytes of a file mean something: all, but of the journal only its frames.
fn meaning(path: &Path, bytes: &[u8]) -> usize {
    if !path.ends_with("journal") {
        return bytes.len();
    }
    bytes.iter().rposition(|byte| *byte != 0).unwrap()
}

fn edit(log: &Path, random: &mut Random) -> Deed {
    let path = pick(random, &parts(log)).clone();
    let mut bytes = fs::read(&path).unwrap();
    let at = below(random, meaning(&path, &bytes));
    bytes[at] ^= 1 << below(random, 8);
    fs::write(&path, bytes).unwrap();
    format!("edited byte {at} of {}", path.display())
}

fn truncate(log: &Path, random: &mut Random) -> Deed {
    let path = pick(random, &parts(log)).clone();
    let bytes = fs::read(&path).unwrap();
    let length = below(random, bytes.len());
    fs::write(&path, &bytes[..length]).unwrap();
    format!("cut {} to {length} bytes", path.display())
}

fn lengthen(log: &Path, random: &mut Random) -> Deed {
    let path = pick(random, &parts(log)).clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend((0..=below(random, 64)).map(|_| 0));
    fs::write(&path, bytes).unwrap();
    format!("lengthened {}", path.display())
}

/// Only tiles: a journal may be missing, as in an export.
fn remove(log: &Path, random: &mut Random) -> Deed {
    let tiles: Vec<PathBuf> = parts(log).into_iter().filter(|path| !path.ends_with("journal")).collect();
    let path = pick(random, &tiles).clone();
    fs::remove_file(&path).unwrap();
    format!("removed {}", path.display())
}

fn swap_files(log: &Path, random: &mut Random) -> Deed {
    let all = parts(log);
    let (one, other) = (pick(random, &all).clone(), pick(random, &all).clone());
    let (first, second) = (fs::read(&one).unwrap(), fs::read(&other).unwrap());
    if first == second {
        return edit(log, random);
    }
    fs::write(&one, second).unwrap();
    fs::write(&other, first).unwrap();
    format!("swapped {} and {}", one.display(), other.display())
}

/// Two entries change places; the file stays well-formed.
fn reorder(log: &Path, random: &mut Random) -> Deed {
    let bundles: Vec<PathBuf> = files(&log.join("tile/entries"));
    let path = pick(random, &bundles).clone();
    let bytes = fs::read(&path).unwrap();
    let mut entries = split(&bytes);
    let (one, other) = (below(random, entries.len()), below(random, entries.len()));
    if entries[one] == entries[other] {
        return edit(log, random);
    }
    entries.swap(one, other);
    fs::write(&path, entries.concat()).unwrap();
    format!("swapped entries {one} and {other} of {}", path.display())
}

/// One entry goes, another comes twice: as many as before.
fn replace(log: &Path, random: &mut Random) -> Deed {
    let bundles: Vec<PathBuf> = files(&log.join("tile/entries"));
    let path = pick(random, &bundles).clone();
    let bytes = fs::read(&path).unwrap();
    let mut entries = split(&bytes);
    let (one, other) = (below(random, entries.len()), below(random, entries.len()));
    if entries[one] == entries[other] {
        return edit(log, random);
    }
    entries[one] = entries[other].clone();
    fs::write(&path, entries.concat()).unwrap();
    format!("entry {one} of {} became entry {other}", path.display())
}

/// A file that no log has.
fn plant(log: &Path, random: &mut Random) -> Deed {
    let path = log.join(*pick(
        random,
        &["tile/entries/note.txt", "tile/0/x001/000.bak", "tile/9/000", "tile/0/000.p/9/9"],
    ));
    if fs::create_dir_all(path.parent().unwrap()).is_err() {
        return edit(log, random);
    }
    fs::write(&path, b"planted").unwrap();
    format!("planted {}", path.display())
}

/// The whole log as it once was: only a checkpoint kept elsewhere tells.
fn roll_back(scene: &Scene, log: &Path) -> Deed {
    fs::remove_dir_all(log).unwrap();
    copy(&scene.past, log);
    "rolled back".to_owned()
}

/// Only some of it as it once was.
fn roll_back_in_part(scene: &Scene, log: &Path, random: &mut Random) -> Deed {
    let name = *pick(random, &["checkpoint", "tile/entries/001.p/44", "tile/1/000.p/1"]);
    let newer = ["checkpoint", "tile/entries/001", "tile/1/000.p/2"];
    let at =
        ["checkpoint", "tile/entries/001.p/44", "tile/1/000.p/1"].iter().position(|it| *it == name).unwrap();
    fs::copy(scene.past.join(name), log.join(newer[at])).unwrap();
    format!("{} is what {name} was", newer[at])
}

fn split(bundle: &[u8]) -> Vec<Vec<u8>> {
    let (mut entries, mut at) = (Vec::new(), 0);
    while at < bundle.len() {
        let length = 2 + usize::from(u16::from_be_bytes([bundle[at], bundle[at + 1]]));
        entries.push(bundle[at..at + length].to_vec());
        at += length;
    }
    entries
}

fn tamper(scene: &Scene, log: &Path, case: u32, random: &mut Random) -> Deed {
    match case % 10 {
        0 | 1 => edit(log, random),
        2 => truncate(log, random),
        3 => lengthen(log, random),
        4 => remove(log, random),
        5 => swap_files(log, random),
        6 => reorder(log, random),
        7 => replace(log, random),
        8 => plant(log, random),
        _ if random.next_u32().is_multiple_of(2) => roll_back(scene, log),
        _ => roll_back_in_part(scene, log, random),
    }
}

/// The verifier in Python: whether it calls a log good.
fn python_accepts(log: &Path, key: &VerifierKey, kept: &Path) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify_tlog.py");
    let output = Command::new("/usr/bin/python3")
        .arg(script)
        .arg(log)
        .arg(key.to_string())
        .arg("--checkpoint")
        .arg(kept)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(0) => true,
        Some(1) => false,
        other => panic!("{other:?}: {said}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn a_thousand_changes_are_found() {
    let scene = scene();
    let directory = scratch();
    let log = directory.path().join("log");
    let kept = directory.path().join("kept");
    fs::write(&kept, &scene.kept).unwrap();
    let earlier = [scene.kept.clone()];
    copy(&scene.good, &log);
    let report = verify(&log, &scene.key, &earlier);
    assert!(report.is_good() && report.entries == SIZE && report.unsealed == 20, "{report}");
    assert!(python_accepts(&log, &scene.key, &kept));
    for case in 0..CASES {
        let mut random = Random(case.into());
        let deed = tamper(&scene, &log, case, &mut random);
        let report = verify(&log, &scene.key, &earlier);
        assert!(!report.is_good(), "case {case}: {deed}");
        // The journal is our own format: the other verifier knows only what is public.
        if case % PYTHON_EVERY == 9 && !deed.contains("journal") {
            assert!(!python_accepts(&log, &scene.key, &kept), "case {case}: {deed}");
        }
        fs::remove_dir_all(&log).unwrap();
        copy(&scene.good, &log);
    }
}

#[test]
fn a_log_put_back_whole_is_good_by_itself_and_rolled_back_with_a_checkpoint_kept_elsewhere() {
    let scene = scene();
    assert!(verify(&scene.past, &scene.key, &[]).is_good());
    let report = verify(&scene.past, &scene.key, &[scene.kept]);
    assert_eq!(report.faults, [Fault::RolledBack { earlier: SIZE, now: EARLIER }]);
}

#[test]
fn a_log_written_anew_with_its_own_key_has_not_the_beginning_it_had() {
    let scene = scene();
    // Somebody who has the key makes a log of the same length with one entry changed.
    let forged = scratch();
    for name in ["key", "key.pub"] {
        fs::copy(scene.good.join(name), forged.path().join(name)).unwrap();
    }
    let mut log = open(forged.path());
    log.append(&[record::log::Item { bytes: b"changed", class: record::Class::Ordinary }])[0]
        .as_ref()
        .unwrap();
    fill(&mut log, SIZE + 50);
    log.seal().unwrap();
    assert!(verify(forged.path(), &scene.key, &[]).is_good(), "by itself nothing tells");
    let report = verify(forged.path(), &scene.key, &[scene.kept]);
    assert_eq!(report.faults, [Fault::Rewritten { earlier: SIZE }]);
}

#[test]
fn another_key_s_log_and_strangers_checkpoints_are_refused() {
    let scene = scene();
    let other = scratch();
    let key = open(other.path()).key();
    assert!(matches!(verify(&scene.good, &key, &[]).faults[..], [Fault::Checkpoint(_)]));
    let strange = fs::read(other.path().join("checkpoint")).unwrap();
    assert!(matches!(
        verify(&scene.good, &scene.key, &[strange]).faults[..],
        [Fault::Earlier { number: 1, .. }]
    ));
    assert!(!verify(Path::new("/nonexistent"), &scene.key, &[]).is_good());
}
