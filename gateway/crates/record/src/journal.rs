//! The journal: what was appended since the last checkpoint, one write and one sync for each group of entries.
//! A file of fixed length, written in place, so that a full disk cannot stop it and a sync has no metadata to carry.
//!
//! The file begins with a magic and a random number, which is in every digest: nobody who writes entries can write one that
//! looks like a frame. A frame: magic, number of the first entry, count, bytes (big endian), the digest of what came before (the frame before,
//! or the root of the checkpoint), its own SHA-256, then the entries framed as in a bundle. Eight zero bytes follow the
//! last frame. A checkpoint makes all frames stale: the next one is written at the start again.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memchr::memmem;
use sha2::{Digest, Sha256};

use crate::disk::{Disk, DiskError, failed};
use crate::hash::{HASH_BYTES, TreeHash};
use crate::key::random;
use crate::tile::decode_entries;

/// Length of the file.
pub const JOURNAL_BYTES: u64 = 4 << 20;
/// Its name.
pub(crate) const NAME: &str = "journal";

const FILE_MAGIC: [u8; 8] = *b"SKSHJRN1";
const NONCE_BYTES: usize = 16;
const CHECK_BYTES: usize = 8;
/// Where the first frame begins.
const FRAMES_AT: u64 = 8 + (NONCE_BYTES + CHECK_BYTES) as u64;
const MAGIC: [u8; 8] = *b"SKSHFRM1";
const HEAD_BYTES: usize = 8 + 8 + 4 + 4 + HASH_BYTES + HASH_BYTES;
/// Where the digest begins in the head.
const DIGEST_AT: usize = HEAD_BYTES - HASH_BYTES;
const END: [u8; 8] = [0; 8];
const SECTOR_BYTES: usize = 512;
/// Separates these digests from those of trees.
const DOMAIN: &[u8] = b"sekisho journal frame\n";

/// The open journal, at the place of the next frame.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    nonce: Nonce,
    offset: u64,
    before: TreeHash,
}

type Nonce = [u8; NONCE_BYTES];

/// What a journal holds after a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replay<'a> {
    /// The entries, in order.
    pub(crate) entries: Vec<&'a [u8]>,
    /// Where the next frame belongs.
    offset: u64,
    /// The digest of the last frame.
    before: TreeHash,
    /// Bytes of a write that did not finish: nobody was told that it was durable.
    pub(crate) torn_bytes: u64,
}

/// Why a journal is not to be trusted: this is no torn write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JournalError {
    /// Its length is not the one it was made with.
    #[error("the journal has {0} bytes instead of {JOURNAL_BYTES}")]
    Length(usize),
    /// It does not begin as a journal does.
    #[error("the journal's first bytes are damaged")]
    Head,
    /// Something durable after it was damaged or is missing.
    #[error("the journal is damaged at byte {0}, before entries that are whole")]
    Damaged(usize),
}

