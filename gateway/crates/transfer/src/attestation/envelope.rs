//! DSSE v1: the envelope, and what is signed of it (PAE).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::AttestationError;
use super::key::{Signer, SignerKey};

/// The type of the payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The envelope. A repeated key is an error of the derived reader, an unknown one by `deny_unknown_fields`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

/// Opens an envelope that this key signed; gives the payload.
pub(super) fn open(text: &str, signer: &SignerKey) -> Result<Vec<u8>, AttestationError> {
    let envelope: Envelope =
        serde_json::from_str(text).map_err(|error| AttestationError::Envelope(error.to_string()))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(AttestationError::PayloadType);
    }
    let [signature] = envelope.signatures.as_slice() else { return Err(AttestationError::Signatures) };
    if signature.keyid != signer.id().to_string() {
        return Err(AttestationError::OtherKey);
    }
    let payload = from_base64(&envelope.payload)?;
    signer.check(&pae(PAYLOAD_TYPE, &payload), &from_base64(&signature.sig)?)?;
    Ok(payload)
}

/// Signs a payload.
pub(super) fn seal(payload: &[u8], signer: &Signer) -> Result<String, AttestationError> {
    let sig = STANDARD.encode(signer.sign(&pae(PAYLOAD_TYPE, payload)));
    let envelope = Envelope {
        payload: STANDARD.encode(payload),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: vec![Signature { keyid: signer.key().id().to_string(), sig }],
    };
    serde_json::to_string(&envelope).map_err(|error| AttestationError::Envelope(error.to_string()))
}

/// `PAE(type, body) = "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`, lengths in decimal.
pub(super) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// RFC 4648, section 4, with padding, without anything else: each value has one text.
fn from_base64(text: &str) -> Result<Vec<u8>, AttestationError> {
    STANDARD.decode(text).map_err(|error| AttestationError::Envelope(error.to_string()))
}
