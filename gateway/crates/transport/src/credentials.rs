//! A key and the certificates that speak for it.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519};
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use std::sync::Arc;
use thiserror::Error;
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use crate::invitation::Invitation;
use crate::key::{KeyId, ed25519_pkcs8, ed25519_seed};

/// Most certificates of a chain.
const CHAIN_MAX: usize = 4;

/// Why there are no credentials.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A key or certificate cannot be made.
    #[error("cannot make a key or certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What should be PEM is none.
    #[error("this is no certificate chain or key in PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// A chain without its authority, or far too long.
    #[error("a chain of 2 to {CHAIN_MAX} certificates is needed, the authority's last; this one has {0}")]
    Chain(usize),
    /// The certificate speaks for another key.
    #[error("the certificate is for another key")]
    OtherKey,
    /// The library does not take it.
    #[error("the key or certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Random,
    /// The key cannot sign so.
    #[error("an Ed25519 key is needed for a signature")]
    NotEd25519,
}

/// A private key that never leaves its machine, and its certificates.
pub struct Credentials {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// The key is not for logs.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

/// A key without a certificate yet.
pub struct FreshKey {
    pkcs8: Zeroizing<Vec<u8>>,
    spki: Vec<u8>,
}

impl std::fmt::Debug for FreshKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FreshKey").field("id", &self.key_id()).finish_non_exhaustive()
    }
}

impl FreshKey {
    /// Makes an Ed25519 key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn make() -> Result<Self, CredentialsError> {
        let mut seed = Zeroizing::new([0; 32]);
        let random = crate::tls::provider().secure_random;
        random.fill(seed.as_mut_slice()).map_err(|_| CredentialsError::Random)?;
        FreshKey::of(Zeroizing::new(ed25519_pkcs8(&seed)))
    }

    /// Reads a key in PEM (PKCS #8).
    ///
    /// # Errors
    /// When it is none.
    pub fn from_pem(pem: &str) -> Result<Self, CredentialsError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())?;
        FreshKey::of(Zeroizing::new(key.secret_pkcs8_der().to_vec()))
    }

    fn of(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, CredentialsError> {
        let key = PrivatePkcs8KeyDer::from(pkcs8.to_vec());
        let key = crate::tls::provider().key_provider.load_private_key(key.into())?;
        let spki = key.public_key().ok_or(CredentialsError::NotEd25519)?.to_vec();
        Ok(FreshKey { pkcs8, spki })
    }

    /// The key in PEM, to be kept with mode 0600.
    #[must_use]
    pub fn pem(&self) -> Zeroizing<String> {
        key_pem(&self.pkcs8)
    }

    /// The public key (SubjectPublicKeyInfo, DER).
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key's 32 secret bytes, for a signature that is not TLS's.
    ///
    /// # Errors
    /// When the key is not Ed25519 as [`FreshKey::make`] makes it.
    pub fn ed25519_seed(&self) -> Result<Zeroizing<[u8; 32]>, CredentialsError> {
        ed25519_seed(&self.pkcs8).map(Zeroizing::new).ok_or(CredentialsError::NotEd25519)
    }

    /// The public key's id.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId::of_spki(&self.spki)
    }

    /// The key with the chain that was signed for it.
    ///
    /// # Errors
    /// When the chain is none, or is for another key.
    pub fn with_chain(self, chain_pem: &str) -> Result<Credentials, CredentialsError> {
        let chain = read_chain(chain_pem)?;
        let of_leaf = chain.first().and_then(|der| EndEntityCert::try_from(der).ok());
        let is_ours = of_leaf.is_some_and(|leaf| *leaf.subject_public_key_info() == *self.spki);
        if !is_ours {
            return Err(CredentialsError::OtherKey);
        }
        Ok(Credentials { chain, pkcs8: self.pkcs8 })
    }
}

impl Credentials {
    /// The one-time credentials of an invitation: its key, and a certificate that says nothing.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn invited(invitation: &Invitation) -> Result<Self, CredentialsError> {
        let key = invitation.key();
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "invited");
        let certificate = params.self_signed(&pair)?;
        let pkcs8 = Zeroizing::new(key.secret_pkcs8_der().to_vec());
        Ok(Credentials { chain: vec![certificate.der().clone()], pkcs8 })
    }

    /// The certificate of whoever signed, which is the last of the chain.
    #[must_use]
    pub fn authority(&self) -> Option<&CertificateDer<'static>> {
        self.chain.last()
    }

    /// The chain in PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        write_chain(&self.chain)
    }

    /// The key in PEM, to be kept with mode 0600.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        key_pem(&self.pkcs8)
    }

    /// Signs with the key.
    ///
    /// # Errors
    /// When the key is not Ed25519.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CredentialsError> {
        let signer = self.signing_key()?.choose_scheme(&[SignatureScheme::ED25519]);
        Ok(signer.ok_or(CredentialsError::NotEd25519)?.sign(message)?)
    }

    pub(crate) fn signing_key(&self) -> Result<Arc<dyn SigningKey>, CredentialsError> {
        Ok(crate::tls::provider().key_provider.load_private_key(self.private_key())?)
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()).into()
    }
}

/// Reads a chain in PEM: the holder's certificate first, the authority's last.
///
/// # Errors
/// When it is none.
pub fn read_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).take(CHAIN_MAX + 1).collect();
    let chain = chain?;
    if (2..=CHAIN_MAX).contains(&chain.len()) { Ok(chain) } else { Err(CredentialsError::Chain(chain.len())) }
}

/// Reads one certificate in PEM, such as an authority's.
///
/// # Errors
/// When it is none.
pub fn read_certificate(pem: &str) -> Result<CertificateDer<'static>, CredentialsError> {
    Ok(CertificateDer::from_pem_slice(pem.as_bytes())?)
}

fn key_pem(pkcs8: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(data_encoding::BASE64.encode(pkcs8));
    Zeroizing::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *body))
}

pub(crate) fn write_chain(chain: &[CertificateDer<'_>]) -> String {
    let one = |der: &CertificateDer<'_>| {
        let body = data_encoding::BASE64.encode(der);
        let lines: Vec<&str> =
            (0..body.len()).step_by(64).filter_map(|at| body.get(at..(at + 64).min(body.len()))).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    chain.iter().map(one).collect()
}
