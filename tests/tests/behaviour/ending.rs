//! Done-when 3: what a policy no longer allows ends at once, in both directions; everything else goes on.
use std::{
    thread,
    time::{Duration, Instant},
};

use jiff::{Timestamp, ToSpan};

use crate::{
    daemon::Site,
    kernel::InForce,
    site::{clinic, flow, flow_with, policy},
    traffic::{Kind, Outcome, Stream, assert_whole},
};

/// The promise of the issue: from the command to the last packet that arrives.
const P99_LIMIT: Duration = Duration::from_millis(200);
const SAMPLES_MIN: usize = 100;
const RATE_PER_SECOND: u32 = 300;
/// How long is listened after the end for what should not come any more.
const LISTEN: Duration = Duration::from_millis(400);

fn other() -> String {
    flow("staff-ehr", "zone:staff", "device:ehr-server", "tcp/7000-7010, udp/7000-7010")
}

/// Allows a part of what `images` allows, less specifically.
fn also() -> String {
    flow("also", "zone:modality", "device:pacs", "tcp/5005-5010, udp/5005-5010")
}

fn whole() -> String {
    policy(&[flow("images", "device:ct", "device:pacs", "tcp/5000-5010, udp/5000-5010"), also(), other()])
}

fn removed() -> String {
    policy(&[also(), other()])
}

fn narrowed() -> String {
    policy(&[flow("images", "device:ct", "device:pacs", "tcp/5003-5010, udp/5003-5010"), also(), other()])
}

/// Runs rounds until there are enough samples: connections begin, the policy changes, the connections end.
fn measure(lab: &lab::Lab, samples: usize, mut apply: impl FnMut(&str)) -> Vec<Duration> {
    let mut bystanders: Vec<_> = Vec::new();
    for (index, kind) in (0..).zip(Kind::CONNECTIONS) {
        bystanders.extend(Stream::start(lab, kind, "ct", "pacs", 5005 + index, RATE_PER_SECOND));
        bystanders.extend(Stream::start(lab, kind, "reception", "ehr-server", 7000 + index, RATE_PER_SECOND));
    }
    bystanders.iter().for_each(|stream| stream.wait(10));
    let mut lasted = Vec::new();
    for (round, after) in [removed(), narrowed()].iter().cycle().enumerate() {
        if lasted.len() >= samples {
            break;
        }
        let ended = end_once(lab, after, &mut apply);
        assert!(
            ended.iter().all(|(outcome, _)| outcome.report.resets == 0),
            "an ended connection is cut, not reset"
        );
        lasted.extend(ended.iter().map(|(outcome, moment)| outcome.lasted(*moment)));
        println!(
            "round {round}: {:?} ms",
            lasted.iter().rev().take(8).map(Duration::as_millis).collect::<Vec<_>>()
        );
        apply(&whole());
    }
    println!("bystanders:");
    assert_whole(bystanders, |_| None);
    lasted
}

/// Starts a connection of each kind and family, applies, and returns each with the moment of the command.
fn end_once(lab: &lab::Lab, after: &str, apply: &mut impl FnMut(&str)) -> Vec<(Outcome, Instant)> {
    let mut streams = Vec::new();
    for (port, kind) in (5000..).zip([Kind::Udp, Kind::UdpPush]) {
        streams.extend(Stream::start(lab, kind, "ct", "pacs", port, RATE_PER_SECOND));
    }
    for (port, kind) in (5000..).zip([Kind::Tcp, Kind::TcpPush]) {
        streams.extend(Stream::start(lab, kind, "ct", "pacs", port, RATE_PER_SECOND));
    }
    streams.iter().for_each(|stream| stream.wait(10));
    let moment = Instant::now();
    apply(after);
    thread::sleep(LISTEN);
    streams.into_iter().map(|stream| (stream.stop(Duration::ZERO), moment)).collect()
}

fn tell(what: &str, mut lasted: Vec<Duration>) {
    lasted.sort_unstable();
    let at = |share: usize| lasted[(lasted.len() * share).div_ceil(100).saturating_sub(1)];
    let (median, p99, worst) = (at(50), at(99), lasted[lasted.len() - 1]);
    println!(
        "{what}: {} connections ended; from the command to the last packet: median {median:?}, p99 {p99:?}, \
        worst {worst:?}",
        lasted.len()
    );
    assert!(lasted.len() >= SAMPLES_MIN, "{} samples", lasted.len());
    assert!(p99 < P99_LIMIT, "p99 {p99:?}");
    // A packet on its way when the command was given arrives: all zeros would mean that nothing ran.
    assert!(worst > Duration::ZERO);
}

