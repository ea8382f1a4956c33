//! The example clinic's policy, and the same with something in it that a control is about.
use std::fmt::Write as _;

use jiff::{Span, Timestamp};

/// The policy that the documentation shows.
const EXAMPLE: &str = include_str!("../../../policy/examples/clinic.toml");
/// Where the clinic's promises begin: a policy that breaks one of them cannot be applied at all.
const PROMISES: &str = "# ---- 医院の約束";
/// A network for claims, so that passing through it can be judged; its line is not plugged in.
const CLOSED: &str = "
[zone.claims]
kind = \"closed-network\"
interface = \"eth9\"
networks = [\"10.100.0.0/16\"]
gateway = [\"10.100.0.9/16\"]
";
/// Two admins with an authenticator each, and a vendor who may come at any hour of these tests.
const PEOPLE: [(&str, &str); 3] = [
    ("roles = [\"it\"]", "roles = [\"it\", \"admin\"]"),
    ("second_factor = \"passkey\"", "second_factor = \"totp\""),
    ("windows = \"Mon-Sun 20:00-06:00\"", "windows = \"Mon-Sun 00:00-24:00\""),
];
/// How long an exception of these tests is accepted.
const ACCEPTED_S: i64 = 12;

/// The good policy, without promises.
pub(crate) fn good() -> String {
    let (text, _) = EXAMPLE.split_once(PROMISES).unwrap();
    let text = PEOPLE.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the example no longer says `{from}`");
        text.replace(from, to)
    });
    format!("{text}{CLOSED}")
}

/// Other words in place of some of the good policy's.
fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(good(), |text, (from, to)| {
        assert!(text.contains(from), "the example no longer says `{from}`");
        text.replace(from, to)
    })
}

/// Accounts as they should not be, of people and of vendors.
pub(crate) fn careless_accounts() -> String {
    let vague = with(&[
        ("contract_until = 2030-03-31", "contract_until = 2026-03-31"),
        ("[vendor.acme-emr]\n", "[vendor.acme-emr]\nkeys = [\"0123\"]\n"),
        ("responsibility = \"サーバの更新は acme-emr が行う\"", ""),
    ]);
    format!(
        "{vague}
[person.jiro]
name = \"佐倉 次郎\"
roles = [\"desk\"]
contact = \"tel:098-000-0002\"
until = 2030-03-31

[person.saburo]
name = \"佐倉 三郎\"
roles = [\"desk\"]
contact = \"tel:098-000-0003\"
second_factor = \"totp\"
identity = {{ confirmed = \"対面・運転免許証\", by = \"佐倉 花子\", on = 2026-04-01 }}
until = 2026-06-30

[[vpn.peer]]
name = \"dr-sakura-tablet\"
person = \"佐倉 花子\"
public_key = \"HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=\"
reach = [\"device:ehr-server:https\"]
"
    )
}

/// Nobody answers for anything.
pub(crate) fn nobody_responsible() -> String {
    let text = good();
    let (before, rest) = text.split_once("[[responsible]]").unwrap();
    let (_, after) = rest.split_once("# ---- 人").unwrap();
    format!("{before}# ---- 人{after}")
}

/// Flows that a clinic should not have, though each may be written.
pub(crate) fn careless_flows() -> String {
    let flows = [
        ("thing-web", "zone:modality", "zone:wan", "https"),
        ("pacs-web", "device:pacs", "zone:wan", "https"),
        ("old-transfer", "device:receipt", "device:emr-maker", "tcp/21"),
        ("old-tunnel", "device:receipt", "device:emr-maker", "proto/47"),
        ("ssl-vpn", "device:receipt", "device:emr-maker", "tcp/1194"),
        ("remote-help", "device:ehr-server", "device:emr-maker", "tcp/5938"),
    ];
    let mut text = good();
    flows.iter().for_each(|(name, from, to, service)| push(&mut text, name, from, to, service));
    text + "
[[flow]]
name = \"everything\"
from = \"device:admin\"
to = \"device:pacs\"
any = true
reason = \"for now\"
purpose = \"a test\"
owner = \"tests\"
"
}

/// Flows that break an invariant, each with an exception that somebody accepted and that ends while the policy is in
/// force. Before it has ended such a policy may be applied; after, the flow goes on until somebody looks.
pub(crate) fn exceptions() -> String {
    let until = Timestamp::now().checked_add(Span::new().seconds(ACCEPTED_S)).unwrap();
    let flows = [
        ("guest-printer", "zone:guest", "device:ehr-server", "tcp/9100", "guest-reaches-clinic"),
        ("open-door", "zone:wan", "gateway", "tcp/8443", "inbound-from-external"),
        ("claims-through", "zone:claims", "device:emr-maker", "https", "closed-network-transit"),
        ("staff-console", "device:reception", "gateway", "ssh", "management-from-elsewhere"),
    ];
    let mut text = good();
    for (name, from, to, service, invariant) in flows {
        push(&mut text, name, from, to, service);
        let _ = write!(
            text,
            "[[exception]]\ninvariant = \"{invariant}\"\nflow = \"{name}\"\nwho = \"佐倉 花子\"\n\
             why = \"a test\"\nuntil = {until:.0}\n"
        );
    }
    text
}

/// The door of the metrics asks for a word in place of a certificate.
pub(crate) fn by_token() -> String {
    with(&[("auth = \"mutual-tls\"", "auth = \"token\"")])
}

/// Files of the vendor are taken without a word of the sender's.
pub(crate) fn without_attestation() -> String {
    with(&[("attestation = \"required\", max_size", "attestation = \"optional\", max_size")])
}

/// The ledger of connections and the log may take the least room there is.
pub(crate) fn little_room() -> String {
    with(&[
        ("flows_budget = \"1 GB\"", "flows_budget = \"16 MB\""),
        ("log_budget = \"4 GB\"", "log_budget = \"64 MB\""),
    ])
}

fn push(text: &mut String, name: &str, from: &str, to: &str, service: &str) {
    let _ = write!(
        text,
        "\n[[flow]]\nname = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\nservice = \"{service}\"\n\
         purpose = \"a test\"\nowner = \"tests\"\n"
    );
}
