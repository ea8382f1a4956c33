//! The catalogue of controls as data: what the guideline asks, in which clause of which edition, and how far this
//! gateway measures it. `controls.toml` holds what the documents say, `measures.toml` what this version does about it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::state::{ControlId, Words};
use crate::diagnostic::Language;

/// What the documents say; its notes explain `stage` and `verified`.
const CONTROLS: &str = include_str!("controls.toml");
/// What this version measures, and what to do when a control is not ok.
const MEASURES: &str = include_str!("measures.toml");

/// The version of the catalogue's own layout that is read.
const SCHEMA: u32 = 1;
/// The languages that the catalogue must have.
const LANGUAGES: [&str; 2] = ["ja", "en"];

/// Every control, in the catalogue's order.
#[derive(Clone, Debug)]
pub struct Catalogue {
    controls: Vec<Control>,
    by_id: BTreeMap<ControlId, usize>,
    compiled: String,
    editions: BTreeMap<Edition, String>,
}

/// Why the catalogue cannot be used. The one that is shipped is tested: this is for another one.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// Not TOML of the catalogue's layout.
    #[error("cannot read the catalogue: {0}; correct the file at the place named")]
    Layout(#[from] toml::de::Error),
    /// Another layout.
    #[error("the catalogue has layout {0}, and layout {SCHEMA} is read; use a file of this version")]
    Schema(u32),
    /// Not in both languages.
    #[error("the catalogue must be in `ja` and `en`; use a file of this version")]
    Languages,
    /// The number of controls is not the one that the file states.
    #[error("the catalogue states {stated} controls and holds {held}; restore the missing ones")]
    Count {
        /// As stated.
        stated: usize,
        /// As held.
        held: usize,
    },
    /// An id is there twice.
    #[error("the control `{0}` is there twice; keep one")]
    Twice(ControlId),
    /// A control without a measure, or a measure without a control.
    #[error("the control `{0}` is in only one of the two files; write it in both")]
    Half(ControlId),
    /// A control that names no clause.
    #[error("the control `{0}` names no clause; write at least one")]
    NoClause(ControlId),
}

/// One control (管理策): what the guideline asks and how far it is measured.
#[derive(Clone, Debug)]
pub struct Control {
    /// Its id.
    pub id: ControlId,
    /// Its title.
    pub title: Words,
    /// What is asked, paraphrased.
    pub requirement: Words,
    /// What a gateway can do about it at all.
    pub kind: Kind,
    /// What this version does about it.
    pub coverage: Coverage,
    /// How the catalogue says it should be judged, in English.
    pub how: String,
    /// What is measured, and what is not.
    pub measured_by: Words,
    /// What the clinic does when it is not ok, and whom it calls.
    pub next_step: Words,
    /// The clauses, in the catalogue's order.
    pub clauses: Vec<Clause>,
}

/// What a gateway can do about a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Enforce it.
    Enforced,
    /// Measure it.
    Verified,
    /// Give evidence for it.
    Evidence,
    /// Nothing: it is up to the clinic.
    Organizational,
}

impl Kind {
    /// The word for people.
    #[must_use]
    pub fn word(self, language: Language) -> &'static str {
        match (self, language) {
            (Kind::Enforced, Language::Ja) => "技術的に強制",
            (Kind::Enforced, Language::En) => "enforced",
            (Kind::Verified, Language::Ja) => "測定",
            (Kind::Verified, Language::En) => "verified",
            (Kind::Evidence, Language::Ja) => "証跡",
            (Kind::Evidence, Language::En) => "evidence",
            (Kind::Organizational, Language::Ja) => "組織で対応",
            (Kind::Organizational, Language::En) => "organizational",
        }
    }
}

/// What this version does about a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coverage {
    /// It is judged from measurements.
    Live,
    /// It is not measured yet.
    NotMeasured,
    /// It is up to the clinic.
    Organizational,
}

/// A place in a document that asks for a control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// The document and its version.
    #[serde(rename = "version")]
    pub edition: Edition,
    /// Part of the document.
    pub part: String,
    /// Section; `-` where there is none.
    pub section: String,
    /// Item.
    pub item: String,
    /// Whether the wording (or, at stage `mapping`, the mapping) was read at the source.
    pub verified: bool,
    /// How firm the text is.
    pub stage: Stage,
    /// Where it was read.
    pub source: String,
    /// What to know about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Documents that ask for controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Edition {
    /// The guideline, 5.2, March 2022.
    #[serde(rename = "5.2")]
    V5_2,
    /// The guideline, 6.0, May 2023.
    #[serde(rename = "6.0")]
    V6_0,
    /// The guideline, draft of 7.0.
    #[serde(rename = "7.0-draft")]
    V7_0Draft,
    /// The guideline, 7.0 as told by others: the official text was not read.
    #[serde(rename = "7.0")]
    V7_0,
    /// The checklist of fiscal 2023.
    #[serde(rename = "checklist-R5")]
    ChecklistR5,
    /// The checklist of fiscal 2025.
    #[serde(rename = "checklist-R7")]
    ChecklistR7,
    /// The ministry's alert of 10 November 2022.
    #[serde(rename = "notice-2022-11-10")]
    Notice20221110,
    /// The ministry's notice of 10 October 2023.
    #[serde(rename = "notice-2023-10-10")]
    Notice20231010,
    /// The ministry's notice of 1 August 2024.
    #[serde(rename = "notice-2024-08-01")]
    Notice20240801,
}

