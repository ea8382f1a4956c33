//! The files of a backup, or of this box, understood.

use policy::compile::{Compiled, compile};
use policy::diagnostic::Language;
use policy::ledger::Ledger;
use policy::model::Policy;
use policy::raw::Sources;
use policy::resolve::load;
use record::Checkpoint;
use record::note::{NoteSigner, VerifierKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::files::{
    APPLIED, AUTHORITY, CHECKPOINT, DOOR, ENGINEERS, Files, GRANT_MARKS, KEY, Keeper, LEDGER_FLOOR, PERSONS,
    PUBLIC_KEY, Place, READERS, TIME, TIMELINE, TOKEN,
};
use crate::store::{Stored, TimeRecord};

/// The format of `applied` that the store reads.
const APPLIED_FORMAT: u32 = 1;

/// Why a file is not what it should be.
#[derive(Debug)]
pub(super) struct Unfit {
    pub(super) place: Place,
    pub(super) why: String,
}

/// What a whole backup holds.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) stored: Stored,
    pub(super) policy: Policy,
    pub(super) floor: u32,
    pub(super) time: Option<TimeRecord>,
    /// Of the log.
    pub(super) key: Option<VerifierKey>,
}

impl Contents {
    /// Understands every file; nothing when there is no policy.
    pub(super) fn read(files: &Files) -> Result<Option<Self>, Unfit> {
        let Some(stored) = applied(files)? else { return Ok(None) };
        let policy = resolve(&stored)?;
        let floor = floor(files)?.unwrap_or(0).max(stored.ledger.next());
        let key = log_key(files)?;
        if let (Some(note), Some(key)) = (files.get(&record(CHECKPOINT)), &key) {
            Checkpoint::open(note, key).map_err(|error| unfit(record(CHECKPOINT), error))?;
        }
        for name in [AUTHORITY, DOOR, READERS, TIMELINE, TOKEN] {
            let _: Option<serde_json::Value> = json(files, console(name))?;
        }
        for name in [PERSONS, AUTHORITY, ENGINEERS] {
            let _: Option<serde_json::Value> = json(files, core(name))?;
        }
        grant_marks(files)?;
        Ok(Some(Contents { stored, policy, floor, time: time(files)?, key }))
    }
}

/// The applied policy.
pub(super) fn applied(files: &Files) -> Result<Option<Stored>, Unfit> {
    /// What every version of the file has.
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let place = core(APPLIED);
    match json(files, place)? {
        Some(Versioned { format: APPLIED_FORMAT }) => json(files, place),
        Some(Versioned { format }) => {
            Err(unfit(place, format!("its format is {format}, this version reads {APPLIED_FORMAT}")))
        }
        None => Ok(None),
    }
}

/// The lowest mark that was never used.
pub(super) fn floor(files: &Files) -> Result<Option<u32>, Unfit> {
    json(files, core(LEDGER_FLOOR))
}

/// The first mark that no grant ever had.
pub(super) fn grant_marks(files: &Files) -> Result<Option<u32>, Unfit> {
    json(files, core(GRANT_MARKS))
}

/// Up to when the clock was good.
pub(super) fn time(files: &Files) -> Result<Option<TimeRecord>, Unfit> {
    json(files, core(TIME))
}

/// The key of the log, from its secret half; the public half beside it must be its own.
pub(super) fn log_key(files: &Files) -> Result<Option<VerifierKey>, Unfit> {
    let Some(bytes) = files.get(&record(KEY)) else { return Ok(None) };
    let key = NoteSigner::parse(&line(bytes)).map_err(|error| unfit(record(KEY), error))?.verifier();
    match files.get(&record(PUBLIC_KEY)) {
        Some(public) if line(public) != key.to_string() => {
            Err(unfit(record(PUBLIC_KEY), "it is not the public half of the key beside it"))
        }
        _ => Ok(Some(key)),
    }
}

/// Reads a stored policy as of the time it was applied, as core does.
pub(super) fn resolve(stored: &Stored) -> Result<Policy, Unfit> {
    let sources = Sources::from(stored.sources.clone());
    load(&sources, stored.applied_at).map(|resolved| resolved.policy).map_err(|report| {
        let first = report.diagnostics.first().map(|found| found.text(&sources.names(), Language::En));
        unfit(core(APPLIED), format!("this version refuses its policy: {}", first.unwrap_or_default()))
    })
}

/// Compiles a policy, with the marks of a ledger.
pub(super) fn compiled(policy: &Policy, ledger: &Ledger) -> Result<Compiled, Unfit> {
    compile(policy, ledger).map_err(|error| unfit(core(APPLIED), error))
}

fn json<T: DeserializeOwned>(files: &Files, place: Place) -> Result<Option<T>, Unfit> {
    let value = files.get(&place).map(|bytes| serde_json::from_slice(bytes));
    value.transpose().map_err(|error| unfit(place, error))
}

fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned()
}

fn unfit(place: Place, why: impl ToString) -> Unfit {
    Unfit { place, why: why.to_string() }
}

pub(super) const fn core(name: &'static str) -> Place {
    Place { keeper: Keeper::Core, name }
}

pub(super) const fn record(name: &'static str) -> Place {
    Place { keeper: Keeper::Record, name }
}

pub(super) const fn console(name: &'static str) -> Place {
    Place { keeper: Keeper::Console, name }
}
