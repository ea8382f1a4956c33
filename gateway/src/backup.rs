//! Backup and restore: the roles' state in one sealed file, and back, all or nothing.
//!
//! - [`age`]: the seal. `archive`: what is sealed. `files`: what belongs in it. `contents`: what it means.
//! - `plan`: what a restore changes, decided without touching anything. `place`: carrying it out, whatever is killed.
//! - `directory`: the roles' directories, which the roles own and root reads and writes.
//!
//! The log's entries and the ledger of flows are not in a backup: the log has an export of its own.

pub mod age;
mod archive;
mod contents;
mod directory;
mod files;
mod place;
mod plan;
#[cfg(test)]
mod tests;
mod untold;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::accounts::Accounts;
use crate::store::{StoreError, misses_no_door};

use self::age::{AgeError, Lock, Opener};
use self::files::{Files, Keeper};
use self::plan::Plan;

pub use self::archive::{FORMAT, Listed, Manifest};
pub use self::place::finish;
pub use self::plan::{LogOutcome, Outcome};
pub use self::untold::{Untold, keep as keep_untold, take as take_untold};

/// Where the roles' state directories are.
pub const STATE_ROOT: &str = "/var/lib";
/// The file that a daemon locks while it uses its state directory.
const LOCK: &str = "lock";

