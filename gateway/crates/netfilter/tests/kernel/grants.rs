//! Grants by their elements: opened all or none, read back, seen when foreign, put back by a load, ended at once.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netfilter::{ApplyError, Errno, Grant, GrantError, GrantProtocol, GrantSet, LiveSet, Netfilter, Subject};
use policy::ruleset::{Mark, Ruleset};

use crate::namespace::{in_namespace, run};
use crate::sample::{example, live_marks};

/// What a load and a comparison may take where the processor is emulated and shared. Foreign ends are off by an hour here.
const SLACK: Duration = Duration::from_secs(30);
/// How long a grant of these tests is open: longer than any of them takes there.
const LIFE: Duration = Duration::from_secs(600);

fn grant(mark: u32, address: &str, protocol: GrantProtocol) -> Grant {
    let address: IpAddr = address.parse().unwrap();
    Grant { mark: Mark(0x8000_0000 + mark), address, protocol, port: 22 }
}

fn some() -> GrantSet {
    GrantSet::from([
        (grant(1, "192.168.10.10", GrantProtocol::Tcp), LIFE),
        (grant(1, "fd51:7ec5:0:10::10", GrantProtocol::Tcp), LIFE),
        (grant(2, "192.168.10.11", GrantProtocol::Udp), Duration::from_millis(512_345)),
    ])
}

fn loaded() -> (Netfilter, Ruleset, LiveSet) {
    let (ruleset, mut kernel) = (example(), Netfilter::open().unwrap());
    let live = live_marks(&ruleset);
    kernel.replace(&ruleset, &live).unwrap();
    (kernel, ruleset, live)
}

#[test]
fn grants_are_opened_read_back_and_ended() {
    in_namespace(|| {
        let (mut kernel, ruleset, live) = loaded();
        let begun = Instant::now();
        kernel.add_grants(&some()).unwrap();
        let found = kernel.grants().unwrap();
        // An end is rounded to ticks of the kernel, of 10 ms at the longest.
        let gone = begun.elapsed() + Duration::from_millis(20);
        assert!(found.keys().eq(some().keys()), "{found:?}");
        for (grant, life) in some() {
            let left = found[&grant].unwrap();
            assert!(left <= life && life - left <= gone, "{grant}: {left:?} of {life:?} after {gone:?}");
        }
        assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), []);
        let one = grant(1, "192.168.10.10", GrantProtocol::Tcp);
        // One that never was is no error: it may have ended by itself.
        kernel.remove_grants(&[one, one, grant(9, "192.0.2.1", GrantProtocol::Tcp)]).unwrap();
        assert_eq!(kernel.grants().unwrap().len(), 2);
        assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), []);
    });
}

#[test]
fn grants_are_opened_all_or_none_and_never_twice() {
    in_namespace(|| {
        let (mut kernel, ruleset, live) = loaded();
        let first = grant(2, "192.168.10.11", GrantProtocol::Udp);
        let begun = Instant::now();
        kernel.add_grants(&GrantSet::from([(first, LIFE)])).unwrap();
        let error = kernel.add_grants(&some()).unwrap_err();
        let GrantError::Apply(ApplyError::Refused { refusal, .. }) = error else { panic!("{error}") };
        assert_eq!(refusal.errno, Errno::EXIST);
        assert!(kernel.grants().unwrap().keys().eq([&first]), "the others were not opened");
        let left = kernel.grants().unwrap()[&first].unwrap();
        let gone = begun.elapsed() + Duration::from_millis(20);
        assert!(left <= LIFE && LIFE - left <= gone, "the first keeps its end: {left:?}");
        assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), []);
        let many = (0..1_025_u32).map(|mark| (grant(mark, "192.0.2.1", GrantProtocol::Tcp), LIFE)).collect();
        assert!(matches!(kernel.add_grants(&many), Err(GrantError::TooMany)));
        let wrong = GrantSet::from([(Grant { mark: Mark(7), ..first }, LIFE)]);
        assert!(matches!(kernel.add_grants(&wrong), Err(GrantError::NotAGrant { .. })));
    });
}

