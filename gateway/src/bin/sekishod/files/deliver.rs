//! A released file's way into the vendor's drop: beside its place first, whole and durable; then under its name, which
//! never replaces another file's; then read back.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use transfer::{FileName, Hash, Released};

use super::journal::{Entry, Journal, Stage};
use super::keep::{directory, hash_of};

/// How many files of one name a drop may hold.
const SAME_NAME_MAX: u32 = 100;

/// What a delivery left in the drop, and whether it is what it should be.
#[derive(Debug)]
pub(super) struct Delivery {
    /// What must be gone again, should this not be a delivery after all.
    pub(super) leavings: Vec<PathBuf>,
    /// The hash of what lies there under its name.
    pub(super) result: io::Result<Hash>,
}

/// The drop of a vendor: below the root of all drops, one directory for the vendor, one more if the policy says so.
pub(super) fn drop_of(root: &Path, vendor: &str, below: Option<&str>) -> io::Result<PathBuf> {
    let plain = |name: &str| FileName::parse(name).map_err(io::Error::other);
    let vendor = root.join(plain(vendor)?.as_str());
    below.map_or(Ok(vendor.clone()), |name| Ok(vendor.join(plain(name)?.as_str())))
}

/// Delivers. Runs on a thread of its own: it waits for the disk, and is never left behind unfinished.
pub(super) fn deliver(
    held: &Path,
    to: &Path,
    released: &Released,
    entry: &Entry,
    journal: &Journal,
) -> Delivery {
    let beside = to.join(format!(".{}.part", released.transfer()));
    let mut leavings = vec![beside.clone()];
    let result = place(held, to, &beside, released, entry, journal).and_then(|place| {
        leavings.push(place.clone());
        // What lies there is read, not what was written.
        hash_of(&place)
    });
    Delivery { leavings, result }
}

fn place(
    held: &Path,
    to: &Path,
    beside: &Path,
    released: &Released,
    entry: &Entry,
    journal: &Journal,
) -> io::Result<PathBuf> {
    directory(to, 0o750)?;
    let copied = copy(held, beside, released.size_bytes())?;
    if copied != released.sha256() {
        return Err(io::Error::other("what is held is no longer what was released"));
    }
    File::open(to)?.sync_all()?;
    // From here on a restart takes the file for delivered as soon as it is not beside its place any more.
    let stage = Stage::Delivering { beside: beside.to_owned() };
    journal.write(&entry.at(stage))?;
    let place = rename(beside, to, released.name())?;
    File::open(to)?.sync_all()?;
    Ok(place)
}

fn copy(from: &Path, to: &Path, size_bytes: u64) -> io::Result<Hash> {
    let mut from = File::open(from)?.take(size_bytes);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o640).open(to)?;
    let mut hasher = Sha256::new();
    let mut room = vec![0; 256 << 10];
    loop {
        let count = from.read(&mut room)?;
        let bytes = room.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            file.sync_all()?;
            return Ok(Hash::from_bytes(hasher.finalize().into()));
        }
        hasher.update(bytes);
        file.write_all(bytes)?;
    }
}

/// Gives the file its name, or the first free one like it.
fn rename(beside: &Path, to: &Path, name: &FileName) -> io::Result<PathBuf> {
    for number in 1..=SAME_NAME_MAX {
        let place = to.join(numbered(name.as_str(), number));
        match renameat_with(CWD, beside, CWD, &place, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(place),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other(format!(
        "the drop has {SAME_NAME_MAX} files of this name; let somebody take them out"
    )))
}

/// `report.pdf`, `report (2).pdf`, ..
fn numbered(name: &str, number: u32) -> String {
    match (number, name.rsplit_once('.')) {
        (1, _) => name.to_owned(),
        (_, Some((stem, ending))) => format!("{stem} ({number}).{ending}"),
        (_, None) => format!("{name} ({number})"),
    }
}
