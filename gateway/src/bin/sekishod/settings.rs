//! What core tells a role of the policy, as a file that it writes and the role reads again when it changes.

use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::services::SETTINGS_BYTES_MAX;
use serde::de::DeserializeOwned;

/// A role's file, and which of its states was read last.
#[derive(Debug)]
pub(crate) struct SettingsFile<T> {
    path: PathBuf,
    read: Option<(SystemTime, u64)>,
    settings: PhantomData<T>,
}

impl<T: DeserializeOwned> SettingsFile<T> {
    /// The file of this name in core's directory of services.
    pub(crate) fn of(services: &Path, name: &str) -> Self {
        SettingsFile { path: services.join(name), read: None, settings: PhantomData }
    }

    /// The settings, if they changed since the last call. A file that makes no sense is told once.
    pub(crate) fn changed(&mut self) -> io::Result<Option<T>> {
        let file = match File::open(&self.path) {
            // Core writes it with its first policy.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let found = file.metadata()?;
        let state = (found.modified()?, found.len());
        if self.read == Some(state) {
            return Ok(None);
        }
        self.read = Some(state);
        let limit = u64::try_from(SETTINGS_BYTES_MAX).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::services::RecordSettings;

    #[test]
    fn settings_are_told_when_they_change_and_a_bad_file_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = SettingsFile::<RecordSettings>::of(directory.path(), "record.json");
        assert_eq!(settings.changed().unwrap(), None);
        let write = |text: &str| std::fs::write(directory.path().join("record.json"), text).unwrap();
        write(r#"{"log_budget_bytes":5,"log_retention_s":6}"#);
        assert_eq!(settings.changed().unwrap().unwrap().log_budget_bytes, 5);
        assert_eq!(settings.changed().unwrap(), None);
        write("{");
        assert!(settings.changed().is_err());
        assert_eq!(settings.changed().unwrap(), None);
    }
}
