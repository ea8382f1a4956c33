//! tar archives: plain files and directories, and nothing else.

use std::collections::BTreeSet;
use std::io::Read;

use crate::case::{Case, Halt};
use crate::examine::{self, Part};
use crate::{FileType, FindingId, names};

/// Examines a tar archive and its entries.
pub(crate) fn examine(case: &mut Case<'_>, part: Part<'_>) -> FileType {
    let mut archive = tar::Archive::new(part.bytes);
    let mut seen = BTreeSet::new();
    match archive.entries() {
        Ok(entries) => {
            for entry in entries {
                let Ok(mut entry) = entry else {
                    case.malformed(part.at, "a header of the tar archive cannot be read");
                    break;
                };
                if one(case, part, &mut entry, &mut seen).is_err() {
                    break;
                }
            }
        }
        Err(error) => case.malformed(part.at, format!("tar: {error}")),
    }
    FileType::Tar
}

fn one(
    case: &mut Case<'_>,
    part: Part<'_>,
    entry: &mut tar::Entry<'_, &[u8]>,
    seen: &mut BTreeSet<String>,
) -> Result<(), Halt> {
    case.entry(part.at)?;
    let kind = entry.header().entry_type();
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let at = part.within(&path);
    names::check_path(case, &path, &at);
    if !seen.insert(path.to_lowercase()) {
        case.find(FindingId::ArchiveDuplicate, &at, "two entries of this name");
    }
    if kind.is_dir() {
        return Ok(());
    }
    if !kind.is_file() {
        case.find(FindingId::ArchiveSpecial, &at, format!("an entry of type {:?}", kind));
        return Ok(());
    }
    let limit = case.inflatable_bytes();
    let mut bytes = Vec::new();
    if entry.take(limit.saturating_add(1)).read_to_end(&mut bytes).is_err() {
        case.malformed(&at, "the entry breaks off");
        return Ok(());
    }
    // Nothing is packed here, so only the sum counts.
    case.inflated(bytes.len() as u64, bytes.len() as u64, &at)?;
    let name = path.rsplit('/').next();
    if let Some(name) = name {
        names::check_ending(case, name, &at);
    }
    examine::part(case, Part { bytes: &bytes, name, at: &at, depth: part.depth + 1 });
    Ok(())
}
