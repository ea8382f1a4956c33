//! What is sealed: a tar archive (POSIX ustar) that begins with `manifest.json`, which lists everything after it.

use std::io::{Cursor, Read};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tar::{Archive, Builder, EntryType, Header};

use super::files::{Files, Place};
use super::{BackupError, hex};

/// The format that is written.
pub const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const MANIFEST_BYTES_MAX: u64 = 64 << 10;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Version of the program that made it.
    pub product: String,
    /// The clinic's opaque id, as the policy has it.
    pub site: String,
    /// The clinic's name.
    pub clinic: String,
    /// Identity of the policy that was in force.
    pub policy: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Everything in it.
    pub files: Vec<Listed>,
}

/// A file in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Role and name.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 over it, in hex.
    pub sha256: String,
}

/// Lists files.
pub(super) fn list(files: &Files) -> Vec<Listed> {
    let listed = |(place, bytes): (&Place, &Vec<u8>)| Listed {
        path: place.path(),
        bytes: bytes.len() as u64,
        sha256: hex(&Sha256::digest(bytes)),
    };
    files.iter().map(listed).collect()
}

/// Writes an archive.
pub(super) fn write(manifest: &Manifest, files: &Files) -> Result<Vec<u8>, BackupError> {
    let mut builder = Builder::new(Vec::new());
    let text = serde_json::to_vec_pretty(manifest).map_err(|_| damaged("its manifest cannot be written"))?;
    add(&mut builder, MANIFEST, &text, manifest.created_at)?;
    for (place, bytes) in files {
        add(&mut builder, &place.path(), bytes, manifest.created_at)?;
    }
    builder.into_inner().map_err(|_| damaged("it cannot be written"))
}

/// Reads an archive; everything in it is listed, and everything listed is in it.
pub(super) fn read(bytes: &[u8]) -> Result<(Manifest, Files), BackupError> {
    let mut archive = Archive::new(Cursor::new(bytes));
    let mut entries = archive.entries().map_err(|_| damaged("it is no archive"))?.raw(true);
    let (path, text) = next(&mut entries)?.ok_or_else(|| damaged("it is empty"))?;
    if path != MANIFEST {
        return Err(damaged("it does not begin with its manifest"));
    }
    let manifest = manifest(&text)?;
    let mut files = Files::new();
    for listed in &manifest.files {
        let (path, bytes) = next(&mut entries)?.ok_or_else(|| damaged("a file is missing"))?;
        let (place, _) = Place::of_path(&path).ok_or_else(|| damaged("it holds a file of nobody"))?;
        if path != listed.path
            || bytes.len() as u64 != listed.bytes
            || hex(&Sha256::digest(&bytes)) != listed.sha256
        {
            return Err(damaged("a file is not the one that its manifest lists"));
        }
        if files.insert(place, bytes).is_some() {
            return Err(damaged("a file is there twice"));
        }
    }
    if next(&mut entries)?.is_some() {
        return Err(damaged("it holds more than its manifest lists"));
    }
    Ok((manifest, files))
}

fn manifest(text: &[u8]) -> Result<Manifest, BackupError> {
    /// What every version of the manifest has.
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let malformed = |_| damaged("its manifest cannot be read");
    let Versioned { format } = serde_json::from_slice(text).map_err(malformed)?;
    if format == FORMAT {
        return serde_json::from_slice(text).map_err(malformed);
    }
    Err(if format > FORMAT { BackupError::Newer(format) } else { BackupError::Older(format) })
}

fn add(builder: &mut Builder<Vec<u8>>, path: &str, bytes: &[u8], at: Timestamp) -> Result<(), BackupError> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(at.as_second()).unwrap_or_default());
    builder.append_data(&mut header, path, bytes).map_err(|_| damaged("it cannot be written"))
}

/// The next plain file, as long as its place allows.
fn next<'a, R: Read + 'a>(
    entries: &mut impl Iterator<Item = std::io::Result<tar::Entry<'a, R>>>,
) -> Result<Option<(String, Vec<u8>)>, BackupError> {
    let Some(entry) = entries.next() else { return Ok(None) };
    let entry = entry.map_err(|_| damaged("its archive is malformed"))?;
    let path = std::str::from_utf8(&entry.path_bytes()).map(str::to_owned);
    let path = path.map_err(|_| damaged("it holds a file of nobody"))?;
    if entry.header().entry_type() != EntryType::Regular {
        return Err(damaged("it holds something that is no plain file"));
    }
    let bytes_max = match Place::of_path(&path) {
        Some((_, bytes_max)) => bytes_max,
        None => MANIFEST_BYTES_MAX,
    };
    let size = entry.size();
    let mut bytes = Vec::new();
    let read = entry.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
    let length = read.map_err(|_| damaged("its archive is malformed"))? as u64;
    if length > bytes_max {
        return Err(damaged("a file in it is too long"));
    }
    if length == size { Ok(Some((path, bytes))) } else { Err(damaged("a file in it ends early")) }
}

fn damaged(why: &'static str) -> BackupError {
    BackupError::Damaged(why.to_owned())
}
