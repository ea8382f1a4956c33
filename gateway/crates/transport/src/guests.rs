//! Who may finish a handshake with the gateway: engineers whose key is on the list and whose certificate somebody trusted
//! signed, and holders of an invitation, by its one-time key. Everybody else gets an alert, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::key::KeyId;

/// id-kp-clientAuth (RFC 5280, 4.2.1.12) as the bytes of an object identifier.
const EKU_CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// Most certificates between an engineer's and the authority's that are looked at.
pub(crate) const INTERMEDIATES_MAX: usize = 4;

/// An engineer on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engineer {
    /// The vendor.
    pub vendor: String,
    /// Name.
    pub name: String,
    /// From when on the key is no longer accepted.
    pub not_after: Timestamp,
}

/// Who may come in. Nobody, to begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guests {
    /// The clinic's maintenance authority.
    pub authority: Option<CertificateDer<'static>>,
    /// Vendors' own authorities, by vendor: each is believed about that vendor's engineers only.
    pub vendors: BTreeMap<String, CertificateDer<'static>>,
    /// Engineers by key.
    pub engineers: BTreeMap<KeyId, Engineer>,
    /// One-time keys of invitations.
    pub invitations: BTreeSet<KeyId>,
}

/// In what quality somebody came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quality {
    /// As an engineer with a certificate.
    Engineer(Engineer),
    /// With an invitation: may have a key certified, and nothing else.
    Invited,
}

impl Guests {
    /// In what quality the holder of a key may come in now.
    #[must_use]
    pub fn quality(&self, key: &KeyId, now: Timestamp) -> Option<Quality> {
        if let Some(engineer) = self.engineers.get(key).filter(|engineer| now < engineer.not_after) {
            return Some(Quality::Engineer(engineer.clone()));
        }
        self.invitations.contains(key).then_some(Quality::Invited)
    }
}

/// The list in force; clones share it.
#[derive(Clone, Debug, Default)]
pub struct GuestList(Arc<RwLock<Arc<Guests>>>);

impl GuestList {
    /// Puts another list in force. Whoever is in already stays until the caller ends that channel.
    pub fn replace(&self, guests: Guests) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(guests);
    }

    /// The list in force.
    #[must_use]
    pub fn current(&self) -> Arc<Guests> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The verifier that asks the list.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    pub(crate) guests: GuestList,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Doorkeeper {
    /// Nothing is told about who is believed.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let key = KeyId::of_spki(&certificate.subject_public_key_info());
        let guests = self.guests.current();
        let at = timestamp(now)?;
        match guests.quality(&key, at) {
            // That the peer holds the key is proved by the handshake's signature; what the certificate says is nothing.
            Some(Quality::Invited) => Ok(ClientCertVerified::assertion()),
            Some(Quality::Engineer(engineer)) => {
                let chain = Chain { certificate: &certificate, intermediates, now };
                let trusted = guests.authority.iter().chain(guests.vendors.get(&engineer.vendor));
                chain.verify(&self.algorithms, trusted, EKU_CLIENT_AUTH)?;
                Ok(ClientCertVerified::assertion())
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        }
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

/// A certificate with what came along.
pub(crate) struct Chain<'a> {
    pub(crate) certificate: &'a EndEntityCert<'a>,
    pub(crate) intermediates: &'a [CertificateDer<'a>],
    pub(crate) now: UnixTime,
}

impl Chain<'_> {
    /// Holds the chain against authorities: signatures, validity, and the extended key usage, which must be there.
    pub(crate) fn verify<'a>(
        &self,
        algorithms: &WebPkiSupportedAlgorithms,
        authorities: impl Iterator<Item = &'a CertificateDer<'static>>,
        usage: &'static [u8],
    ) -> Result<(), Error> {
        let intermediates =
            self.intermediates.get(..INTERMEDIATES_MAX.min(self.intermediates.len())).unwrap_or(&[]);
        let anchors: Vec<_> = authorities.filter_map(|of| anchor_from_trusted_cert(of).ok()).collect();
        let usage = KeyUsage::required(usage);
        let verified = self.certificate.verify_for_usage(
            algorithms.all,
            &anchors,
            intermediates,
            self.now,
            usage,
            None,
            None,
        );
        verified.map(drop).map_err(certificate_error)
    }
}

fn timestamp(now: UnixTime) -> Result<Timestamp, Error> {
    let since = Duration::from_secs(now.as_secs());
    Timestamp::try_from(std::time::UNIX_EPOCH + since).map_err(|_| Error::FailedToGetCurrentTime)
}

/// What the peer is told by its alert.
fn certificate_error(error: webpki::Error) -> Error {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => CertificateError::Expired.into(),
        E::CertNotValidYet { .. } => CertificateError::NotValidYet.into(),
        E::UnknownIssuer => CertificateError::UnknownIssuer.into(),
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose.into(),
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature.into(),
        other => CertificateError::Other(OtherError(Arc::new(other))).into(),
    }
}
