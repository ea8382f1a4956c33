//! The role over its real socket and disk; the inspect worker and the record role are played by small peers that speak
//! their languages. (The sandbox is entered by the process, not by these tests; the lab runs the whole.)

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use events::words::FileChange;
use events::{Event, Role};
use gateway::backup::age::{self, Identity, Opener};
use gateway::recorder::Recorder;
use gateway::wire::files::{FilesAnswer, FilesAsk, FilesRequest, VERSION};
use gateway::wire::frame::{self, HEAD_BYTES};
use gateway::wire::record::{RecordAnswer, RecordAsk};
use gateway::wire::{Answer, Ask, FaultKind};
use jiff::Timestamp;
use policy::services::{FilesSettings, FilesVendor};
use session::SessionId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{LocalSet, spawn_local};
use transfer::attestation::{self, Found, Sanitized, Signer, Tool};
use transfer::{Announcement, FileName, Hash, Outcome, Refusal, TransferId, Unsure};

use super::house::{House, TOLD_MARGIN};
use super::journal::{Entry, Journal, Stage};
use super::{Places, serve, telling};
use crate::server::CLIENTS_MAX;

const PDF: &[u8] = b"%PDF-1.7 a report";

/// A role in a directory of its own, with its neighbours.
struct Site {
    root: tempfile::TempDir,
    log: Arc<Mutex<Vec<Event>>>,
}

