//! "Bad input" of the issue: a clear error or a counted drop, nothing half-applied, nothing lost, no panic.
use std::{
    fs,
    io::{Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use gateway::{client, wire};
use lab::{Role, RoleRunner};
use netfilter::Netfilter;
use rustix::process::Signal;

use crate::{
    daemon::{READY_LIMIT, Said, Site},
    site::{GROUND, clinic, flow, policy},
    traffic::{Kind, PATIENCE, Stream, assert_whole},
};

/// The user and group ids of nobody on Debian (base-passwd).
const NOBODY: u32 = 65534;
/// Exit statuses that docs/cli.md promises.
const FAILED: i32 = 1;
const REFUSED: i32 = 3;
const UNREACHABLE: i32 = 4;
const NOT_PERMITTED: i32 = 5;
const DIFFERS: i32 = 6;
const SECOND_DAEMON: i32 = 3;
const MANY_FLOWS: usize = 100_000;
/// Far above what it takes, far below what an admin would wait in vain.
const MANY_FLOWS_LIMIT: Duration = Duration::from_secs(240);
const CONNECTS: usize = 1000;
/// What a core under attack may grow by.
const GROWTH_LIMIT_KIB: u64 = 64 << 10;

fn good() -> String {
    policy(&[flow("images", "device:ct", "device:pacs", "tcp/5000, udp/5000")])
}

fn in_force() -> Site {
    let site = Site::start();
    site.apply(&good());
    site
}

fn generation(site: &Site) -> u32 {
    site.lab().gateway().run_in(|| Netfilter::open().unwrap().generation().unwrap()).unwrap()
}

/// Runs something that must not change what is in force, under traffic that must not notice it.
fn leaves_everything_as_it_was(site: &mut Site, work: impl FnOnce(&mut Site)) {
    let (before, status) = (generation(site), site.status());
    let traffic: Vec<_> = Stream::start(site.lab(), Kind::Udp, "ct", "pacs", 5000, 200).collect();
    traffic.iter().for_each(|stream| stream.wait(5));
    work(site);
    assert_eq!(generation(site), before, "the kernel's rules were touched");
    let after = site.status();
    assert_eq!((&after["state"], &after["policy"]), (&status["state"], &status["policy"]));
    site.assert_verified();
    assert_whole(traffic, |_| None);
}

#[test]
fn a_bad_policy_is_refused_with_its_line_and_changes_nothing() {
    let mut site = in_force();
    let flows = GROUND.lines().count();
    let place = format!("test.toml:{}", flows + 2);
    let cases: [(&str, String, &[&str]); 6] = [
        ("not TOML", format!("{GROUND}\n[[flow\n"), &[&place]),
        ("an unknown key", format!("{GROUND}\nallow_all = true\n"), &["allow_all", "test.toml:"]),
        (
            "an unknown device",
            policy(&[flow("x", "device:nobody", "device:pacs", "tcp/1")]),
            &["nobody", "test.toml:"],
        ),
        (
            "a broken promise",
            policy(&[
                flow("x", "zone:staff", "device:pacs", "tcp/445"),
                "\n[[test]]\ndeny = \"zone:* -> zone:ehr tcp/445\"\n".to_owned(),
            ]),
            &["test.toml:", "445"],
        ),
        (
            "overlapping networks",
            GROUND
                .replace("\"192.168.11.0/24\"", "\"192.168.10.128/25\"")
                .replace("192.168.11.10", "192.168.10.130"),
            &["192.168.10.128/25", "192.168.10.0/24", "test.toml:"],
        ),
        (
            "guests in the clinic",
            policy(&[flow("x", "zone:guest", "device:pacs", "tcp/104")]),
            &["guest", "test.toml:"],
        ),
    ];
    leaves_everything_as_it_was(&mut site, |site| {
        for (what, text, words) in &cases {
            let said = site.try_apply(text);
            println!("--- {what}\n{}", said.err);
            said.failed(REFUSED, words);
            // The daemon does not rely on the program that asks.
            let answer = ask_directly(site, text);
            assert!(matches!(answer, wire::Answer::Refused { .. }), "{what}: {answer:?}");
        }
    });
}

fn ask_directly(site: &Site, text: &str) -> wire::Answer {
    let sources = policy::raw::Sources::single("test.toml", text).into();
    client::ask(&site.runtime().join("core.sock"), wire::Ask::Apply { sources, dry_run: false }).unwrap()
}

#[test]
fn a_zone_without_its_interface_is_told_and_the_others_work() {
    let site = Site::start();
    site.apply(&good().replace("\"lan-bill\"", "\"lan-nowhere\""));
    let status = site.status();
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("billing") && warnings.contains("lan-nowhere"), "{status}");
    site.assert_verified();
    let traffic: Vec<_> = Stream::start(site.lab(), Kind::Udp, "ct", "pacs", 5000, 200).collect();
    traffic.iter().for_each(|stream| stream.wait(50));
    assert_whole(traffic, |_| None);
}

#[test]
fn a_hundred_thousand_flows_are_applied_or_refused_in_time() {
    let site = in_force();
    let one = |number: usize| {
        // Different devices' worth of ports in one pair: the largest map that a policy can ask for this way.
        let (low, pair) = (number % 50_000 + 10_000, number / 50_000);
        let (from, to) = [("device:ct", "device:pacs"), ("device:reception", "device:ehr-server")][pair];
        format!(
            "\n[[flow]]\nname = \"n{number}\"\nfrom = \"{from}\"\nto = \"{to}\"\nservice = [\"tcp/{low}\"]\n\
             purpose = \"p\"\nowner = \"o\"\n"
        )
    };
    let text = format!("{}{}", good(), (0..MANY_FLOWS).map(one).collect::<String>());
    let started = Instant::now();
    let said = site.try_apply(&text);
    let took = started.elapsed();
    let first = said.err.lines().chain(said.out.lines()).next().unwrap_or_default().to_owned();
    println!("{MANY_FLOWS} flows, {} bytes: exit status {:?} after {took:?}: {first}", text.len(), said.code);
    assert!(took < MANY_FLOWS_LIMIT, "{took:?}");
    match said.code {
        Some(0) => {}
        Some(REFUSED) => assert!(said.err.contains("flows") && said.err.contains("limit"), "{}", said.err),
        other => panic!("{other:?}: {}", said.err.chars().take(2000).collect::<String>()),
    }
    site.assert_verified();
}

#[test]
fn without_the_right_to_change_rules_core_says_so() {
    let site = Site::new(clinic(false));
    let mut unit = crate::daemon::unit_file("sekisho-core");
    (unit.ambient, unit.bounding) = (Vec::new(), Some(Vec::new()));
    let mut core = with_unit(&site, unit).start().unwrap();
    let status = core.wait_ended(READY_LIMIT).unwrap();
    assert_eq!(status.code(), Some(FAILED), "{}", core.log());
    assert!(core.log().contains("CAP_NET_ADMIN"), "{}", core.log());
}

#[test]
fn a_second_daemon_is_told_and_the_first_goes_on() {
    let mut site = in_force();
    leaves_everything_as_it_was(&mut site, |site| {
        let (status, said) = match site.runner("sekisho-core").start() {
            Ok(mut second) => (second.wait_ended(READY_LIMIT).unwrap().to_string(), second.log()),
            // It may have ended before the lab could take hold of it.
            Err(lab::LabError::Program { status, stderr, .. }) => (status, stderr),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(status, format!("exit status: {SECOND_DAEMON}"), "{said}");
        assert!(said.contains("another sekishod"), "{said}");
    });
}

fn with_unit(site: &Site, unit: lab::Unit) -> RoleRunner<'_> {
    let program = site.program("sekishod");
    RoleRunner::new(site.lab(), unit).program(program)
}

#[test]
fn on_a_full_disk_a_policy_is_refused_and_the_running_one_stays() {
    let mut site = Site::new(clinic(false));
    let state = site.state();
    let _disk = SmallDisk::mount(&state);
    site.start_core();
    site.apply(&good());
    let filler = state.join("filler");
    leaves_everything_as_it_was(&mut site, |site| {
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let other = policy(&[flow("other", "device:ct", "device:pacs", "tcp/5001")]);
        site.try_apply(&other).failed(FAILED, &["no space left", "nothing was changed"]);
    });
    // A restart on the full disk finds the policy, too.
    site.kill_core();
    site.start_core();
    site.assert_verified();
    assert_eq!(site.status()["state"], "applied");
    fs::remove_file(&filler).unwrap();
    site.apply(&policy(&[flow("other", "device:ct", "device:pacs", "tcp/5001")]));
}

/// A file system of a few pages.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at).status();
        assert!(done.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: core may still hold its lock there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn garbage_on_the_socket_is_answered_and_core_serves_on() {
    let mut site = in_force();
    let socket = site.runtime().join("core.sock");
    let frame = |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
    let bad: [(&str, Vec<u8>); 6] = [
        ("not JSON", frame(&[0xff; 100])),
        ("empty", frame(b"")),
        ("another version", frame(br#"{"version":99,"ask":{"status":{}}}"#)),
        ("an unknown request", frame(br#"{"version":1,"ask":{"reboot":{}}}"#)),
        ("an unknown field", frame(br#"{"version":1,"ask":{"status":{}},"sudo":true}"#)),
        ("four gigabytes", vec![0xff; 64]),
    ];
    leaves_everything_as_it_was(&mut site, |site| {
        let before = resident_kib(site.core());
        for (what, bytes) in &bad {
            let answer = exchange(&socket, bytes);
            assert!(answer.contains("bad-request"), "{what}: {answer}");
        }
        // Announced and never sent: more of them than there are places.
        let half: Vec<_> = (0..32).map(|_| half_a_frame(&socket)).collect();
        let crowd: Vec<_> = (0..CONNECTS).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
        println!("{} connections at once", crowd.len());
        let refused = site.run(&["status"]);
        assert!(matches!(refused.code, Some(0 | FAILED | UNREACHABLE)), "{refused:?}");
        drop((half, crowd));
        let deadline = Instant::now() + PATIENCE;
        while site.run(&["status"]).code != Some(0) {
            assert!(Instant::now() < deadline, "core does not serve any more");
            thread::sleep(Duration::from_millis(50));
        }
        let grown = resident_kib(site.core()).saturating_sub(before);
        println!("core grew by {grown} KiB");
        assert!(grown < GROWTH_LIMIT_KIB, "{grown} KiB");
    });
    let log = site.core().log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Sends bytes and returns what comes back.
fn exchange(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A peer that closes with our bytes unread resets the connection after its answer.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(answer.get(4..).unwrap_or_default()).into_owned()
}

fn half_a_frame(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    // Sixty megabytes announced, four kilobytes sent; one turned away may find its socket closed.
    let _ = stream.write_all(&60_000_000_u32.to_be_bytes()).and_then(|()| stream.write_all(&[b' '; 4096]));
    stream
}

fn resident_kib(core: &Role) -> u64 {
    let status = core.status().unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_user_without_the_right_is_refused() {
    let mut site = in_force();
    leaves_everything_as_it_was(&mut site, |site| {
        let file = site.write("other.toml", &policy(&[]));
        for arguments in [&["status"][..], &["apply", &file], &["verify"], &["time", "trusted"]] {
            // As nobody, in no group of ours: `uid` called by root empties the list of groups, too.
            let said = Said::of(site.sekisho(arguments).uid(NOBODY).gid(NOBODY).output().unwrap());
            said.failed(NOT_PERMITTED, &["sekisho-admin"]);
        }
    });
}

#[test]
fn a_foreign_edit_is_found_told_and_undone() {
    let mut site = in_force();
    let before = site.status();
    let edits = [
        "insert rule inet sekisho gate-forward accept",
        "flush set inet sekisho live",
        "delete table inet sekisho",
    ];
    for edit in edits {
        let words: Vec<_> = edit.split(' ').collect();
        site.lab().gateway().output("nft", &words).unwrap();
        let said = site.run(&["verify"]);
        assert_eq!(said.code, Some(DIFFERS), "{edit}: {said:?}");
        let deadline = Instant::now() + PATIENCE;
        while site.run(&["verify"]).code != Some(0) {
            assert!(Instant::now() < deadline, "{edit} was not undone");
            thread::sleep(Duration::from_millis(50));
        }
        let status = site.status();
        assert_eq!(status["policy"]["id"], before["policy"]["id"], "{edit}");
        assert!(
            status["warnings"].to_string().contains("somebody else changed the rules"),
            "{edit}: {status}"
        );
    }
    // Another table cannot open anything; it is named and left alone.
    let table = "table inet other { chain c { type filter hook forward priority 5; policy accept; }; }";
    site.lab().gateway().output("nft", &[table]).unwrap();
    let said = site.run(&["verify"]);
    assert_eq!(said.code, Some(DIFFERS), "{said:?}");
    assert!(said.out.contains("other"), "{said:?}");
    let traffic: Vec<_> = Stream::start(site.lab(), Kind::Udp, "ct", "pacs", 5000, 200).collect();
    traffic.iter().for_each(|stream| stream.wait(20));
    assert_whole(traffic, |_| None);
    site.core().signal(Signal::TERM).unwrap();
    assert!(site.core().wait_ended(READY_LIMIT).unwrap().success());
}

#[test]
fn without_a_daemon_the_command_line_says_so() {
    let site = Site::new(clinic(false));
    let file = site.write("good.toml", &good());
    for arguments in [&["status"][..], &["apply", &file], &["verify"], &["flows"]] {
        site.run(arguments).failed(UNREACHABLE, &["cannot reach", "core.sock"]);
    }
}

#[test]
fn a_damaged_state_is_kept_aside_and_closes() {
    let mut site = in_force();
    site.kill_core();
    let applied = site.state().join("applied");
    let bytes = fs::read(&applied).unwrap();
    fs::write(&applied, &bytes[..bytes.len() / 2]).unwrap();
    site.start_core();
    let status = site.status();
    assert_eq!(status["state"], "closed", "{status}");
    assert!(status["warnings"].to_string().contains("damaged"), "{status}");
    assert!(site.state().join("applied.damaged-1").exists());
    // Nothing is forwarded, and a kernel that does not forward takes no redirects for that.
    let held = |name| site.lab().gateway().namespace().sysctl(name).unwrap();
    assert_eq!(["ipv4/ip_forward", "ipv4/conf/all/accept_redirects"].map(held), ["0", "0"]);
    site.assert_verified();
    let forbidden: Vec<_> = Stream::start(site.lab(), Kind::Udp, "ct", "pacs", 5000, 200).collect();
    thread::sleep(Duration::from_millis(300));
    for outcome in forbidden.into_iter().map(|stream| stream.stop(Duration::from_millis(200))) {
        assert!(outcome.report.sent > 0 && outcome.report.received == 0, "{outcome}");
    }
    site.apply(&good());
    site.assert_verified();
}

#[test]
fn doors_that_were_damaged_stay_shut_and_the_policy_stays_in_force() {
    let mut site = in_force();
    let file = |name: &str| site.state().join(name);
    let (engineers, kept) = (file("engineers"), file("engineers.damaged-1"));
    site.kill_core();
    fs::write(&engineers, b"{\"engineers\": {").unwrap();
    // The second start finds no file: what was revoked in it is not forgotten for that.
    for said in ["is damaged", "is missing: it was damaged"] {
        site.start_core();
        let status = site.status();
        assert_eq!(status["state"], "applied", "{status}");
        assert!(status["warnings"].to_string().contains(said), "{status}");
        for ask in [&["vendor", "list"][..], &["person", "list"]] {
            site.run(ask).failed(FAILED, &["doors stay shut", "engineers.damaged-1", "sekisho restore"]);
        }
        let traffic: Vec<_> = Stream::start(site.lab(), Kind::Udp, "ct", "pacs", 5000, 200).collect();
        traffic.iter().for_each(|stream| stream.wait(5));
        assert_whole(traffic, |_| None);
        site.assert_verified();
        site.kill_core();
        assert!(kept.exists() && !engineers.exists());
    }
    fs::remove_file(&kept).unwrap();
    site.start_core();
    assert_eq!(site.run(&["vendor", "list"]).code, Some(0));
}
