//! What a good policy becomes, several sources, limits, and hostile input.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

use policy::model::{Endpoint, Expectation, Policy, Protocol, ZoneId, ZoneKind};
use policy::raw::{LIMITS, SOURCE_BYTES_MAX, Sources, includes};
use policy::resolve::{Resolved, load, parse_endpoint, parse_service};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../examples/clinic.toml");
const BASE: &str = include_str!("diagnostics/base.toml");

fn now() -> jiff::Timestamp {
    "2026-11-20T10:00:00+09:00".parse().unwrap()
}

fn good(text: &str) -> Resolved {
    load(&Sources::single("clinic.toml", text), now()).unwrap_or_else(|report| panic!("{report}"))
}

fn bad(text: &str) -> policy::diagnostic::Report {
    load(&Sources::single("clinic.toml", text), now()).expect_err("the policy must be refused")
}

fn sources(texts: &[(&str, &str)]) -> Sources {
    let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Sources { main: "main.toml".to_owned(), texts, ..Sources::default() }
}

fn flow<'a>(policy: &'a Policy, name: &str) -> &'a policy::model::Flow {
    policy.flows.iter().find(|flow| flow.name == name).unwrap_or_else(|| panic!("no flow {name}"))
}

#[test]
fn the_example_resolves_without_a_warning() {
    let resolved = good(EXAMPLE);
    assert!(resolved.warnings.is_empty(), "{:#?}", resolved.warnings);
    let policy = &resolved.policy;
    let kinds: Vec<ZoneKind> = policy.zones.iter().map(|zone| zone.kind).collect();
    use ZoneKind::{Billing, Clinical, External, Guest, Management, MedicalDevice, Staff, Vpn};
    assert_eq!(kinds, [External, Clinical, Billing, MedicalDevice, Staff, Guest, Management, Vpn]);
    assert_eq!(policy.zones[1].gateway[0].to_string(), "192.168.10.1/24");
    assert_eq!(policy.zones[1].gateway[1].to_string(), "fd51:7ec5:0:10::1/64");
    let wan = policy.zones[0].wan.as_ref().unwrap();
    assert!(!wan.dhcp4 && !wan.accept_ra && wan.masquerade4 && !wan.masquerade6);
    assert_eq!(policy.zones[4].dhcp.as_ref().unwrap().lease_s, 8 * 3600);
    let names: Vec<&str> = policy.flows.iter().map(|flow| flow.name.as_str()).skip(21).collect();
    let builtin = ["@dns", "@ntp", "@dns-upstream", "@ntp-upstream", "@ping", "@metrics"];
    let doors = ["@vpn-dr-sakura-notebook", "@vpn-door", "@maintenance-door"];
    assert_eq!(names, [&builtin[..], &doors[..]].concat());
    assert!(flow(policy, "ct-to-pacs").critical);
    assert_eq!(flow(policy, "ct-to-pacs").services, [Protocol::Tcp(104, 104), Protocol::Tcp(11112, 11112)]);
    assert_eq!(
        flow(policy, "ehr-backup-tunnel").services,
        [Protocol::Udp(500, 500), Protocol::Udp(4500, 4500), Protocol::Ip(50)]
    );
    assert_eq!(
        flow(policy, "temporary-migration").timing.until,
        Some("2030-12-31T09:00:00Z".parse().unwrap())
    );
    assert_eq!(policy.vpn.as_ref().unwrap().peers[0].person, "hanako");
    let vendor = &policy.vendors["acme-emr"];
    assert_eq!(vendor.maintenance.as_ref().unwrap().max_duration_s, 7200);
    assert_eq!(vendor.files["to_clinic"].max_size_bytes, Some(200_000_000));
    assert_eq!(policy.locate(policy.zones[0].place), "clinic.toml:44");
}

