//! What was done while the record role could not take it down: kept beside the roles' directories until it is told.

use std::path::Path;

use events::{Deed, Event};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BackupError;
use super::place;

const FILE: &str = "untold";
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Most deeds that wait; the oldest leave.
const UNTOLD_MAX: usize = 256;

/// Something that was done and is not in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Untold {
    /// When it was done.
    pub at: Timestamp,
    /// User id of whoever did it.
    pub by: u32,
    /// What.
    pub deed: Deed,
}

impl Untold {
    /// The entry it will be.
    #[must_use]
    pub fn event(&self) -> Event {
        Event::Done { by: self.by, deed: self.deed.clone() }
    }
}

/// Keeps a deed until it can be told.
///
/// # Errors
/// When it could not be made durable.
pub fn keep(root: &Path, deed: Untold) -> Result<(), BackupError> {
    let mut all = read(root)?;
    all.push(deed);
    let first = all.len().saturating_sub(UNTOLD_MAX);
    write(root, all.get(first..).unwrap_or_default())
}

/// Takes out what waits, the oldest first, as far as it can be told.
///
/// # Errors
/// When the file cannot be read or written.
pub fn take(root: &Path, mut tell: impl FnMut(&Untold) -> bool) -> Result<usize, BackupError> {
    let all = read(root)?;
    let told = all.iter().take_while(|deed| tell(deed)).count();
    if told > 0 {
        write(root, all.get(told..).unwrap_or_default())?;
    }
    Ok(told)
}

fn read(root: &Path) -> Result<Vec<Untold>, BackupError> {
    let bytes = place::read_journal(root, FILE, FILE_BYTES_MAX)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

fn write(root: &Path, deeds: &[Untold]) -> Result<(), BackupError> {
    let text = serde_json::to_vec(deeds).map_err(|error| BackupError::Damaged(error.to_string()))?;
    place::write_journal(root, FILE, (!deeds.is_empty()).then_some(&text))
}
