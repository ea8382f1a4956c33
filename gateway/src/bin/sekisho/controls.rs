//! How the controls of the guideline stand, as the console judged them last.

use std::path::Path;

use clap::Args;
use gateway::client;
use gateway::wire::console::{ConsoleAnswer, ConsoleAsk, Controls};
use gateway::wire::{Answer, Ask};
use policy::diagnostic::Language;
use policy::guideline::catalogue::{Clause, Control, Edition, Stage};
use policy::guideline::{Assessment, Catalogue, State, Version};
use serde_json::{Value, json};

use crate::daemon::Sockets;
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::table;

pub(crate) const HELP: &str = "\
What is measured is judged every five seconds; a measurement that is old or missing makes a control unknown, never ok.
Controls that only people can see to, and those that this version does not measure, are listed as such.

Examples:
  sekisho controls
  sekisho controls --guideline 6.0
  sekisho controls --crosswalk
  sekisho --json controls | jq '.controls[] | select(.state == \"failed\")'

Exit status 0 when no control failed or is unknown, 9 when one is.";

/// What is asked about controls.
#[derive(Debug, Args)]
pub(crate) struct ControlsArgs {
    /// Only the controls that this version of the guideline asks for, with its clauses: 5.2, 6.0 or 7.0-draft.
    #[arg(long, value_name = "VERSION")]
    guideline: Option<Version>,
    /// Which clause of which version asks for which control; the gateway need not run.
    #[arg(long, conflicts_with = "guideline")]
    crosswalk: bool,
}

/// `sekisho controls`.
pub(crate) fn controls(output: &Output, sockets: &Sockets, asked: &ControlsArgs) -> Result<Exit, CliError> {
    let catalogue = Catalogue::shipped()?;
    if asked.crosswalk {
        output.answer(&crosswalk_text(output, &catalogue), &crosswalk_json(&catalogue));
        return Ok(Exit::Ok);
    }
    let controls = fetch(&sockets.console)?;
    let rows = rows(&catalogue, &controls, asked.guideline);
    let needs = |row: &Row<'_>| matches!(row.assessment.state, State::Failed | State::Unknown);
    let exit = if rows.iter().any(needs) { Exit::Attention } else { Exit::Ok };
    let values: Vec<_> = rows.iter().map(|row| row.json(&controls)).collect();
    let value = json!({
        "assessed_at": controls.assessed_at,
        "policy_guideline": controls.guideline,
        "guideline": asked.guideline.map(|version| version.to_string()),
        "controls": values,
    });
    output.answer(&text(output, &controls, asked.guideline, &rows), &value);
    Ok(exit)
}

/// How the controls stand.
pub(crate) fn fetch(console: &Path) -> Result<Controls, CliError> {
    match ask(console, ConsoleAsk::Controls {})? {
        ConsoleAnswer::Controls(controls) => Ok(controls),
        _ => Err(CliError::Confused),
    }
}

/// Asks the console.
pub(crate) fn ask(console: &Path, question: ConsoleAsk) -> Result<ConsoleAnswer, CliError> {
    match client::ask(console, Ask::Console(question))? {
        Answer::Console(answer) => Ok(answer),
        Answer::Failed(fault) => Err(CliError::Fault(fault)),
        _ => Err(CliError::Confused),
    }
}

/// One control as it is shown.
struct Row<'a> {
    control: &'a Control,
    clauses: Vec<&'a Clause>,
    assessment: &'a Assessment,
}

impl Row<'_> {
    fn json(&self, controls: &Controls) -> Value {
        let Row { control, clauses, assessment } = self;
        let span = controls.timeline.span(&control.id);
        json!({
            "control": control.id,
            "title": control.title,
            "state": assessment.state,
            "since": span.map(|span| span.since),
            "evidence": span.and_then(|span| span.evidence),
            "measured_at": assessment.measured_at,
            "reasons": assessment.reasons,
            "next_step": assessment.next_step,
            "clauses": clauses,
        })
    }
}

/// The controls asked for, what needs somebody first.
fn rows<'a>(catalogue: &'a Catalogue, controls: &'a Controls, version: Option<Version>) -> Vec<Row<'a>> {
    let row = |assessment: &'a Assessment| {
        let control = catalogue.control(&assessment.control)?;
        let clauses: Vec<_> = match version {
            Some(version) => control.clauses_of(version).collect(),
            None => control.clauses.iter().collect(),
        };
        let is_asked = version.is_none() || !clauses.is_empty();
        is_asked.then_some(Row { control, clauses, assessment })
    };
    let mut rows: Vec<_> = controls.assessments.iter().filter_map(row).collect();
    rows.sort_by_key(|row| row.assessment.state);
    rows
}

