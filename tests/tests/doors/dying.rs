//! SIGKILL to any role at any point of a session with a file on its way: nothing stays half open, every file has exactly one
//! outcome, what was delivered is what was sent and released, and the log has the ending and verifies.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use gateway::wire::doors::SessionId;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    own,
    ready::Ready,
    rota::{self, Rota},
    site::Random,
    whole::{Engineer, FILES, Inspections, Roles, during, eventually},
};

const INSPECT: &str = "inspect";
const VICTIMS: [&str; 6] =
    ["sekisho-core", "sekisho-edge", "sekisho-files", "sekisho-record", "sekisho-watch", INSPECT];
/// The number, and what an everyday run does of it: each role three times.
const ALL_KILLS: usize = 200;
const KILLS: usize = 18;
/// A kill comes so long after the request, at most: an undisturbed session with its file is over by then.
const KILL_WITHIN_MS: usize = 2_400;
/// How long the service manager may take to start a role again.
const AWAY_MS: usize = 600;
/// How long an inspection is waited for that should be killed.
const INSPECTION_LIMIT: Duration = Duration::from_secs(30);
const LINES: usize = 30_000;
const CARRIED_PORT: u16 = 2280;
/// Engineers on machines of their own: one address may not come in so often.
const ENGINEERS: [(&str, &str); 3] = [("vendor", "suzuki"), ("doctor", "sato"), ("web", "tanaka")];

#[test]
fn whichever_role_is_killed_whenever_nothing_stays_half_open() {
    let kills = if std::env::var_os("SEKISHO_LONG").is_some() { ALL_KILLS } else { KILLS };
    let mut random = Random::new("kills");
    let policy = format!("{}{FILES}", rota::policy());
    during(&policy, |ready, roles, inspections| {
        let engineers = ENGINEERS.map(|(host, name)| Engineer::enrolled(ready, host, name));
        ready.echo("ehr-server", 22);
        let (mut rota, mut seen) = (Rota::new(ready), Seen::default());
        // They need these roles too, and the persons with their codes.
        own::come_in_by_certificates(ready, &mut rota, &policy);
        what_edge_carried_has_an_end(ready, &engineers[1], &mut rota, roles);
        for number in 0..kills {
            let round = Round {
                number,
                victim: VICTIMS[number % VICTIMS.len()],
                after: milliseconds(random.below(KILL_WITHIN_MS)),
                away: milliseconds(random.below(AWAY_MS)),
            };
            let engineer = &engineers[number % engineers.len()];
            let life = round.run(ready, engineer, &mut rota, roles, inspections);
            let told = assert_whole(ready, &round, &life);
            println!("{round:?}: {} after {:?}: {told}", life.reached, life.took);
            seen.count(&life, &told);
        }
        println!("{seen:?}");
        seen.assert_wide();
    });
}

#[test]
fn an_ending_that_the_record_could_not_take_is_told_by_the_next_run() {
    let mut ready = Ready::new();
    let mut edge = ready.edge();
    let session = ready.open(&mut edge, &ready.taro.code(0));
    ready.site.role("sekisho-record").signal(Signal::STOP).unwrap();
    ready.site.run(&["session", "kill", session.as_str()]).succeeded();
    ready.site.kill_core();
    ready.site.role("sekisho-record").signal(Signal::CONT).unwrap();
    ready.site.start_core();
    eventually("the ending is in the log", || !endings(&ready, &session).is_empty());
}

/// SIGKILL to edge while it carries a connection: the log has that connection's end, once, and later ones have theirs.
fn what_edge_carried_has_an_end(ready: &Ready, engineer: &Engineer<'_>, rota: &mut Rota, roles: &mut Roles) {
    let session = engineer.request("tcp").unwrap();
    let held = engineer.connect(&session, "tcp", CARRIED_PORT);
    assert!(rota.approve(ready, &session));
    eventually("the session is open", || held.said().contains("\"open\""));
    drop(engineer.connected(CARRIED_PORT).expect("a connection that ends by itself"));
    let carried = engineer.connected(CARRIED_PORT).expect("a connection that edge takes along");
    roles.kill("sekisho-edge");
    roles.start(&ready.site, "sekisho-edge");
    eventually("the end of what edge carried is in the log", || {
        connections(ready, &session, "connection-lost") == [2]
    });
    drop(carried);
    // The session may go on: its engineer comes back.
    eventually("a word comes back again", || engineer.echoes(CARRIED_PORT));
    ready.site.run(&["session", "kill", session.as_str()]).succeeded();
    let opened = || connections(ready, &session, "connection-opened");
    let ends = || {
        let mut ends = connections(ready, &session, "connection-closed");
        ends.extend(connections(ready, &session, "connection-lost"));
        ends.sort_unstable();
        ends
    };
    eventually("every connection has one end", || ends() == opened());
    assert!(opened().len() > 2 && connections(ready, &session, "connection-lost") == [2]);
}

