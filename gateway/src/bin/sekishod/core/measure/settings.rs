//! What the looks found about the kernel's settings: what is wrong now, and what was put back.

use std::collections::BTreeSet;

use jiff::Timestamp;
use policy::guideline::observation::{KernelSettings, SettingsFact};

use super::super::sysctl::{self, Changed, SysctlError};

/// The settings, as last looked at.
#[derive(Debug, Default)]
pub(in super::super) struct SettingsLooked {
    at: Option<Timestamp>,
    /// Settings that are wrong and could not be put right.
    wrong: BTreeSet<String>,
    ledger: Repair,
    paths: Repair,
}

/// What was last put back.
#[derive(Clone, Debug, Default)]
struct Repair {
    at: Option<Timestamp>,
    names: Vec<String>,
}

impl SettingsLooked {
    /// Takes up what one look found; gives the names of those that are wrong and were not at the look before.
    pub(in super::super) fn take(
        &mut self,
        changed: &[Changed],
        failed: &[SysctlError],
        now: Timestamp,
    ) -> BTreeSet<String> {
        self.at = Some(now);
        for (repair, is_ledgers) in [(&mut self.ledger, true), (&mut self.paths, false)] {
            let own = changed.iter().filter(|changed| changed.is_ledgers() == is_ledgers);
            let names: Vec<String> = own.map(|changed| changed.name.clone()).collect();
            if !names.is_empty() {
                *repair = Repair { at: Some(now), names };
            }
        }
        let wrong: BTreeSet<String> = failed.iter().map(|error| error.name().to_owned()).collect();
        let news = wrong.difference(&self.wrong).cloned().collect();
        self.wrong = wrong;
        news
    }

    /// What the controls ask.
    pub(in super::super) fn observation(&self) -> Option<(Timestamp, KernelSettings)> {
        let fact = |repair: &Repair, is_ledgers: bool| SettingsFact {
            wrong: self.wrong.iter().filter(|name| sysctl::is_ledgers(name) == is_ledgers).collect(),
            repaired_at: repair.at,
            repaired: repair.names.iter().collect(),
        };
        let settings = KernelSettings { ledger: fact(&self.ledger, true), paths: fact(&self.paths, false) };
        self.at.map(|at| (at, settings))
    }
}
