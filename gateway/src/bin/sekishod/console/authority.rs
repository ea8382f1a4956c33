//! The authority of the metrics' door: it signs the door's own certificate and those of the readers, and nothing else.
//! X.509 as of RFC 5280, ECDSA with P-256; made at the first start, kept in the console's state directory.

use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long the authority is good. Readers hold its certificate: it is not renewed behind their backs.
const AUTHORITY_DAYS: i32 = 20 * 365;
/// How long the door's own certificate is good.
const DOOR_DAYS: i32 = 180;
/// How long before its end the door's own certificate is renewed: long before a control would call it short.
const DOOR_RENEW_DAYS: i32 = 60;
/// How long a reader's certificate is good.
const READER_DAYS: i32 = 2 * 365;
/// Certificates are good from this long before they were made: clocks differ.
const LEEWAY: SignedDuration = DAY;
/// No certificate is made as of an earlier time than this: the clock of a box whose battery is empty says 1970, and an
/// authority made by it would have ended before its first day.
const EPOCH_S: i64 = 1_767_225_600;

/// Why there is no certificate.
#[derive(Debug, Error)]
pub(crate) enum AuthorityError {
    /// It cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What is kept is no certificate or key.
    #[error("what is kept as a certificate is none: {0}")]
    Kept(String),
}

/// A certificate with its key, as kept on disk.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The name in its subject.
    pub(crate) name: String,
    /// Addresses that it speaks for.
    pub(crate) addresses: Vec<IpAddr>,
    /// The certificate, PEM.
    pub(crate) certificate: String,
    /// The private key, PEM.
    pub(crate) key: String,
    /// When it begins.
    pub(crate) not_before: Timestamp,
    /// When it ends.
    pub(crate) not_after: Timestamp,
}

/// The key is not for logs.
impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Identity {
    /// The certificate as bytes.
    ///
    /// # Errors
    /// When what is kept is no certificate.
    pub(crate) fn certificate(&self) -> Result<CertificateDer<'static>, AuthorityError> {
        let kept = |error: rustls::pki_types::pem::Error| AuthorityError::Kept(error.to_string());
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(kept)
    }

    /// The key as bytes.
    ///
    /// # Errors
    /// When what is kept is no key.
    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, AuthorityError> {
        let kept = |error: rustls::pki_types::pem::Error| AuthorityError::Kept(error.to_string());
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(kept)
    }

    /// Whether the door's own certificate still serves: for these addresses, and for long enough.
    pub(crate) fn serves(&self, addresses: &[IpAddr], now: Timestamp) -> bool {
        let renew_at = self.not_after.checked_sub(days(DOOR_RENEW_DAYS)).unwrap_or(Timestamp::MIN);
        self.addresses == addresses && self.not_before <= now && now < renew_at
    }
}

/// The SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// The authority.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    identity: Identity,
}

impl Authority {
    /// Makes a new one; `name` tells it from others of its kind.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(crate) fn make(name: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let params = authority_params(name);
        let (params, period) = dated(params, now, AUTHORITY_DAYS);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Authority { identity: identity(name, &[], certificate, &key, period) })
    }

    /// The one that was kept.
    pub(crate) fn kept(identity: Identity) -> Self {
        Authority { identity }
    }

    /// What is kept of it.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A certificate for the door itself.
    ///
    /// # Errors
    /// When the authority's key is not one.
    pub(crate) fn door(&self, addresses: &[IpAddr], now: Timestamp) -> Result<Identity, AuthorityError> {
        let mut params = leaf_params("sekisho metrics", ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
        self.sign("sekisho metrics", addresses, dated(params, now, DOOR_DAYS))
    }

    /// A certificate for a reader.
    ///
    /// # Errors
    /// When the authority's key is not one.
    pub(crate) fn reader(&self, name: &str, now: Timestamp) -> Result<Identity, AuthorityError> {
        let params = leaf_params(name, ExtendedKeyUsagePurpose::ClientAuth);
        self.sign(name, &[], dated(params, now, READER_DAYS))
    }

    fn sign(
        &self,
        name: &str,
        addresses: &[IpAddr],
        (params, period): (CertificateParams, (Timestamp, Timestamp)),
    ) -> Result<Identity, AuthorityError> {
        let own = authority_params(&self.identity.name);
        let issuer = Issuer::from_params(&own, KeyPair::from_pem(&self.identity.key)?);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(identity(name, addresses, certificate, &key, period))
    }
}

fn identity(
    name: &str,
    addresses: &[IpAddr],
    certificate: String,
    key: &KeyPair,
    (not_before, not_after): (Timestamp, Timestamp),
) -> Identity {
    let (name, addresses) = (name.to_owned(), addresses.to_vec());
    Identity { name, addresses, certificate, key: key.serialize_pem(), not_before, not_after }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf_params(name: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

fn named(name: &str) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params
}

/// Dates a certificate; gives the period as well.
fn dated(
    mut params: CertificateParams,
    now: Timestamp,
    good_days: i32,
) -> (CertificateParams, (Timestamp, Timestamp)) {
    let now = now.max(Timestamp::from_second(EPOCH_S).unwrap_or(now));
    let not_before = now.checked_sub(LEEWAY).unwrap_or(now);
    let not_after = now.checked_add(days(good_days)).unwrap_or(Timestamp::MAX);
    let since_epoch = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(not_before);
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(not_after);
    (params, (not_before, not_after))
}

fn days(number: i32) -> SignedDuration {
    DAY * number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doors_certificate_is_renewed_before_its_end_and_for_other_addresses() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let authority = Authority::make("test", now).unwrap();
        let here = [IpAddr::from([192, 0, 2, 1])];
        let door = authority.door(&here, now).unwrap();
        assert!(door.serves(&here, now));
        assert!(!door.serves(&[IpAddr::from([192, 0, 2, 2])], now));
        assert!(door.serves(&here, now + days(DOOR_DAYS - DOOR_RENEW_DAYS - 1)));
        assert!(!door.serves(&here, now + days(DOOR_DAYS - DOOR_RENEW_DAYS + 1)));
        assert!(!door.serves(&here, now - days(3)), "a clock that was set back");
    }

    #[test]
    fn a_clock_without_battery_makes_no_authority_that_has_ended() {
        let authority = Authority::make("test", Timestamp::UNIX_EPOCH).unwrap();
        assert!(authority.identity().not_after > "2045-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn what_is_kept_and_is_no_certificate_is_an_error() {
        let authority = Authority::make("test", Timestamp::UNIX_EPOCH).unwrap();
        let mut identity = authority.identity().clone();
        identity.certificate = "-----BEGIN NOTHING-----".to_owned();
        identity.key = String::new();
        assert!(identity.certificate().is_err() && identity.key().is_err());
        assert!(Authority::kept(identity).reader("a", Timestamp::UNIX_EPOCH).is_err());
    }
}
