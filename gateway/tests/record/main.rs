//! The record role as a process: what is answered is durable, kills lose nothing, proofs stand alone, damage is told.
//! Without privilege and accounts all roles are one user here; who may say what is tested in the role itself.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cli;
mod role;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use events::{Event, Family};
use gateway::client::{self, ClientError};
use gateway::wire::record::{RecordAnswer, RecordAsk, Verified};
use gateway::wire::{Answer, Ask, Measured};
use jiff::Timestamp;
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Record {
    pub(crate) child: Child,
    pub(crate) directory: TempDir,
}

impl Record {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = spawn(&directory);
        let record = Record { child, directory };
        record.wait();
        record
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("record.sock")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Kills it and starts another in its place.
    pub(crate) fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.directory);
        self.wait();
    }

    pub(crate) fn wait(&self) {
        let start = Instant::now();
        while self.try_ask(RecordAsk::Checkpoint {}).is_err() {
            assert!(start.elapsed() < PATIENCE, "the role does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn try_ask(&self, ask: RecordAsk) -> Result<Answer, ClientError> {
        client::ask(&self.socket(), Ask::Record(ask))
    }

    pub(crate) fn ask(&self, ask: RecordAsk) -> RecordAnswer {
        match self.try_ask(ask).unwrap() {
            Answer::Record(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn append(&self, event: Event) -> u64 {
        match self.ask(RecordAsk::Append { at: Timestamp::now(), event, again: false }) {
            RecordAnswer::Appended { index } => index,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn entries(&self, before: Option<u64>, limit: u32) -> Vec<(u64, String)> {
        match self.ask(RecordAsk::Entries { before, limit }) {
            RecordAnswer::Entries(page) => page.rows.into_iter().map(|row| (row.index, row.text)).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn verify(&self) -> Verified {
        match self.ask(RecordAsk::Verify {}) {
            RecordAnswer::Verified(verified) => verified,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn measured(&self) -> Measured {
        match client::ask(&self.socket(), Ask::Measure {}).unwrap() {
            Answer::Measured(measured) => *measured,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn spawn(directory: &TempDir) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sekishod"))
        .arg("record")
        .arg("--state-dir")
        .arg(directory.path().join("log"))
        .arg("--runtime-dir")
        .arg(directory.path())
        .arg("--services")
        .arg(directory.path().join("services"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn drift(first: &str) -> Event {
    Event::Drift { differences: 1, first: first.to_owned() }
}

pub(crate) fn value(measured: &Measured, family: Family) -> f64 {
    measured.samples.iter().find(|sample| sample.family == family).unwrap().value
}
