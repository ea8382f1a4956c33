//! Files of the log's directory: written beside their place, made durable, then renamed into it.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, unlinkat};
use thiserror::Error;

use crate::tile::FILE_BYTES_MAX;

/// Where files are written before they are whole.
const UNFINISHED: &str = "unfinished";
/// Files open at once in a batch.
const BATCH_FILES_MAX: usize = 32;
/// What a file takes on disk is counted in these.
const BLOCK_BYTES: u64 = 4096;

/// Why something on disk did not work.
#[derive(Clone, Debug, Error)]
#[error("cannot {doing} `{}`: {source}", path.display())]
pub struct DiskError {
    doing: &'static str,
    path: PathBuf,
    source: Arc<io::Error>,
}

impl DiskError {
    pub(crate) fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        DiskError { doing, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Whether there is no room, which passes, or something else.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Makes the error for a failure with a file.
pub(crate) fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DiskError + 'a {
    move |source| DiskError::new(doing, path, source)
}

/// A log's directory.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    #[cfg(test)]
    pub(crate) fuse: fuse::Fuse,
}

impl Disk {
    /// Makes the directory (mode 0700) where it is missing.
    pub(crate) fn new(root: &Path) -> Result<Self, DiskError> {
        let disk = Disk {
            root: root.to_owned(),
            #[cfg(test)]
            fuse: fuse::Fuse::default(),
        };
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(root).map_err(failed("make", root))?;
        Ok(disk)
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn exists(&self, name: impl AsRef<Path>) -> Result<bool, DiskError> {
        let path = self.path(name);
        path.try_exists().map_err(failed("look for", &path))
    }

    /// Throws away what an interrupted batch left.
    pub(crate) fn clear_unfinished(&self) -> Result<(), DiskError> {
        let path = self.path(UNFINISHED);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DiskError::new("clear", &path, error));
            }
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&path).map_err(failed("make", &path))
    }

    /// Begins a batch of files.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { disk: self, files: Vec::new(), directories: BTreeSet::new(), bytes: 0 }
    }

    /// Writes one small file durably.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let mut batch = self.batch();
        batch.add(Path::new(name), bytes)?;
        batch.finish().map(drop)
    }

    /// Removes a file that is no longer needed, and its directory when that is empty; gives the bytes it took. Failing
    /// costs room, nothing else.
    pub(crate) fn remove(&self, name: &Path) -> u64 {
        let path = self.path(name);
        let bytes = fs::metadata(&path).map_or(0, |metadata| taken(metadata.len()));
        if self.step("remove", &path).is_err() || fs::remove_file(&path).is_err() {
            return 0;
        }
        if let Some(parent) = path.parent() {
            // unlinkat(2), not rmdir(2): the sandbox of the role knows only the former.
            let _ = unlinkat(CWD, parent, AtFlags::REMOVEDIR);
        }
        bytes
    }

    /// A place where the process may be cut off, in tests.
    #[cfg(test)]
    pub(crate) fn step(&self, doing: &'static str, path: &Path) -> Result<(), DiskError> {
        self.fuse.burn().map_err(failed(doing, path))
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the tests' version can fail")]
    pub(crate) fn step(&self, _: &'static str, _: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.step("sync", path)?;
        File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("sync", path))
    }
}

/// Files that become durable together. Nothing is in its place before it is whole and on disk.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    disk: &'a Disk,
    /// File, where it is, where it belongs.
    files: Vec<(File, PathBuf, PathBuf)>,
    directories: BTreeSet<PathBuf>,
    bytes: u64,
}

impl Batch<'_> {
    /// Adds a file, readable by the owner only.
    pub(crate) fn add(&mut self, name: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        if self.files.len() >= BATCH_FILES_MAX {
            self.place()?;
        }
        let target = self.disk.path(name);
        self.make_parents(&target)?;
        let path = self.disk.path(UNFINISHED).join(self.files.len().to_string());
        self.disk.step("write", &path)?;
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(bytes)?;
            Ok(file)
        };
        let file = write().map_err(failed("write", &path))?;
        self.bytes += taken(bytes.len() as u64);
        self.files.push((file, path, target));
        Ok(())
    }

    /// Makes all durable and puts them in place; gives the bytes they take.
    pub(crate) fn finish(mut self) -> Result<u64, DiskError> {
        self.place()?;
        for directory in &self.directories {
            self.disk.sync_directory(directory)?;
        }
        Ok(self.bytes)
    }

    fn place(&mut self) -> Result<(), DiskError> {
        for (file, path, _) in &self.files {
            self.disk.step("sync", path)?;
            file.sync_data().map_err(failed("sync", path))?;
        }
        for (_, path, target) in self.files.drain(..) {
            self.disk.step("rename", &path)?;
            fs::rename(&path, &target).map_err(failed("rename", &target))?;
            self.directories.extend(target.parent().map(Path::to_owned));
        }
        Ok(())
    }

    fn make_parents(&mut self, target: &Path) -> Result<(), DiskError> {
        let missing: Vec<&Path> = target
            .ancestors()
            .skip(1)
            .take_while(|path| path.starts_with(&self.disk.root) && !path.exists())
            .collect();
        for path in missing.into_iter().rev() {
            self.disk.step("make", path)?;
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(DiskError::new("make", path, error));
                }
                _ => {}
            }
            self.directories.extend(path.parent().map(Path::to_owned));
        }
        Ok(())
    }
}

/// Reads a file of a log, up to a bound.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, DiskError> {
    let mut bytes = Vec::new();
    let mut read = || File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let length = read().map_err(failed("read", path))?;
    if u64::try_from(length).is_ok_and(|length| length <= FILE_BYTES_MAX) {
        return Ok(bytes);
    }
    Err(DiskError::new("read", path, io::ErrorKind::FileTooLarge.into()))
}

/// What a file of so many bytes takes on disk.
pub(crate) const fn taken(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// A directory for tests that sync thousands of times and do not cut the power: in memory where there is such a place.
#[cfg(test)]
pub(crate) fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[cfg(test)]
pub(crate) mod fuse {
    //! Cuts a process off after so many steps on disk.

    use std::io;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    pub(crate) struct Fuse(Mutex<Option<u32>>);

    impl Fuse {
        /// Lets so many more steps happen.
        pub(crate) fn set(&self, steps: Option<u32>) {
            *self.0.lock().unwrap() = steps;
        }

        pub(crate) fn burn(&self) -> io::Result<()> {
            let mut left = self.0.lock().unwrap();
            match &mut *left {
                Some(0) => Err(io::Error::other("cut off")),
                Some(steps) => {
                    *steps -= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        }
    }
}