fn text(output: &Output, controls: &Controls, version: Option<Version>, rows: &[Row<'_>]) -> String {
    let heads = match output.language {
        Language::En => ["state", "control", "since", "log", "why"],
        Language::Ja => ["状態", "管理策", "いつから", "証跡", "理由"],
    };
    let cells = |row: &Row<'_>| {
        let Assessment { state, reasons, .. } = row.assessment;
        let span =
            controls.timeline.span(&row.control.id).filter(|_| state.needs_somebody() || *state == State::Ok);
        vec![
            mark(output, *state),
            row.control.title.text(output.language).to_owned(),
            span.map(|span| output.time(span.since)).unwrap_or_default(),
            span.and_then(|span| span.evidence).map(|index| format!("#{index}")).unwrap_or_default(),
            reasons.first().map(|reason| reason.text(output.language).to_owned()).unwrap_or_default(),
        ]
    };
    let mut parts = vec![summary(output, controls, rows)];
    parts.push(table::lay_out(&heads, &rows.iter().map(cells).collect::<Vec<_>>()));
    parts.extend(version.map(|version| clauses_text(output, version, rows)));
    let steps: Vec<_> = rows.iter().filter_map(|row| step(output, row)).collect();
    if !steps.is_empty() {
        let head = output.pick("What to do next:", "次にすること:");
        parts.push(format!("{head}\n{}", steps.join("\n")));
    }
    parts.push(
        output
            .pick(
                "This is what was measured; it is not a certificate.",
                "これは測定の結果であり、認証ではありません。",
            )
            .to_owned(),
    );
    parts.join("\n\n")
}

/// Which clauses of the version ask for which control.
fn clauses_text(output: &Output, version: Version, rows: &[Row<'_>]) -> String {
    let heads = match output.language {
        Language::En => ["control", "clauses"],
        Language::Ja => ["管理策", "条文"],
    };
    let cells = |row: &Row<'_>| {
        let clauses = row.clauses.iter().map(|clause| clause_text(output, clause));
        vec![row.control.title.text(output.language).to_owned(), clauses.collect::<Vec<_>>().join(" / ")]
    };
    let head = output.pick("Guideline version", "ガイドライン");
    format!("{head} {version}\n{}", table::lay_out(&heads, &rows.iter().map(cells).collect::<Vec<_>>()))
}

fn summary(output: &Output, controls: &Controls, rows: &[Row<'_>]) -> String {
    let counts = State::ALL.iter().filter_map(|state| {
        let count = rows.iter().filter(|row| row.assessment.state == *state).count();
        (count > 0).then(|| format!("{} {count}", mark(output, *state)))
    });
    let at = output.time(controls.assessed_at);
    let at = match output.language {
        Language::En => format!("judged {at}"),
        Language::Ja => format!("判定 {at}"),
    };
    format!("{}\n{at}", counts.collect::<Vec<_>>().join("  "))
}

fn step(output: &Output, row: &Row<'_>) -> Option<String> {
    let Assessment { state, next_step, .. } = row.assessment;
    let step = next_step.as_ref().filter(|_| state.needs_somebody())?;
    let (title, step) = (row.control.title.text(output.language), step.text(output.language));
    Some(format!("{} {title}: {step}", state.symbol()))
}

fn mark(output: &Output, state: State) -> String {
    format!("{} {}", state.symbol(), state.word(output.language))
}

fn crosswalk_text(output: &Output, catalogue: &Catalogue) -> String {
    let heads = match output.language {
        Language::En => ["control", "5.2", "6.0", "7.0-draft", "others"],
        Language::Ja => ["管理策", "5.2", "6.0", "7.0案", "他の文書"],
    };
    let places = |clauses: &[&Clause]| {
        let place = |clause: &&Clause| clause_text(output, clause);
        clauses.iter().map(place).collect::<Vec<_>>().join(" / ")
    };
    let rows: Vec<_> = catalogue
        .crosswalk()
        .iter()
        .map(|crossing| {
            let of =
                |version| crossing.clauses.get(&version).map(|clauses| places(clauses)).unwrap_or_default();
            let mut cells = vec![crossing.control.title.text(output.language).to_owned()];
            cells.extend(Version::ALL.map(of));
            cells.push(places(&crossing.beside));
            cells
        })
        .collect();
    table::lay_out(&heads, &rows)
}

/// A clause with how firm its text is: a draft must not be taken for the guideline.
fn clause_text(output: &Output, clause: &Clause) -> String {
    let Clause { edition, part, section, item, stage, verified, source: _, note: _ } = clause;
    let place = [part, section, item].into_iter().filter(|word| !word.is_empty() && *word != "-");
    let place = place.map(String::as_str).collect::<Vec<_>>().join(" ");
    let document = match edition {
        Edition::V5_2 | Edition::V6_0 | Edition::V7_0Draft => String::new(),
        Edition::V7_0
        | Edition::ChecklistR5
        | Edition::ChecklistR7
        | Edition::Notice20221110
        | Edition::Notice20231010
        | Edition::Notice20240801 => format!("{} ", edition.name(output.language)),
    };
    // What was told by others or remembered says so by its stage.
    let is_told = matches!(stage, Stage::Secondary | Stage::Memory);
    let unverified = if *verified || is_told { "" } else { output.pick(", unverified", "・未確認") };
    format!("{document}{place} ({}{unverified})", stage.word(output.language))
}

fn crosswalk_json(catalogue: &Catalogue) -> Value {
    let row = |crossing: &policy::guideline::catalogue::Crossing<'_>| {
        json!({
            "control": crossing.control.id,
            "title": crossing.control.title,
            "clauses": crossing.clauses.values().flatten().chain(&crossing.beside).collect::<Vec<_>>(),
        })
    };
    Value::Array(catalogue.crosswalk().iter().map(row).collect())
}
