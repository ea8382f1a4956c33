//! A file on its way to the clinic: read twice, first for its hash, then to be sent; what is sent must hash to the same.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use transport::protocol::{
    Announcement, Attestation, FileName, Judgement, Opening, Outcome, Reply, SessionId,
};
use transport::{Stream, frame};

use crate::client::Client;
use crate::error::{Exit, VendorError, file};
use crate::say::Say;

/// Bytes read at once.
const BLOCK_BYTES: usize = 64 << 10;
/// Longest attestation file.
const ATTESTATION_BYTES_MAX: u64 = transport::protocol::ATTESTATION_CHARS_MAX as u64;

/// Sends a file, and says what became of it.
pub(crate) async fn send(
    say: Say,
    client: &Client,
    session: SessionId,
    path: &Path,
    attestation: Option<&Path>,
) -> Result<Exit, VendorError> {
    let announcement = announce(session, path, attestation).await?;
    let (size, sha256) = (announcement.size, announcement.sha256.clone());
    let mut stream = client.channel.open().await?;
    frame::write(&mut stream, &Opening::Send(announcement)).await?;
    match frame::read(&mut stream).await? {
        Reply::Sending {} => {}
        // What was announced is enough to know.
        Reply::Judged(judgement) => return Ok(tell(say, &judgement)),
        Reply::Refused(refusal) => return Err(VendorError::Refused(refusal)),
        _ => return Err(VendorError::Confused),
    }
    let (sent, hash) = pass(path, Some(&mut stream)).await?;
    if (sent, hash.as_str()) != (size, sha256.as_str()) {
        stream.reset();
        return Err(VendorError::Changed(path.to_owned()));
    }
    stream.flush().await.map_err(file("send", path))?;
    match frame::read_patiently(&mut stream).await? {
        Reply::Judged(judgement) => Ok(tell(say, &judgement)),
        Reply::Refused(refusal) => Err(VendorError::Refused(refusal)),
        _ => Err(VendorError::Confused),
    }
}

async fn announce(
    session: SessionId,
    path: &Path,
    attestation: Option<&Path>,
) -> Result<Announcement, VendorError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let name = FileName::try_from(name)?;
    let (size, sha256) = pass(path, None).await?;
    let attestation = match attestation {
        None => None,
        Some(of) => {
            let mut text = String::new();
            let opened = File::open(of).map_err(file("read", of))?;
            opened.take(ATTESTATION_BYTES_MAX + 1).read_to_string(&mut text).map_err(file("read", of))?;
            Some(Attestation::try_from(text)?)
        }
    };
    Ok(Announcement { session, name, size, sha256: sha256.try_into()?, attestation })
}

/// The length and the hash of a file.
pub(crate) async fn hash_of(path: &Path) -> Result<(u64, String), VendorError> {
    pass(path, None).await
}

/// Reads a file once through, into a stream if there is one, and gives its length and hash.
async fn pass(path: &Path, mut to: Option<&mut Stream>) -> Result<(u64, String), VendorError> {
    let mut opened = File::open(path).map_err(file("read", path))?;
    let (mut hash, mut size, mut block) = (Sha256::new(), 0u64, vec![0; BLOCK_BYTES]);
    loop {
        let read = opened.read(&mut block).map_err(file("read", path))?;
        let Some(part) = block.get(..read).filter(|part| !part.is_empty()) else { break };
        hash.update(part);
        size = size.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        if let Some(stream) = to.as_mut() {
            stream.write_all(part).await.map_err(file("send", path))?;
        }
    }
    Ok((size, data_encoding::HEXLOWER.encode(&hash.finalize())))
}

fn tell(say: Say, judgement: &Judgement) -> Exit {
    let reasons = judgement.reasons.join("; ");
    let transfer = &judgement.transfer;
    let (en, ja, exit) = match judgement.outcome {
        Outcome::Delivered => {
            (format!("{transfer}: delivered"), format!("{transfer}: クリニックに届きました"), Exit::Ok)
        }
        Outcome::Refused => (
            format!("{transfer}: refused: {reasons}"),
            format!("{transfer}: 受け取りを拒否されました: {reasons}"),
            Exit::Refused,
        ),
        Outcome::Quarantined => (
            format!("{transfer}: kept aside, not delivered: {reasons}"),
            format!("{transfer}: 保留され、届いていません: {reasons}"),
            Exit::Refused,
        ),
    };
    say.answer(&en, &ja, &json!({ "judged": judgement }));
    exit
}
