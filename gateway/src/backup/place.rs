//! Putting a restore in place: all of it or nothing, whatever is killed when.
//!
//! 1. Staged: each role's new files are written into `restored/` of its own directory, with a plan, durably.
//! 2. Committed: one rename puts the restore's number into `sekisho-restore/committed`, beside the roles' directories.
//!    Before it the box is as it was; from then on the restore has happened.
//! 3. Finished: each directory's files are renamed into place. Whoever comes first does what is left: this program, or
//!    the role itself before it reads its state ([`finish`]).

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::age;
use super::directory::{Directory, Owner, burn};
use super::files::{Keeper, Place};
use super::plan::Plan;
use super::{BackupError, hex};
use crate::accounts::Accounts;

/// Where a role's new files wait, inside its directory.
const STAGED: &str = "restored";
const STAGED_PLAN: &str = "plan.json";
const STAGED_FORMAT: u32 = 1;
const STAGED_BYTES_MAX: u64 = 16 << 10;
/// Where it is told that a restore has happened, beside the roles' directories; every role may read it.
const JOURNAL: &str = "sekisho-restore";
const COMMITTED: &str = "committed";
/// Where a file of the journal is written before it is whole.
const UNFINISHED: &str = ".unfinished";
const NUMBER_BYTES_MAX: u64 = 64;

/// What waits in a role's directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Staged {
    format: u32,
    /// The restore it belongs to.
    restore: String,
    /// Files to be put in place.
    put: Vec<String>,
    /// Files to be removed.
    remove: Vec<String>,
}

/// Carries a plan out. The directories of the roles that it touches exist.
pub(super) fn carry_out(root: &Path, plan: &Plan) -> Result<(), BackupError> {
    let number = number()?;
    let journal = journal(root)?;
    let staged = Keeper::ALL.into_iter().filter(|keeper| plan.touches(*keeper)).try_for_each(|keeper| {
        let directory = open(&keeper.directory(root))?;
        stage(&directory, keeper, plan, &number)
    });
    if let Err(error) = staged.and_then(|()| commit(&journal, &number)) {
        discard(root);
        return Err(error);
    }
    finish_all(root)
}

/// Does what is left of restores that have happened.
pub(super) fn finish_all(root: &Path) -> Result<(), BackupError> {
    let Some(journal) = Directory::open(&root.join(JOURNAL))? else { return Ok(()) };
    if journal.read(COMMITTED, NUMBER_BYTES_MAX)?.is_none() {
        return Ok(());
    }
    for keeper in Keeper::ALL {
        finish(&keeper.directory(root))?;
    }
    journal.remove(COMMITTED)?;
    journal.sync()
}

/// Does what is left of a restore in one role's directory; called by the role before it reads its state. Tells whether
/// anything was left.
///
/// # Errors
/// When it cannot be done: the directory then holds old and new files, and must not be used.
pub fn finish(directory: &Path) -> Result<bool, BackupError> {
    let Some(directory) = Directory::open(directory)? else { return Ok(false) };
    // Asked first: what is staged and has not happened may be half made, and not even the role's yet.
    let Some(number) = committed(directory.path())? else { return Ok(false) };
    let Some(staged) = directory.sub(STAGED)? else { return Ok(false) };
    let Some(plan) = read_plan(&staged)? else { return Ok(false) };
    if number != plan.restore {
        return Ok(false);
    }
    for name in plan.put.iter().filter(|name| is_plain(name)) {
        // One that is missing is in its place already.
        staged.move_to(name, &directory, name)?;
    }
    for name in plan.remove.iter().filter(|name| is_plain(name)) {
        directory.remove(name)?;
    }
    directory.sync()?;
    staged.remove(STAGED_PLAN)?;
    staged.sync()?;
    directory.remove_sub(STAGED)?;
    directory.sync()?;
    Ok(true)
}

/// Opens a role's directory, making it where it is missing.
pub(super) fn prepare(root: &Path, keeper: Keeper, accounts: &Accounts) -> Result<Directory, BackupError> {
    let path = keeper.directory(root);
    if let Some(directory) = Directory::open(&path)? {
        return Ok(directory);
    }
    let name = keeper.user();
    let owner = accounts.user_id(name).zip(accounts.group_id(name));
    let owner = owner.map(|(user, group)| Owner { user, group });
    Directory::make(&path, owner.ok_or(BackupError::NoUser(name))?, 0o700)
}