#[test]
fn removing_or_narrowing_a_flow_ends_its_connections_and_no_other() {
    let lab = clinic(true);
    let mut in_force = InForce::load(&lab, &whole());
    let lasted = measure(&lab, SAMPLES_MIN, |text| {
        in_force.update(text);
    });
    in_force.assert_read_back();
    tell("netfilter", lasted);
}

#[test]
fn an_apply_by_the_admin_ends_connections_as_fast() {
    let site = Site::start();
    site.apply(&whole());
    let lasted = measure(site.lab(), SAMPLES_MIN, |text| site.apply(text));
    site.assert_verified();
    tell("sekisho apply", lasted);
}

#[test]
fn an_end_comes_by_the_kernel_with_every_process_of_ours_dead() {
    let mut site = Site::start();
    site.run(&["time", "trusted"]).succeeded();
    let end = Timestamp::now().round(jiff::Unit::Second).unwrap() + 8.seconds();
    let until = format!("until = {end}");
    let images = flow_with("images", "device:ct", "device:pacs", "tcp/5000-5010, udp/5000-5010", &until);
    site.apply(&policy(&[images, other()]));
    let mut streams = Vec::new();
    for (port, kind) in [(5000, Kind::Udp), (5001, Kind::UdpPush), (5000, Kind::Tcp), (5001, Kind::TcpPush)] {
        streams.extend(Stream::start(site.lab(), kind, "ct", "pacs", port, RATE_PER_SECOND));
    }
    let bystanders: Vec<_> =
        Stream::start(site.lab(), Kind::Tcp, "reception", "ehr-server", 7000, RATE_PER_SECOND)
            .chain(Stream::start(site.lab(), Kind::Udp, "reception", "ehr-server", 7000, RATE_PER_SECOND))
            .collect();
    streams.iter().chain(&bystanders).for_each(|stream| stream.wait(10));
    site.kill_core();
    site.kill_role("sekisho-record");
    let alive =
        site.lab().gateway().output("ip", &["netns", "pids", site.lab().gateway().namespace().name()]);
    // `ip netns exec` and `ip netns pids` themselves are there while they look.
    let ours = alive.unwrap().lines().filter(|pid| is_ours(pid)).count();
    assert_eq!(ours, 0, "a process of ours lives");
    let (wall, moment) = (Timestamp::now(), Instant::now());
    assert!(wall < end, "the processes were killed {} too late for this test", wall - end);
    let left = Duration::try_from(end.duration_since(wall)).unwrap();
    let at_kill: Vec<_> = streams.iter().map(Stream::received).collect();
    thread::sleep(left + Duration::from_secs(2));
    let outcomes: Vec<_> = streams.into_iter().map(|stream| stream.stop(Duration::ZERO)).collect();
    for (outcome, at_kill) in outcomes.iter().zip(at_kill) {
        let lasted = outcome.lasted(moment);
        let after_ms = lasted.as_secs_f64() * 1000.0 - left.as_secs_f64() * 1000.0;
        println!("  {}: last packet {after_ms:+.1} ms after the end", outcome.what);
        assert!(outcome.report.received > at_kill, "{outcome}: nothing passed after the kill");
        // A generous second: timers and clocks of a loaded machine, not of this promise.
        assert!(after_ms.abs() < 1000.0, "{outcome}: {after_ms} ms");
    }
    assert_whole(bystanders, |_| None);
    // The end holds for what begins later, too.
    let late = site.lab().host("pacs").unwrap().addresses().map(|address| {
        let host = site.lab().host("ct").unwrap();
        host.run_in(|| {
            std::net::TcpStream::connect_timeout(&(address, 5002).into(), Duration::from_millis(500))
        })
    });
    assert!(late.into_iter().all(|attempt| attempt.unwrap().is_err_and(|error| is_silence(&error))));
}

/// Nothing came back: not even a refusal.
fn is_silence(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::TimedOut
}

fn is_ours(pid: &str) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.starts_with("sekisho")
}
