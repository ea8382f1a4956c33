//! A vendor's own certificate authority: the file that the policy names, as PEM (RFC 7468) and X.509 (RFC 5280).
//! What edge is told of it is made anew from what was understood: nothing else of the file travels.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pem::{EncodeConfig, LineEnding, Pem};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::time::Time;

use super::context::Context;
use super::hex;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Authority, AuthorityCertificate, Place, Vendor};
use crate::raw::{self, AUTHORITY_BYTES_MAX, At, Beside, Item};

/// The label of a certificate (RFC 7468, section 5).
const CERTIFICATE: &str = "CERTIFICATE";
/// How the label of every kind of private key ends (RFC 7468, RFC 5915, ..).
const SECRET: &str = "PRIVATE KEY-----";

/// The authority of the file that `ca` names, as far as it can be used.
pub(super) fn authority(
    context: &mut Context<'_>,
    item: &Item<raw::Vendor>,
    ca: &At<String>,
    beside: &BTreeMap<String, Beside>,
) -> Authority {
    let place = context.place(item.spot(ca));
    let text = match beside.get(&ca.value) {
        Some(Beside::Text(text)) => understood(context, &ca.value, text, place),
        Some(unread) => {
            context.error(unreadable(&ca.value, unread, place));
            None
        }
        None => {
            context.warn(missing(&ca.value, place));
            None
        }
    };
    Authority { file: ca.value.clone(), certificate: text, place }
}

/// Refuses two vendors that one authority speaks for: whose engineer somebody is must be plain.
pub(super) fn refuse_shared(context: &mut Context<'_>, vendors: &BTreeMap<String, Vendor>) {
    let mut seen: BTreeMap<&str, (&str, Place)> = BTreeMap::new();
    for vendor in vendors.values() {
        let Some(authority) = &vendor.ca else { continue };
        let Some(certificate) = &authority.certificate else { continue };
        let Some((other, first)) = seen.insert(&certificate.key, (&vendor.name, authority.place)) else {
            continue;
        };
        let (one, two) = (brief(other), brief(&vendor.name));
        let words = (
            format!("the vendors `{one}` and `{two}` have one certificate authority"),
            format!("保守事業者 `{one}` と `{two}` の認証局が同じです"),
        );
        context.twice("shared-authority", words, first, authority.place);
    }
}

fn understood(
    context: &mut Context<'_>,
    file: &str,
    text: &str,
    place: Place,
) -> Option<AuthorityCertificate> {
    match read(text) {
        Ok(Read { certificate, not_before }) => {
            let now = context.now();
            if now < not_before || certificate.not_after <= now {
                context.warn(out_of_date(file, not_before, certificate.not_after, place));
            }
            Some(certificate)
        }
        Err(fault) => {
            context.error(unfit(file, fault, place));
            None
        }
    }
}

/// Why a file is no authority.
#[derive(Clone, Copy)]
enum Fault {
    TooLong,
    Secret,
    NoCertificate,
    Several,
    NotAuthority,
}

struct Read {
    certificate: AuthorityCertificate,
    not_before: Timestamp,
}

fn read(text: &str) -> Result<Read, Fault> {
    if text.len() > AUTHORITY_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    if text.contains(SECRET) {
        return Err(Fault::Secret);
    }
    let der = one_certificate(text)?;
    let certificate = Certificate::from_der(&der).map_err(|_| Fault::NoCertificate)?;
    let body = certificate.tbs_certificate();
    let constraints = body.get_extension::<BasicConstraints>().map_err(|_| Fault::NoCertificate)?;
    let usage = body.get_extension::<KeyUsage>().map_err(|_| Fault::NoCertificate)?;
    let is_authority = constraints.is_some_and(|(_, constraints)| constraints.ca)
        && usage.is_none_or(|(_, usage)| usage.key_cert_sign());
    if !is_authority {
        return Err(Fault::NotAuthority);
    }
    let spki = body.subject_public_key_info().to_der().map_err(|_| Fault::NoCertificate)?;
    let at = |time: Time| timestamp(time).ok_or(Fault::NoCertificate);
    let certificate = AuthorityCertificate {
        key: hex(&Sha256::digest(&spki)),
        not_after: at(body.validity().not_after)?,
        pem: written(der),
    };
    Ok(Read { certificate, not_before: at(body.validity().not_before)? })
}

