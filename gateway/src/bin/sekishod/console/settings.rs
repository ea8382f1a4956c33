//! What the console needs to know of the policy, as core wrote it; read again when it changes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::services::{ConsoleSettings, SETTINGS_BYTES_MAX};
use thiserror::Error;

/// The file's name in core's directory of services.
const FILE: &str = "console.json";

/// Why there are no settings.
#[derive(Debug, Error)]
pub(crate) enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not of this language.
    #[error("`{}` is not understood: {source}; install the same release of all roles", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// What tells one writing of the file from the next.
type Stamp = (SystemTime, u64);

/// The settings, followed.
#[derive(Debug)]
pub(crate) struct Settings {
    path: PathBuf,
    stamp: Option<Stamp>,
    held: Option<ConsoleSettings>,
}

impl Settings {
    /// Of the directory that core writes into.
    pub(crate) fn of(services: &Path) -> Self {
        Settings { path: services.join(FILE), stamp: None, held: None }
    }

    /// What holds now; `None` before the first policy.
    pub(crate) fn held(&self) -> Option<&ConsoleSettings> {
        self.held.as_ref()
    }

    /// Reads the file again if it changed. What held goes on holding when the new file cannot be used.
    ///
    /// # Errors
    /// When the file changed and cannot be used; it is told once.
    pub(crate) fn refresh(&mut self) -> Result<(), SettingsError> {
        let stamp = match stamp(&self.path) {
            Ok(stamp) => Some(stamp),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(SettingsError::Read { path: self.path.clone(), source }),
        };
        if stamp == self.stamp {
            return Ok(());
        }
        self.stamp = stamp;
        self.held = if stamp.is_some() { Some(read(&self.path)?) } else { None };
        Ok(())
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let found = fs::metadata(path)?;
    Ok((found.modified()?, found.len()))
}

fn read(path: &Path) -> Result<ConsoleSettings, SettingsError> {
    let failed = |source| SettingsError::Read { path: path.to_owned(), source };
    let limit = u64::try_from(SETTINGS_BYTES_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    serde_json::from_slice(&bytes).map_err(|source| SettingsError::Parse { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str =
        r#"{"site":"a","guideline":"6.0","timezone":"Asia/Tokyo","metrics":null,"inside":[],"ports":[]}"#;

    #[test]
    fn settings_follow_the_file_and_survive_a_bad_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        let mut settings = Settings::of(directory.path());
        settings.refresh().unwrap();
        assert!(settings.held().is_none());
        fs::write(&file, EMPTY).unwrap();
        settings.refresh().unwrap();
        assert_eq!(settings.held().unwrap().site, "a");
        fs::write(&file, "{").unwrap();
        assert!(matches!(settings.refresh(), Err(SettingsError::Parse { .. })));
        assert_eq!(settings.held().unwrap().site, "a");
        assert!(settings.refresh().is_ok(), "told once");
        fs::write(&file, EMPTY.replace("\"a\"", "\"other\"")).unwrap();
        settings.refresh().unwrap();
        assert_eq!(settings.held().unwrap().site, "other");
    }
}
