//! `sekisho audit` against a running role, and without one.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use events::{Deed, Event};
use serde_json::Value;

use crate::{Record, drift};

const GOOD: i32 = 0;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 4;
const DIFFERS: i32 = 6;

fn run(record: &Record, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sekisho"))
        .args(["--lang", "en", "--record-socket"])
        .arg(record.socket())
        .arg("audit")
        .args(arguments)
        .current_dir(record.directory.path())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn ok(record: &Record, arguments: &[&str]) -> String {
    let output = run(record, arguments);
    assert_eq!(output.status.code(), Some(GOOD), "{arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn code(record: &Record, arguments: &[&str]) -> Option<i32> {
    run(record, arguments).status.code()
}

fn json(record: &Record, arguments: &[&str]) -> Value {
    serde_json::from_str(&ok(record, &[&["--json"], arguments].concat())).unwrap()
}

fn filled() -> Record {
    let record = Record::start();
    for number in 0..300 {
        record.append(drift(&format!("rule {number}")));
    }
    record
}

#[test]
fn entries_are_listed_filtered_and_shown() {
    let record = Record::start();
    let index = record.append(drift("the rule"));
    let deed = Deed::LogExport { entries: 7 };
    record.append(Event::Done { by: rustix::process::geteuid().as_raw(), deed });
    let listed = ok(&record, &["list"]);
    for word in ["log-opened", "role-started", "drift", "first=the rule", "core", "log-export"] {
        assert!(listed.contains(word), "{word} in {listed}");
    }
    let drifts = json(&record, &["list", "--kind", "drift"]);
    assert_eq!(drifts["entries"].as_array().unwrap().len(), 1);
    assert_eq!(drifts["entries"][0]["entry"]["event"]["first"], "the rule");
    assert_eq!(json(&record, &["list", "--limit", "1", "--before", "1"])["entries"][0]["index"], 0);
    assert!(
        json(&record, &["list", "--since", "2100-01-01T00:00:00Z"])["entries"].as_array().unwrap().is_empty()
    );
    assert!(ok(&record, &["show", &index.to_string()]).contains("\"the rule\""));
    assert_eq!(code(&record, &["show", "100000"]), Some(USAGE));
}

#[test]
fn a_proof_is_checked_without_the_log() {
    let record = Record::start();
    let index = record.append(drift("the rule")).to_string();
    assert!(ok(&record, &["prove", &index]).starts_with("c2sp.org/tlog-proof@v1\n"));
    ok(&record, &["prove", &index, "-o", "proof"]);
    let name = |ending: &str| format!("proof/entry-{index}.{ending}");
    let (proof, entry) = (name("tlog-proof"), name("json"));
    let check = ["verify", "--proof", &proof, "--entry", &entry, "--key", "proof/key.pub"];
    assert!(ok(&record, &check).contains(&format!("entry {index}")));
    let path = record.directory.path().join(&entry);
    let changed = fs::read_to_string(&path).unwrap().replace("the rule", "a rule");
    fs::write(&path, changed).unwrap();
    assert_eq!(code(&record, &check), Some(DIFFERS));
    assert_eq!(code(&record, &["verify", "--proof", &proof]), Some(USAGE), "what does it prove?");
}

#[test]
fn an_export_verifies_by_itself_in_two_languages_and_an_edited_one_does_not() {
    let mut record = filled();
    let key = ok(&record, &["key"]);
    let kept = ok(&record, &["checkpoint"]);
    fs::write(record.directory.path().join("kept"), kept).unwrap();
    record.append(drift("later"));
    ok(&record, &["export", "copy"]);
    ok(&record, &["export", "copy.tar"]);
    assert!(ok(&record, &["list", "--kind", "done"]).contains("log-export"));
    assert_ne!(code(&record, &["export", "copy"]), Some(GOOD), "nothing is overwritten");
    // Nobody is needed any more.
    record.child.kill().unwrap();
    record.child.wait().unwrap();
    let offline = |directory: &str| {
        let arguments = ["verify", "--dir", directory, "--key", key.trim(), "--checkpoint", "kept"];
        (code(&record, &arguments), python(record.directory.path(), directory, key.trim()))
    };
    assert_eq!(offline("copy"), (Some(GOOD), Some(0)));
    let mut tar = Command::new("tar");
    tar.args(["xf", "copy.tar", "--transform", "s/^copy/unpacked/"]).current_dir(record.directory.path());
    assert!(tar.status().unwrap().success());
    assert_eq!(offline("unpacked"), (Some(GOOD), Some(0)));
    let bundle = record.directory.path().join("copy/tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[99] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    assert_eq!(offline("copy"), (Some(DIFFERS), Some(1)));
    assert_eq!(code(&record, &["list"]), Some(UNREACHABLE));
}

/// The verifier that goes with the export, on the export, in a Python of its own.
fn python(directory: &Path, export: &str, key: &str) -> Option<i32> {
    Command::new("/usr/bin/python3")
        .args([&format!("{export}/verify_tlog.py"), export, key, "--checkpoint", "kept"])
        .current_dir(directory)
        .output()
        .unwrap()
        .status
        .code()
}

#[test]
fn the_running_log_is_verified_and_a_review_is_recorded() {
    let record = filled();
    let verified = json(&record, &["verify"]);
    assert!(verified["good"] == true && verified["entries"].as_u64().unwrap() > 300, "{verified}");
    ok(&record, &["review", "--person", "院長 田中", "--note", "特になし"]);
    let review = json(&record, &["list", "--kind", "done"]);
    assert_eq!(review["entries"][0]["entry"]["event"]["deed"]["person"], "院長 田中");
    let bundle = record.log().join("tile/0/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[7] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let output = run(&record, &["verify"]);
    assert_eq!(output.status.code(), Some(DIFFERS));
    assert!(text(&output).contains("tile/0/000"), "{}", text(&output));
}