/// The bytes of the one certificate in a text; what stands around it is nothing.
fn one_certificate(text: &str) -> Result<Vec<u8>, Fault> {
    let blocks = pem::parse_many(text).map_err(|_| Fault::NoCertificate)?;
    let mut certificates = blocks.into_iter().filter(|block| block.tag() == CERTIFICATE);
    let certificate = certificates.next().ok_or(Fault::NoCertificate)?;
    if certificates.next().is_some() {
        return Err(Fault::Several);
    }
    Ok(certificate.into_contents())
}

fn written(der: Vec<u8>) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(CERTIFICATE, der), config)
}

fn timestamp(time: Time) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
}

fn missing(file: &str, place: Place) -> Diagnostic {
    let file = brief(file);
    let found = Diagnostic::warning(
        "authority-missing",
        format!("there is no file `{file}` beside the policy: nobody comes in by that vendor's certificates"),
        format!("通信方針のそばにファイル `{file}` がないため、この事業者の証明書では誰も入れません"),
    );
    found.label(place, "not there", "ありません").help(
        "put the vendor's certificate authority (PEM) there and apply again, or remove `ca` and invite each engineer (sekisho vendor invite)",
        "事業者の認証局の証明書 (PEM) をそこに置いて適用し直すか、`ca` を消して担当者を1人ずつ招待してください (sekisho vendor invite)",
    )
}

fn unreadable(file: &str, found: &Beside, place: Place) -> Diagnostic {
    let file = brief(file);
    let (en, ja) = match found {
        Beside::Outside => (
            format!("`{file}` leads out of the policy's directory"),
            format!("`{file}` は通信方針のフォルダの外を指しています"),
        ),
        Beside::Unreadable(why) => {
            let why = brief(why);
            (format!("`{file}` cannot be read: {why}"), format!("`{file}` を読み取れません: {why}"))
        }
        Beside::Text(_) => (format!("`{file}` cannot be used"), format!("`{file}` は使えません")),
    };
    Diagnostic::error("authority-unreadable", en, ja).label(place, "not read", "読み取れません").help(
        "put a readable copy of the vendor's certificate authority below the policy's directory",
        "事業者の認証局の証明書を、通信方針のフォルダより下に、読み取れる形で置いてください",
    )
}

fn unfit(file: &str, fault: Fault, place: Place) -> Diagnostic {
    let file = brief(file);
    let (en, ja) = match fault {
        Fault::TooLong => (
            format!("is longer than {AUTHORITY_BYTES_MAX} bytes"),
            format!("は{AUTHORITY_BYTES_MAX}バイトを超えています"),
        ),
        Fault::Secret => ("holds a private key".to_owned(), "に秘密鍵が入っています".to_owned()),
        Fault::NoCertificate => {
            ("is no PEM certificate".to_owned(), "はPEM形式の証明書ではありません".to_owned())
        }
        Fault::Several => ("holds several certificates".to_owned(), "に証明書が複数入っています".to_owned()),
        Fault::NotAuthority => (
            "is a certificate that may sign no others".to_owned(),
            "は他の証明書に署名できない証明書です".to_owned(),
        ),
    };
    let found = Diagnostic::error("bad-authority", format!("`{file}` {en}"), format!("`{file}` {ja}"));
    found.label(place, "not usable", "使えません").help(
        "ask the vendor for the one certificate (PEM, CA:TRUE) of the authority that signs its engineers' certificates, without any key",
        "担当者の証明書に署名する認証局の証明書を1枚だけ (PEM、CA:TRUE、秘密鍵なし)、事業者から受け取ってください",
    )
}

fn out_of_date(file: &str, not_before: Timestamp, not_after: Timestamp, place: Place) -> Diagnostic {
    let file = brief(file);
    let found = Diagnostic::warning(
        "authority-ended",
        format!(
            "the certificate authority `{file}` is good from {not_before} to {not_after}: nobody comes in by it now"
        ),
        format!(
            "認証局 `{file}` の有効期間 ({not_before}から{not_after}) の外のため、この証明書では誰も入れません"
        ),
    );
    found.label(place, "not valid now", "現在は無効").help(
        "ask the vendor for its new certificate authority",
        "事業者から新しい認証局の証明書を受け取ってください",
    )
}
