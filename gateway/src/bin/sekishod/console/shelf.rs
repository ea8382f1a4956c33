//! The console's state directory: small files of JSON, each written whole beside its place, made durable, renamed.
//! A file that cannot be read is kept aside and never guessed at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Longest file read back.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug, Error)]
#[error("cannot {doing} `{}`: {source}", path.display())]
pub(crate) struct ShelfError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    directory: PathBuf,
}

impl Shelf {
    /// A directory that exists.
    pub(crate) fn new(directory: &Path) -> Self {
        Shelf { directory: directory.to_owned() }
    }

    /// What is kept under a name; a damaged file is put aside, with a warning, and counts as absent.
    ///
    /// # Errors
    /// When the file is there and cannot be read or put aside.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ShelfError> {
        let path = self.directory.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ShelfError { doing: "open", path, source }),
        };
        let mut bytes = Vec::new();
        match file.take(FILE_BYTES_MAX).read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(source) => return Err(ShelfError { doing: "read", path, source }),
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.put_aside(name, &error).map(|()| None),
        }
    }

    /// Keeps a value under a name, durably.
    ///
    /// # Errors
    /// When it could not be made durable; what was kept before is then still there.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> Result<(), ShelfError> {
        let (path, beside) = (self.directory.join(name), self.directory.join(format!(".{name}.new")));
        let result = put(&beside, &path, value).and_then(|()| File::open(&self.directory)?.sync_all());
        result.map_err(|source| {
            // What was written of it would only take the space that is missing; it being gone already is as good.
            let _ = fs::remove_file(&beside);
            ShelfError { doing: "write", path, source }
        })
    }

    fn put_aside(&self, name: &str, why: &serde_json::Error) -> Result<(), ShelfError> {
        let path = self.directory.join(name);
        let numbered = |number: u32| self.directory.join(format!("{name}.damaged-{number}"));
        let kept = (1..100).map(numbered).find(|path| !path.exists()).unwrap_or_else(|| numbered(0));
        tracing::warn!(path = %path.display(), kept = %kept.display(), %why, "a damaged file was put aside");
        fs::rename(&path, kept).map_err(|source| ShelfError { doing: "put aside", path, source })
    }
}

fn put(beside: &Path, path: &Path, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_damage_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(directory.path());
        assert_eq!(shelf.read::<Vec<u8>>("a").unwrap(), None);
        shelf.write("a", &vec![1u8, 2]).unwrap();
        assert_eq!(shelf.read::<Vec<u8>>("a").unwrap(), Some(vec![1, 2]));
        fs::write(directory.path().join("a"), b"[1, 2").unwrap();
        assert_eq!(shelf.read::<Vec<u8>>("a").unwrap(), None);
        assert_eq!(fs::read(directory.path().join("a.damaged-1")).unwrap(), b"[1, 2");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(directory.path().join("a.damaged-1")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
