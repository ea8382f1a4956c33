//! Who may finish a handshake with the gateway: engineers whose key is on the list and whose certificate somebody trusted
//! signed, engineers whom a vendor's own authority vouches for, and holders of an invitation, by its one-time key. Everybody
//! else gets an alert, and nothing else.

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
use crate::tls;
use crate::vouch::{Authority, Holder, Vouched};

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
    /// Keys that stay out, whoever vouches for them.
    pub barred: BTreeSet<KeyId>,
}

/// In what quality somebody came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quality {
    /// As an engineer on the list.
    Engineer(Engineer),
    /// As an engineer of whom a vendor's own authority says so.
    Vouched(Vouched),
    /// With an invitation: may have a key certified, and nothing else.
    Invited,
}

impl Quality {
    /// Whether somebody who came in so is still the same in the other quality: later dates change nobody.
    #[must_use]
    pub fn is_as(&self, other: &Quality) -> bool {
        match (self, other) {
            (Quality::Engineer(one), Quality::Engineer(two)) => one.vendor == two.vendor,
            (Quality::Vouched(one), Quality::Vouched(two)) => {
                one.vendor == two.vendor && one.authority == two.authority
            }
            (Quality::Invited, Quality::Invited) => true,
            (Quality::Engineer(_) | Quality::Vouched(_) | Quality::Invited, _) => false,
        }
    }
}

impl Guests {
    /// In what quality the holder of a key on the list may come in now.
    #[must_use]
    pub fn quality(&self, key: &KeyId, now: Timestamp) -> Option<Quality> {
        if let Some(engineer) = self.engineers.get(key).filter(|engineer| now < engineer.not_after) {
            return Some(Quality::Engineer(engineer.clone()));
        }
        self.invitations.contains(key).then_some(Quality::Invited)
    }

    /// In what quality the holder of a certificate may come in now. That he holds its key is proved by the handshake's
    /// signature.
    ///
    /// # Errors
    /// Says what the peer's alert says.
    pub fn admit(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Quality, Error> {
        let parsed = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let key = KeyId::of_spki(&parsed.subject_public_key_info());
        let chain = Chain { certificate: &parsed, intermediates, now: unix_time(now) };
        match self.quality(&key, now) {
            // What the certificate of an invitation says is nothing.
            Some(quality @ (Quality::Invited | Quality::Vouched(_))) => Ok(quality),
            Some(Quality::Engineer(engineer)) => {
                let own = self.vendors.get(&engineer.vendor).filter(|of| is_valid(of, now));
                let trusted = self.authority.iter().chain(own);
                chain.verify(&tls::algorithms(), trusted, KeyUsage::required(EKU_CLIENT_AUTH))?;
                Ok(Quality::Engineer(engineer))
            }
            None if self.barred.contains(&key) => Err(CertificateError::Revoked.into()),
            None => {
                let (vendor, authority) = self.vouching(&chain, now)?;
                let Holder { name, not_after } = Holder::read(certificate)?;
                Ok(Quality::Vouched(Vouched { vendor, authority, name, not_after }))
            }
        }
    }

    /// The one vendor whose own authority signed, and that authority's key. Two would leave open whose engineer it is; the
    /// clinic's authority speaks for those on the list only.
    fn vouching(&self, chain: &Chain<'_>, now: Timestamp) -> Result<(String, KeyId), Error> {
        let clinics = self.authority.as_ref().and_then(Authority::read).map(|of| of.key);
        let unknown = || Error::from(CertificateError::UnknownIssuer);
        let (mut found, mut why) = (None, unknown());
        for (vendor, certificate) in &self.vendors {
            let Some(authority) = Authority::read(certificate) else { continue };
            if !authority.is_valid(now) || Some(&authority.key) == clinics.as_ref() {
                continue;
            }
            // Those between need not say what for; that the engineer's own says it is held elsewhere.
            match chain.verify(&tls::algorithms(), std::iter::once(certificate), KeyUsage::client_auth()) {
                Ok(()) if found.is_some() => return Err(unknown()),
                Ok(()) => found = Some((vendor.clone(), authority.key)),
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(error) => why = error,
            }
        }
        found.ok_or(why)
    }
}

fn is_valid(authority: &CertificateDer<'_>, now: Timestamp) -> bool {
    Authority::read(authority).is_some_and(|authority| authority.is_valid(now))
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
        self.guests.current().admit(end_entity, intermediates, timestamp(now)?)?;
        Ok(ClientCertVerified::assertion())
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
    /// Holds the chain against authorities: signatures, validity, and the extended key usage of every certificate.
    pub(crate) fn verify<'a>(
        &self,
        algorithms: &WebPkiSupportedAlgorithms,
        authorities: impl Iterator<Item = &'a CertificateDer<'static>>,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let intermediates =
            self.intermediates.get(..INTERMEDIATES_MAX.min(self.intermediates.len())).unwrap_or(&[]);
        let anchors: Vec<_> = authorities.filter_map(|of| anchor_from_trusted_cert(of).ok()).collect();
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

fn unix_time(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0)))
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
