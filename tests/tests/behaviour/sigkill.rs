//! Done-when 5: killed at any moment, the daemon comes back with the policy that it last acknowledged.
use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use lab::{Host, Lab};
use serde_json::Value;

use crate::{
    daemon::{Said, Site},
    site::{Random, flow, policy},
    traffic::{Kind, PATIENCE, Stream, bound},
};

const KILLS: usize = 50;
const POLICIES: usize = 6;
/// The kill comes so long after the begin of an apply, at most; a quarter of them hits a daemon at rest.
const KILL_WITHIN_MS: usize = 120;
const PORT: u16 = 6000;
const TICK: Duration = Duration::from_millis(20);

/// Policy `n` allows udp port 6000 + n from ct to pacs, as no other does.
fn policies() -> Vec<String> {
    let common = || flow("common", "device:ct", "device:pacs", "udp/5000");
    let own = |number: usize| {
        let port = PORT + u16::try_from(number).unwrap();
        flow(&format!("own-{number}"), "device:ct", "device:pacs", &format!("udp/{port}"))
    };
    let more = |number: usize| {
        (0..number * 20)
            .map(|more| {
                flow(
                    &format!("more-{more}"),
                    "zone:staff",
                    "device:ehr-server",
                    &format!("tcp/{}-{}", 8000 + more * 10, 8005 + more * 10),
                )
            })
            .collect::<Vec<_>>()
    };
    (0..POLICIES).map(|number| policy(&[vec![common(), own(number)], more(number)].concat())).collect()
}

/// How one of the attempts ended.
struct Attempt {
    /// The policy that was on its way, if one was.
    candidate: Option<usize>,
    acknowledged: bool,
}

#[test]
fn killed_fifty_times_the_last_acknowledged_policy_is_in_force() {
    let mut site = Site::start();
    let mut random = Random::new("kills");
    let files: Vec<_> = policies()
        .iter()
        .enumerate()
        .map(|(number, text)| site.write(&format!("p{number}.toml"), text))
        .collect();
    site.run(&["apply", &files[0]]).succeeded();
    let forbidden: Vec<_> = Stream::start(site.lab(), Kind::UdpFresh, "phone", "pacs", 5000, 200).collect();
    let mut in_force = 0;
    let mut seen = [0_usize; 4];
    for kill in 0..KILLS {
        let attempt = disturb(&mut site, &mut random, in_force, &files);
        site.start_core();
        let now = policy_in_force(&site);
        let outcome = match attempt {
            Attempt { candidate: None, .. } => {
                assert_eq!(now, in_force, "kill {kill} at rest");
                0
            }
            Attempt { candidate: Some(candidate), acknowledged: true } => {
                assert_eq!(now, candidate, "kill {kill}: an acknowledged policy is not in force");
                1
            }
            Attempt { candidate: Some(candidate), acknowledged: false } => {
                assert!(now == candidate || now == in_force, "kill {kill}: policy {now} in force");
                if now == candidate { 3 } else { 2 }
            }
        };
        seen[outcome] += 1;
        in_force = now;
        site.assert_verified();
        assert_passes(site.lab(), in_force);
    }
    println!(
        "{KILLS} kills: {} at rest; of the others {} after the acknowledgement, {} before it with the old policy, \
        {} before it with the new",
        seen[0], seen[1], seen[2], seen[3]
    );
    assert!(seen[0] > 0 && seen[2] + seen[3] > 0, "the kills hit too few moments: {seen:?}");
    for outcome in forbidden.into_iter().map(|stream| stream.stop(Duration::from_millis(200))) {
        println!("  forbidden: {outcome}");
        assert!(outcome.report.sent > 0 && outcome.report.received == 0, "{outcome}");
    }
}

/// Kills core, at rest or while it applies another policy.
fn disturb(site: &mut Site, random: &mut Random, in_force: usize, files: &[String]) -> Attempt {
    if random.below(4) == 0 {
        site.kill_core();
        return Attempt { candidate: None, acknowledged: false };
    }
    let candidate = (in_force + 1 + random.below(files.len() - 1)) % files.len();
    let child = site.begin_apply(&files[candidate]);
    thread::sleep(Duration::from_millis(u64::try_from(random.below(KILL_WITHIN_MS)).unwrap()));
    site.kill_core();
    let said = Said::of(child.wait_with_output().unwrap());
    assert!(matches!(said.code, Some(0 | 4)), "{said:?}");
    Attempt { candidate: Some(candidate), acknowledged: said.code == Some(0) }
}

/// The number of the policy in force; disk and daemon must agree on it.
fn policy_in_force(site: &Site) -> usize {
    let status = site.status();
    assert_eq!(status["state"], "applied", "{status}");
    let bytes = fs::read(site.state().join("applied")).unwrap();
    let stored: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(stored["ruleset"], status["policy"]["id"]);
    assert_eq!(stored["sources"]["main"], status["policy"]["file"]);
    let file = status["policy"]["file"].as_str().unwrap();
    let name = file.rsplit('/').next().unwrap();
    name.trim_start_matches('p').trim_end_matches(".toml").parse().unwrap()
}

/// Fails unless the policy's own port passes and those of all others do not.
fn assert_passes(lab: &Lab, policy: usize) {
    let (ct, pacs) = (lab.host("ct").unwrap(), lab.host("pacs").unwrap());
    for address in pacs.addresses() {
        let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let ports = (0..POLICIES).map(|number| PORT + u16::try_from(number).unwrap());
        let sockets: Vec<_> = ports.map(|port| bind(pacs, SocketAddr::new(any, port))).collect();
        let sender = bind(ct, SocketAddr::new(any, 0));
        let send = |number: usize| {
            sender.send_to(b"probe", (address, PORT + u16::try_from(number).unwrap())).unwrap();
        };
        (0..POLICIES).filter(|number| *number != policy).for_each(send);
        // Sent last on the same path: when it is there, the others would be.
        let deadline = Instant::now() + PATIENCE;
        send(policy);
        while !arrived(&sockets[policy]) {
            assert!(Instant::now() < deadline, "{address}: what policy {policy} allows does not pass");
            send(policy);
        }
        for (number, socket) in sockets.iter().enumerate().filter(|(number, _)| *number != policy) {
            assert!(
                !arrived(socket),
                "{address}: policy {policy} is in force and what {number} allows passes"
            );
        }
    }
}

fn bind(host: &Host, address: SocketAddr) -> UdpSocket {
    let socket = host.run_in(|| bound(|| UdpSocket::bind(address))).unwrap().unwrap();
    socket.set_read_timeout(Some(TICK)).unwrap();
    socket
}

fn arrived(socket: &UdpSocket) -> bool {
    socket.recv(&mut [0; 64]).is_ok()
}
