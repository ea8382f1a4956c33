//! Done-when 4: two hundred applies under traffic lose no permitted packet and pass no forbidden one.
use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    daemon::Site,
    kernel::InForce,
    site::{Random, clinic, flow, flow_with, policy},
    traffic::{Kind, Stream, assert_whole},
};

const APPLIES: usize = 200;
const FIRST_APPLIES: usize = 50;

/// How far the guessed time of a lost probe may be off an apply that is named beside it.
const NEAR: Duration = Duration::from_millis(2);
/// Every so many applies one loads the policy whole.
const WHOLE_EVERY: usize = 4;
const RATE_PER_SECOND: u32 = 1000;
const CONNECTIONS_PER_SECOND: u32 = 300;
/// Between two applies, at most.
const PAUSE_MS: usize = 40;
/// Flows that make a pair's maps large, so that they are replaced and not edited.
const MANY: u16 = 400;

/// In every policy below, this is allowed: ct to pacs, udp and tcp 5000 to 5003; staff to the internet, udp 7000
/// and tcp 7000. Never allowed: ct to pacs 6000, guest to the clinic.
fn policies() -> Vec<String> {
    let images = |name, service| flow(name, "device:ct", "device:pacs", service);
    let staff = || flow("staff-web", "zone:staff", "zone:wan", "tcp/7000, udp/7000, https");
    let billing = || flow("receipt", "device:receipt", "device:ehr-server", "tcp/8000");
    let guest = || flow("guest-web", "zone:guest", "zone:wan", "https, dns");
    let plain = || images("images", "tcp/5000-5010, udp/5000-5010");
    let many = || {
        let one = |number: u16| {
            let service = format!("tcp/{}-{}", 10_000 + number * 10, 10_004 + number * 10);
            flow(&format!("many-{number}"), "device:ct", "device:pacs", &service)
        };
        (0..MANY).map(one)
    };
    vec![
        // The plain one, and the same under another name: every mark of the pair changes.
        policy(&[plain(), staff()]),
        policy(&[images("pictures", "tcp/5000-5010, udp/5000-5010"), staff(), billing()]),
        // Narrower, with exact keys in place of ranges.
        policy(&[
            images("images", "tcp/5000, tcp/5001, tcp/5002, tcp/5003, udp/5000-5003"),
            staff(),
            guest(),
        ]),
        // The same keys under another name: only what the exact map gives changes.
        policy(&[
            images("renamed", "tcp/5000, tcp/5001, tcp/5002, tcp/5003, udp/5000-5003"),
            staff(),
            guest(),
        ]),
        policy(&[
            images("exact", "tcp/5000, tcp/5001, tcp/5002, tcp/5003, udp/5000, udp/5001, udp/5002"),
            staff(),
        ]),
        policy(&[
            images("other", "tcp/5000, tcp/5001, tcp/5002, tcp/5003, udp/5000, udp/5001, udp/5002"),
            staff(),
        ]),
        // Split by port between two flows, the pairs of billing and guest there.
        policy(&[
            images("low", "tcp/5000-5001, udp/5000-5001"),
            images("high", "tcp/5002-5009, udp/5002-5009"),
            staff(),
            billing(),
            guest(),
        ]),
        // Covered by a wider flow of the zone, which takes over what the specific one had.
        policy(&[
            flow("zone-wide", "zone:modality", "zone:ehr", "tcp/4000-5999, udp/4000-5999"),
            flow("staff-all", "zone:staff", "zone:wan", "tcp/6500-7500, udp/6500-7500"),
        ]),
        // Large maps.
        policy(&[vec![plain(), staff()], many().collect()].concat()),
        policy(&[vec![plain(), staff(), billing()], many().skip(50).collect()].concat()),
        // Timed flows over the same packets: layers, and elements with timeouts that come and go.
        policy(&[
            plain(),
            staff(),
            flow_with(
                "always",
                "device:ct",
                "device:pacs",
                "udp/5000-5001, tcp/9000",
                "schedule = \"Mon-Sun 00:00-24:00\"",
            ),
            flow_with("later", "device:ct", "device:pacs", "udp/5002", "until = 2099-12-31"),
        ]),
    ]
}

/// One change of policy, and when it was made.
struct Apply {
    what: String,
    from: Instant,
    to: Instant,
}

impl Apply {
    fn timed(what: String, work: impl FnOnce()) -> Self {
        let from = Instant::now();
        work();
        Self { what, from, to: Instant::now() }
    }
}

/// What goes on while policies change.
struct Traffic {
    permitted: Vec<Stream>,
    forbidden: Vec<Stream>,
}