impl Journal {
    /// Opens the file, or makes it of zeros.
    pub(crate) fn open(disk: &Disk) -> Result<Self, DiskError> {
        let path = disk.path(NAME);
        if !disk.exists(NAME)? {
            disk.write(NAME, &fresh().map_err(failed("make", &path))?)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        let mut head = [0; FRAMES_AT as usize];
        file.read_exact_at(&mut head, 0).map_err(failed("read", &path))?;
        let nonce = nonce(&head).unwrap_or_default();
        Ok(Journal { path, file, nonce, offset: FRAMES_AT, before: TreeHash::empty() })
    }

    /// Goes on where a replay ended.
    pub(crate) fn resume(&mut self, replay: &Replay<'_>) -> Result<(), DiskError> {
        self.offset = replay.offset;
        self.before = replay.before;
        if replay.torn_bytes == 0 {
            return Ok(());
        }
        self.file.write_all_at(&END, self.offset).map_err(failed("write", &self.path))
    }

    /// Bytes in use.
    pub(crate) const fn used_bytes(&self) -> u64 {
        self.offset
    }

    /// What a group of so many bytes of entries takes.
    pub(crate) const fn frame_bytes(entries_bytes: u64) -> u64 {
        HEAD_BYTES as u64 + entries_bytes + END.len() as u64
    }

    /// Makes a group of entries, framed as in a bundle, durable.
    pub(crate) fn write(
        &mut self,
        disk: &Disk,
        first: u64,
        count: u32,
        entries: &[u8],
    ) -> Result<(), DiskError> {
        let (mut frame, digest) = encode(first, count, entries, self.before, &self.nonce);
        let length = frame.len() as u64;
        frame.extend(END);
        disk.step("write", &self.path)?;
        self.file.write_all_at(&frame, self.offset).map_err(failed("write", &self.path))?;
        self.sync(disk)?;
        self.offset += length;
        self.before = digest;
        Ok(())
    }

    /// Makes all frames stale: a checkpoint with this root holds what they held. Need not be durable, for frames that a
    /// checkpoint covers are known by their numbers.
    pub(crate) fn reset(&mut self, root: TreeHash) -> Result<(), DiskError> {
        self.offset = FRAMES_AT;
        self.before = root;
        self.file.write_all_at(&END, FRAMES_AT).map_err(failed("write", &self.path))
    }

    fn sync(&self, disk: &Disk) -> Result<(), DiskError> {
        disk.step("sync", &self.path)?;
        self.file.sync_data().map_err(failed("sync", &self.path))
    }
}

/// Reads the bytes of a journal, when it is there.
pub(crate) fn read(directory: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match crate::disk::read(&directory.join(NAME)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds what was appended after a checkpoint of `size` entries and this root.
///
/// # Errors
/// When something that was acknowledged is damaged.
pub(crate) fn replay(bytes: &[u8], size: u64, root: TreeHash) -> Result<Replay<'_>, JournalError> {
    if u64::try_from(bytes.len()) != Ok(JOURNAL_BYTES) {
        return Err(JournalError::Length(bytes.len()));
    }
    let nonce = nonce(bytes).ok_or(JournalError::Head)?;
    let mut found = Replay { entries: Vec::new(), offset: FRAMES_AT, before: root, torn_bytes: 0 };
    let mut next = size;
    loop {
        let at = usize::try_from(found.offset).unwrap_or(usize::MAX);
        let rest = bytes.get(at..).unwrap_or_default();
        match Frame::parse(rest, &nonce) {
            Some(frame) if frame.first == next && frame.before == found.before => {
                next += u64::try_from(frame.entries.len()).unwrap_or(u64::MAX);
                found.offset += frame.bytes;
                found.before = frame.digest;
                found.entries.extend(frame.entries);
            }
            // The checkpoint holds it already.
            Some(frame) if found.offset == FRAMES_AT && frame.first < size => return Ok(found),
            _ => break,
        }
    }
    let at = usize::try_from(found.offset).unwrap_or(usize::MAX);
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.starts_with(&END) {
        return if holds_frame_from(rest, next, &nonce) { Err(JournalError::Damaged(at)) } else { Ok(found) };
    }
    if holds_frame_from(rest, next, &nonce) {
        return Err(JournalError::Damaged(at));
    }
    found.torn_bytes = written_bytes(rest);
    Ok(found)
}

/// Whether a whole frame with entries from `next` on stands anywhere here: then what is before it was durable once.
fn holds_frame_from(bytes: &[u8], next: u64, nonce: &Nonce) -> bool {
    memmem::find_iter(bytes, &MAGIC)
        .filter_map(|at| Frame::parse(bytes.get(at..)?, nonce))
        .any(|frame| frame.first >= next)
}

/// Bytes up to the last that is not zero, rounded up to a sector.
fn written_bytes(bytes: &[u8]) -> u64 {
    let is_written = |sector: &[u8]| !sector.iter().all(|byte| *byte == 0);
    let last = bytes.chunks(SECTOR_BYTES).rposition(is_written);
    last.map_or(0, |sector| ((sector + 1) * SECTOR_BYTES).min(bytes.len()) as u64)
}

/// A whole frame.
struct Frame<'a> {
    first: u64,
    before: TreeHash,
    digest: TreeHash,
    entries: Vec<&'a [u8]>,
    bytes: u64,
}

impl<'a> Frame<'a> {
    fn parse(bytes: &'a [u8], nonce: &Nonce) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (first, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (before, rest) = rest.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let payload = rest.get(..length)?;
        let head = bytes.get(..DIGEST_AT)?;
        if frame_digest(nonce, head, payload).bytes() != digest {
            return None;
        }
        Some(Frame {
            first: u64::from_be_bytes(*first),
            before: TreeHash::new(*before),
            digest: TreeHash::new(*digest),
            entries: decode_entries(payload, u32::from_be_bytes(*count).into()).ok()?,
            bytes: (HEAD_BYTES + length) as u64,
        })
    }
}

fn encode(first: u64, count: u32, entries: &[u8], before: TreeHash, nonce: &Nonce) -> (Vec<u8>, TreeHash) {
    let length = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEAD_BYTES + entries.len() + END.len());
    frame.extend(MAGIC);
    frame.extend(first.to_be_bytes());
    frame.extend(count.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend(before.bytes());
    let digest = frame_digest(nonce, &frame, entries);
    frame.extend(digest.bytes());
    frame.extend(entries);
    (frame, digest)
}

fn frame_digest(nonce: &Nonce, head: &[u8], entries: &[u8]) -> TreeHash {
    let hasher = Sha256::new().chain_update(DOMAIN).chain_update(nonce).chain_update(head);
    TreeHash::new(hasher.chain_update(entries).finalize().into())
}

/// The bytes of a journal without frames.
fn fresh() -> std::io::Result<Vec<u8>> {
    let nonce = random()?;
    let mut bytes = [&FILE_MAGIC[..], &nonce, &check(&nonce)].concat();
    bytes.resize(usize::try_from(JOURNAL_BYTES).unwrap_or_default(), 0);
    Ok(bytes)
}

/// The random number of a journal, unless its first bytes are damaged.
fn nonce(bytes: &[u8]) -> Option<Nonce> {
    let (nonce, rest) = bytes.strip_prefix(&FILE_MAGIC)?.split_first_chunk()?;
    rest.starts_with(&check(nonce)).then_some(*nonce)
}

fn check(nonce: &Nonce) -> [u8; CHECK_BYTES] {
    let digest: [u8; HASH_BYTES] =
        Sha256::new().chain_update(FILE_MAGIC).chain_update(nonce).finalize().into();
    let (check, _) = digest.split_first_chunk().unwrap_or((&[0; CHECK_BYTES], &[]));
    *check
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
