//! The clinic's maintenance authority: it certifies engineers' keys and edge's own, and nothing else. X.509 as of RFC 5280,
//! ECDSA with P-256; made at the first need, its key kept in core's state directory. Of a stranger's key it takes exactly
//! two shapes, compared byte by byte.

use std::time::Duration;

use gateway::wire::doors::{KeyId, SERVER_NAME};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SanType,
    SignatureAlgorithm, date_time_ymd,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long the authority is good: engineers pin its key.
const AUTHORITY_DAYS: i32 = 20 * 365;
/// How long the certificate of edge's key is good; edge asks for a new one at each start and every day.
const SERVER_DAYS: i32 = 90;
/// Longest life of an engineer's certificate.
const ENGINEER_DAYS: i32 = 365;
/// Certificates are good from this long before they were made: clocks differ.
const LEEWAY: SignedDuration = DAY;
/// No certificate is made as of an earlier time: the clock of a box whose battery is empty says 1970.
const EPOCH_S: i64 = 1_767_225_600;

/// SubjectPublicKeyInfo of an Ed25519 key (RFC 8410, section 4) up to the key itself.
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const ED25519_BYTES: usize = 32;
/// The same of a P-256 key (RFC 5480, section 2), with the 4 that says "not compressed".
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P256_BYTES: usize = 65;
const UNCOMPRESSED: u8 = 4;

/// Why there is no certificate.
#[derive(Debug, Error)]
pub(crate) enum AuthorityError {
    /// It cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Not a key of the two kinds that are certified.
    #[error("only public keys of the kinds Ed25519 and P-256 (uncompressed) are certified")]
    Key,
    /// It would have ended already.
    #[error("the contract of `{0}` is over: no certificate is made")]
    Over(String),
}

/// The authority as kept on disk.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Authority {
    name: String,
    certificate: String,
    key: String,
}

/// The key is not for logs.
impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A stranger's public key of a known kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certifiable {
    algorithm: &'static SignatureAlgorithm,
    bytes: Vec<u8>,
    id: KeyId,
}

