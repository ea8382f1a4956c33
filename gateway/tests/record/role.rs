//! The role: durable answers, kills, measurements, damage.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use events::{Deed, Event, Family, Role};
use gateway::recorder::Recorder;
use gateway::wire::Answer;
use gateway::wire::record::{Proof, RecordAnswer, RecordAsk};
use policy::guideline::observation::Observation;
use record::{InclusionProof, VerifierKey};

use crate::{PATIENCE, Record, drift, spawn, value};

#[test]
fn what_is_answered_is_in_the_log_after_a_kill_and_can_be_proved() {
    let mut record = Record::start();
    let indexes: Vec<u64> = (0..20).map(|number| record.append(drift(&format!("rule {number}")))).collect();
    record.restart();
    let last = record.entries(None, 1000);
    for (number, index) in indexes.iter().enumerate() {
        let (_, text) = last.iter().find(|(at, _)| at == index).unwrap();
        assert!(text.contains(&format!("\"rule {number}\"")), "{text}");
        assert!(text.contains("\"writer\":{\"role\":\"core\"}"), "{text}");
    }
    let RecordAnswer::Proof(Proof { index, entry, proof, key }) =
        record.ask(RecordAsk::Prove { index: indexes[3] })
    else {
        panic!("no proof")
    };
    let key = VerifierKey::parse(&key).unwrap();
    let proof = InclusionProof::parse(&proof).unwrap();
    assert_eq!((proof.index, index), (indexes[3], indexes[3]));
    assert!(proof.check(entry.as_bytes(), &key).is_ok());
    assert!(proof.check(b"another entry", &key).is_err());
    let page = record.entries(Some(indexes[5]), 2);
    assert_eq!(page.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [indexes[5] - 2, indexes[5] - 1]);
    let refused = record.try_ask(RecordAsk::Prove { index: 10_000 }).unwrap();
    assert!(matches!(refused, Answer::Failed(_)), "{refused:?}");
}

#[test]
fn an_event_that_is_brought_again_after_a_kill_is_one_entry() {
    let mut record = Record::start();
    let at = jiff::Timestamp::now();
    let bring = |record: &Record, at, again| match record.ask(RecordAsk::Append {
        at,
        event: drift("rule"),
        again,
    }) {
        RecordAnswer::Appended { index } => index,
        other => panic!("{other:?}"),
    };
    let index = bring(&record, at, false);
    assert_eq!(bring(&record, at, true), index);
    record.restart();
    assert_eq!(bring(&record, at, true), index, "of the run before");
    let later = bring(&record, jiff::Timestamp::now(), true);
    assert!(later > index, "another time is another event");
    let count = record.entries(None, 1000).iter().filter(|(_, text)| text.contains("\"rule\"")).count();
    assert_eq!(count, 2);
}

#[test]
fn appenders_at_once_are_each_told_a_number_of_their_own() {
    let record = Record::start();
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let appenders: Vec<_> = (0..8)
            .map(|appender| {
                let record = &record;
                scope.spawn(move || {
                    (0..10).map(|_| record.append(drift(&appender.to_string()))).collect::<Vec<_>>()
                })
            })
            .collect();
        appenders.into_iter().flat_map(|appender| appender.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 80);
}

#[test]
fn the_role_measures_itself_and_knows_when_what_was_done() {
    let record = Record::start();
    let user = rustix::process::geteuid().as_raw();
    let deed = Deed::LogReview { person: "院長".to_owned(), until: 1, note: String::new() };
    record.append(Event::Done { by: user, deed });
    assert!(record.verify().faults.is_empty());
    let measured = record.measured();
    assert_eq!(measured.role, Role::Record);
    assert_eq!((value(&measured, Family::LogIntact), value(&measured, Family::LogAccepting)), (1.0, 1.0));
    assert!(value(&measured, Family::LogEntries) >= 3.0);
    let facts: Vec<_> = measured.observations.iter().map(|observed| &observed.fact).collect();
    assert!(
        facts
            .iter()
            .any(|fact| matches!(fact, Observation::Log(log) if log.intact && log.oldest_at.is_some()))
    );
    let review = |fact: &&&Observation| matches!(fact, Observation::LastDone(done) if done.by.as_deref() == Some("院長"));
    assert_eq!(facts.iter().filter(review).count(), 1);
}

#[test]
fn what_is_no_longer_needed_goes_also_inside_the_sandbox() {
    let record = Record::start();
    let partial = record.log().join("tile/entries/000.p");
    record.append(drift("first"));
    record.verify();
    assert!(partial.is_dir());
    for number in 0..260 {
        record.append(drift(&number.to_string()));
    }
    record.verify();
    assert!(!partial.exists(), "the partial bundle of a bundle that is full");
}

#[test]
fn damage_is_found_told_and_recorded() {
    let record = Record::start();
    for number in 0..300 {
        record.append(drift(&number.to_string()));
    }
    assert!(record.verify().faults.is_empty());
    let bundle = record.log().join("tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[40] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let verified = record.verify();
    assert!(
        verified.faults.iter().any(|fault| fault.contains("entries/000") || fault.contains("tile/0/000")),
        "{verified:?}"
    );
    assert_eq!(value(&record.measured(), Family::LogIntact), 0.0);
    let last = record.entries(None, 2);
    assert!(
        last.iter().any(|(_, text)| text.contains("\"log-verified\"") && text.contains("\"fault\":\"")),
        "{last:?}"
    );
}

#[test]
fn a_lost_key_stops_the_role_with_a_word_and_nothing_is_made_anew() {
    let mut record = Record::start();
    record.child.kill().unwrap();
    record.child.wait().unwrap();
    fs::remove_file(record.log().join("key")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sekishod"))
        .args(["record", "--state-dir"])
        .arg(record.log())
        .arg("--runtime-dir")
        .arg(record.directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("put the key back from a backup"), "{said}");
    assert!(!record.log().join("key").exists());
}

#[tokio::test]
async fn a_recorder_waits_for_a_role_that_is_not_there_yet_and_outlasts_its_kill() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(directory.path().join("record.sock"), Role::Core);
    assert!(
        recorder.record(drift("gate")).await.is_err(),
        "nobody is there: what it is to record must not happen"
    );
    recorder.note(drift("before it was there"));
    let mut record = Record { child: spawn(&directory), directory };
    record.wait();
    let has =
        |record: &Record, text: &str| record.entries(None, 100).iter().any(|(_, entry)| entry.contains(text));
    let start = Instant::now();
    while !has(&record, "before it was there") {
        assert!(start.elapsed() < PATIENCE, "what was noted did not arrive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let index = recorder.record(drift("durable")).await.unwrap().unwrap();
    record.restart();
    assert!(record.entries(None, 100).iter().any(|(at, entry)| *at == index && entry.contains("durable")));
    assert_eq!(recorder.lost(), 0);
}
