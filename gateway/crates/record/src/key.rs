//! The log's key: made once, kept in the log's directory (mode 0600), its public half beside it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::disk::{self, Disk, DiskError, failed};
use crate::note::{NoteError, NoteSigner, VerifierKey};

/// File of the secret.
pub const KEY_FILE: &str = "key";
/// File of the public half: a verifier key as Go's `sumdb/note` writes it.
pub const PUBLIC_KEY_FILE: &str = "key.pub";
/// Longest key file.
const KEY_BYTES_MAX: usize = 1024;

/// Why there is no key to sign with.
#[derive(Clone, Debug, Error)]
pub enum KeyError {
    /// A log without its key.
    #[error(
        "there is a log but no key in `{0}`: put the key back from a backup; a new key would be a new log"
    )]
    Missing(String),
    /// The key file holds something else.
    #[error("`{path}` is no key ({source}): put the key back from a backup")]
    Malformed {
        /// The file.
        path: String,
        /// Why.
        source: NoteError,
    },
    /// Others may read the secret.
    #[error(
        "`{path}` can be read by others (mode {mode:03o}): chmod 600 it, and find out who may have copied it"
    )]
    Exposed {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The public half is another's.
    #[error("`{0}` is not the public half of the key beside it: put both back from one backup")]
    Unpaired(String),
    /// It cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Reads the key.
pub(crate) fn load(disk: &Disk) -> Result<NoteSigner, KeyError> {
    let path = disk.path(KEY_FILE);
    let shown = path.display().to_string();
    let mode = fs::metadata(&path).map_err(failed("read", &path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: shown, mode });
    }
    let malformed = |source| KeyError::Malformed { path: shown.clone(), source };
    let signer = NoteSigner::parse(&text(&path)?).map_err(malformed)?;
    let public = signer.verifier().to_string();
    if !disk.exists(PUBLIC_KEY_FILE)? {
        disk.write(PUBLIC_KEY_FILE, format!("{public}\n").as_bytes())?;
    } else if text(&disk.path(PUBLIC_KEY_FILE))? != public {
        return Err(KeyError::Unpaired(disk.path(PUBLIC_KEY_FILE).display().to_string()));
    }
    Ok(signer)
}

/// Makes a key, durably. Its name tells logs apart and says nothing of the clinic.
pub(crate) fn create(disk: &Disk) -> Result<NoteSigner, KeyError> {
    let path = disk.path(KEY_FILE);
    let seed = random().map_err(failed("make", &path))?;
    let [a, b, c, d, ..]: [u8; 32] =
        Sha256::new().chain_update("sekisho log name").chain_update(seed).finalize().into();
    let name = format!("sekisho-log-{:08x}", u32::from_be_bytes([a, b, c, d]));
    let signer = NoteSigner::from_seed(&name, seed)
        .map_err(|source| KeyError::Malformed { path: path.display().to_string(), source })?;
    disk.write(KEY_FILE, format!("{}\n", signer.secret_text()).as_bytes())?;
    disk.write(PUBLIC_KEY_FILE, format!("{}\n", signer.verifier()).as_bytes())?;
    Ok(signer)
}

/// Reads the public half of a log's key.
///
/// # Errors
/// When it cannot be read or is no key.
pub fn public_key(directory: &Path) -> Result<VerifierKey, KeyError> {
    let path = directory.join(PUBLIC_KEY_FILE);
    VerifierKey::parse(&text(&path)?)
        .map_err(|source| KeyError::Malformed { path: path.display().to_string(), source })
}

/// Random bytes of the kernel.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        at += getrandom(rest, GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// The one line of a key file.
fn text(path: &Path) -> Result<String, DiskError> {
    let bytes = disk::read(path)?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() <= KEY_BYTES_MAX);
    let malformed = || DiskError::new("read", path, io::ErrorKind::InvalidData.into());
    Ok(text.ok_or_else(malformed)?.trim_end_matches('\n').to_owned())
}
