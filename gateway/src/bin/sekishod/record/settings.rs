//! How much room the log has and how long it is kept, as core wrote it; read again when it changes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::services::RecordSettings;

/// The file's name in core's directory of services.
const FILE: &str = "record.json";
/// It is small.
const BYTES_MAX: u64 = 64 << 10;

/// The settings' file, and which of its states was read last.
#[derive(Debug)]
pub(super) struct SettingsFile {
    path: PathBuf,
    read: Option<(SystemTime, u64)>,
}

impl SettingsFile {
    /// In core's directory of services.
    pub(super) fn of(services: &Path) -> Self {
        SettingsFile { path: services.join(FILE), read: None }
    }

    /// The settings, if they changed since the last call. A file that makes no sense is told once.
    pub(super) fn changed(&mut self) -> io::Result<Option<RecordSettings>> {
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
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_when_they_change_and_a_bad_file_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = SettingsFile::of(directory.path());
        assert_eq!(settings.changed().unwrap(), None);
        let write = |text: &str| std::fs::write(directory.path().join(FILE), text).unwrap();
        write(r#"{"log_budget_bytes":5,"log_retention_s":6}"#);
        assert_eq!(settings.changed().unwrap().unwrap().log_budget_bytes, 5);
        assert_eq!(settings.changed().unwrap(), None);
        write("{");
        assert!(settings.changed().is_err());
        assert_eq!(settings.changed().unwrap(), None);
    }
}
