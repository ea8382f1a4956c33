//! The closed list of what a backup holds, and whose it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::BackupError;
use super::directory::Directory;
use crate::accounts::{CONSOLE_USER, CORE_USER, RECORD_USER};

/// A role that keeps state worth a backup. What watch needs to know comes from the policy; its ledger is not backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keeper {
    Core,
    Record,
    Console,
}

impl Keeper {
    pub(super) const ALL: [Keeper; 3] = [Keeper::Core, Keeper::Record, Keeper::Console];

    /// Its name in the archive, and in units.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Keeper::Core => "core",
            Keeper::Record => "record",
            Keeper::Console => "console",
        }
    }

    pub(super) const fn user(self) -> &'static str {
        match self {
            Keeper::Core => CORE_USER,
            Keeper::Record => RECORD_USER,
            Keeper::Console => CONSOLE_USER,
        }
    }

    /// Its state directory: `StateDirectory=` of its unit.
    pub(super) fn directory(self, root: &Path) -> PathBuf {
        root.join(match self {
            Keeper::Core => "sekisho",
            Keeper::Record => "sekisho-record",
            Keeper::Console => "sekisho-console",
        })
    }

    /// Its files, each with the most bytes it may have.
    const fn files(self) -> &'static [(&'static str, u64)] {
        match self {
            Keeper::Core => &[
                (APPLIED, 192 << 20),
                (LEDGER_FLOOR, 64),
                (TIME, 4 << 10),
                (PERSONS, 16 << 20),
                (AUTHORITY, SHELF),
                (ENGINEERS, 16 << 20),
                (GRANT_MARKS, 64),
            ],
            Keeper::Record => &[(KEY, 1 << 10), (PUBLIC_KEY, 1 << 10), (CHECKPOINT, 64 << 10)],
            Keeper::Console => {
                &[(AUTHORITY, SHELF), (DOOR, SHELF), (READERS, SHELF), (TIMELINE, SHELF), (TOKEN, SHELF)]
            }
        }
    }
}

pub(super) const APPLIED: &str = "applied";
pub(super) const CANDIDATE: &str = "candidate";
pub(super) const LEDGER_FLOOR: &str = "ledger-floor";
pub(super) const TIME: &str = "time";
/// Second factors. Sessions are not kept: none outlives a restart of core.
pub(super) const PERSONS: &str = "persons";
pub(super) const ENGINEERS: &str = "engineers";
/// The first mark that no grant ever had: like the ledger's floor it never goes back.
pub(super) const GRANT_MARKS: &str = "grant-marks";
pub(super) const KEY: &str = record::key::KEY_FILE;
pub(super) const PUBLIC_KEY: &str = record::key::PUBLIC_KEY_FILE;
pub(super) const CHECKPOINT: &str = record::log::CHECKPOINT_FILE;
pub(super) const AUTHORITY: &str = "authority";
pub(super) const DOOR: &str = "door";
pub(super) const READERS: &str = "readers";
pub(super) const TIMELINE: &str = "timeline";
pub(super) const TOKEN: &str = "token";
/// Longest file of the console, and of an authority.
const SHELF: u64 = 1 << 20;

/// Where a file belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) keeper: Keeper,
    pub(super) name: &'static str,
}

impl Place {
    /// Every place there is, with the most bytes a file there may have.
    pub(super) fn all() -> impl Iterator<Item = (Place, u64)> {
        Keeper::ALL.into_iter().flat_map(|keeper| {
            keeper.files().iter().map(move |&(name, bytes_max)| (Place { keeper, name }, bytes_max))
        })
    }

    /// The place of a path in the archive, with its bound; nothing for any other path.
    pub(super) fn of_path(path: &str) -> Option<(Place, u64)> {
        Place::all().find(|(place, _)| place.path() == path)
    }

    /// Its path in the archive.
    pub(super) fn path(self) -> String {
        format!("{}/{}", self.keeper.word(), self.name)
    }
}

/// Files by place.
pub(super) type Files = BTreeMap<Place, Vec<u8>>;

/// Reads what stands below the root of the roles' directories.
pub(super) fn gather(root: &Path) -> Result<Files, BackupError> {
    let mut files = Files::new();
    for keeper in Keeper::ALL {
        let Some(directory) = Directory::open(&keeper.directory(root))? else { continue };
        for (place, bytes_max) in Place::all().filter(|(place, _)| place.keeper == keeper) {
            if let Some(bytes) = directory.read(place.name, bytes_max)? {
                files.insert(place, bytes);
            }
        }
    }
    Ok(files)
}
