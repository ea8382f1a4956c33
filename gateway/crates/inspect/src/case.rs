//! One inspection under way: what was found so far, and what may still be spent.

use std::collections::BTreeSet;

use crate::{FileType, Finding, FindingId, Kind, Limits, Report, Verdict};

/// Longest place or detail that is kept, in characters.
const TEXT_CHARS: usize = 200;

/// A limit is reached: whoever gets this stops, the finding says why.
#[derive(Debug)]
pub(crate) struct Halt;

/// What was found, and what is left to spend.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    pub(crate) limits: &'a Limits,
    inflated_bytes: u64,
    entries: u32,
    steps: u64,
    findings: Vec<Finding>,
    kinds: BTreeSet<Kind>,
    verdict: Verdict,
    unaccepted: bool,
}

impl<'a> Case<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            inflated_bytes: 0,
            entries: 0,
            steps: 0,
            findings: Vec::new(),
            kinds: BTreeSet::new(),
            verdict: Verdict::Allow,
            unaccepted: false,
        }
    }

    /// Notes a finding; the same at the same place is noted once.
    pub(crate) fn find(&mut self, id: FindingId, at: &str, detail: impl AsRef<str>) {
        self.verdict = self.verdict.max(id.verdict());
        let (at, detail) = (shown(at), shown(detail.as_ref()));
        let known = self.findings.iter().any(|known| known.id == id && known.at == at);
        if !known && self.findings.len() < self.limits.findings {
            self.findings.push(Finding { id, at, detail });
        }
    }

    /// Notes which kind of file a policy must accept for this part to pass.
    pub(crate) fn is_a(&mut self, file_type: FileType, name: Option<&str>) {
        let is_log = || name.is_some_and(|name| name.to_ascii_lowercase().ends_with(".log"));
        match file_type.kind() {
            Some(_) if file_type == FileType::Text && is_log() => {
                self.kinds.insert(Kind::LogText);
            }
            Some(kind) => {
                self.kinds.insert(kind);
            }
            None => self.unaccepted |= !file_type.is_container(),
        }
    }

    /// Notes that a container could not be read to its end.
    pub(crate) fn malformed(&mut self, at: &str, detail: impl AsRef<str>) {
        self.find(FindingId::Malformed, at, detail);
    }

    /// Takes one entry of a container.
    pub(crate) fn entry(&mut self, at: &str) -> Result<(), Halt> {
        self.entries = self.entries.saturating_add(1);
        if self.entries <= self.limits.entries {
            return Ok(());
        }
        self.find(FindingId::Bomb, at, format!("more than {} entries", self.limits.entries));
        Err(Halt)
    }

    /// Takes `count` steps of work.
    pub(crate) fn step(&mut self, count: u64, at: &str) -> Result<(), Halt> {
        self.steps = self.steps.saturating_add(count);
        if self.steps <= self.limits.steps {
            return Ok(());
        }
        self.find(FindingId::Bomb, at, format!("more than {} parts", self.limits.steps));
        Err(Halt)
    }

    /// How many bytes may still be inflated.
    pub(crate) fn inflatable_bytes(&self) -> u64 {
        self.limits.inflated_bytes.saturating_sub(self.inflated_bytes)
    }

    /// Takes bytes that were inflated from `packed` bytes.
    pub(crate) fn inflated(&mut self, bytes: u64, packed: u64, at: &str) -> Result<(), Halt> {
        self.inflated_bytes = self.inflated_bytes.saturating_add(bytes);
        if self.inflated_bytes > self.limits.inflated_bytes {
            let most = self.limits.inflated_bytes;
            self.find(FindingId::Bomb, at, format!("inflates to more than {most} bytes"));
            return Err(Halt);
        }
        if bytes > 1 << 20 && bytes / packed.max(1) > self.limits.ratio {
            self.find(FindingId::Bomb, at, format!("{packed} bytes inflate to {bytes}"));
            return Err(Halt);
        }
        Ok(())
    }

    /// True once something was found for which the file is refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.verdict == Verdict::Refuse
    }

    pub(crate) fn into_report(self, types: BTreeSet<FileType>) -> Report {
        let Self { findings, kinds, verdict, unaccepted, .. } = self;
        let kinds = if unaccepted { BTreeSet::new() } else { kinds };
        Report { types: types.into_iter().collect(), kinds, verdict, findings }
    }
}

/// Text of a stranger, short and without anything that a terminal or a page would act on.
fn shown(text: &str) -> String {
    let safe = |letter: char| if crate::names::is_unsafe_letter(letter) { '\u{fffd}' } else { letter };
    text.chars().take(TEXT_CHARS).map(safe).collect()
}
