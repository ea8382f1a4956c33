//! The sender's word about a file: that it was looked at, by which program, and for which session; signed with the
//! engineer's own key, in the form that the clinic's file role reads.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use transfer::attestation::{Found, Sanitized, Signer, Tool, sign};
use transfer::{FileName, Hash};

use crate::args::Attesting;
use crate::error::{Exit, VendorError, file};
use crate::home::Home;
use crate::say::Say;
use crate::send::hash_of;

/// How long the word holds.
const HOLDS: SignedDuration = SignedDuration::from_hours(24);

/// Writes an attestation beside the file, or where it was asked for.
pub(crate) async fn attest(say: Say, home: &Home, asked: Attesting) -> Result<Exit, VendorError> {
    let Attesting { file: path, session, site, sanitizer, sanitizer_version, disarmed, output } = asked;
    let session = home.session(Some(session))?;
    let attestation = |error: String| VendorError::Attestation(error);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let name = FileName::try_from(name).map_err(|error| attestation(error.to_string()))?;
    let (size_bytes, sha256) = hash_of(&path).await?;
    let sha256 = Hash::try_from(sha256).map_err(|error| attestation(error.to_string()))?;
    let now = Timestamp::now();
    let said = Sanitized {
        sanitizer: Tool { name: sanitizer, version: sanitizer_version },
        verdict: if disarmed { Found::Disarmed } else { Found::Clean },
        sanitized_at: now,
        expires_at: now.checked_add(HOLDS).unwrap_or(now),
        recipient: site,
        session: session.as_str().to_owned(),
        nonce: nonce()?,
        size_bytes,
    };
    let signer = Signer::from_seed(&*home.key()?.ed25519_seed()?);
    let envelope = sign(&name, sha256, &said, &signer).map_err(|error| attestation(error.to_string()))?;
    let output = output.unwrap_or_else(|| beside(&path));
    std::fs::write(&output, envelope).map_err(file("write", &output))?;
    let place = output.display();
    say.answer(
        &format!("attested in `{place}`: send both within 24 hours"),
        &format!("証明書を `{place}` に書きました。24 時間以内に両方を送信してください"),
        &json!({ "attested": { "attestation": output } }),
    );
    Ok(Exit::Ok)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".attestation.json");
    PathBuf::from(name)
}

/// 16 random bytes in hexadecimal: each word counts once.
fn nonce() -> Result<String, VendorError> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| VendorError::Start(error.into()))?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}
