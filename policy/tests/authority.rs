//! A vendor's own certificate authority: what its file may hold, what is said of every other, and what edge is told.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail loudly")]

use policy::diagnostic::{Diagnostic, Language, Severity};
use policy::raw::{AUTHORITY_BYTES_MAX, Beside, Sources, wanted};
use policy::resolve::{Resolved, load};
use policy::services::{EdgeSettings, VpnCarrier, edge_conf};
use proptest::prelude::*;

const BASE: &str = include_str!("diagnostics/base.toml");
// Made with openssl (P-256), good from 2020 to 2098; `ended` until 2021.
const ACME: &str = include_str!("authority/acme.pem");
const OTHER: &str = include_str!("authority/other.pem");
const ENDED: &str = include_str!("authority/ended.pem");
const LEAF: &str = include_str!("authority/leaf.pem");
/// `openssl x509 -in acme.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum`.
const ACME_KEY: &str = include_str!("authority/acme.key-sha256");

fn vendor(name: &str, file: &str) -> String {
    format!(
        "[vendor.{name}]\nca = \"{file}\"\ncontract_until = 2027-03-31\n[vendor.{name}.maintenance]\n\
         targets = [\"device:server:ssh\"]\nmax_duration = \"2h\"\napprovals = [\"clinic\"]\n"
    )
}

fn sources(vendors: &str, files: &[(&str, Beside)]) -> Sources {
    let authorities = files.iter().map(|(name, beside)| ((*name).to_owned(), beside.clone())).collect();
    Sources { authorities, ..Sources::single("clinic.toml", format!("{BASE}\n{vendors}")) }
}

fn now() -> jiff::Timestamp {
    "2026-11-20T10:00:00+09:00".parse().unwrap()
}

fn good(sources: &Sources) -> Resolved {
    load(sources, now()).unwrap_or_else(|report| panic!("{report}"))
}

/// What is found of `ca = "acme.pem"` when that file is so.
fn found(beside: Option<Beside>) -> (Vec<Diagnostic>, Sources) {
    let files: Vec<_> = beside.map(|beside| ("acme.pem", beside)).into_iter().collect();
    let sources = sources(&vendor("acme", "acme.pem"), &files);
    let found = match load(&sources, now()) {
        Ok(Resolved { policy, warnings }) => {
            let own = policy.vendors.get("acme").unwrap().authority();
            assert!(own.is_none() || own.is_some_and(|own| own.not_after < now()), "a door is open: {own:?}");
            warnings
        }
        Err(report) => report.diagnostics,
    };
    (found, sources)
}

fn text(pem: &str) -> Option<Beside> {
    Some(Beside::Text(pem.to_owned()))
}

#[test]
fn edge_is_told_of_the_certificate_and_of_nothing_else_in_the_file() {
    let noisy = format!("Bag Attributes\r\n  friendlyName: acme\r\n{}\r\nmore", ACME.replace('\n', "\r\n"));
    for pem in [ACME, &noisy] {
        let files = [("v/acme.pem", Beside::Text(pem.to_owned())), ("unused.pem", Beside::Outside)];
        let Resolved { policy, warnings } = good(&sources(&vendor("acme", "v/acme.pem"), &files));
        assert!(warnings.is_empty(), "{warnings:#?}");
        let own = policy.vendors.get("acme").unwrap().authority().unwrap();
        assert_eq!(
            (own.key.as_str(), own.not_after),
            (ACME_KEY.trim(), "2098-01-01T00:00:00Z".parse().unwrap())
        );
        let edge: EdgeSettings =
            serde_json::from_str(&edge_conf(&policy, VpnCarrier::Edge).unwrap()).unwrap();
        let vendors = edge.maintenance.unwrap().vendors;
        assert_eq!(vendors.first().unwrap().ca_pem.as_deref(), Some(ACME));
    }
}

