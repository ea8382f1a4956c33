//! What a backup means on this box. Pure: files in, files out.
//!
//! - A mark is never given twice: on a box that has marks of its own, the backup's policy is compiled with the box's
//!   ledger, as an apply would do it. A running connection then ends exactly if the policy does not allow it.
//! - History is never rolled back: the log and the timeline of the controls stay as they are on the box.
//! - People come from the backup: their second factors, the engineers and the authority that certified them. Whoever was
//!   taken out since the backup is back, and has to be taken out again. A mark of a grant is never given twice either.
//! - One key never signs two logs: the log's key is put back to a log that lacks it. A box without a log begins one under
//!   a key of its own; the former log's public key and last checkpoint are put beside it, to check its exports by.

use policy::ledger::Ledger;
use record::Checkpoint;
use record::note::VerifierKey;
use serde::Serialize;

use super::contents::{self, Contents, Unfit, console, core, record};
use super::files::{
    APPLIED, AUTHORITY, CANDIDATE, CHECKPOINT, DOOR, ENGINEERS, Files, GRANT_MARKS, KEY, Keeper,
    LEDGER_FLOOR, PERSONS, PUBLIC_KEY, Place, READERS, TIME, TIMELINE, TOKEN,
};
use super::{BackupError, archive::Manifest};
use crate::store::{Stored, TimeRecord};

/// Public key of the log before this one.
pub(super) const FORMER_KEY: &str = "former-key.pub";
/// Last known checkpoint of the log before this one.
pub(super) const FORMER_CHECKPOINT: &str = "former-checkpoint";

/// What becomes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogOutcome {
    /// The box has the backup's log, and keeps it.
    Same,
    /// The box has another log, and keeps it.
    Other,
    /// The box's log had lost its key and gets it back.
    KeyPutBack,
    /// The box has no log: it will begin one, and the former one's public key and checkpoint are put beside it.
    New,
    /// The backup holds no key of a log.
    Absent,
}

/// What a restore does, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Identity of the policy that core will find.
    pub policy: String,
    /// Whether its flows have the marks of the backup; not so on a box with marks of its own.
    pub marks_kept: bool,
    /// Marks below this one are used up.
    pub floor: u32,
    /// What becomes of the log.
    pub log: LogOutcome,
    /// Files put in place.
    pub put: Vec<String>,
    /// Files removed.
    pub removed: Vec<String>,
}

/// Changes to the box.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) puts: Files,
    pub(super) removes: Vec<Place>,
    pub(super) outcome: Outcome,
}

impl Plan {
    /// Whether it changes anything of a role.
    pub(super) fn touches(&self, keeper: Keeper) -> bool {
        self.puts.keys().chain(&self.removes).any(|place| place.keeper == keeper)
    }
}

/// What is on this box, as far as it can be understood.
#[derive(Debug)]
struct OnBox {
    stored: Option<Stored>,
    /// Absent when nothing says that a mark was ever given.
    floor: Option<u32>,
    time: Option<TimeRecord>,
}

/// Decides.
pub(super) fn plan(
    manifest: &Manifest,
    files: &Files,
    on_box: &Files,
    adopt_site: bool,
) -> Result<Plan, BackupError> {
    let contents = Contents::read(files).map_err(unfit)?;
    let contents = contents.ok_or_else(|| BackupError::Damaged("it holds no policy".to_owned()))?;
    let there = &contents.policy.clinic.site;
    if *there != manifest.site || contents.stored.ruleset.to_string() != manifest.policy {
        return Err(BackupError::Damaged("its policy is not the one that its manifest names".to_owned()));
    }
    let here = OnBox::read(on_box)?;
    if let Some(site) = here.site().filter(|site| site != there && !adopt_site) {
        return Err(BackupError::Foreign { here: site, there: there.clone() });
    }
    let mut puts = Files::new();
    let (stored, floor) = policy(&contents, &here)?;
    put_json(&mut puts, core(APPLIED), &stored)?;
    put_json(&mut puts, core(LEDGER_FLOOR), &floor)?;
    if let Some(time) =
        contents.time.filter(|time| here.time.as_ref().is_none_or(|own| own.floor < time.floor))
    {
        put_json(&mut puts, core(TIME), &time)?;
    }
    doors(files, on_box, &mut puts)?;
    let log = log(files, contents.key.as_ref(), on_box, &mut puts);
    let mut removes = keys_of_console(files, &mut puts);
    if matches!(log, LogOutcome::Same | LogOutcome::KeyPutBack) && !on_box.contains_key(&console(TIMELINE)) {
        copy(files, console(TIMELINE), console(TIMELINE), &mut puts);
    }
    removes.retain(|place| on_box.contains_key(place));
    // A policy on its way that never arrived.
    removes.push(core(CANDIDATE));
    let outcome = Outcome {
        policy: stored.ruleset.to_string(),
        marks_kept: stored.ledger == contents.stored.ledger,
        floor,
        log,
        put: puts.keys().map(|place| place.path()).collect(),
        removed: removes.iter().map(|place| place.path()).collect(),
    };
    Ok(Plan { puts, removes, outcome })
}

