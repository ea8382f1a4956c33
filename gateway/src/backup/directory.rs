//! A role's state directory in root's hands. The role owns what is in it, so nothing in it is trusted to be what it
//! seems: every file is opened below the directory's own descriptor, links are never followed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::BackupError;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// User and group of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: u32,
    pub(super) group: u32,
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    file: OwnedFd,
    path: PathBuf,
    /// Whose it is.
    pub(super) owner: Owner,
}

impl Directory {
    /// Opens a directory; nothing when there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, BackupError> {
        Self::opened(fs::open(path, FOLDER, Mode::empty()), path)
    }

    /// Opens a directory inside.
    pub(super) fn sub(&self, name: &str) -> Result<Option<Self>, BackupError> {
        Self::opened(fs::openat(&self.file, name, FOLDER, Mode::empty()), &self.path.join(name))
    }

    /// Makes a directory that is not there yet.
    pub(super) fn make(path: &Path, owner: Owner, mode: u32) -> Result<Self, BackupError> {
        burn(path)?;
        fs::mkdir(path, Mode::from_raw_mode(mode)).map_err(failed("make", path))?;
        Self::made(Self::open(path)?, path, owner, mode)
    }

    /// Makes a directory inside that is not there yet, for its owner alone.
    pub(super) fn make_sub(&self, name: &str) -> Result<Self, BackupError> {
        let path = self.path.join(name);
        burn(&path)?;
        fs::mkdirat(&self.file, name, Mode::RWXU).map_err(failed("make", &path))?;
        Self::made(self.sub(name)?, &path, self.owner, 0o700)
    }

    /// Reads a file of the directory's owner; nothing when there is none.
    pub(super) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, BackupError> {
        let path = self.path.join(name);
        // Without blocking, should somebody have put a pipe there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(&self.file, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(BackupError::Planted(path)),
            other => other.map_err(failed("open", &path))?,
        };
        let found = fs::fstat(&file).map_err(failed("look at", &path))?;
        if !self.is_own_file(&found) {
            return Err(BackupError::Planted(path));
        }
        let mut bytes = Vec::new();
        let read = File::from(file).take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
        let length =
            read.map_err(|source| BackupError::File { doing: "read", path: path.clone(), source })?;
        if u64::try_from(length).is_ok_and(|length| length <= bytes_max) {
            Ok(Some(bytes))
        } else {
            Err(BackupError::TooLong { path, bytes_max })
        }
    }

    /// Writes a file that is not there yet, for the owner alone, durably.
    pub(super) fn write_new(&self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        self.write_with_mode(name, bytes, 0o600)
    }

    /// The same with other permission bits.
    pub(super) fn write_with_mode(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), BackupError> {
        let path = self.path.join(name);
        burn(&path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let file = fs::openat(&self.file, name, flags, mode).map_err(failed("write", &path))?;
        give(&file, self.owner, &path)?;
        // The umask of whoever restores is not the role's.
        fs::fchmod(&file, mode).map_err(failed("write", &path))?;
        let mut file = File::from(file);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|source| BackupError::File { doing: "write", path, source })
    }

    /// Moves a file into another directory, over what is there; tells whether there was one to move.
    pub(super) fn move_to(&self, name: &str, to: &Directory, new_name: &str) -> Result<bool, BackupError> {
        let path = to.path.join(new_name);
        burn(&path)?;
        match fs::renameat(&self.file, name, &to.file, new_name) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("replace", &path)(errno)),
        }
    }

    /// Removes a file; being gone already is as good.
    pub(super) fn remove(&self, name: &str) -> Result<(), BackupError> {
        self.unlink(name, AtFlags::empty())
    }

    /// Removes an empty directory; being gone already is as good.
    pub(super) fn remove_sub(&self, name: &str) -> Result<(), BackupError> {
        self.unlink(name, AtFlags::REMOVEDIR)
    }

    /// Makes durable what the directory lists.
    pub(super) fn sync(&self) -> Result<(), BackupError> {
        burn(&self.path)?;
        fs::fsync(&self.file).map_err(failed("make durable", &self.path))
    }

    /// Takes a role's lock, making the file where it is missing; nothing when the role holds it.
    pub(super) fn lock(&self, name: &str) -> Result<Option<OwnedFd>, BackupError> {
        let path = self.path.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            fs::openat(&self.file, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed("open", &path))?;
        // Left behind with root as its owner it would keep the role from its own state.
        give(&file, self.owner, &path)?;
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed("lock", &path)(errno)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn opened(file: Result<OwnedFd, Errno>, path: &Path) -> Result<Option<Self>, BackupError> {
        let file = match file {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(BackupError::Planted(path.to_owned())),
            other => other.map_err(failed("open", path))?,
        };
        let found = fs::fstat(&file).map_err(failed("look at", path))?;
        let owner = Owner { user: found.st_uid, group: found.st_gid };
        Ok(Some(Directory { file, path: path.to_owned(), owner }))
    }

    fn made(made: Option<Self>, path: &Path, owner: Owner, mode: u32) -> Result<Self, BackupError> {
        let made = made.ok_or_else(|| failed("open", path)(Errno::NOENT))?;
        give(&made.file, owner, path)?;
        fs::fchmod(&made.file, Mode::from_raw_mode(mode)).map_err(failed("make", path))?;
        Ok(Directory { owner, ..made })
    }

    fn is_own_file(&self, found: &Stat) -> bool {
        let is_plain = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        is_plain && found.st_nlink == 1 && [0, self.owner.user].contains(&found.st_uid)
    }

    fn unlink(&self, name: &str, flags: AtFlags) -> Result<(), BackupError> {
        let path = self.path.join(name);
        burn(&path)?;
        match fs::unlinkat(&self.file, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", &path)(errno)),
        }
    }
}

fn give(file: &OwnedFd, owner: Owner, path: &Path) -> Result<(), BackupError> {
    let found = fs::fstat(file).map_err(failed("look at", path))?;
    if (found.st_uid, found.st_gid) == (owner.user, owner.group) {
        return Ok(());
    }
    let (user, group) = (fs::Uid::from_raw(owner.user), fs::Gid::from_raw(owner.group));
    fs::fchown(file, Some(user), Some(group)).map_err(failed("give its role", path))
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(Errno) -> BackupError + 'a {
    move |errno| BackupError::File { doing, path: path.to_owned(), source: io::Error::from(errno) }
}

/// A place where the process may be cut off, in tests.
#[cfg(test)]
pub(super) fn burn(path: &Path) -> Result<(), BackupError> {
    fuse::burn().map_err(|source| BackupError::File { doing: "change", path: path.to_owned(), source })
}

#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "the tests' version can fail")]
pub(super) fn burn(_: &Path) -> Result<(), BackupError> {
    Ok(())
}

#[cfg(test)]
pub(super) mod fuse {
    //! Cuts a thread off before so many changes on disk, and before every one after that.

    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Lets so many more changes happen.
    pub(in crate::backup) fn set(steps: Option<u32>) {
        LEFT.set(steps);
    }

    pub(super) fn burn() -> io::Result<()> {
        match LEFT.get() {
            Some(0) => Err(io::Error::other("cut off")),
            Some(steps) => {
                LEFT.set(Some(steps - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}
