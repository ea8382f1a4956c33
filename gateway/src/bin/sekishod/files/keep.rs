//! What the role keeps on its own disk: held bytes in the clear until they have an outcome, and sealed originals.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bech32::{Bech32, Hrp};
use gateway::backup::age::{self, Identity, Lock, Recipient};
use sha2::{Digest as _, Sha256};
use transfer::{Hash, TransferId};
use zeroize::Zeroizing;

use super::journal::remove;

/// Largest file that is taken: it is sealed in memory, and inspected in memory.
pub(super) const FILE_BYTES_MAX: u64 = 160 << 20;
/// Most bytes that are held and sealed together.
pub(super) const BUDGET_BYTES: u64 = 8 << 30;
/// How long a sealed original is kept.
const SEALED_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
/// Longest file of keys.
const KEYS_BYTES_MAX: u64 = 64 << 10;
/// The role's own key.
const OWN_KEY: &str = "originals.key";

/// Directories below the role's own.
#[derive(Clone, Debug)]
pub(super) struct Keep {
    hold: PathBuf,
    sealed: PathBuf,
    lock: Vec<Recipient>,
}

/// Bytes as they arrive, hashed on their way to the disk.
pub(super) struct Intake {
    file: File,
    hasher: Sha256,
}

impl Keep {
    /// Opens the directories, and finds what to seal to. What is held of a former run is of no use: its transfers have
    /// their outcome.
    pub(super) fn open(state: &Path, seal_to: &Path) -> io::Result<Self> {
        let (hold, sealed) = (state.join("hold"), state.join("sealed"));
        [&hold, &sealed].into_iter().try_for_each(|path| directory(path, 0o700))?;
        for left in fs::read_dir(&hold)? {
            remove(&left?.path())?;
        }
        let lock = match read(seal_to)? {
            Some(text) => recipients(&text)?,
            None => vec![own_key(&state.join(OWN_KEY))?],
        };
        Ok(Keep { hold, sealed, lock })
    }

    /// Makes room for a file.
    pub(super) fn begin(&self, transfer: &TransferId, size_bytes: u64) -> io::Result<Intake> {
        let kept = self.bytes()?;
        // Held and sealed for a while both.
        if kept.saturating_add(size_bytes.saturating_mul(2)) > BUDGET_BYTES {
            return Err(io::Error::other("what is kept of files has reached its limit"));
        }
        let mut options = OpenOptions::new();
        let file = options.create_new(true).write(true).mode(0o600).open(self.held(transfer))?;
        Ok(Intake { file, hasher: Sha256::new() })
    }

    /// Bytes held and sealed together.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        Ok(bytes_in(&self.hold)?.saturating_add(bytes_in(&self.sealed)?))
    }

    /// Where the held bytes are.
    pub(super) fn held(&self, transfer: &TransferId) -> PathBuf {
        self.hold.join(transfer.as_str())
    }

    /// Keeps the original sealed.
    pub(super) fn seal(&self, transfer: &TransferId) -> io::Result<()> {
        let mut plain = Zeroizing::new(Vec::new());
        File::open(self.held(transfer))?.take(FILE_BYTES_MAX + 1).read_to_end(&mut plain)?;
        let sealed = age::seal(&plain, &Lock::Recipients(self.lock.clone())).map_err(io::Error::other)?;
        let path = self.sealed.join(transfer.as_str()).with_extension("age");
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        file.write_all(&sealed)?;
        file.sync_all()?;
        File::open(&self.sealed)?.sync_all()
    }

    /// Lets go of held bytes.
    pub(super) fn release_hold(&self, transfer: &TransferId) -> io::Result<()> {
        remove(&self.held(transfer))
    }

    /// Lets go of originals that were kept long enough.
    pub(super) fn prune(&self, now: SystemTime) -> io::Result<()> {
        for found in fs::read_dir(&self.sealed)? {
            let found = found?;
            let age = now.duration_since(found.metadata()?.modified()?).unwrap_or_default();
            if age > SEALED_FOR {
                remove(&found.path())?;
            }
        }
        Ok(())
    }
}

impl Intake {
    /// Writes what arrived.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Makes it durable, and says what it is.
    pub(super) fn finish(self) -> io::Result<Hash> {
        self.file.sync_all()?;
        Ok(Hash::from_bytes(self.hasher.finalize().into()))
    }
}

/// Makes a directory, if there is none.
pub(super) fn directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// The hash of a file.
pub(super) fn hash_of(path: &Path) -> io::Result<Hash> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut room = vec![0; 256 << 10];
    loop {
        match file.read(&mut room)? {
            0 => return Ok(Hash::from_bytes(hasher.finalize().into())),
            count => hasher.update(room.get(..count).unwrap_or_default()),
        }
    }
}

fn bytes_in(directory: &Path) -> io::Result<u64> {
    fs::read_dir(directory)?.try_fold(0, |sum: u64, found| Ok(sum.saturating_add(found?.metadata()?.len())))
}

fn read(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = Zeroizing::new(String::new());
    file.take(KEYS_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// One `age1..` a line; empty lines and comments between.
fn recipients(text: &str) -> io::Result<Vec<Recipient>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| Recipient::parse(line).map_err(io::Error::other)).collect()
}

/// The role's own key: made once, readable by the role and by root, and opened with any age implementation.
fn own_key(path: &Path) -> io::Result<Recipient> {
    if let Some(text) = read(path)? {
        let first = text.lines().find(|line| !line.starts_with('#')).and_then(Identity::parse);
        return first
            .map(|key| key.recipient())
            .ok_or_else(|| io::Error::other("the key of the originals is damaged"));
    }
    let mut secret = Zeroizing::new([0_u8; 32]);
    rustix::rand::getrandom(secret.as_mut_slice(), rustix::rand::GetRandomFlags::empty())?;
    let unsayable = |why: String| io::Error::other(format!("a key cannot be written: {why}"));
    let kind = Hrp::parse("AGE-SECRET-KEY-").map_err(|error| unsayable(error.to_string()))?;
    let text = bech32::encode_upper::<Bech32>(kind, secret.as_slice());
    let text = Zeroizing::new(text.map_err(|error| unsayable(error.to_string()))?);
    let key = Identity::parse(&text).ok_or_else(|| io::Error::other("a key was made that cannot be read"))?;
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(key.recipient())
}