/// Reads a file beside the roles' directories.
pub(super) fn read_journal(root: &Path, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, BackupError> {
    Directory::open(&root.join(JOURNAL))?.map_or(Ok(None), |journal| journal.read(name, bytes_max))
}

/// Writes or removes a file beside the roles' directories, for root alone.
pub(super) fn write_journal(root: &Path, name: &str, bytes: Option<&Vec<u8>>) -> Result<(), BackupError> {
    let journal = journal(root)?;
    match bytes {
        Some(bytes) => replace(&journal, name, bytes, 0o600),
        None => journal.remove(name).and_then(|()| journal.sync()),
    }
}

fn stage(directory: &Directory, keeper: Keeper, plan: &Plan, number: &str) -> Result<(), BackupError> {
    clear(directory.path())?;
    let staged = directory.make_sub(STAGED)?;
    let puts = || plan.puts.iter().filter(|(place, _)| place.keeper == keeper);
    for (place, bytes) in puts() {
        staged.write_new(place.name, bytes)?;
    }
    let removes = plan.removes.iter().filter(|place| place.keeper == keeper);
    let names =
        |places: &mut dyn Iterator<Item = &Place>| places.map(|place| place.name.to_owned()).collect();
    let text = serde_json::to_vec(&Staged {
        format: STAGED_FORMAT,
        restore: number.to_owned(),
        put: names(&mut puts().map(|(place, _)| place)),
        remove: names(&mut removes.into_iter()),
    });
    staged.write_new(STAGED_PLAN, &text.map_err(|error| BackupError::Damaged(error.to_string()))?)?;
    staged.sync()?;
    directory.sync()
}

/// The moment of a restore.
fn commit(journal: &Directory, number: &str) -> Result<(), BackupError> {
    replace(journal, COMMITTED, number.as_bytes(), 0o644)
}

fn replace(journal: &Directory, name: &str, bytes: &[u8], mode: u32) -> Result<(), BackupError> {
    journal.remove(UNFINISHED)?;
    journal.write_with_mode(UNFINISHED, bytes, mode)?;
    journal.move_to(UNFINISHED, journal, name)?;
    journal.sync()
}

fn read_plan(staged: &Directory) -> Result<Option<Staged>, BackupError> {
    let Some(text) = staged.read(STAGED_PLAN, STAGED_BYTES_MAX)? else { return Ok(None) };
    let path = staged.path().join(STAGED_PLAN);
    let unfit = |why: String| BackupError::Staged { path: path.clone(), why };
    let plan: Staged = serde_json::from_slice(&text).map_err(|error| unfit(error.to_string()))?;
    if plan.format == STAGED_FORMAT {
        Ok(Some(plan))
    } else {
        Err(unfit("another version made it".to_owned()))
    }
}

/// The restore that has happened last, asked from inside a role's directory.
fn committed(directory: &Path) -> Result<Option<String>, BackupError> {
    let Some(root) = directory.parent() else { return Ok(None) };
    let Some(journal) = Directory::open(&root.join(JOURNAL))? else { return Ok(None) };
    let number = journal.read(COMMITTED, NUMBER_BYTES_MAX)?;
    Ok(number.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn journal(root: &Path) -> Result<Directory, BackupError> {
    let path = root.join(JOURNAL);
    if let Some(journal) = Directory::open(&path)? {
        return Ok(journal);
    }
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Directory::make(&path, Owner { user, group }, 0o755)
}

/// Throws away what was staged and has not happened. It takes only room.
fn discard(root: &Path) {
    for keeper in Keeper::ALL {
        let path = keeper.directory(root);
        let _ = clear(&path);
    }
}

fn clear(directory: &Path) -> Result<(), BackupError> {
    let path = directory.join(STAGED);
    burn(&path)?;
    match fs::remove_dir_all(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::File { doing: "remove", path, source })
        }
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<Directory, BackupError> {
    Directory::open(path)?.ok_or_else(|| BackupError::File {
        doing: "open",
        path: path.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    })
}

/// A name inside its directory, which is no way out of it.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && name != STAGED && !name.contains('/')
}

/// A number that no other restore has.
fn number() -> Result<String, BackupError> {
    Ok(hex(&age::random::<16>()?))
}