impl Site {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["state", "run", "drop", "services"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let site = Site { root, log: Arc::default() };
        site.settings(false);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn settings(&self, attestation_required: bool) {
        let vendor = FilesVendor {
            name: "acme".to_owned(),
            accept: vec!["pdf".to_owned(), "text".to_owned()],
            attestation_required,
            max_size_bytes: Some(1_000_000),
            drop: Some("reports".to_owned()),
        };
        let settings = FilesSettings { site: "sakura-01".to_owned(), vendors: vec![vendor] };
        std::fs::write(self.path("services/files.json"), serde_json::to_vec(&settings).unwrap()).unwrap();
    }

    /// Starts the role; gives its house, for looking into it.
    fn start(&self) -> Rc<House> {
        let paths = ["state", "run", "run/inspect.sock", "drop", "none", "services", "run/record.sock"];
        let [state, runtime, inspect, drop, seal_to, services, record] = paths.map(|name| self.path(name));
        let places = Places {
            state: &state,
            runtime: &runtime,
            inspect: &inspect,
            drop: &drop,
            seal_to: &seal_to,
            services: &services,
            record: &record,
        };
        let (house, left) = House::open(&places, Recorder::start(record.clone(), Role::Files)).unwrap();
        let house = Rc::new(house);
        let _ = std::fs::remove_file(runtime.join("files.sock"));
        let listener = UnixListener::bind(runtime.join("files.sock")).unwrap();
        spawn_local(telling::outcomes(Rc::clone(&house), left));
        spawn_local(serve::serve(Rc::clone(&house), listener, rustix::process::geteuid().as_raw()));
        house
    }

    /// A record role that takes everything.
    fn record(&self) {
        let listener = UnixListener::bind(self.path("run/record.sock")).unwrap();
        let log = Arc::clone(&self.log);
        spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; HEAD_BYTES];
                stream.read_exact(&mut head).await.unwrap();
                let mut body = vec![0; frame::body_bytes(head).unwrap()];
                stream.read_exact(&mut body).await.unwrap();
                let Ask::Record(RecordAsk::Append { event, .. }) = frame::decode_request(&body).unwrap().ask
                else {
                    panic!("something else was asked")
                };
                log.lock().unwrap().push(event);
                let answer = Answer::Record(RecordAnswer::Appended { index: 1 });
                stream.write_all(&frame::encode(&answer).unwrap()).await.unwrap();
            }
        });
    }

    /// An inspect worker with one answer for all: what is inside the braces besides the hash of what it was handed.
    fn inspect(&self, rest: &'static str) {
        let listener = std::os::unix::net::UnixListener::bind(self.path("run/inspect.sock")).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (message, file) = received(&stream);
                assert!(message.starts_with(b"{\"") && message.ends_with(b"}"), "one message");
                let mut bytes = Vec::new();
                let mut file = std::fs::File::from(file);
                assert!(file.write_all(b"x").is_err(), "it can only be read");
                file.read_to_end(&mut bytes).unwrap();
                let answer = format!("{{\"sha256\":\"{}\",{rest}}}\n", Hash::of(&bytes));
                let _ = stream.write_all(answer.as_bytes());
            }
        });
    }

    /// What the log says of files, without the beginning.
    async fn outcomes(&self) -> Vec<FileChange> {
        for _ in 0..200 {
            let told: Vec<FileChange> = self.changes().into_iter().filter(is_outcome).collect();
            if !told.is_empty() {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Vec::new()
    }

    fn changes(&self) -> Vec<FileChange> {
        let file = |event: &Event| match event {
            Event::File { change, .. } => Some(change.clone()),
            _ => None,
        };
        self.log.lock().unwrap().iter().filter_map(file).collect()
    }

    fn files_in(&self, name: &str) -> Vec<String> {
        let Ok(found) = std::fs::read_dir(self.path(name)) else { return Vec::new() };
        let mut names: Vec<String> =
            found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn is_outcome(change: &FileChange) -> bool {
    match change {
        FileChange::Held { .. } | FileChange::Released { .. } => false,
        FileChange::Refused { .. } | FileChange::Quarantined { .. } | FileChange::Delivered { .. } => true,
    }
}

fn received(stream: &std::os::unix::net::UnixStream) -> (Vec<u8>, std::os::fd::OwnedFd) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut room = vec![0; 4096];
    let got = recvmsg(stream, &mut [std::io::IoSliceMut::new(&mut room)], &mut control, RecvFlags::empty())
        .unwrap();
    room.truncate(got.bytes);
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    (room, rights.expect("a descriptor"))
}

fn ask(name: &str, bytes: &[u8], attestation: Option<String>) -> FilesAsk {
    FilesAsk::Begin {
        session: SessionId::parse("s-abcdefghijkl").unwrap(),
        vendor: "acme".to_owned().try_into().unwrap(),
        name: FileName::parse(name).unwrap(),
        size_bytes: bytes.len() as u64,
        sha256: Hash::of(bytes),
        attestation: attestation.map(|text| text.try_into().unwrap()),
        engineer_key: Signer::from_seed(&[7; 32]).spki().try_into().unwrap(),
    }
}

async fn answer(stream: &mut UnixStream) -> Option<FilesAnswer> {
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await.ok()?;
    let mut body = vec![0; frame::body_bytes(head).unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(frame::decode(&body).unwrap())
}

async fn begin(site: &Site, ask: FilesAsk) -> UnixStream {
    let mut stream = UnixStream::connect(site.path("run/files.sock")).await.unwrap();
    let request = FilesRequest { version: VERSION, files: ask };
    stream.write_all(&frame::encode(&request).unwrap()).await.unwrap();
    stream
}

/// Sends a file as edge would; gives the outcome.
async fn send(site: &Site, ask: FilesAsk, bytes: &[u8]) -> Outcome {
    let mut stream = begin(site, ask).await;
    match answer(&mut stream).await {
        Some(FilesAnswer::Send { .. }) => stream.write_all(bytes).await.unwrap(),
        Some(FilesAnswer::Judged { outcome, .. }) => return outcome,
        other => panic!("{other:?}"),
    }
    match answer(&mut stream).await {
        Some(FilesAnswer::Judged { outcome, ja, en, .. }) => {
            assert!(!ja.is_empty() && !en.is_empty());
            outcome
        }
        other => panic!("{other:?}"),
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

const ALLOW: &str = r#""types":["pdf"],"kinds":["pdf"],"verdict":"allow","findings":[],"ms":1"#;
const DISARM: &str = r#""types":["pdf"],"kinds":["pdf"],"verdict":"disarm","ms":1,
    "findings":[{"id":"pdf-javascript","where":"object 3 0","detail":"x"}]"#;
const MACRO_KIND: &str = r#""types":["zip"],"kinds":["dicom"],"verdict":"allow","findings":[],"ms":1"#;

#[test]
fn a_clean_file_is_delivered_recorded_and_sealed() {
    run(async {
        let site = Site::new();
        site.record();
        site.inspect(ALLOW);
        site.start();
        let outcome = send(&site, ask("報告書.pdf", PDF, None), PDF).await;
        assert_eq!(outcome, Outcome::Delivered { sha256: Hash::of(PDF) });
        let place = site.path("drop/acme/reports/報告書.pdf");
        assert_eq!(std::fs::read(&place).unwrap(), PDF);
        assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o137, 0, "for its group alone");
        assert_eq!(site.outcomes().await, [FileChange::Delivered { sha256: Hash::of(PDF).to_string() }]);
        assert!(matches!(site.changes()[..], [FileChange::Held { .. }, FileChange::Released { .. }, _]));
        assert!(site.files_in("state/hold").is_empty(), "nothing in the clear is kept");
        let [sealed] = &site.files_in("state/sealed")[..] else { panic!("no original") };
        let sealed = std::fs::read(site.path("state/sealed").join(sealed)).unwrap();
        let key = std::fs::read_to_string(site.path("state/originals.key")).unwrap();
        let opener = Opener::Identities(Identity::parse_file(&key).unwrap());
        assert_eq!(age::open(&sealed, &opener).unwrap().as_slice(), PDF);
        // A second file of the name takes another, and replaces nothing.
        let other = b"%PDF-1.7 another";
        assert!(matches!(
            send(&site, ask("報告書.pdf", other, None), other).await,
            Outcome::Delivered { .. }
        ));
        assert_eq!(site.files_in("drop/acme/reports"), ["報告書 (2).pdf", "報告書.pdf"]);
        assert_eq!(std::fs::read(&place).unwrap(), PDF);
    });
}

#[test]
fn what_the_inspection_does_not_allow_is_refused() {
    for (said, is_kind) in [(DISARM, false), (MACRO_KIND, true)] {
        run(async {
            let site = Site::new();
            site.record();
            site.inspect(said);
            site.start();
            let outcome = send(&site, ask("a.pdf", PDF, None), PDF).await;
            let Outcome::Refused { why } = outcome else { panic!("{outcome:?}") };
            assert_eq!(matches!(why, Refusal::Kind { .. }), is_kind, "{why:?}");
            assert!(matches!(site.outcomes().await[..], [FileChange::Refused { .. }]));
            assert!(site.files_in("drop").is_empty() && site.files_in("state/hold").is_empty());
            assert_eq!(site.files_in("state/sealed").len(), 1, "the original is kept sealed");
        });
    }
}

#[test]
fn what_nobody_can_judge_is_quarantined() {
    run(async {
        let site = Site::new();
        site.record();
        site.start();
        let outcome = send(&site, ask("a.pdf", PDF, None), PDF).await;
        assert!(matches!(outcome, Outcome::Quarantined { why: Unsure::Inspection { .. } }), "{outcome:?}");
        site.inspect("\"verdict\":\"allow\"");
        let outcome = send(&site, ask("a.pdf", PDF, None), PDF).await;
        assert!(matches!(outcome, Outcome::Quarantined { why: Unsure::Inspection { .. } }), "{outcome:?}");
        assert!(site.files_in("drop").is_empty());
    });
}

#[test]
fn a_release_that_cannot_be_recorded_delivers_nothing() {
    run(async {
        let site = Site::new();
        site.inspect(ALLOW);
        let house = site.start();
        let outcome = send(&site, ask("a.pdf", PDF, None), PDF).await;
        assert!(matches!(outcome, Outcome::Quarantined { why: Unsure::Record { .. } }), "{outcome:?}");
        assert!(site.files_in("drop").is_empty());
        assert_eq!(house.journal.entries().unwrap().len(), 1);
        // Once the record role is there, it hears of it.
        site.record();
        assert!(matches!(site.outcomes().await[..], [FileChange::Quarantined { .. }]));
    });
}

#[test]
fn a_sender_who_lies_or_leaves_delivers_nothing() {
    run(async {
        let site = Site::new();
        site.record();
        site.inspect(ALLOW);
        site.start();
        let mut lies = ask("a.pdf", PDF, None);
        let FilesAsk::Begin { sha256, .. } = &mut lies;
        *sha256 = Hash::of(b"something else");
        assert_eq!(send(&site, lies, PDF).await, Outcome::Refused { why: Refusal::NotAsAnnounced {} });
        let mut stream = begin(&site, ask("a.pdf", PDF, None)).await;
        assert!(matches!(answer(&mut stream).await, Some(FilesAnswer::Send { .. })));
        stream.write_all(&PDF[..5]).await.unwrap();
        drop(stream);
        let mut big = ask("a.pdf", PDF, None);
        let FilesAsk::Begin { size_bytes, .. } = &mut big;
        *size_bytes = 1_000_001;
        assert!(matches!(send(&site, big, PDF).await, Outcome::Refused { why: Refusal::TooLarge { .. } }));
        let mut other = ask("a.pdf", PDF, None);
        let FilesAsk::Begin { vendor, .. } = &mut other;
        *vendor = "nobody".to_owned().try_into().unwrap();
        assert_eq!(send(&site, other, PDF).await, Outcome::Refused { why: Refusal::NothingAccepted {} });
        for _ in 0..200 {
            if site.changes().iter().filter(|change| is_outcome(change)).count() == 4 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let outcomes: Vec<FileChange> = site.changes().into_iter().filter(is_outcome).collect();
        assert_eq!(outcomes.len(), 4, "{outcomes:?}");
        assert!(site.files_in("drop").is_empty() && site.files_in("state/hold").is_empty());
    });
}

#[test]
fn garbage_is_answered_and_nothing_else() {
    run(async {
        let site = Site::new();
        let house = site.start();
        for bytes in [
            b"\x00\x00\x00\x02{}".as_slice(),
            b"\xff\xff\xff\xff",
            b"\x00\x00\x00\x05hello",
            b"\x00\x00\x00\x1c{\"version\":9,\"files\":{\"x\":1}}",
        ] {
            let mut stream = UnixStream::connect(site.path("run/files.sock")).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(matches!(answer(&mut stream).await, Some(FilesAnswer::Failed(_))), "{bytes:?}");
        }
        assert!(house.journal.entries().unwrap().is_empty());
    });
}

fn attested(nonce: &str) -> String {
    let now = Timestamp::now();
    let said = Sanitized {
        sanitizer: Tool { name: "sekisho-inspect".to_owned(), version: "1".to_owned() },
        verdict: Found::Clean,
        sanitized_at: now,
        expires_at: now + Duration::from_secs(600),
        recipient: "sakura-01".to_owned(),
        session: "s-abcdefghijkl".to_owned(),
        nonce: nonce.to_owned(),
        size_bytes: PDF.len() as u64,
    };
    let name = FileName::parse("a.pdf").unwrap();
    attestation::sign(&name, Hash::of(PDF), &said, &Signer::from_seed(&[7; 32])).unwrap()
}

#[test]
fn where_the_policy_says_so_the_senders_word_is_needed_and_counts_once() {
    run(async {
        let site = Site::new();
        site.settings(true);
        site.record();
        site.inspect(ALLOW);
        let house = site.start();
        let none = send(&site, ask("a.pdf", PDF, None), PDF).await;
        assert_eq!(none, Outcome::Refused { why: Refusal::AttestationMissing {} });
        let word = attested(&"0".repeat(32));
        let good = send(&site, ask("a.pdf", PDF, Some(word.clone())), PDF).await;
        assert!(matches!(good, Outcome::Delivered { .. }), "{good:?}");
        let again = send(&site, ask("a.pdf", PDF, Some(word.clone())), PDF).await;
        assert!(matches!(again, Outcome::Refused { why: Refusal::Attestation { .. } }), "{again:?}");
        let kept = std::fs::read(site.path("state/spent.json")).unwrap();
        assert_eq!(serde_json::from_slice::<attestation::Spent>(&kept).unwrap(), *house.spent.borrow());
        let other = send(&site, ask("b.pdf", PDF, Some(attested(&"1".repeat(32)))), PDF).await;
        assert!(matches!(other, Outcome::Refused { why: Refusal::Attestation { .. } }), "{other:?}");
    });
}

#[test]
fn a_client_too_many_is_told_so_at_once_and_places_come_free_again() {
    run(async {
        let site = Site::new();
        site.start();
        let connect = async || UnixStream::connect(site.path("run/files.sock")).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..CLIENTS_MAX {
            held.push(connect().await);
        }
        let mut late = connect().await;
        let told = tokio::time::timeout(Duration::from_secs(5), answer(&mut late)).await;
        let Ok(Some(FilesAnswer::Failed(fault))) = told else { panic!("{told:?}") };
        assert_eq!(fault.kind, FaultKind::Busy);
        drop(held);
        let request = FilesRequest { version: VERSION, files: ask("a.pdf", PDF, None) };
        let request = frame::encode(&request).unwrap();
        for _ in 0..200 {
            let mut stream = connect().await;
            // One that is turned away may be so before it has written.
            let _ = stream.write_all(&request).await;
            if let Some(FilesAnswer::Send { .. }) = answer(&mut stream).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody is served any more");
    });
}

fn announced(random: [u8; 8]) -> Announcement {
    Announcement {
        transfer: TransferId::from_random(random),
        session: "s-abcdefghijkl".to_owned(),
        vendor: "acme".to_owned(),
        name: FileName::parse("a.pdf").unwrap(),
        size_bytes: 3,
        sha256: Hash::of(PDF),
    }
}

fn left(state: &Path, number: u8, stage: impl Fn(Entry) -> Stage) -> TransferId {
    let entry = Entry::begun(&announced([number; 8]), Timestamp::UNIX_EPOCH);
    std::fs::create_dir_all(state.join("journal")).unwrap();
    Journal::of(state.join("journal")).write(&entry.at(stage(entry.clone()))).unwrap();
    entry.transfer
}

/// Lays down an entry that is over, without waiting for the disk; the higher its number, the younger it is.
fn lay(state: &Path, number: u64, told: bool) -> Entry {
    let began_at = Timestamp::UNIX_EPOCH + Duration::from_secs(number);
    let outcome = Outcome::Delivered { sha256: Hash::of(PDF) };
    let stage = Stage::Over { outcome, at: began_at, leavings: Vec::new(), told };
    let entry = Entry::begun(&announced(number.to_be_bytes()), began_at).at(stage);
    let path = state.join(format!("journal/{}.json", entry.transfer));
    std::fs::write(path, serde_json::to_vec(&entry).unwrap()).unwrap();
    entry
}

#[test]
fn however_many_entries_there_are_the_role_starts_and_lets_go_of_told_ones_alone() {
    run(async {
        let site = Site::new();
        let state = site.path("state");
        std::fs::create_dir(state.join("journal")).unwrap();
        // The oldest of all were not told.
        (0..5_000).for_each(|number| drop(lay(&state, number, number >= 3)));
        let house = site.start();
        let kept = || {
            let began = |entry: Entry| entry.began_at.as_second();
            let mut kept: Vec<i64> = house.journal.entries().unwrap().into_iter().map(began).collect();
            kept.sort_unstable();
            kept
        };
        assert_eq!(kept(), (0..3).chain(4_000..5_000).collect::<Vec<i64>>());
        // It is tidied before the hour is over, once enough were told.
        (5_000..5_010).for_each(|number| drop(lay(&state, number, true)));
        house.told(&lay(&state, 5_010, false)).unwrap();
        assert_eq!(kept().len(), 3 + 1_011);
        house.told_since.set(TOLD_MARGIN - 1);
        house.told(&lay(&state, 5_011, false)).unwrap();
        assert_eq!(kept(), (0..3).chain(4_012..5_012).collect::<Vec<i64>>());
    });
}

#[test]
fn whatever_a_former_run_left_has_one_outcome() {
    run(async {
        let site = Site::new();
        let (state, to) = (site.path("state"), site.path("drop/acme"));
        std::fs::create_dir_all(&to).unwrap();
        std::fs::create_dir(state.join("hold")).unwrap();
        let beside = |name: &str| to.join(format!(".{name}.part"));
        let held = left(&state, 1, |_| Stage::Begun {});
        std::fs::write(state.join("hold").join(held.as_str()), PDF).unwrap();
        std::fs::write(beside(held.as_str()), PDF).unwrap();
        let stuck = left(&state, 2, |entry| Stage::Delivering { beside: beside(entry.transfer.as_str()) });
        std::fs::write(beside(stuck.as_str()), PDF).unwrap();
        let renamed = left(&state, 3, |entry| Stage::Delivering { beside: beside(entry.transfer.as_str()) });
        std::fs::write(to.join("a.pdf"), PDF).unwrap();
        let untold = left(&state, 4, |entry| {
            entry.over(Outcome::Delivered { sha256: Hash::of(PDF) }, Vec::new()).stage
        });
        let house = site.start();
        let outcome = |id: &TransferId| {
            let entries = house.journal.entries().unwrap();
            entries.into_iter().find(|entry| entry.transfer == *id).unwrap().outcome().unwrap().1.clone()
        };
        for id in [&held, &stuck] {
            assert_eq!(outcome(id), Outcome::Quarantined { why: Unsure::Restarted {} });
        }
        for id in [&renamed, &untold] {
            assert_eq!(outcome(id), Outcome::Delivered { sha256: Hash::of(PDF) });
        }
        assert_eq!(site.files_in("drop/acme"), ["a.pdf"], "nothing half-delivered is left");
        assert!(site.files_in("state/hold").is_empty());
        site.record();
        for _ in 0..300 {
            if site.changes().len() >= 4 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(site.changes().len(), 4, "each is told once: {:?}", site.changes());
        assert!(house.journal.settle().unwrap().is_empty(), "and the journal knows that the log has them");
    });
}

#[test]
fn a_damaged_journal_stops_the_role() {
    let site = Site::new();
    let journal = site.path("state/journal");
    std::fs::create_dir(&journal).unwrap();
    std::fs::write(journal.join("f-aaaaaaaaaaaa.json"), "{").unwrap();
    assert!(Journal::of(journal).settle().is_err());
}