/// Numbers of connections of which the log says this.
fn connections(ready: &Ready, session: &SessionId, what: &str) -> Vec<u64> {
    let events = ready.logged("session");
    let own = events.iter().filter(|event| event["session"] == session.as_str());
    let changes = own.map(|event| &event["change"]).filter(|change| change["what"] == what);
    let mut numbers: Vec<u64> = changes.map(|change| change["connection"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn milliseconds(count: usize) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap())
}

/// One session with a file, and one kill.
#[derive(Debug)]
struct Round {
    number: usize,
    victim: &'static str,
    after: Duration,
    away: Duration,
}

/// What the engineer got done.
struct Life {
    session: Option<SessionId>,
    reached: &'static str,
    took: Duration,
    /// The outcome that the vendor was told.
    judged: Option<String>,
    file: PathBuf,
}

impl Round {
    fn run(
        &self,
        ready: &Ready,
        engineer: &Engineer<'_>,
        rota: &mut Rota,
        roles: &mut Roles,
        inspections: &Inspections,
    ) -> Life {
        thread::scope(|scope| {
            let life = scope.spawn(|| self.live(ready, engineer, rota));
            if self.victim == INSPECT {
                // It lives for a moment of its own, which may be over by then.
                let begun = Instant::now();
                while !inspections.kill() && begun.elapsed() < INSPECTION_LIMIT && !life.is_finished() {
                    thread::sleep(Duration::from_millis(5));
                }
            } else {
                thread::sleep(self.after);
                roles.kill(self.victim);
                thread::sleep(self.away);
                roles.start(&ready.site, self.victim);
            }
            let life = life.join().unwrap();
            roles.assert_alive();
            life
        })
    }

    /// The engineer's and the clinic's part, as far as it goes.
    fn live(&self, ready: &Ready, engineer: &Engineer<'_>, rota: &mut Rota) -> Life {
        let begun = Instant::now();
        let file = ready.site.files().join(format!("report-{}.txt", self.number));
        fs::write(&file, text(self.number)).unwrap();
        let mut life = Life { session: None, reached: "nothing", took: Duration::ZERO, judged: None, file };
        self.go(ready, engineer, rota, &mut life);
        life.took = begun.elapsed();
        if let Some(session) = &life.session {
            // It may be over, and core may be away.
            eventually("the clinic is heard", || {
                ready.site.run(&["session", "kill", session.as_str()]).code != Some(4)
            });
        }
        life
    }

    fn go(&self, ready: &Ready, engineer: &Engineer<'_>, rota: &mut Rota, life: &mut Life) {
        let Some(session) = engineer.request("tcp") else { return };
        life.session = Some(session.clone());
        life.reached = "requested";
        let port = 2300 + u16::try_from(self.number).unwrap();
        let held = engineer.connect(&session, "tcp", port);
        if !rota.approve(ready, &session) {
            return;
        }
        life.reached = "approved";
        let begun = Instant::now();
        while !held.said().contains("\"open\"") {
            if begun.elapsed() > Duration::from_secs(5) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        life.reached = "open";
        if engineer.echoes(port) {
            life.reached = "worked";
        }
        let path = life.file.to_str().unwrap();
        let said = engineer.run(&["--transport", "tcp", "send", path, "--session", session.as_str()]);
        let line = said.out.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
        life.judged = line.and_then(|line| Some(line["judged"]["outcome"].as_str()?.to_owned()));
        if life.judged.is_some() {
            life.reached = "judged";
        }
    }
}

/// A file like no other.
fn text(number: usize) -> String {
    (0..LINES)
        .map(|line| format!("report {number}, line {line}: 定期点検の結果に異常はありません\n"))
        .collect()
}

/// The oracle. Gives the outcome of the round's file.
fn assert_whole(ready: &Ready, round: &Round, life: &Life) -> String {
    eventually("the last grant is gone", || grants(ready) == 0);
    let mut stands = Vec::new();
    eventually("every file has its outcome, and the log has it", || {
        stands = journal(ready);
        stands.iter().all(|entry| entry["stage"]["stage"] == "over" && entry["stage"]["told"] == true)
    });
    let outcomes = outcomes(ready);
    let delivered: BTreeSet<String> =
        stands.iter().filter(|entry| outcome(entry) == "delivered").map(name).collect();
    assert_eq!(delivered, dropped(ready), "{round:?}: what lies in the drop has the outcome, and no other");
    assert!(listed(&ready.site.state().with_file_name("sekisho-files").join("hold")).is_empty(), "{round:?}");
    let own: Vec<_> = stands.iter().filter(|entry| name(entry) == file_name(&life.file)).collect();
    for entry in &own {
        let transfer = entry["transfer"].as_str().unwrap();
        let told =
            outcomes.get(transfer).unwrap_or_else(|| panic!("{round:?}: {transfer} is not in the log"));
        assert_eq!(*told, [outcome(entry)], "{round:?}: one outcome, told once, the journal's");
        if outcome(entry) == "delivered" {
            let arrived = drop_of(ready).join(name(entry));
            assert_eq!(fs::read(arrived).unwrap(), fs::read(&life.file).unwrap(), "{round:?}");
            assert!(released(ready, transfer), "{round:?}: delivered and never released");
        }
    }
    assert!(own.len() <= 1, "{round:?}: one file, one transfer");
    let outcome = own.first().map_or("none", |entry| outcome(entry)).to_owned();
    if let Some(judged) = &life.judged {
        assert_eq!(*judged, outcome, "{round:?}: the vendor was told another outcome");
    }
    assert_ended(ready, round, life);
    assert_eq!(ready.site.run(&["audit", "verify"]).code, Some(0), "{round:?}");
    ready.site.assert_verified();
    outcome
}

/// A session that the log knows of has an ending there, behind which nothing opens.
fn assert_ended(ready: &Ready, round: &Round, life: &Life) {
    let Some(session) = &life.session else { return };
    let changes = || -> Vec<String> {
        let events = ready.logged("session");
        let own = events.iter().filter(|event| event["session"] == session.as_str());
        own.map(|event| event["change"]["what"].as_str().unwrap().to_owned()).collect()
    };
    let is_ending = |what: &String| what == "closed" || what == "denied";
    eventually("the ending is in the log", || {
        let changes = changes();
        changes.is_empty() || changes.iter().any(is_ending)
    });
    // The log is listed with the newest first or last: what matters is that the way was recorded before it opened.
    let changes = changes();
    let count = |word: &str| changes.iter().filter(|what| *what == word).count();
    assert!(count("opened") <= count("opening"), "{round:?}: {changes:?}");
    assert!(count("opening") <= 1 && count("approved") <= 1, "{round:?}: {changes:?}");
}

fn endings(ready: &Ready, session: &SessionId) -> Vec<Value> {
    let own = |event: &Value| {
        event["session"] == session.as_str()
            && (event["change"]["what"] == "closed" || event["change"]["what"] == "denied")
    };
    ready.logged("session").into_iter().filter(own).collect()
}

/// Grants in the kernel.
fn grants(ready: &Ready) -> usize {
    let count = |set: &str| {
        let listed = ready.site.lab().gateway().output("nft", &["-j", "list", "set", "inet", "sekisho", set]);
        let listed: Value = serde_json::from_str(&listed.unwrap()).unwrap();
        let objects = listed["nftables"].as_array().unwrap().iter();
        objects.filter_map(|object| object["set"]["elem"].as_array()).map(Vec::len).sum::<usize>()
    };
    count("grants-ip4") + count("grants-ip6")
}

/// What the files role has written down of every transfer.
fn journal(ready: &Ready) -> Vec<Value> {
    let directory = ready.site.state().with_file_name("sekisho-files").join("journal");
    let finished = |name: &String| name.ends_with(".json");
    // An entry is replaced while the role works.
    let read = |name: String| fs::read(directory.join(name)).ok();
    let names = listed(&directory).into_iter().filter(finished);
    names.filter_map(read).map(|bytes| serde_json::from_slice(&bytes).unwrap()).collect()
}

/// What the log says became of each transfer, as often as it says so.
fn outcomes(ready: &Ready) -> BTreeMap<String, Vec<String>> {
    let mut outcomes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in ready.logged("file") {
        let what = change(&event).to_owned();
        if ["delivered", "refused", "quarantined"].contains(&what.as_str()) {
            outcomes.entry(event["transfer"].as_str().unwrap().to_owned()).or_default().push(what);
        }
    }
    outcomes
}

fn released(ready: &Ready, transfer: &str) -> bool {
    let is_release = |event: &Value| event["transfer"] == transfer && change(event) == "released";
    ready.logged("file").iter().any(is_release)
}

/// The word of what happened to a file.
fn change(event: &Value) -> &str {
    event["change"].as_object().and_then(|change| change.keys().next()).unwrap()
}

fn outcome(entry: &Value) -> &str {
    entry["stage"]["outcome"]["outcome"].as_str().unwrap_or_else(|| panic!("{entry}"))
}

fn name(entry: &Value) -> String {
    entry["name"].as_str().unwrap().to_owned()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn drop_of(ready: &Ready) -> PathBuf {
    ready.site.runtime().with_file_name("sekisho-files").join("drop/acme")
}

/// Everything in the vendor's drop, unfinished or not.
fn dropped(ready: &Ready) -> BTreeSet<String> {
    listed(&drop_of(ready)).into_iter().collect()
}

fn listed(directory: &Path) -> Vec<String> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// How far the rounds came, so that a run that hit nothing does not pass for one that found nothing.
#[derive(Debug, Default)]
struct Seen {
    reached: BTreeMap<&'static str, usize>,
    outcomes: BTreeMap<String, usize>,
}

impl Seen {
    fn count(&mut self, life: &Life, outcome: &str) {
        *self.reached.entry(life.reached).or_default() += 1;
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
    }

    fn assert_wide(&self) {
        let of = |outcome: &str| self.outcomes.get(outcome).copied().unwrap_or_default();
        assert!(of("delivered") > 0 && of("quarantined") > 0, "the kills hit too few moments: {self:?}");
        assert!(self.reached.contains_key("judged"), "{self:?}");
    }
}