/// What the example means, in one page that a reviewer can read.
#[test]
fn the_example_means_what_it_meant() {
    let policy = good(EXAMPLE).policy;
    let mut out = String::new();
    for zone in &policy.zones {
        let served = [
            (zone.isolate, "isolate"),
            (zone.router_advertisement, "ra"),
            (zone.dns, "dns"),
            (zone.ntp, "ntp"),
        ];
        let served: Vec<&str> = served.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
        let (networks, gateway) = (&zone.networks, &zone.gateway);
        out += &format!("zone {} {} {:?} {:?}\n", zone.name, zone.slug, zone.kind, zone.interface);
        out += &format!("  {networks:?} gateway {gateway:?} {served:?} {:?} {:?}\n", zone.dhcp, zone.wan);
    }
    for device in &policy.devices {
        out +=
            &format!("device {} in {:?} {:?} {:?}\n", device.name, device.zone, device.addresses, device.mac);
    }
    for flow in &policy.flows {
        out += &format!(
            "flow {} {:?} -> {:?}\n  {:?} {:?}",
            flow.name, flow.from, flow.to, flow.services, flow.timing
        );
        out += if flow.critical { " critical\n" } else { "\n" };
    }
    for test in &policy.tests {
        out += &format!("{:?} {:?} -> {:?} {:?}\n", test.expect, test.from, test.to, test.services);
    }
    insta::assert_snapshot!("example", out);
}

/// The page that fixes what must be sayable, word by word but for the ends it leaves open (`…`, devices not shown).
#[test]
fn the_language_of_the_design_parses() {
    let policy = good(include_str!("design.toml")).policy;
    assert_eq!(flow(&policy, "online-eligibility").services.len(), 3);
    assert!(flow(&policy, "online-eligibility").critical);
    assert_eq!(flow(&policy, "cloud-ehr").to, [Endpoint::Domain("*.emr.example.jp".to_owned())]);
    assert_eq!(policy.responsible.len(), 1);
    assert_eq!(policy.tests.len(), 3);
}

#[test]
fn the_same_input_gives_the_same_policy() {
    let debug = |text| format!("{:?}", good(text).policy);
    assert_eq!(debug(EXAMPLE), debug(EXAMPLE));
}

#[test]
fn every_zone_in_a_test_leaves_out_the_zone_itself() {
    let policy = good(EXAMPLE).policy;
    let to_modality = policy.tests.iter().find(|test| test.text.contains("tcp/445")).unwrap();
    assert_eq!(to_modality.expect, Expectation::Deny);
    assert_eq!(to_modality.from, [1, 2, 4, 5, 6, 7].map(|zone| Endpoint::Zone(ZoneId(zone))));
    let all = good(&format!("{BASE}\n[[test]]\ndeny = \"zone:* -> zone:* tcp/23\"\n")).policy;
    let pairs: Vec<_> = all.tests.iter().map(|test| (test.from.clone(), test.to.clone())).collect();
    let zone = |id| vec![Endpoint::Zone(ZoneId(id))];
    assert_eq!(pairs, [(zone(1), zone(2)), (zone(2), zone(1))]);
}

#[test]
fn any_means_every_protocol_once() {
    let text = BASE.replace("service = \"https\"", "any = true\nreason = \"移行\"");
    let policy = good(&text).policy;
    let services = &flow(&policy, "web").services;
    assert_eq!(services.len(), 3 + 252);
    assert!([1, 6, 17, 58].iter().all(|own| !services.contains(&Protocol::Ip(*own))));
}

#[test]
fn a_day_ends_at_the_clinics_midnight() {
    let text = BASE.replace("owner = \"医事課\"", "owner = \"医事課\"\nuntil = 2027-02-28");
    assert_eq!(flow(&good(&text).policy, "web").timing.until, Some("2027-02-28T15:00:00Z".parse().unwrap()));
}