#[test]
fn foreign_changes_of_grants_are_seen_and_named() {
    in_namespace(|| {
        let (mut kernel, ruleset, live) = loaded();
        kernel.add_grants(&some()).unwrap();
        let own = "0x80000001 . 192.168.10.10 . tcp . 22";
        let element = |text: &str| Subject::Element("grants-ip4".to_owned(), text.to_owned());
        let timeout =
            Subject::Timeout("grants-ip4".to_owned(), "0x80000001 to 192.168.10.10:22 tcp".to_owned());
        for (edit, expected) in [
            (
                "add element inet sekisho grants-ip4 { 0x80000005 . 192.168.10.10 . tcp . 22 timeout 2s }"
                    .to_owned(),
                element("0x80000005 to 192.168.10.10:22 tcp"),
            ),
            (
                "add element inet sekisho grants-ip4 { 0x80000001 . 192.168.10.10 . icmp . 22 }".to_owned(),
                element("0x01000080c0a80a0a0100000000160000"),
            ),
            (
                format!("delete element inet sekisho grants-ip4 {{ {own} }}"),
                element("0x80000001 to 192.168.10.10:22 tcp"),
            ),
            (
                format!(
                    "delete element inet sekisho grants-ip4 {{ {own} }}; \
                     add element inet sekisho grants-ip4 {{ {own} timeout 1h }}"
                ),
                timeout.clone(),
            ),
            (
                format!(
                    "delete element inet sekisho grants-ip4 {{ {own} }}; \
                     add element inet sekisho grants-ip4 {{ {own} }}"
                ),
                timeout,
            ),
        ] {
            run("nft", &["-f", "-"], &format!("{edit}\n"));
            let found = kernel.verify(&ruleset, &live, SLACK).unwrap();
            assert_eq!(found.iter().map(|one| &one.what).collect::<Vec<_>>(), [&expected], "`{edit}`");
            // A load repairs it: what should be open is, and nothing else.
            kernel.replace(&ruleset, &live).unwrap();
            assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), [], "after `{edit}`");
        }
    });
}

#[test]
fn a_new_start_ends_grants_unless_they_are_expected() {
    in_namespace(|| {
        let (mut kernel, ruleset, live) = loaded();
        kernel.add_grants(&some()).unwrap();
        let open = kernel.expected_grants();
        drop(kernel);
        let mut kernel = Netfilter::open().unwrap();
        assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap().len(), 3, "nobody said that they are open");
        kernel.expect_grants(&open);
        assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), []);
        kernel.replace(&ruleset, &live).unwrap();
        assert_eq!(kernel.grants().unwrap().len(), 3);
        let mut kernel = Netfilter::open().unwrap();
        kernel.replace(&ruleset, &live).unwrap();
        assert!(kernel.grants().unwrap().is_empty());
        assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), []);
    });
}

#[test]
fn a_grant_ends_by_itself_and_is_then_expected_no_more() {
    in_namespace(|| {
        let (mut kernel, ruleset, live) = loaded();
        let short = grant(1, "192.168.10.10", GrantProtocol::Tcp);
        kernel.add_grants(&GrantSet::from([(short, Duration::from_millis(300))])).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        // Two clocks, of which the kernel's began a moment before ours.
        while !kernel.grants().unwrap().is_empty() || !kernel.expected_grants().is_empty() {
            assert!(Instant::now() < deadline, "the grant does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), []);
        kernel.replace(&ruleset, &live).unwrap();
        assert!(kernel.grants().unwrap().is_empty(), "a load does not wake it");
        kernel.remove_grants(&[short]).unwrap();
    });
}

/// What ends sessions waits for no load and no comparison, and neither is led astray by it.
#[test]
fn grants_end_beside_loads_and_comparisons_and_never_come_back() {
    const COUNT: u32 = 20;
    in_namespace(|| {
        let (mut kernel, ruleset, live) = loaded();
        let all: Vec<Grant> =
            (0..COUNT).map(|mark| grant(mark, "192.168.10.10", GrantProtocol::Tcp)).collect();
        kernel.add_grants(&all.iter().map(|grant| (*grant, LIFE)).collect()).unwrap();
        let (mut ender, mut witness) = (kernel.grant_ender().unwrap(), Netfilter::open().unwrap());
        let (first, last) = all.split_at(all.len() - 1);
        let (is_over, loads) = (AtomicBool::new(false), AtomicUsize::new(0));
        let mut longest = Duration::ZERO;
        std::thread::scope(|scope| {
            let ending = scope.spawn(|| {
                for (count, grant) in (1..).zip(first) {
                    let begun = Instant::now();
                    ender.end(&[*grant]).unwrap();
                    longest = longest.max(begun.elapsed());
                    for _ in 0..3 {
                        let open = witness.grants().unwrap();
                        assert!(
                            first[..count].iter().all(|ended| !open.contains_key(ended)),
                            "{grant} is back"
                        );
                        std::thread::sleep(Duration::from_millis(25));
                    }
                    // On an emulated machine a load takes as long as all these endings: they wait for some.
                    while loads.load(Ordering::Relaxed) < count / 4
                        && begun.elapsed() < Duration::from_secs(60)
                    {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                is_over.store(true, Ordering::Relaxed);
            });
            while !is_over.load(Ordering::Relaxed) && !ending.is_finished() {
                kernel.replace(&ruleset, &live).unwrap();
                assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), []);
                loads.fetch_add(1, Ordering::Relaxed);
            }
            ending.join().unwrap();
        });
        let loads = loads.into_inner();
        println!("{loads} loads; the longest ending took {longest:?}");
        assert!(loads > 1, "nothing was loaded meanwhile");
        assert!(kernel.grants().unwrap().keys().eq(last), "the one that nobody ended stays");
        assert!(kernel.expected_grants().keys().eq(last));
        // One that is gone is no error.
        ender.end(&all).unwrap();
        ender.end(&all).unwrap();
        assert_eq!(kernel.verify(&ruleset, &live, SLACK).unwrap(), []);
    });
}