impl OnBox {
    /// A box may be damaged: that is what backups are for. Only the marks must be known.
    fn read(files: &Files) -> Result<Self, BackupError> {
        let unknown = |found: Unfit| BackupError::FloorUnknown(found.why);
        let floor = contents::floor(files).map_err(unknown)?;
        let stored = match contents::applied(files) {
            Ok(stored) => stored,
            Err(found) if floor.is_none() => return Err(unknown(found)),
            Err(_) => None,
        };
        let floor = floor.max(stored.as_ref().map(|stored| stored.ledger.next()));
        Ok(OnBox { stored, floor, time: contents::time(files).ok().flatten() })
    }

    /// The clinic that this box belongs to; a policy that cannot be read protects nobody.
    fn site(&self) -> Option<String> {
        Some(contents::resolve(self.stored.as_ref()?).ok()?.clinic.site)
    }

    /// The ledger that the backup's policy must be compiled with; nothing when its own will do.
    fn ledger(&self, of_backup: &Ledger) -> Option<Ledger> {
        match (&self.stored, self.floor) {
            (Some(stored), _) if stored.ledger == *of_backup => None,
            (Some(stored), _) => Some(stored.ledger.clone()),
            (None, Some(_)) => Some(Ledger::default()),
            (None, None) => None,
        }
    }
}

/// The policy with its marks, and the floor above them.
fn policy(contents: &Contents, here: &OnBox) -> Result<(Stored, u32), BackupError> {
    let stored = &contents.stored;
    let floor = contents.floor.max(here.floor.unwrap_or(0));
    let Some(mut ledger) = here.ledger(&stored.ledger) else {
        // That it compiles is part of its being whole.
        contents::compiled(&contents.policy, &stored.ledger).map_err(unfit)?;
        return Ok((stored.clone(), floor));
    };
    ledger.raise_floor(floor);
    let compiled = contents::compiled(&contents.policy, &ledger).map_err(unfit)?;
    let floor = floor.max(compiled.ledger.next());
    let (id, sources) = (compiled.ruleset.id(), stored.sources.clone());
    Ok((Stored::new(sources, compiled.ledger, id, stored.applied_at, stored.applied_by), floor))
}

/// What core keeps for the doors. The authority and whom it certified belong together.
fn doors(files: &Files, on_box: &Files, puts: &mut Files) -> Result<(), BackupError> {
    for name in [PERSONS, AUTHORITY, ENGINEERS] {
        copy(files, core(name), core(name), puts);
    }
    // A number that cannot be read is a box whose marks nobody knows.
    let here = contents::grant_marks(on_box).map_err(|found| BackupError::FloorUnknown(found.why))?;
    match contents::grant_marks(files).map_err(unfit)?.max(here) {
        Some(next) => put_json(puts, core(GRANT_MARKS), &next),
        None => Ok(()),
    }
}

fn log(files: &Files, key: Option<&VerifierKey>, on_box: &Files, puts: &mut Files) -> LogOutcome {
    let Some(key) = key else { return LogOutcome::Absent };
    let has = |name| on_box.contains_key(&record(name));
    if has(KEY) {
        let same = contents::log_key(on_box).ok().flatten().is_some_and(|own| own == *key);
        return if same { LogOutcome::Same } else { LogOutcome::Other };
    }
    match on_box.get(&record(CHECKPOINT)) {
        Some(note) if Checkpoint::open(note, key).is_ok() => {
            copy(files, record(KEY), record(KEY), puts);
            puts.insert(record(PUBLIC_KEY), format!("{key}\n").into_bytes());
            LogOutcome::KeyPutBack
        }
        Some(_) => LogOutcome::Other,
        None => {
            puts.insert(record(FORMER_KEY), format!("{key}\n").into_bytes());
            copy(files, record(CHECKPOINT), record(FORMER_CHECKPOINT), puts);
            LogOutcome::New
        }
    }
}

/// The console's keys belong together: all come from the backup, or all stay. Gives what the backup does not have.
fn keys_of_console(files: &Files, puts: &mut Files) -> Vec<Place> {
    if !files.contains_key(&console(AUTHORITY)) {
        return Vec::new();
    }
    let places = [AUTHORITY, DOOR, READERS, TOKEN].map(console);
    places.into_iter().filter(|place| !copy(files, *place, *place, puts)).collect()
}

fn copy(files: &Files, from: Place, to: Place, puts: &mut Files) -> bool {
    let found = files.get(&from).cloned();
    found.is_some_and(|bytes| puts.insert(to, bytes).is_none())
}

fn put_json(puts: &mut Files, place: Place, value: &impl Serialize) -> Result<(), BackupError> {
    let bytes = serde_json::to_vec(value).map_err(|error| BackupError::Damaged(error.to_string()))?;
    puts.insert(place, bytes);
    Ok(())
}

fn unfit(found: Unfit) -> BackupError {
    BackupError::Damaged(format!("`{}`: {}", found.place.path(), found.why))
}