/// Why a backup is not made or not put back. Unless it says otherwise, nothing changed.
#[derive(Debug, Error)]
pub enum BackupError {
    /// A file could not be read or written.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something else than a role's own plain file.
    #[error("`{}` is no plain file of its role: find out who put it there", .0.display())]
    Planted(PathBuf),
    /// A file that is longer than it can be.
    #[error("`{}` is longer than {bytes_max} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The bound.
        bytes_max: u64,
    },
    /// The box's state cannot be backed up as it is.
    #[error("`{}` is damaged ({why}): a backup of it could not be put back", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Something that the doors keep was lost, and no backup should take the place of one that still has it.
    #[error("{lost}; a backup would lack it: {advice}", lost = .0, advice = .0.advice())]
    Lost(StoreError),
    /// Nothing to back up.
    #[error("there is no applied policy below `{}` to back up", .0.display())]
    NoPolicy(PathBuf),
    /// The sealed file.
    #[error("the backup does not open: {0}")]
    Sealed(#[from] AgeError),
    /// What was sealed is not a backup, or holds what makes no sense.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// Made by a later version.
    #[error(
        "the backup has format {0}, this version reads {FORMAT}: install the version that made it, or a later one"
    )]
    Newer(u32),
    /// Made by a version that is no longer read.
    #[error(
        "the backup has format {0}, this version reads {FORMAT}: restore it with the version that made it"
    )]
    Older(u32),
    /// Of another clinic.
    #[error(
        "the backup is of the site `{there}`, this box belongs to `{here}`: --adopt-site makes it that one"
    )]
    Foreign {
        /// This box.
        here: String,
        /// The backup.
        there: String,
    },
    /// The marks that were given cannot be known.
    #[error(
        "it cannot be known which marks this box has given ({0}): remove `ledger-floor` and `applied` by hand, restore, and \
         restart the box before the roles"
    )]
    FloorUnknown(String),
    /// A daemon holds its state.
    #[error("sekisho-{0} is running: stop it first (systemctl stop sekisho-{0})")]
    Running(&'static str),
    /// The user of a role is missing.
    #[error("there is no user `{0}` on this box: install Sekisho first")]
    NoUser(&'static str),
    /// What is left of a restore cannot be read.
    #[error("`{}`, left of a restore, cannot be used ({why}): restore again", path.display())]
    Staged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl BackupError {
    /// Whether the backup itself is refused, not something around it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            BackupError::Sealed(_)
            | BackupError::Damaged(_)
            | BackupError::Newer(_)
            | BackupError::Older(_)
            | BackupError::Foreign { .. } => true,
            BackupError::File { .. }
            | BackupError::Planted(_)
            | BackupError::TooLong { .. }
            | BackupError::State { .. }
            | BackupError::Lost(_)
            | BackupError::NoPolicy(_)
            | BackupError::FloorUnknown(_)
            | BackupError::Running(_)
            | BackupError::NoUser(_)
            | BackupError::Staged { .. } => false,
        }
    }

    /// Whether the user lacks the right.
    #[must_use]
    pub fn is_not_permitted(&self) -> bool {
        matches!(self, BackupError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// A backup, open.
#[derive(Debug)]
pub struct Backup {
    /// What it says of itself.
    pub manifest: Manifest,
    files: Files,
}

impl Backup {
    /// Takes the state below a root, as the roles have it now; they may go on meanwhile.
    ///
    /// # Errors
    /// When something cannot be read, or could not be put back.
    pub fn take(root: &Path, now: Timestamp) -> Result<Self, BackupError> {
        place::finish_all(root)?;
        let files = files::gather(root)?;
        let contents = contents::Contents::read(&files).map_err(|found| BackupError::State {
            path: found.place.keeper.directory(root).join(found.place.name),
            why: found.why,
        })?;
        let contents = contents.ok_or_else(|| BackupError::NoPolicy(root.to_owned()))?;
        misses_no_door(&Keeper::Core.directory(root)).map_err(|error| match error {
            StoreError::Io { doing, path, source } => BackupError::File { doing, path, source },
            lost => BackupError::Lost(lost),
        })?;
        let manifest = Manifest {
            format: FORMAT,
            product: env!("CARGO_PKG_VERSION").to_owned(),
            site: contents.policy.clinic.site,
            clinic: contents.policy.clinic.name,
            policy: contents.stored.ruleset.to_string(),
            created_at: now,
            files: archive::list(&files),
        };
        Ok(Backup { manifest, files })
    }

    /// Seals it.
    ///
    /// # Errors
    /// When it is too long, or there is nothing fit to seal it to.
    pub fn seal(&self, lock: &Lock) -> Result<Vec<u8>, BackupError> {
        let plain = Zeroizing::new(archive::write(&self.manifest, &self.files)?);
        let sealed = age::seal(&plain, lock)?;
        if sealed.len() as u64 > age::FILE_BYTES_MAX {
            return Err(BackupError::Damaged(format!("it is above {} bytes", age::FILE_BYTES_MAX)));
        }
        Ok(sealed)
    }

    /// Opens a sealed one; everything in it was found whole.
    ///
    /// # Errors
    /// When it is not, or is sealed to somebody else.
    pub fn open(sealed: &[u8], opener: &Opener) -> Result<Self, BackupError> {
        let plain = age::open(sealed, opener)?;
        let (manifest, files) = archive::read(&plain)?;
        Ok(Backup { manifest, files })
    }

    /// Says what a restore would do, and changes nothing.
    ///
    /// # Errors
    /// When a restore would be refused.
    pub fn check(&self, root: &Path, adopt_site: bool) -> Result<Outcome, BackupError> {
        Ok(self.plan(root, adopt_site)?.outcome)
    }

    /// Puts it in place. The roles whose state changes must be stopped.
    ///
    /// # Errors
    /// Before it is decided nothing changes; when only the end fails, doing it again or starting the roles ends it.
    pub fn restore(
        &self,
        root: &Path,
        adopt_site: bool,
        accounts: &Accounts,
        console: &Path,
    ) -> Result<Outcome, BackupError> {
        // Refused before anything is made.
        let planned = self.plan(root, adopt_site)?;
        let mut locks = Vec::new();
        for keeper in Keeper::ALL.into_iter().filter(|keeper| planned.touches(*keeper)) {
            place::prepare(root, keeper, accounts)?;
            locks.extend(stopped(root, keeper, console)?);
        }
        place::finish_all(root)?;
        // What is on the box may have changed until the locks were held.
        let plan = self.plan(root, adopt_site)?;
        if let Some(keeper) =
            Keeper::ALL.into_iter().find(|keeper| plan.touches(*keeper) && !planned.touches(*keeper))
        {
            return Err(BackupError::Running(keeper.word()));
        }
        place::carry_out(root, &plan)?;
        drop(locks);
        Ok(plan.outcome)
    }

    fn plan(&self, root: &Path, adopt_site: bool) -> Result<Plan, BackupError> {
        plan::plan(&self.manifest, &self.files, &files::gather(root)?, adopt_site)
    }
}

/// Makes sure that a role does not run, and will not while its lock is held.
fn stopped(root: &Path, keeper: Keeper, console: &Path) -> Result<Option<OwnedFd>, BackupError> {
    let running = || BackupError::Running(keeper.word());
    match keeper {
        Keeper::Core | Keeper::Record => {
            let Some(directory) = directory::Directory::open(&keeper.directory(root))? else {
                return Ok(None);
            };
            directory.lock(LOCK)?.ok_or_else(running).map(Some)
        }
        // It has no lock; while it runs it answers.
        Keeper::Console if UnixStream::connect(console).is_ok() => Err(running()),
        Keeper::Console => Ok(None),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
