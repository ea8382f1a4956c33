//! Certificates at the maintenance door: anybody may send one, and what a vendor's own authority signs may say anything.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use jiff::Timestamp;
use rcgen::string::{BmpString, TeletexString};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::CertificateDer;
use transport::guests::{Guests, Quality};

/// id-ce-subjectAltName (RFC 5280, 4.2.1.6).
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];
/// Longest name of a person (RFC 5280, appendix A.1: ub-common-name).
const NAME_CHARS_MAX: usize = 64;
/// Bits of an input's first byte.
const FOR_NOTHING: u8 = 0x80;
const NAMELESS: u8 = 0x40;
const OTHER_LETTERS: u8 = 0x03;

/// A vendor with an authority of its own. Its key comes by chance, so that no input was ever signed with it.
struct Vendor {
    guests: Guests,
    issuer: Issuer<'static, KeyPair>,
    key: KeyPair,
    engineer: CertificateDer<'static>,
}

impl Vendor {
    fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let authority = params.self_signed(&authority_key)?;
        let vendors = BTreeMap::from([("acme".to_owned(), authority.der().clone())]);
        let (issuer, key) = (Issuer::new(params, authority_key), KeyPair::generate()?);
        let engineer = person("Suzuki").signed_by(&key, &issuer)?.der().clone();
        Ok(Vendor { guests: Guests { vendors, ..Guests::default() }, issuer, key, engineer })
    }
}

fn vendor() -> &'static Vendor {
    static VENDOR: OnceLock<Vendor> = OnceLock::new();
    VENDOR.get_or_init(|| {
        let vendor = Vendor::new().ok();
        assert!(vendor.as_ref().is_some_and(|vendor| admitted(&vendor.guests, &vendor.engineer).is_some()));
        vendor.unwrap_or_else(|| unreachable!("asserted"))
    })
}

/// Whoever is let in with a certificate as somebody of whom a vendor's authority says so, by name.
fn admitted(guests: &Guests, certificate: &CertificateDer<'_>) -> Option<String> {
    let now = Timestamp::from_second(1_800_000_000).ok()?;
    match guests.admit(certificate, &[], now) {
        Ok(Quality::Vouched(vouched)) => Some(vouched.name),
        Ok(Quality::Engineer(_) | Quality::Invited) => Some(String::new()),
        Err(_) => None,
    }
}

fn person(name: impl Into<DnValue>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// Nobody comes in whom no authority signed, no authority vouches that did not sign, and who is vouched for has a name that
/// can be shown to people, whatever the certificate says.
pub(crate) fn certificate(input: &[u8]) {
    let vendor = vendor();
    let raw = CertificateDer::from(input);
    assert_eq!(admitted(&vendor.guests, &raw), None);
    let vendors = BTreeMap::from([("acme".to_owned(), raw.into_owned())]);
    assert_eq!(admitted(&Guests { vendors, ..Guests::default() }, &vendor.engineer), None);

    let Some(params) = made_of(input) else { return };
    let Ok(signed) = params.signed_by(&vendor.key, &vendor.issuer) else { return };
    if let Some(name) = admitted(&vendor.guests, signed.der()) {
        assert_eq!(
            input.first().map(|bits| bits & FOR_NOTHING),
            Some(0),
            "it is not for client authentication"
        );
        assert!(
            !name.is_empty() && name.trim() == name && name.chars().count() <= NAME_CHARS_MAX,
            "{name:?}"
        );
        assert!(!name.chars().any(misleads), "{name:?}");
    }
}

/// Whether a character ends a line, moves the cursor, or turns letters round (Unicode standard annex 9, section 2).
fn misleads(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A certificate that says this: bits, the length of a common name, the name, and the alternative names as they come.
fn made_of(input: &[u8]) -> Option<CertificateParams> {
    let [bits, length, rest @ ..] = input else { return None };
    let (name, names) = rest.split_at_checked(usize::from(*length))?;
    let name = String::from_utf8_lossy(name).into_owned();
    let mut params = person(match bits & OTHER_LETTERS {
        0 => DnValue::Utf8String(name),
        1 => DnValue::BmpString(BmpString::try_from(name).ok()?),
        _ => DnValue::TeletexString(TeletexString::try_from(name).ok()?),
    });
    if bits & NAMELESS != 0 {
        params.distinguished_name = DistinguishedName::new();
    }
    if bits & FOR_NOTHING != 0 {
        params.extended_key_usages.clear();
    }
    if !names.is_empty() {
        let names = CustomExtension::from_oid_content(ALTERNATIVE_NAMES, names.to_vec());
        params.custom_extensions.push(names);
    }
    Some(params)
}