impl Traffic {
    fn start(lab: &lab::Lab) -> Self {
        let run = |kind, from, to, port, rate| Stream::start(lab, kind, from, to, port, rate);
        let mut permitted = Vec::new();
        permitted.extend(run(Kind::Udp, "ct", "pacs", 5000, RATE_PER_SECOND));
        permitted.extend(run(Kind::UdpFresh, "ct", "pacs", 5001, CONNECTIONS_PER_SECOND));
        permitted.extend(run(Kind::UdpPush, "ct", "pacs", 5002, CONNECTIONS_PER_SECOND));
        permitted.extend(run(Kind::Tcp, "ct", "pacs", 5000, CONNECTIONS_PER_SECOND));
        permitted.extend(run(Kind::TcpPush, "ct", "pacs", 5001, CONNECTIONS_PER_SECOND));
        permitted.extend(run(Kind::Tcp, "reception", "web", 7000, CONNECTIONS_PER_SECOND));
        permitted.extend(run(Kind::UdpFresh, "reception", "web", 7000, CONNECTIONS_PER_SECOND));
        let mut forbidden = Vec::new();
        forbidden.extend(run(Kind::Udp, "ct", "pacs", 6000, RATE_PER_SECOND));
        forbidden.extend(run(Kind::UdpFresh, "phone", "pacs", 5000 + 10, CONNECTIONS_PER_SECOND));
        forbidden.extend(run(Kind::TcpConnects, "ct", "pacs", 6000, 50));
        // Over IPv4 the provider has no way in, and says so itself.
        forbidden.extend(run(Kind::TcpConnects, "web", "reception", 7000, 50).filter(|stream| stream.is_ip6));
        permitted.iter().for_each(|stream| stream.wait(10));
        Self { permitted, forbidden }
    }

    /// Ends everything and judges it.
    fn judge(self, applies: &[Apply]) {
        let sent = assert_whole(self.permitted, |moment| {
            let near = applies.iter().find(|apply| moment <= apply.to + NEAR);
            near.filter(|apply| moment + NEAR >= apply.from).map(|apply| apply.what.clone())
        });
        let applies = applies.len();
        let mut tried = 0;
        for outcome in self.forbidden.into_iter().map(|stream| stream.stop(Duration::from_millis(300))) {
            println!("  forbidden: {outcome}");
            assert!(outcome.report.sent > 0, "{outcome}");
            assert_eq!(outcome.report.received, 0, "a forbidden packet passed: {outcome}");
            // A refusal would be an answer by the other side: something reached it.
            assert_eq!(outcome.report.resets, 0, "{outcome}");
            tried += outcome.report.sent;
        }
        println!(
            "{applies} applies: {sent} permitted packets sent, 0 lost, 0 resets; {tried} forbidden sent, 0 passed"
        );
    }
}

fn another(random: &mut Random, now: usize, count: usize) -> usize {
    (now + 1 + random.below(count - 1)) % count
}

#[test]
fn two_hundred_changes_in_the_kernel_lose_nothing_and_pass_nothing() {
    let (lab, policies) = (clinic(true), policies());
    let mut random = Random::new("applies");
    let mut in_force = InForce::load(&lab, &policies[0]);
    let traffic = Traffic::start(&lab);
    let (mut now, mut transactions, mut applies) = (0, 0, Vec::new());
    for number in 0..APPLIES {
        let (before, whole) = (now, number % WHOLE_EVERY == 0);
        now = another(&mut random, now, policies.len());
        let what = format!("{} {before} -> {now}", if whole { "replace" } else { "update" });
        applies.push(Apply::timed(what, || {
            let text = &policies[now];
            let applied = if whole { in_force.replace(text) } else { in_force.update(text) };
            transactions += applied.transactions;
        }));
        in_force.assert_read_back();
        thread::sleep(Duration::from_millis(u64::try_from(random.below(PAUSE_MS)).unwrap()));
    }
    println!("{APPLIES} applies, one in {WHOLE_EVERY} whole, {transactions} transactions");
    traffic.judge(&applies);
}

#[test]
fn applies_by_the_admin_lose_nothing_and_pass_nothing() {
    let (site, policies) = (Site::start(), policies());
    site.run(&["time", "trusted"]).succeeded();
    let mut random = Random::new("applies by the admin");
    site.apply(&policies[0]);
    // Core switches forwarding on after its first policy was read back and told: here nothing is promised yet.
    for stream in Stream::start(site.lab(), Kind::Udp, "ct", "pacs", 5000, CONNECTIONS_PER_SECOND) {
        stream.wait(1);
    }
    let traffic = Traffic::start(site.lab());
    let (mut now, mut applies) = (0, Vec::new());
    for _ in 0..APPLIES {
        let before = now;
        now = another(&mut random, now, policies.len());
        applies.push(Apply::timed(format!("{before} -> {now}"), || site.apply(&policies[now])));
    }
    traffic.judge(&applies);
    site.assert_verified();
}

/// Who is told "applied" may send at once. Found by a first packet that was lost on a loaded machine.
#[test]
fn applied_is_said_when_the_gateway_forwards() {
    const SWITCHES: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
    let site = Site::start();
    let gateway = site.lab().gateway().namespace();
    for round in 0..FIRST_APPLIES {
        // As on a box that just came up, where nothing is forwarded before the rules were read back.
        SWITCHES.iter().for_each(|switch| gateway.set_sysctl(switch, "0").unwrap());
        site.apply(&policies()[0]);
        let found = SWITCHES.map(|switch| gateway.sysctl(switch).unwrap());
        assert_eq!(found, ["1", "1"], "{SWITCHES:?} after \"applied\", round {round}");
    }
}