impl Edition {
    /// The document's short name in both languages.
    #[must_use]
    pub fn name(self, language: Language) -> &'static str {
        match (self, language) {
            (Edition::V5_2, Language::Ja) => "第5.2版",
            (Edition::V5_2, Language::En) => "5.2",
            (Edition::V6_0, Language::Ja) => "第6.0版",
            (Edition::V6_0, Language::En) => "6.0",
            (Edition::V7_0Draft, Language::Ja) => "第7.0版(案)",
            (Edition::V7_0Draft, Language::En) => "7.0 (draft)",
            (Edition::V7_0, Language::Ja) => "第7.0版(二次資料)",
            (Edition::V7_0, Language::En) => "7.0 (told by others)",
            (Edition::ChecklistR5, Language::Ja) => "チェックリスト令和5年度",
            (Edition::ChecklistR5, Language::En) => "checklist 2023",
            (Edition::ChecklistR7, Language::Ja) => "チェックリスト令和7年度(案)",
            (Edition::ChecklistR7, Language::En) => "checklist 2025 (draft)",
            (Edition::Notice20221110, Language::Ja) => "注意喚起 令和4年11月10日",
            (Edition::Notice20221110, Language::En) => "alert of 10 Nov 2022",
            (Edition::Notice20231010, Language::Ja) => "周知依頼 令和5年10月10日",
            (Edition::Notice20231010, Language::En) => "notice of 10 Oct 2023",
            (Edition::Notice20240801, Language::Ja) => "周知依頼 令和6年8月1日",
            (Edition::Notice20240801, Language::En) => "notice of 1 Aug 2024",
        }
    }
}

/// How firm the text of a clause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Read in the official final document.
    Final,
    /// Read in an official draft.
    Draft,
    /// Read in an official text or notice handed to the project.
    Seed,
    /// Read in the official table of items.
    Mapping,
    /// Told by others.
    Secondary,
    /// From memory.
    Memory,
}

impl Stage {
    /// The word for people: a reader must see what is firm and what is not.
    #[must_use]
    pub fn word(self, language: Language) -> &'static str {
        match (self, language) {
            (Stage::Final, Language::Ja) => "確定版",
            (Stage::Final, Language::En) => "final",
            (Stage::Draft, Language::Ja) => "案の段階",
            (Stage::Draft, Language::En) => "draft",
            (Stage::Seed, Language::Ja) => "配布資料",
            (Stage::Seed, Language::En) => "official hand-out",
            (Stage::Mapping, Language::Ja) => "対応表のみ",
            (Stage::Mapping, Language::En) => "item table only",
            (Stage::Secondary, Language::Ja) => "二次資料・未確認",
            (Stage::Secondary, Language::En) => "told by others, unverified",
            (Stage::Memory, Language::Ja) => "記憶・未確認",
            (Stage::Memory, Language::En) => "from memory, unverified",
        }
    }
}

/// Versions of the guideline that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    /// 5.2.
    #[serde(rename = "5.2")]
    V5_2,
    /// 6.0.
    #[serde(rename = "6.0")]
    V6_0,
    /// The draft of 7.0, and what others tell of 7.0.
    #[serde(rename = "7.0-draft")]
    V7_0Draft,
}

/// A text that names no version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a version of the guideline; write `5.2`, `6.0` or `7.0-draft`")]
pub struct VersionError(String);

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 3] = [Version::V5_2, Version::V6_0, Version::V7_0Draft];

    /// Whether clauses of an edition are this version's.
    #[must_use]
    pub fn covers(self, edition: Edition) -> bool {
        match self {
            Version::V5_2 => edition == Edition::V5_2,
            Version::V6_0 => edition == Edition::V6_0,
            Version::V7_0Draft => matches!(edition, Edition::V7_0Draft | Edition::V7_0),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Version::V5_2 => "5.2",
            Version::V6_0 => "6.0",
            Version::V7_0Draft => "7.0-draft",
        })
    }
}

impl std::str::FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |version: &Version| version.to_string() == text;
        Version::ALL.into_iter().find(named).ok_or_else(|| VersionError(text.chars().take(32).collect()))
    }
}

/// One control in all versions.
#[derive(Clone, Debug)]
pub struct Crossing<'a> {
    /// The control.
    pub control: &'a Control,
    /// Its clauses in each version of [`Version::ALL`]; empty where the version does not ask for it.
    pub clauses: BTreeMap<Version, Vec<&'a Clause>>,
    /// Its clauses in checklists and notices.
    pub beside: Vec<&'a Clause>,
}

