//! What certificates of a vendor's own authority say: which authority it is, and whom it names. X.509 as of RFC 5280; what
//! a signature holds is the caller's to judge first.

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate};

use crate::key::KeyId;
use crate::protocol::Text;

/// id-at-commonName (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// id-kp-clientAuth (RFC 5280, 4.2.1.12).
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
/// Longest name (RFC 5280, appendix A.1: ub-common-name).
const NAME_CHARS_MAX: usize = 64;

/// An engineer whom a vendor's own authority vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// The vendor.
    pub vendor: String,
    /// The authority's key.
    pub authority: KeyId,
    /// Whom the certificate names.
    pub name: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// An authority, as its certificate says.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) key: KeyId,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Authority {
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let body = certificate.tbs_certificate();
        let (not_before, not_after) = validity(body.validity())?;
        let spki = body.subject_public_key_info().to_der().ok()?;
        Some(Authority { key: KeyId::of_spki(&spki), not_before, not_after })
    }

    /// Whether it is good now: a trust anchor's dates are nobody else's business.
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

/// The holder of a certificate, as it says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) not_after: Timestamp,
}

impl Holder {
    /// The holder of a certificate that is for client authentication and names one person: by the one common name of the
    /// subject; where there is none, by the one mail address among the alternative names.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let certificate = Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let body = certificate.tbs_certificate();
        let usage = body.get_extension::<ExtendedKeyUsage>().map_err(|_| CertificateError::BadEncoding)?;
        if !usage.is_some_and(|(_, usage)| usage.0.contains(&CLIENT_AUTH)) {
            return Err(CertificateError::InvalidPurpose);
        }
        let (_, not_after) = validity(body.validity()).ok_or(CertificateError::BadEncoding)?;
        let name = name(body).ok_or(CertificateError::ApplicationVerificationFailure)?;
        Ok(Holder { name, not_after })
    }
}

fn name(body: &TbsCertificate) -> Option<String> {
    let common: Vec<&AttributeTypeAndValue> =
        body.subject().iter().filter(|attribute| attribute.oid == COMMON_NAME).collect();
    match common.as_slice() {
        [] => {
            let (_, names) = body.get_extension::<SubjectAltName>().ok()??;
            fit(&mail(&names)?)
        }
        [one] => fit(&DirectoryString::try_from(&one.value).ok()?.value()),
        _ => None,
    }
}

fn mail(names: &SubjectAltName) -> Option<String> {
    let mut found = names.0.iter().filter_map(|name| match name {
        GeneralName::Rfc822Name(address) => Some(address.to_string()),
        _ => None,
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// A name as people may be shown it: one line, nothing that turns letters round.
fn fit(name: &str) -> Option<String> {
    let trimmed = name.trim().to_owned();
    if trimmed.chars().count() > NAME_CHARS_MAX {
        return None;
    }
    Text::try_from(trimmed).ok().map(String::from)
}

fn validity(of: &Validity) -> Option<(Timestamp, Timestamp)> {
    let at = |time: Time| Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok();
    Some((at(of.not_before)?, at(of.not_after)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};

    /// The name in a certificate with these common names and mail addresses.
    fn named(common: &[&str], mails: &[&str]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "acme");
        common.iter().for_each(|name| params.distinguished_name.push(DnType::CommonName, *name));
        let mail = |address: &&str| SanType::Rfc822Name((*address).try_into().unwrap());
        params.subject_alt_names = mails.iter().map(mail).collect();
        params.subject_alt_names.push(SanType::DnsName("laptop.acme.example".try_into().unwrap()));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::EmailProtection, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Holder::read(certificate.der()).ok().map(|holder| holder.name)
    }

    #[test]
    fn a_certificate_names_one_person_or_nobody() {
        let long = "a".repeat(NAME_CHARS_MAX);
        for (common, mails, name) in [
            (&["鈴木 一郎"][..], &[][..], Some("鈴木 一郎")),
            (&["鈴木 一郎"], &["suzuki@acme.example", "s@acme.example"], Some("鈴木 一郎")),
            (&[], &["suzuki@acme.example"], Some("suzuki@acme.example")),
            (&[], &["suzuki@acme.example", "sato@acme.example"], None),
            (&[], &[], None),
            (&[long.as_str()], &[], Some(long.as_str())),
            (&[" "], &["suzuki@acme.example"], None),
            (&["a\u{202e}b"], &[], None),
            (&["a\nb"], &[], None),
        ] {
            assert_eq!(named(common, mails).as_deref(), name, "{common:?} {mails:?}");
        }
        assert_eq!(named(&[&"a".repeat(NAME_CHARS_MAX + 1)], &[]), None);
    }

    #[test]
    fn what_is_no_certificate_says_nothing() {
        for bytes in [&b""[..], b"\x30\x00", &[0x30; 600]] {
            let certificate = CertificateDer::from(bytes.to_vec());
            assert!(Holder::read(&certificate).is_err() && Authority::read(&certificate).is_none());
        }
    }
}
