//! The TLS of both transports: version 1.3 only (RFC 8446), AES-GCM and ChaCha20-Poly1305, X25519MLKEM768 preferred, client
//! certificates required, no resumption, no early data.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use crate::credentials::{Credentials, CredentialsError};
use crate::guests::{Doorkeeper, GuestList};
use crate::pin::{Pin, Pinned};

/// The protocol's name in ALPN (RFC 7301).
pub const ALPN: &[u8] = b"sekisho/1";

/// What is used of cryptography, and in which order. The order is the server's.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite as suite;
    use aws_lc_rs::kx_group as group;
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![group::X25519MLKEM768, group::X25519, group::SECP256R1],
        ..aws_lc_rs::default_provider()
    })
}

/// Signatures that certificates may have.
pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

/// The gateway's certificate, which may be replaced while it serves.
#[derive(Debug)]
pub(crate) struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    pub(crate) fn new(credentials: &Credentials) -> Result<Self, CredentialsError> {
        Ok(Shown(RwLock::new(certified(credentials)?)))
    }

    pub(crate) fn replace(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        let certified = certified(credentials)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certified(credentials: &Credentials) -> Result<Arc<CertifiedKey>, CredentialsError> {
    let certified = CertifiedKey::new(credentials.chain.clone(), credentials.signing_key()?);
    certified.keys_match()?;
    Ok(Arc::new(certified))
}

/// The gateway's side.
pub(crate) fn server(shown: Arc<Shown>, guests: GuestList) -> Result<ServerConfig, rustls::Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let doorkeeper = Arc::new(Doorkeeper { guests, algorithms });
    let mut config = builder.with_client_cert_verifier(doorkeeper).with_cert_resolver(shown);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The vendor's side.
pub(crate) fn client(credentials: &Credentials, pin: Pin) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let pinned = Arc::new(Pinned { pin, algorithms });
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_client_auth_cert(credentials.chain.clone(), credentials.private_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}