impl Control {
    /// The clauses of one version of the guideline.
    pub fn clauses_of(&self, version: Version) -> impl Iterator<Item = &Clause> {
        self.clauses.iter().filter(move |clause| version.covers(clause.edition))
    }
}

impl Catalogue {
    /// The catalogue of this version.
    ///
    /// # Errors
    /// None, as the tests show; the signature is that of any catalogue.
    pub fn shipped() -> Result<Self, CatalogueError> {
        Self::parse(CONTROLS, MEASURES)
    }

    /// Reads the two files.
    ///
    /// # Errors
    /// Names what is wrong and where.
    pub fn parse(controls: &str, measures: &str) -> Result<Self, CatalogueError> {
        let raw: RawCatalogue = toml::from_str(controls)?;
        let RawMeasures { measure } = toml::from_str(measures)?;
        let RawMeta { schema, compiled, language, controls: stated, versions } = raw.meta;
        if schema != SCHEMA {
            return Err(CatalogueError::Schema(schema));
        }
        if language != LANGUAGES {
            return Err(CatalogueError::Languages);
        }
        if stated != raw.control.len() {
            return Err(CatalogueError::Count { stated, held: raw.control.len() });
        }
        let mut by_measure = BTreeMap::new();
        for one in measure {
            if let Some(twice) = by_measure.insert(one.control.clone(), one) {
                return Err(CatalogueError::Twice(twice.control));
            }
        }
        let mut controls = Vec::with_capacity(raw.control.len());
        let mut by_id = BTreeMap::new();
        for control in raw.control {
            let measure =
                by_measure.remove(&control.id).ok_or_else(|| CatalogueError::Half(control.id.clone()))?;
            if by_id.insert(control.id.clone(), controls.len()).is_some() {
                return Err(CatalogueError::Twice(control.id));
            }
            controls.push(joined(control, measure)?);
        }
        match by_measure.into_keys().next() {
            Some(alone) => Err(CatalogueError::Half(alone)),
            None => Ok(Catalogue { controls, by_id, compiled, editions: versions }),
        }
    }

    /// Every control, in the catalogue's order.
    #[must_use]
    pub fn controls(&self) -> &[Control] {
        &self.controls
    }

    /// The control with this id.
    #[must_use]
    pub fn control(&self, id: &ControlId) -> Option<&Control> {
        self.controls.get(*self.by_id.get(id)?)
    }

    /// The day on which the documents were read, `YYYY-MM-DD`.
    #[must_use]
    pub fn compiled(&self) -> &str {
        &self.compiled
    }

    /// What is known of an edition: its date, and how firm its text is.
    #[must_use]
    pub fn edition(&self, edition: Edition) -> Option<&str> {
        self.editions.get(&edition).map(String::as_str)
    }

    /// Controls that a version asks for, with the clauses that do, in the catalogue's order.
    #[must_use]
    pub fn clauses(&self, version: Version) -> Vec<(&Control, Vec<&Clause>)> {
        let asked = |control| (control, Control::clauses_of(control, version).collect::<Vec<_>>());
        self.controls.iter().map(asked).filter(|(_, clauses)| !clauses.is_empty()).collect()
    }

    /// Every control with its clauses side by side.
    #[must_use]
    pub fn crosswalk(&self) -> Vec<Crossing<'_>> {
        self.controls.iter().map(crossed).collect()
    }
}

fn crossed(control: &Control) -> Crossing<'_> {
    let of = |version: Version| (version, control.clauses_of(version).collect());
    let in_none = |clause: &&Clause| !Version::ALL.iter().any(|version| version.covers(clause.edition));
    Crossing {
        control,
        clauses: Version::ALL.into_iter().map(of).collect(),
        beside: control.clauses.iter().filter(in_none).collect(),
    }
}

fn joined(control: RawControl, measure: RawMeasure) -> Result<Control, CatalogueError> {
    let RawControl { id, title_ja, title_en, requirement_ja, requirement_en, kind, how, refs } = control;
    let RawMeasure { control: _, coverage, measured_by_ja, measured_by_en, next_step_ja, next_step_en } =
        measure;
    if refs.is_empty() {
        return Err(CatalogueError::NoClause(id));
    }
    Ok(Control {
        id,
        title: Words::new(title_ja, title_en),
        requirement: Words::new(requirement_ja, requirement_en),
        kind,
        coverage,
        how,
        measured_by: Words::new(measured_by_ja, measured_by_en),
        next_step: Words::new(next_step_ja, next_step_en),
        clauses: refs,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCatalogue {
    meta: RawMeta,
    control: Vec<RawControl>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMeta {
    schema: u32,
    compiled: String,
    language: Vec<String>,
    controls: usize,
    versions: BTreeMap<Edition, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawControl {
    id: ControlId,
    title_ja: String,
    title_en: String,
    requirement_ja: String,
    requirement_en: String,
    kind: Kind,
    how: String,
    refs: Vec<Clause>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMeasures {
    measure: Vec<RawMeasure>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMeasure {
    control: ControlId,
    coverage: Coverage,
    measured_by_ja: String,
    measured_by_en: String,
    next_step_ja: String,
    next_step_en: String,
}
