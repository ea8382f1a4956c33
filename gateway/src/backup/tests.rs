use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::LazyLock;

use policy::ledger::Ledger;
use policy::raw::Sources;
use proptest::prelude::*;
use record::note::NoteSigner;
use record::{Checkpoint, TreeHash};
use tempfile::TempDir;

use super::age::{Identity, Recipient};
use super::directory::fuse;
use super::files::Place;
use super::plan::{FORMER_CHECKPOINT, FORMER_KEY};
use super::*;
use crate::store::{Store, Stored};

const CLINIC: &str = include_str!("../../../policy/examples/clinic.toml");
/// A flow of the example, and less than it.
const WIDE: &str = "service = \"https+orca\"";
const NARROW: &str = "service = \"https\"";

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity::generate().unwrap());
/// A policy takes a moment to compile.
static SAKURA: LazyLock<Stored> = LazyLock::new(|| stored(CLINIC, &Ledger::default()));
static NARROWED: LazyLock<Stored> = LazyLock::new(|| {
    assert!(CLINIC.contains(WIDE), "the example has changed");
    stored(&CLINIC.replacen(WIDE, NARROW, 1), &Ledger::default())
});
static BACKUP: LazyLock<Backup> = LazyLock::new(|| Box::sakura().take());

/// A box: the directory that stands for `/var/lib`, with the roles' directories as units make them.
struct Box {
    root: TempDir,
}