impl Certifiable {
    /// Takes a SubjectPublicKeyInfo of one of the two shapes.
    pub(crate) fn parse(spki: &[u8]) -> Result<Self, AuthorityError> {
        let id = KeyId::of_spki(spki);
        let of = |algorithm, bytes: &[u8]| Certifiable { algorithm, bytes: bytes.to_vec(), id };
        match (spki.strip_prefix(ED25519), spki.strip_prefix(P256)) {
            (Some(key), _) if key.len() == ED25519_BYTES => Ok(of(&PKCS_ED25519, key)),
            (_, Some(key)) if key.len() == P256_BYTES && key.first() == Some(&UNCOMPRESSED) => {
                Ok(of(&PKCS_ECDSA_P256_SHA256, key))
            }
            _ => Err(AuthorityError::Key),
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &KeyId {
        &self.id
    }
}

impl PublicKeyData for Certifiable {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl Authority {
    /// Makes a new one.
    pub(crate) fn make(site: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        let name = format!("Sekisho maintenance {site}");
        let key = KeyPair::generate()?;
        let params = dated(authority_params(&name), now, after(now, AUTHORITY_DAYS));
        Ok(Authority { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem(), name })
    }

    /// Its certificate, PEM.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Its public key, as SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Result<Vec<u8>, AuthorityError> {
        Ok(KeyPair::from_pem(&self.key)?.subject_public_key_info())
    }

    /// A certificate for an engineer's key: for at most a year, and not beyond the contract. Gives the chain and the end.
    pub(crate) fn engineer(
        &self,
        key: &Certifiable,
        (vendor, name): (&str, &str),
        contract_end: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(String, Timestamp), AuthorityError> {
        let longest = after(now, ENGINEER_DAYS);
        let end = contract_end.map_or(longest, |end| end.min(longest));
        if end <= now {
            return Err(AuthorityError::Over(vendor.to_owned()));
        }
        let mut params = leaf(ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, vendor);
        Ok((self.sign(dated(params, now, end), key)?, end))
    }

    /// A certificate for edge's own key.
    pub(crate) fn server(&self, key: &Certifiable, now: Timestamp) -> Result<String, AuthorityError> {
        let mut params = leaf(ExtendedKeyUsagePurpose::ServerAuth);
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        params.subject_alt_names = vec![SanType::DnsName(SERVER_NAME.try_into()?)];
        self.sign(dated(params, now, after(now, SERVER_DAYS)), key)
    }

    fn sign(&self, params: CertificateParams, key: &Certifiable) -> Result<String, AuthorityError> {
        let own = authority_params(&self.name);
        let issuer = Issuer::from_params(&own, KeyPair::from_pem(&self.key)?);
        Ok(format!("{}{}", params.signed_by(key, &issuer)?.pem(), self.certificate))
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = plain();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf(purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = plain();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

fn plain() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}

fn dated(mut params: CertificateParams, now: Timestamp, end: Timestamp) -> CertificateParams {
    let begin = at_least_epoch(now).checked_sub(LEEWAY).unwrap_or(now);
    let since_epoch = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(begin);
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(end);
    params
}

fn after(now: Timestamp, days: i32) -> Timestamp {
    at_least_epoch(now).checked_add(DAY * days).unwrap_or(Timestamp::MAX)
}

fn at_least_epoch(now: Timestamp) -> Timestamp {
    now.max(Timestamp::from_second(EPOCH_S).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use x509_cert::Certificate;
    use x509_cert::der::{Decode, Encode};

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn read(chain: &str) -> Vec<Certificate> {
        let parse = |der: CertificateDer<'_>| Certificate::from_der(&der).unwrap();
        CertificateDer::pem_slice_iter(chain.as_bytes()).map(|der| parse(der.unwrap())).collect()
    }

    fn not_after(certificate: &Certificate) -> Timestamp {
        let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
        Timestamp::from_second(i64::try_from(end.as_secs()).unwrap()).unwrap()
    }

    #[test]
    fn both_kinds_of_key_are_certified_as_they_are() {
        let authority = Authority::make("sakura", now()).unwrap();
        for kind in [&PKCS_ED25519, &PKCS_ECDSA_P256_SHA256] {
            let spki = KeyPair::generate_for(kind).unwrap().subject_public_key_info();
            let key = Certifiable::parse(&spki).unwrap();
            let (chain, end) = authority.engineer(&key, ("acme", "鈴木"), None, now()).unwrap();
            let [leaf, issuer] = &read(&chain)[..] else { panic!("a chain of two") };
            assert_eq!(leaf.tbs_certificate().subject_public_key_info().to_der().unwrap(), spki);
            assert_eq!(leaf.tbs_certificate().issuer(), issuer.tbs_certificate().subject());
            assert_eq!((end, not_after(leaf)), (now() + DAY * 365, end));
            assert_eq!(KeyId::of_spki(&spki), *key.id());
            assert_eq!(read(&authority.server(&key, now()).unwrap()).len(), 2);
        }
    }

    #[test]
    fn no_certificate_outlives_the_contract() {
        let authority = Authority::make("sakura", now()).unwrap();
        let spki = KeyPair::generate().unwrap().subject_public_key_info();
        let key = Certifiable::parse(&spki).unwrap();
        let contract = now() + DAY * 3;
        let (chain, end) = authority.engineer(&key, ("acme", "a"), Some(contract), now()).unwrap();
        assert_eq!((end, not_after(&read(&chain)[0])), (contract, contract));
        assert!(matches!(
            authority.engineer(&key, ("acme", "a"), Some(now()), now()),
            Err(AuthorityError::Over(_))
        ));
    }

    #[test]
    fn other_keys_are_refused() {
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().subject_public_key_info();
        let good = KeyPair::generate().unwrap().subject_public_key_info();
        let mut compressed = good.clone();
        compressed[P256.len()] = 2;
        let long = [good.as_slice(), &[0]].concat();
        for bad in [Vec::new(), p384, compressed, long, good[..good.len() - 1].to_vec(), ED25519.to_vec()] {
            assert!(matches!(Certifiable::parse(&bad), Err(AuthorityError::Key)), "{bad:02x?}");
        }
    }

    #[test]
    fn a_kept_authority_is_the_same() {
        let authority = Authority::make("sakura", Timestamp::UNIX_EPOCH).unwrap();
        let kept: Authority = serde_json::from_str(&serde_json::to_string(&authority).unwrap()).unwrap();
        assert_eq!(kept.spki().unwrap(), authority.spki().unwrap());
        assert!(!format!("{kept:?}").contains("PRIVATE"));
        let [own] = &read(kept.certificate_pem())[..] else { panic!("one certificate") };
        assert_eq!(own.tbs_certificate().subject_public_key_info().to_der().unwrap(), kept.spki().unwrap());
    }
}
