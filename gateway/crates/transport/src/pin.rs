//! How the vendor's client knows the gateway: by the clinic's maintenance authority, and by nothing else in the world.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use crate::guests::{Chain, INTERMEDIATES_MAX};
use crate::invitation::AuthorityHash;

/// id-kp-serverAuth (RFC 5280, 4.2.1.12) as the bytes of an object identifier.
pub(crate) const EKU_SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// The name in the gateway's certificate.
pub const SERVER_NAME: &str = "sekisho-gateway";

/// By what the gateway is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// By the hash in an invitation; the authority's certificate comes with the gateway's own.
    Hash(AuthorityHash),
    /// By the authority's certificate, kept since the enrolment.
    Authority(CertificateDer<'static>),
}

impl Pin {
    /// The authority that this pin means, if it is among what the gateway showed.
    pub(crate) fn authority(&self, shown: &[CertificateDer<'_>]) -> Option<CertificateDer<'static>> {
        match self {
            Pin::Authority(kept) => Some(kept.clone()),
            Pin::Hash(hash) => {
                let is_it = |der: &&CertificateDer<'_>| {
                    EndEntityCert::try_from(*der)
                        .is_ok_and(|of| AuthorityHash::of_spki(&of.subject_public_key_info()) == *hash)
                };
                shown.iter().take(INTERMEDIATES_MAX).find(is_it).map(|der| der.clone().into_owned())
            }
        }
    }
}

/// The client's verifier.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) pin: Pin,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = self.pin.authority(intermediates).ok_or(CertificateError::UnknownIssuer)?;
        let certificate = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let chain = Chain { certificate: &certificate, intermediates, now };
        chain.verify(&self.algorithms, std::iter::once(&authority), KeyUsage::required(EKU_SERVER_AUTH))?;
        let named = certificate.verify_is_valid_for_subject_name(server_name);
        named.map_err(|_| CertificateError::NotValidForName)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