impl Box {
    /// As installed, before any role ran.
    fn bare() -> Self {
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        for keeper in Keeper::ALL {
            let path = keeper.directory(root.path());
            fs::create_dir(&path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        Box { root }
    }

    /// As it is after a while.
    fn used(stored: &Stored, name: &str) -> Self {
        let one = Box::bare();
        let store = Store::open(&Keeper::Core.directory(one.path())).unwrap();
        store.persist(stored).unwrap();
        store.commit().unwrap();
        one.write("core/time", br#"{"floor":"2026-03-02T00:00:00Z","boot":"a-boot","uptime_s":7}"#);
        let signer = NoteSigner::from_seed(name, [7; 32]).unwrap();
        let tree = Checkpoint { origin: name.to_owned(), size: 0, root: TreeHash::empty() };
        one.write("record/key", format!("{}\n", signer.secret_text()).as_bytes());
        one.write("record/key.pub", format!("{}\n", signer.verifier()).as_bytes());
        one.write("record/checkpoint", tree.sign(&signer).as_bytes());
        for file in ["persons", "authority", "engineers"] {
            one.write(&format!("core/{file}"), format!("{{\"{file}\":\"{name}\"}}").as_bytes());
        }
        one.write("core/grant-marks", b"2147483655");
        for file in ["authority", "door", "readers", "timeline"] {
            one.write(&format!("console/{file}"), format!("{{\"{file}\":\"{name}\"}}").as_bytes());
        }
        one
    }

    fn sakura() -> Self {
        Box::used(&SAKURA, "sakura-log")
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn place(&self, path: &str) -> PathBuf {
        let (keeper, name) = path.split_once('/').unwrap();
        let keeper = Keeper::ALL.into_iter().find(|found| found.word() == keeper).unwrap();
        keeper.directory(self.path()).join(name)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        fs::write(self.place(path), bytes).unwrap();
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.place(path)).ok()
    }

    fn stored(&self) -> Stored {
        serde_json::from_slice(&self.read("core/applied").unwrap()).unwrap()
    }

    fn take(&self) -> Backup {
        Backup::take(self.path(), Timestamp::UNIX_EPOCH).unwrap()
    }

    fn restore(&self, backup: &Backup) -> Result<Outcome, BackupError> {
        backup.restore(self.path(), false, &Accounts::default(), &self.path().join("no-socket"))
    }

    /// What the roles find when they start: each ends in its own directory what a restore left.
    fn start(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for keeper in Keeper::ALL {
            let directory = keeper.directory(self.path());
            finish(&directory).unwrap();
            for entry in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
                let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
                if entry.is_file() && name != LOCK {
                    found.insert(format!("{}/{name}", keeper.word()), fs::read(entry).unwrap());
                }
            }
        }
        found
    }
}

fn stored(text: &str, ledger: &Ledger) -> Stored {
    let at = "2026-03-02T00:00:00Z".parse().unwrap();
    let sources = Sources::single("clinic.toml", text);
    let policy = policy::resolve::load(&sources, at).unwrap().policy;
    let compiled = policy::compile::compile(&policy, ledger).unwrap();
    Stored::new(sources.into(), compiled.ledger, compiled.ruleset.id(), at, 0)
}

fn lock() -> Lock {
    Lock::Recipients(vec![IDENTITY.recipient()])
}

fn opener() -> Opener {
    Opener::Identities(vec![IDENTITY.clone()])
}

/// A backup with another manifest, sealed and opened again.
fn with_manifest(backup: &Backup, change: impl FnOnce(&mut Manifest)) -> Result<Backup, BackupError> {
    let mut manifest = backup.manifest.clone();
    change(&mut manifest);
    let changed = Backup { manifest, files: backup.files.clone() };
    Backup::open(&changed.seal(&lock()).unwrap(), &opener())
}

#[test]
fn what_is_backed_up_comes_back_on_a_bare_box() {
    let from = Box::sakura();
    let sealed = from.take().seal(&lock()).unwrap();
    let backup = Backup::open(&sealed, &opener()).unwrap();
    assert_eq!(backup.manifest.site, "sakura-01");
    assert_eq!(backup.manifest.policy, SAKURA.ruleset.to_string());
    let to = Box::bare();
    let said = backup.check(to.path(), false).unwrap();
    assert!(to.start().is_empty(), "a check changes nothing");
    let outcome = to.restore(&backup).unwrap();
    assert_eq!(said.put, outcome.put);
    assert_eq!(outcome.policy, SAKURA.ruleset.to_string());
    assert!(outcome.marks_kept);
    assert_eq!(to.stored(), *SAKURA);
    let kept = [
        "core/ledger-floor",
        "core/time",
        "core/persons",
        "core/authority",
        "core/engineers",
        "core/grant-marks",
        "console/authority",
        "console/door",
        "console/readers",
    ];
    for path in kept {
        assert_eq!(to.read(path), from.read(path), "{path}");
        let mode = fs::metadata(to.place(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    assert_eq!(outcome.log, LogOutcome::New);
    assert_eq!(to.read("record/key"), None, "one key signs one log");
    assert_eq!(to.read(&format!("record/{FORMER_KEY}")), from.read("record/key.pub"));
    assert_eq!(to.read(&format!("record/{FORMER_CHECKPOINT}")), from.read("record/checkpoint"));
    assert_eq!(to.read("console/timeline"), None, "it points into the former log");
    let store = Store::open(&Keeper::Core.directory(to.path())).unwrap();
    assert_eq!(store.applied().unwrap().unwrap(), *SAKURA, "and core reads it");
}

#[test]
fn what_was_half_staged_when_it_was_killed_has_not_happened() {
    let to = Box::sakura();
    fs::create_dir(to.place("core/restored")).unwrap();
    to.write("core/restored/plan.json", b"{\"format\":1,\"rest");
    let found = to.start();
    assert!(found.contains_key("core/applied"), "no role is kept from starting by it");
    assert_eq!(to.stored(), *SAKURA);
}

#[test]
fn what_was_found_by_nobody_is_no_state() {
    let bare = Box::bare();
    let error = Backup::take(bare.path(), Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(matches!(error, BackupError::NoPolicy(_)), "{error}");
    let broken = Box::sakura();
    broken.write("core/applied", b"{\"format\":1");
    let error = Backup::take(broken.path(), Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(matches!(error, BackupError::State { .. }), "{error}");
}

#[test]
fn a_box_with_marks_of_its_own_never_gives_one_twice() {
    let narrow = &*NARROWED;
    let backup = Box::used(narrow, "sakura-log").take();
    // Since then the flow became wider, which keeps its mark, and another one came and went.
    let wide = stored(CLINIC, &narrow.ledger);
    let to = Box::used(&wide, "sakura-log");
    to.write("core/ledger-floor", b"900");
    let outcome = to.restore(&backup).unwrap();
    let restored = to.stored();
    assert_eq!(restored.sources, narrow.sources);
    assert!(!outcome.marks_kept);
    let flows: Vec<String> = flows(&wide);
    let renewed: Vec<&String> =
        flows.iter().filter(|flow| restored.ledger.mark(flow) != wide.ledger.mark(flow)).collect();
    assert_eq!(renewed.len(), 1, "the one that allows less than its connections were let in by: {renewed:?}");
    assert_eq!(restored.ledger.mark(renewed[0]).unwrap().0, 900);
    assert_eq!(to.read("core/ledger-floor").unwrap(), b"901");
    // Nor a grant's, whichever of the two is further.
    to.write("core/grant-marks", b"2147483700");
    to.restore(&backup).unwrap();
    assert_eq!(to.read("core/grant-marks").unwrap(), b"2147483700");
    // A box whose policy is damaged and whose floor is not.
    let damaged = Box::sakura();
    damaged.write("core/applied", b"nonsense");
    damaged.write("core/ledger-floor", b"5000");
    damaged.restore(&backup).unwrap();
    let restored = damaged.stored();
    assert!(flows.iter().all(|flow| restored.ledger.mark(flow).is_some_and(|mark| mark.0 >= 5000)));
    damaged.write("core/ledger-floor", b"nonsense");
    assert!(matches!(damaged.restore(&backup), Err(BackupError::FloorUnknown(_))));
}

fn flows(stored: &Stored) -> Vec<String> {
    contents::resolve(stored).unwrap().flows().map(|(_, flow)| flow.name.to_string()).collect()
}

#[test]
fn the_log_and_the_timeline_of_a_box_are_never_set_back() {
    let backup = Box::sakura().take();
    let to = Box::sakura();
    to.write("record/checkpoint", &[&to.read("record/checkpoint").unwrap()[..], b"\n"].concat());
    to.write("console/timeline", b"{\"later\":true}");
    to.write("console/token", b"{}");
    to.write("core/candidate", b"half");
    let before = to.start();
    let outcome = to.restore(&backup).unwrap();
    assert_eq!((outcome.log, outcome.marks_kept), (LogOutcome::Same, true));
    let after = to.start();
    for path in ["record/key", "record/key.pub", "record/checkpoint", "console/timeline"] {
        assert_eq!(after[path], before[path], "{path}");
    }
    assert!(!after.contains_key("console/token"), "the backup has none");
    assert!(!after.contains_key("core/candidate"));
    let other = Box::used(&SAKURA, "another-log");
    assert_eq!(other.restore(&backup).unwrap().log, LogOutcome::Other);
    assert!(other.read("record/key").unwrap().starts_with(b"PRIVATE+KEY+another-log"));
}

#[test]
fn a_log_that_lost_its_key_gets_it_back() {
    let backup = Box::sakura().take();
    let to = Box::sakura();
    let before = to.start();
    fs::remove_file(to.place("record/key")).unwrap();
    fs::remove_file(to.place("record/key.pub")).unwrap();
    fs::remove_file(to.place("console/timeline")).unwrap();
    assert_eq!(to.restore(&backup).unwrap().log, LogOutcome::KeyPutBack);
    assert_eq!(to.start(), before);
    // A log that another key signed keeps waiting for its own.
    let other = Box::used(&SAKURA, "another-log");
    fs::remove_file(other.place("record/key")).unwrap();
    assert_eq!(other.restore(&backup).unwrap().log, LogOutcome::Other);
    assert_eq!(other.read("record/key"), None);
}

#[test]
fn foreign_newer_older_and_locked_away() {
    let backup = Box::sakura().take();
    let other = stored(&CLINIC.replacen("sakura-01", "tsubaki-01", 1), &Ledger::default());
    let to = Box::used(&other, "tsubaki-log");
    let before = to.start();
    let error = to.restore(&backup).unwrap_err();
    assert!(
        matches!(&error, BackupError::Foreign { here, there } if here == "tsubaki-01" && there == "sakura-01")
    );
    assert!(backup.check(to.path(), false).is_err());
    for (format, wanted) in [(FORMAT + 1, "later"), (0, "the version that made it")] {
        let error = with_manifest(&backup, |manifest| manifest.format = format).unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains(wanted), "{error}");
    }
    let error = with_manifest(&backup, |manifest| drop(manifest.files.pop())).unwrap_err();
    assert!(matches!(error, BackupError::Damaged(_)), "{error}");
    let lied = with_manifest(&backup, |manifest| manifest.site = "tsubaki-01".to_owned()).unwrap();
    assert!(matches!(to.restore(&lied), Err(BackupError::Damaged(_))));
    let stranger = Opener::Identities(vec![Identity::generate().unwrap()]);
    let error = Backup::open(&backup.seal(&lock()).unwrap(), &stranger).unwrap_err();
    assert!(matches!(error, BackupError::Sealed(AgeError::NoMatch)), "{error}");
    assert_eq!(to.start(), before);
    let adopted = backup.restore(to.path(), true, &Accounts::default(), Path::new("/no-socket")).unwrap();
    assert_eq!(to.stored().ruleset.to_string(), adopted.policy);
    assert_eq!(to.stored().sources, SAKURA.sources);
}

#[test]
fn a_running_role_is_not_restored() {
    let backup = Box::sakura().take();
    let to = Box::sakura();
    let store = Store::open(&Keeper::Core.directory(to.path())).unwrap();
    assert!(matches!(to.restore(&backup), Err(BackupError::Running("core"))));
    drop(store);
    let socket = to.path().join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let restored = backup.restore(to.path(), false, &Accounts::default(), &socket);
    assert!(matches!(restored, Err(BackupError::Running("console"))));
    drop(listener);
    backup.restore(to.path(), false, &Accounts::default(), &socket).unwrap();
    let bare = Box::bare();
    fs::remove_dir(Keeper::Console.directory(bare.path())).unwrap();
    assert!(matches!(bare.restore(&backup), Err(BackupError::NoUser("sekisho-console"))));
}

#[test]
fn what_the_doors_lost_is_not_backed_up_without_it() {
    let from = Box::sakura();
    let backup = from.take();
    for file in ["core/persons", "core/authority", "core/engineers", "core/grant-marks"] {
        from.write(file, b"{");
        fs::rename(from.place(file), from.place(&format!("{file}.damaged-1"))).unwrap();
        let lost = Backup::take(from.path(), Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(matches!(lost, BackupError::Lost(_)) && lost.to_string().contains(".damaged-1"), "{lost}");
        from.restore(&backup).unwrap();
        from.take();
    }
    fs::remove_file(from.place("core/persons")).unwrap();
    assert!(Backup::take(from.path(), Timestamp::UNIX_EPOCH).is_err());
    fs::remove_file(from.place("core/persons.damaged-1")).unwrap();
    from.take();
}

#[test]
fn what_a_role_planted_is_not_followed() {
    let from = Box::sakura();
    let secret = from.path().join("secret");
    fs::write(&secret, b"{}").unwrap();
    fs::remove_file(from.place("console/timeline")).unwrap();
    symlink(&secret, from.place("console/timeline")).unwrap();
    assert!(matches!(Backup::take(from.path(), Timestamp::UNIX_EPOCH), Err(BackupError::Planted(_))));
    fs::remove_file(from.place("console/timeline")).unwrap();
    fs::hard_link(&secret, from.place("console/timeline")).unwrap();
    assert!(matches!(Backup::take(from.path(), Timestamp::UNIX_EPOCH), Err(BackupError::Planted(_))));
    fs::remove_file(from.place("console/timeline")).unwrap();
    fs::write(from.place("console/timeline"), vec![b' '; (1 << 20) + 1]).unwrap();
    assert!(matches!(Backup::take(from.path(), Timestamp::UNIX_EPOCH), Err(BackupError::TooLong { .. })));
    fs::remove_file(from.place("console/timeline")).unwrap();
    let backup = from.take();
    let to = Box::bare();
    symlink(from.path(), to.place("console/restored")).unwrap();
    to.restore(&backup).unwrap();
    assert_eq!(fs::read(&secret).unwrap(), b"{}");
}

/// Cut off before every change on disk in turn, the box is what it was, or what it should become, for every role.
#[test]
fn a_kill_at_any_point_leaves_the_old_state_or_the_new() {
    let backup = Box::sakura().take();
    let other = &*NARROWED;
    let whole = Box::used(other, "sakura-log");
    whole.restore(&backup).unwrap();
    let new = whole.start();
    let (mut olds, mut news) = (0, 0);
    for steps in 0.. {
        let to = Box::used(other, "sakura-log");
        to.write("console/token", b"{}");
        let old = to.start();
        fuse::set(Some(steps));
        let restored = to.restore(&backup);
        fuse::set(None);
        let found = to.start();
        match (found == old, found == new) {
            (true, false) => olds += 1,
            (false, true) => news += 1,
            other => panic!("after {steps} steps, old and new: {other:?}, {:?}", found.keys()),
        }
        // And whatever was left does not keep the next restore from its end.
        to.restore(&backup).unwrap();
        assert_eq!(to.start().get("console/door"), new.get("console/door"));
        if restored.is_ok() {
            break;
        }
    }
    assert!(olds > 10 && news > 10, "{olds} old, {news} new");
}

/// Killed while it ends what a restore left, a role ends it at its next start.
#[test]
fn a_role_that_is_killed_while_it_finishes_finishes_later() {
    let backup = Box::sakura().take();
    let (reference, mut is_cut) = (Box::bare(), false);
    reference.restore(&backup).unwrap();
    let new = reference.start();
    for steps in 0..40 {
        let to = Box::bare();
        let plan = backup.plan(to.path(), false).unwrap();
        // Up to the commit and not one step further.
        let commit = (0..).find(|steps| {
            fuse::set(Some(*steps));
            let _ = place::carry_out(to.path(), &plan);
            fuse::set(None);
            to.path().join("sekisho-restore/committed").exists()
        });
        assert!(commit.is_some());
        fuse::set(Some(steps));
        for keeper in Keeper::ALL {
            is_cut |= finish(&keeper.directory(to.path())).is_err();
        }
        fuse::set(None);
        assert_eq!(to.start(), new);
    }
    assert!(is_cut);
}

#[test]
fn what_could_not_be_told_waits_and_is_told_once() {
    let to = Box::bare();
    let deed = |sha256: &str| Untold {
        at: Timestamp::UNIX_EPOCH,
        by: 0,
        deed: events::Deed::Restore { sha256: sha256.to_owned() },
    };
    keep_untold(to.path(), deed("a")).unwrap();
    keep_untold(to.path(), deed("b")).unwrap();
    assert_eq!(take_untold(to.path(), |_| false).unwrap(), 0);
    let mut told = Vec::new();
    let tell = |deed: &Untold| {
        told.push(deed.clone());
        told.len() < 2
    };
    assert_eq!(take_untold(to.path(), tell).unwrap(), 1);
    assert_eq!(told, [deed("a"), deed("b")]);
    assert_eq!(take_untold(to.path(), |found| *found == deed("b")).unwrap(), 1);
    assert_eq!(take_untold(to.path(), |_| true).unwrap(), 0);
}

#[test]
fn the_places_are_those_of_the_store() {
    let to = Box::sakura();
    let text = serde_json::to_string(&to.stored()).unwrap();
    assert!(text.starts_with("{\"format\":1,"), "contents.rs reads this format of `applied`");
    for (place, _) in Place::all() {
        assert_eq!(Place::of_path(&place.path()).map(|(found, _)| found), Some(place));
    }
    assert!(Recipient::parse(&IDENTITY.recipient().to_string()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Sealed by somebody with the key, and wrong: refused, or put in place as a whole.
    #[test]
    fn a_changed_backup_is_refused_or_whole(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        change in 0..5u8, in_archive in any::<bool>(),
    ) {
        let (backup, to) = (&*BACKUP, Box::sakura());
        let old = to.start();
        let outcome = if in_archive {
            let mut plain = archive::write(&backup.manifest, &backup.files).unwrap();
            mutate(&mut plain, at, byte, change);
            archive::read(&plain).map(|(manifest, files)| Backup { manifest, files })
        } else {
            let mut files = backup.files.clone();
            let index = which.index(files.len());
            mutate(files.values_mut().nth(index).unwrap(), at, byte, change);
            let manifest = Manifest { files: archive::list(&files), ..backup.manifest.clone() };
            Ok(Backup { manifest, files })
        };
        match outcome.and_then(|backup| to.restore(&backup).map(|_| backup)) {
            Err(error) => {
                prop_assert!(error.is_refusal(), "{}", error);
                prop_assert_eq!(to.start(), old);
            }
            Ok(backup) => {
                let new = to.start();
                for path in ["console/authority", "console/door", "console/readers"] {
                    prop_assert_eq!(&new[path], &backup.files[&Place::of_path(path).unwrap().0]);
                }
                prop_assert_eq!(to.take().manifest.site, "sakura-01");
            }
        }
    }
}

fn mutate(bytes: &mut Vec<u8>, at: prop::sample::Index, byte: u8, change: u8) {
    let at = at.index(bytes.len());
    match change {
        0 => bytes[at] ^= byte.max(1),
        1 => bytes.truncate(at),
        2 => bytes.insert(at, byte),
        3 => drop(bytes.remove(at)),
        _ => bytes[at] = b'9',
    }
}