#[test]
fn slugs_are_ascii_and_differ() {
    let zone = |name: &str, n: u8| {
        format!("[zone.\"{name}\"]\nkind = \"iot\"\ninterface = \"x{n}\"\nnetworks = [\"10.0.{n}.0/24\"]\n")
    };
    let names = ["a-b", "a_b", "検査室", "カメラ", "plain-1", "Upper", "a-name-that-is-too-long-to-keep"];
    let zones: String = names.iter().zip(1..).map(|(name, n)| zone(name, n)).collect();
    let policy = good(&format!("{BASE}\n{zones}")).policy;
    let slugs: Vec<&str> = policy.zones.iter().skip(3).map(|zone| zone.slug.as_str()).collect();
    let plain = |slug: &str| {
        slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    assert!(slugs.iter().all(|slug| plain(slug) && slug.len() <= 20), "{slugs:?}");
    assert_eq!(slugs.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    assert_eq!(slugs[4], "plain_1");
    assert!(slugs[0].starts_with('z') && slugs[1].starts_with('z') && slugs[2].len() == 9);
}

#[test]
fn ends_and_services_are_read_for_questions() {
    let policy = good(EXAMPLE).policy;
    assert_eq!(parse_endpoint(&policy, "zone:ehr"), Ok(vec![Endpoint::Zone(ZoneId(1))]));
    assert_eq!(parse_endpoint(&policy, "zone:*").map(|all| all.len()), Ok(7));
    assert!(parse_endpoint(&policy, "zone:nowhere").is_err());
    assert_eq!(parse_service("orca", &policy.services), Ok(vec![Protocol::Tcp(8000, 8000)]));
    assert_eq!(
        parse_service("udp/5-9+icmp", &policy.services),
        Ok(vec![Protocol::Udp(5, 9), Protocol::Echo])
    );
    for text in
        ["", "+", "tcp/", "tcp/+80", "tcp/0", "tcp/1-65536", "TCP/80", "proto/58", "sctp/1", "tcp/80/81"]
    {
        assert!(parse_service(text, &policy.services).is_err(), "{text}");
    }
}

#[test]
fn includes_are_read_and_places_name_their_file() {
    let main =
        format!("{}\ninclude = [\"zones/iot.toml\"]\n{}", "schema = 1", BASE.replacen("schema = 1\n", "", 1));
    let iot = "[zone.iot]\nkind = \"iot\"\ninterface = \"eth8\"\nnetworks = [\"10.8.0.0/24\"]\n";
    let both = sources(&[("main.toml", &main), ("zones/iot.toml", iot)]);
    assert_eq!(includes(&main), ["zones/iot.toml"]);
    let policy = load(&both, now()).unwrap_or_else(|report| panic!("{report}")).policy;
    assert_eq!(policy.locate(policy.zones[0].place), "zones/iot.toml:1");
    assert_eq!(policy.sources.len(), 2);
    let clash =
        sources(&[("main.toml", &main), ("zones/iot.toml", &iot.replace("10.8.0.0", "192.168.30.0"))]);
    let report = load(&clash, now()).unwrap_err();
    assert_eq!(report.diagnostics[0].code, "overlapping-networks");
    let files: Vec<usize> = report.diagnostics[0].labels.iter().map(|label| label.place.source).collect();
    assert_eq!(files, [1, 0]);
    let theme = miette::GraphicalTheme::unicode_nocolor();
    let mut out = String::new();
    let view = report.diagnostics[0].view(&clash, policy::diagnostic::Language::Ja);
    miette::GraphicalReportHandler::new_themed(theme).render_report(&mut out, &view).unwrap();
    insta::assert_snapshot!("two-files", out);
}

#[test]
fn includes_are_bounded() {
    let chain: Vec<(String, String)> = (0..12)
        .map(|n| {
            let name = if n == 0 { "main.toml".to_owned() } else { format!("{n}.toml") };
            (name, format!("include = [\"{}.toml\"]\n{}", n + 1, if n == 0 { BASE } else { "" }))
        })
        .collect();
    let texts: Vec<(&str, &str)> = chain.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert!(load(&sources(&texts), now()).unwrap_err().has("include-too-deep"));
    let circle = sources(&[
        ("main.toml", &format!("include = [\"b.toml\"]\n{BASE}")),
        ("b.toml", "include = [\"c.toml\"]"),
        ("c.toml", "include = [\"b.toml\"]"),
    ]);
    assert!(load(&circle, now()).unwrap_err().has("include-cycle"));
    let spare = load(&sources(&[("main.toml", BASE), ("spare.toml", "")]), now()).unwrap();
    assert_eq!(spare.warnings[0].code, "unused-source");
    let twice = sources(&[
        ("main.toml", &format!("include = [\"b.toml\"]\n{BASE}")),
        ("b.toml", "[clinic]\nname = \"x\"\nsite = \"x\"\ntimezone = \"Asia/Tokyo\""),
    ]);
    assert!(load(&twice, now()).unwrap_err().has("duplicate-section"));
    assert!(load(&sources(&[("other.toml", BASE)]), now()).unwrap_err().has("no-source"));
    let many: Vec<String> = (0..300).map(|n| format!("{n}.toml")).collect();
    let texts: Vec<(&str, &str)> =
        many.iter().map(|name| (name.as_str(), "")).chain([("main.toml", BASE)]).collect();
    assert!(load(&sources(&texts), now()).unwrap_err().has("too-many-sources"));
}

fn many_flows(count: usize) -> String {
    let one = |n: usize| {
        let (a, b) = (n / 40_000, n % 40_000 + 1024);
        format!(
            "[[flow]]\nname = \"f{n}\"\nfrom = \"device:pc\"\nto = \"device:server\"\nservice = \"tcp/{b}\"\npurpose = \"p{a}\"\nowner = \"o\"\n"
        )
    };
    BASE.to_owned() + &(0..count).map(one).collect::<String>()
}

#[test]
fn a_hundred_thousand_flows_resolve() {
    let policy = good(&many_flows(100_000)).policy;
    assert_eq!(policy.flows.len(), 100_001);
    let last = flow(&policy, "f99999");
    assert_eq!(last.services, [Protocol::Tcp(21_023, 21_023)]);
}

#[test]
fn too_much_is_refused_with_a_word() {
    assert!(bad(&many_flows(LIMITS.flows)).has("too-many"));
    let tunnel = "[vpn]\nlisten = \"udp/51820\"\naddress = [\"10.90.0.1/16\"]\n";
    let peer = |number: usize| {
        let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        format!(
            "[[vpn.peer]]\nname = \"p{number}\"\nperson = \"hanako\"\npublic_key = \"{key}\"\nreach = []\n"
        )
    };
    let peers = |count: usize| bad(&format!("{BASE}\n{tunnel}{}", (0..count).map(peer).collect::<String>()));
    let found = peers(LIMITS.peers + 1);
    let told = found.diagnostics.iter().find(|found| found.code == "too-many").unwrap();
    assert!(told.message_en.contains("1025 VPN peers; 1024"), "{}", told.message_en);
    assert!(!peers(LIMITS.peers).has("too-many"), "so many may be, each with a key of its own");
    assert!(bad(&format!("{BASE}#{}", "x".repeat(SOURCE_BYTES_MAX))).has("source-too-large"));
    assert!(bad(&BASE.replace("電子カルテの利用", &"長".repeat(2_000))).has("text-too-long"));
    let list = vec!["\"device:pc\""; 2_000].join(",");
    assert!(bad(&BASE.replace("from = \"device:pc\"", &format!("from = [{list}]"))).has("list-too-long"));
    let devices: String = (0..1000)
        .map(|n| format!("[device.d{n}]\nzone = \"ehr\"\naddress = \"fd51:7ec5:0:10::1:{n}\"\n"))
        .collect();
    let list = (0..1000).map(|n| format!("\"device:d{n}\"")).collect::<Vec<_>>().join(",");
    let wide = |n: usize| {
        format!(
            "[[flow]]\nname = \"w{n}\"\nfrom = [{list}]\nto = [{list}]\nservice = \"ssh\"\npurpose = \"p\"\nowner = \"o\"\n"
        )
    };
    assert!(bad(&format!("{BASE}{devices}{}{}", wide(0), wide(1))).has("too-many-pairs"));
}

#[test]
fn hostile_forms_end_soon_and_without_a_panic() {
    let deep = |open: &str, n: usize| format!("{BASE}\nx = {}", open.repeat(n));
    let texts = [
        deep("[", 100_000),
        deep("{a=", 100_000),
        format!("{BASE}\n[{}]\n", vec!["a"; 100_000].join(".")),
        format!("schema = 1\nflow = [{}]", "{},".repeat(100_000)),
        "=\n".repeat(100_000),
        "\u{0}".repeat(1000),
        format!("{BASE}{}", "[[flow]]\n".repeat(100_000)),
        format!("flow = [{}]", "{name=\"é\"},".repeat(200_000)),
    ];
    for text in &texts {
        let report = bad(text);
        assert!(!report.diagnostics.is_empty() && report.diagnostics.len() <= 50);
    }
}

#[test]
fn unknown_words_by_the_thousand_are_counted() {
    let flow = |n: usize| {
        format!(
            "[[flow]]\nname = \"f{n}\"\nfrom = \"device:p{n}\"\nto = \"zone:z{n}\"\nservice = \"s{n}\"\npurpose = \"p\"\nowner = \"o\"\n"
        )
    };
    let report = bad(&(BASE.to_owned() + &(0..20_000).map(flow).collect::<String>()));
    assert_eq!((report.diagnostics.len(), report.omitted), (50, 60_000 - 50));
    assert!(report.to_string().ends_with("and 59950 more"));
    assert_eq!(report.to_json()["omitted"], 59_950);
}

#[test]
fn text_from_outside_cannot_steer_a_terminal() {
    let report = bad(&BASE.replace("device:server", "device:\\u001b[2J\\u202Eevil"));
    let shown = report.to_string();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202E}'), "{shown:?}");
    let raw = Sources::single(
        "clinic\u{1b}.toml",
        BASE.replace("schema = 1", "schema = 1 # \u{1b}[2J\u{202E}\u{85}"),
    );
    let report = load(&raw, now()).unwrap_err();
    let mut out = String::new();
    let theme = miette::GraphicalTheme::unicode_nocolor();
    for view in report.views(&raw, policy::diagnostic::Language::En) {
        miette::GraphicalReportHandler::new_themed(theme.clone()).render_report(&mut out, &view).unwrap();
    }
    assert!(out.contains("# ?[2J") && !out.contains('\u{1b}') && !out.contains('\u{202E}'), "{out:?}");
}

#[test]
fn the_json_form_names_file_line_and_both_languages() {
    let json = bad(&BASE.replace("\"https\"", "\"htps\"")).to_json();
    let found = &json["diagnostics"][0];
    assert_eq!(found["code"], "unknown-service");
    assert_eq!(found["severity"], "error");
    assert_eq!(found["labels"][0]["file"], "clinic.toml");
    assert_eq!(found["labels"][0]["line"], 38);
    assert!(found["help"]["en"].as_str().unwrap().contains("https"));
    assert!(found["message"]["ja"].as_str().unwrap().contains("サービス"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = load(&Sources::single("x", text.as_ref()), now());
        let _ = includes(&text);
    }

    #[test]
    fn a_mutated_example_never_panics_and_places_stay_inside(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[\\PC\\n]{0,6}"), 1..5),
    ) {
        let mut characters: Vec<char> = EXAMPLE.chars().collect();
        for (at, length, with) in cuts {
            let at = at.index(characters.len());
            let end = (at + length).min(characters.len());
            characters.splice(at..end, with.chars());
        }
        let text: String = characters.into_iter().collect();
        let sources = Sources::single("x", text.as_str());
        let found = match load(&sources, now()) {
            Ok(resolved) => resolved.warnings,
            Err(report) => report.diagnostics,
        };
        for label in found.iter().flat_map(|found| &found.labels) {
            prop_assert!(text.get(label.place.offset..label.place.offset + label.place.length).is_some());
            prop_assert!(label.place.line <= text.matches('\n').count() + 1);
        }
        for found in &found {
            let mut out = String::new();
            let view = found.view(&sources, policy::diagnostic::Language::Ja);
            miette::GraphicalReportHandler::new().render_report(&mut out, &view).unwrap();
        }
    }
}
