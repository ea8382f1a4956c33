//! What the policy says about the doors, as core wrote it; read again when it changes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::services::{EdgeSettings, SETTINGS_BYTES_MAX};

/// The settings' file, and which of its states was read last.
#[derive(Debug)]
pub(super) struct SettingsFile {
    path: PathBuf,
    read: Option<(SystemTime, u64)>,
}

impl SettingsFile {
    /// In core's directory of services.
    pub(super) fn of(services: &Path) -> Self {
        SettingsFile { path: services.join("edge.json"), read: None }
    }

    /// The settings, if they changed since the last call. A file that makes no sense is told once.
    pub(super) fn changed(&mut self) -> io::Result<Option<EdgeSettings>> {
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
