//! The receipt that a vendor gets of a session: what was asked and what was carried, signed by the gateway, verified with
//! nothing but the clinic's authority. The signed bytes are the text as it stands, after a fixed head.

use jiff::Timestamp;
use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage};

use crate::credentials::{Credentials, CredentialsError, read_chain};
use crate::guests::Chain;
use crate::key::KeyId;
use crate::pin::EKU_SERVER_AUTH;
use crate::tls;

/// What comes before the text in what is signed, so that a signature for something else is none for a receipt.
const HEAD: &[u8] = b"sekisho-receipt-1\n";
/// The version of the text.
const VERSION: u32 = 1;

/// What the gateway says of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The version of this text.
    pub v: u32,
    /// The session.
    pub session: String,
    /// The engineer's key.
    pub engineer: KeyId,
    /// The vendor.
    pub vendor: String,
    /// The target, as it was asked for.
    pub target: String,
    /// What for.
    pub purpose: String,
    /// SHA-256 of the request as the clinic approved it.
    pub digest: String,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When connections became possible.
    pub opened_at: Option<Timestamp>,
    /// When it was over.
    pub closed_at: Timestamp,
    /// Why it was over.
    pub why: String,
    /// Connections carried.
    pub connections: u64,
    /// Bytes from the vendor to the target.
    pub sent_bytes: u64,
    /// Bytes back.
    pub received_bytes: u64,
    /// Number of the last entry about a connection in the clinic's log.
    pub log_index: Option<u64>,
}

impl Receipt {
    /// The version written now.
    pub const VERSION: u32 = VERSION;
}

/// A receipt with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReceipt {
    /// The receipt as JSON text: these bytes are signed.
    pub receipt: String,
    /// Ed25519 (RFC 8032) in base64.
    pub signature: String,
    /// The gateway's certificates in PEM.
    pub chain_pem: String,
}

/// Why a receipt proves nothing.
#[derive(Debug, Error)]
pub enum ReceiptError {
    /// It is no receipt.
    #[error("this is no receipt: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A receipt of another version.
    #[error("the receipt is of version {0}, this program reads {VERSION}")]
    Version(u32),
    /// The certificates are none.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificate is not of this clinic's gateway.
    #[error("the receipt is not signed by a gateway of this authority: {0}")]
    Untrusted(#[from] rustls::Error),
    /// The signature does not fit.
    #[error("the receipt was changed after it was signed, or its signature is of something else")]
    Signature,
}

impl SignedReceipt {
    /// Signs.
    ///
    /// # Errors
    /// When the key cannot.
    pub fn sign(receipt: &Receipt, credentials: &Credentials) -> Result<Self, ReceiptError> {
        let receipt = serde_json::to_string(receipt)?;
        let signature = credentials.sign(&signed_bytes(&receipt))?;
        let signature = data_encoding::BASE64.encode(&signature);
        Ok(SignedReceipt { receipt, signature, chain_pem: credentials.chain_pem() })
    }

    /// The receipt, if a gateway of this authority signed it. Certificates are judged as of the session's end, so that a
    /// receipt outlives them.
    ///
    /// # Errors
    /// When it proves nothing.
    pub fn verify(&self, authority: &CertificateDer<'static>) -> Result<Receipt, ReceiptError> {
        /// The part of a receipt that never changes.
        #[derive(Deserialize)]
        struct Head {
            v: u32,
        }
        let Head { v } = serde_json::from_str(&self.receipt)?;
        if v != VERSION {
            return Err(ReceiptError::Version(v));
        }
        let receipt: Receipt = serde_json::from_str(&self.receipt)?;
        let chain = read_chain(&self.chain_pem)?;
        let (leaf, intermediates) = chain.split_first().ok_or(ReceiptError::Signature)?;
        let leaf = EndEntityCert::try_from(leaf).map_err(|_| ReceiptError::Signature)?;
        let algorithms = tls::provider().signature_verification_algorithms;
        let closed_s = u64::try_from(receipt.closed_at.as_second()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(closed_s));
        let path = Chain { certificate: &leaf, intermediates, now };
        path.verify(&algorithms, std::iter::once(authority), KeyUsage::required(EKU_SERVER_AUTH))?;
        let signature = data_encoding::BASE64.decode(self.signature.as_bytes());
        let signature = signature.map_err(|_| ReceiptError::Signature)?;
        let ed25519 = algorithms.mapping.iter().find(|(scheme, _)| *scheme == SignatureScheme::ED25519);
        let ed25519 = ed25519.and_then(|(_, of)| of.first()).ok_or(ReceiptError::Signature)?;
        let is_signed = leaf.verify_signature(*ed25519, &signed_bytes(&self.receipt), &signature);
        is_signed.map_err(|_| ReceiptError::Signature)?;
        Ok(receipt)
    }
}

fn signed_bytes(receipt: &str) -> Vec<u8> {
    [HEAD, receipt.as_bytes()].concat()
}
