//! `sekishod inspect`: one process for one file. Standard input is a Unix stream socket; one message brings the declared
//! name, the limits and a descriptor that can only be read; one line of JSON goes back, and the process ends.
//!
//! Everything that parses runs after [`sandbox::enter`]. Whoever asked takes the absence of an answer for a refusal.

mod sandbox;

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use inspect::Limits;
use rustix::fs::{FileType, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Longest message: a name, and the limits.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// What the sender calls the file.
    name: Option<String>,
    /// What the inspection may spend.
    #[serde(default)]
    limits: Limits,
}

/// Answers the one question on standard input.
pub(crate) fn run() -> Result<()> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input is not open")?;
    let (asked, file) = receive(&socket)?;
    let size_bytes = check(&file)?;
    sandbox::enter().context("there is no sandbox, so nothing is inspected")?;
    let answer = answer(&asked, File::from(file), size_bytes)?;
    File::from(socket).write_all(answer.as_bytes()).context("nobody takes the answer")
}

fn receive(socket: &OwnedFd) -> Result<(Asked, OwnedFd)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0_u8; MESSAGE_BYTES_MAX];
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .context("no question came")?;
    let mut files: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    ensure!(received.bytes < MESSAGE_BYTES_MAX, "the question is too long");
    ensure!(files.len() == 1, "{} descriptors came, one is wanted", files.len());
    let file = files.pop().context("no descriptor came")?;
    let message = bytes.get(..received.bytes).unwrap_or_default();
    Ok((serde_json::from_slice(message).context("the question makes no sense")?, file))
}

/// Only a plain file that can be read and not written; says its size.
fn check(file: &OwnedFd) -> Result<u64> {
    let flags = rustix::fs::fcntl_getfl(file).context("the descriptor cannot be asked")?;
    ensure!(flags & OFlags::ACCMODE == OFlags::RDONLY, "the descriptor can be written");
    let facts = rustix::fs::fstat(file).context("the descriptor cannot be asked")?;
    ensure!(
        FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile,
        "the descriptor is no plain file"
    );
    u64::try_from(facts.st_size).context("the file has no size")
}

fn answer(asked: &Asked, file: File, size_bytes: u64) -> Result<String> {
    let start = Instant::now();
    let Asked { name, limits } = asked;
    let mut bytes = Vec::new();
    let capacity = usize::try_from(size_bytes.min(limits.size_bytes)).context("the file is too large")?;
    bytes.try_reserve_exact(capacity).context("no memory for the file")?;
    // One byte more than the limit, so that what is too long is seen to be.
    file.take(limits.size_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .context("the file cannot be read")?;
    let name = name.as_deref();
    let inspected = std::panic::catch_unwind(AssertUnwindSafe(|| inspect::inspect(&bytes, name, limits)));
    let report = inspected.unwrap_or_else(|_| inspect::failed("a parser gave up"));
    let line = serde_json::json!({
        "path": name,
        "sha256": hex(&Sha256::digest(&bytes)),
        "types": report.types,
        "kinds": report.kinds,
        "verdict": report.verdict,
        "findings": report.findings,
        "ms": u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(format!("{line}\n"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
