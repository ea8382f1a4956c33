//! TLS 1.3 (RFC 8446) and no other version, on both sides of the metrics' door. rustls with ring; the code of older
//! versions is not even built in.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;

use super::authority::{AuthorityError, Identity};

/// Why a door cannot be set up.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    /// By a certificate.
    #[error(transparent)]
    Certificate(#[from] AuthorityError),
    /// By the engine.
    #[error("the TLS engine refuses: {0}")]
    Engine(#[from] rustls::Error),
    /// By the check of readers.
    #[error("readers cannot be checked: {0}")]
    Readers(#[from] rustls::server::VerifierBuilderError),
    /// There is no randomness.
    #[error("the system gives no randomness")]
    Random,
}

/// The door's side; `readers` is the authority whose certificates readers must show, where they must.
///
/// # Errors
/// When certificate and key do not fit.
pub(crate) fn door(
    own: &Identity,
    readers: Option<CertificateDer<'static>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let builder = match readers {
        Some(authority) => {
            let roots = Arc::new(roots(authority)?);
            let check = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
            builder.with_client_cert_verifier(check)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(vec![own.certificate()?], own.key()?)?;
    // Nobody comes back by a ticket: a reader that was removed is out at its next connection.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A reader's side, with or without a certificate.
///
/// # Errors
/// When certificate and key do not fit.
pub(crate) fn reader(
    authority: CertificateDer<'static>,
    own: Option<&Identity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(authority)?);
    Ok(Arc::new(match own {
        Some(own) => builder.with_client_auth_cert(vec![own.certificate()?], own.key()?)?,
        None => builder.with_no_client_auth(),
    }))
}

/// Bytes that nobody can guess.
///
/// # Errors
/// When the system gives none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], TlsError> {
    let mut bytes = [0; N];
    provider().secure_random.fill(&mut bytes).map_err(|_| TlsError::Random)?;
    Ok(bytes)
}

fn roots(authority: CertificateDer<'static>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