#[test]
fn whatever_is_no_authority_is_named_at_its_line_and_opens_nothing() {
    let secret = format!("{ACME}-----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY-----\n");
    let damaged = ACME.replacen("MII", "MIJ", 1);
    let cases = [
        (None, "authority-missing", Severity::Warning, "no file"),
        (Some(Beside::Outside), "authority-unreadable", Severity::Error, "leads out"),
        (Some(Beside::Unreadable("denied".into())), "authority-unreadable", Severity::Error, "denied"),
        (text(ENDED), "authority-ended", Severity::Warning, "2021-01-01"),
        (text(LEAF), "bad-authority", Severity::Error, "may sign no others"),
        (text(&secret), "bad-authority", Severity::Error, "private key"),
        (text(&format!("{ACME}{OTHER}")), "bad-authority", Severity::Error, "several"),
        (text(&"x".repeat(AUTHORITY_BYTES_MAX + 1)), "bad-authority", Severity::Error, "longer than 16384"),
        (text(""), "bad-authority", Severity::Error, "no PEM"),
        (text("\u{fffd}0\u{82}\u{1}"), "bad-authority", Severity::Error, "no PEM"),
        (text(&damaged), "bad-authority", Severity::Error, "no PEM"),
        (text("-----BEGIN CERTIFICATE-----\nAAAA"), "bad-authority", Severity::Error, "no PEM"),
        (
            text("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"),
            "bad-authority",
            Severity::Error,
            "no PEM",
        ),
    ];
    for (beside, code, severity, word) in cases {
        let (found, sources) = found(beside);
        let hit =
            found.iter().find(|found| found.code == code).unwrap_or_else(|| panic!("{code}: {found:#?}"));
        assert_eq!(hit.severity, severity, "{code}");
        let told = hit.text(&sources.names(), Language::En);
        let ja = hit.text(&sources.names(), Language::Ja);
        assert!(told.contains(word) && told.contains("acme.pem"), "{word}: {told}");
        let line = BASE.lines().count() + 3;
        assert!(told.starts_with(&format!("clinic.toml:{line}:6")), "{told}");
        assert!(told.contains("help:") && ja.contains("対処:") && !ja.contains("help:"), "{told}\n{ja}");
    }
}

#[test]
fn an_authority_speaks_for_one_vendor_only() {
    let two = vendor("acme", "a.pem") + &vendor("kinki", "b.pem");
    let file = |pem: &str| Beside::Text(pem.to_owned());
    let shared = load(&sources(&two, &[("a.pem", file(ACME)), ("b.pem", file(ACME))]), now()).unwrap_err();
    assert!(shared.has("shared-authority"), "{shared}");
    let each = good(&sources(&two, &[("a.pem", file(ACME)), ("b.pem", file(OTHER))]));
    assert!(
        each.warnings.is_empty() && each.policy.vendors.values().all(|vendor| vendor.authority().is_some())
    );
}

#[test]
fn only_names_below_the_policys_directory_are_asked_for() {
    let vendor = |file: &str| format!("[vendor.\"{file}\"]\nca = \"{file}\"\n");
    let text: String = ["a.pem", "v/b.pem", "../c.pem", "/etc/d.pem", "v//e.pem", ""].map(vendor).concat();
    let wanted = wanted(&format!(
        "include = [\"x.toml\", \"../y.toml\"]\n{text}[vendor.none]\n[vendor.odd]\nca = 1\n"
    ));
    assert_eq!(
        (wanted.authorities, wanted.includes),
        (vec!["a.pem".into(), "v/b.pem".into()], vec!["x.toml".into()])
    );
}

proptest! {
    /// Whatever stands in the file, it is understood or refused.
    #[test]
    fn any_file_is_an_authority_or_a_finding(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), noise in ".{0,200}") {
        let mut bytes = ACME.as_bytes().to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes.get_mut(at..=at).unwrap().fill(byte);
        }
        for text in [String::from_utf8_lossy(&bytes).into_owned(), noise] {
            let files = [("acme.pem", Beside::Text(text))];
            match load(&sources(&vendor("acme", "acme.pem"), &files), now()) {
                Ok(resolved) => prop_assert!(resolved.policy.vendors.get("acme").unwrap().authority().is_some()),
                Err(report) => prop_assert!(report.has("bad-authority")),
            }
        }
    }
}
