//! One panel for each control of the catalogue, in groups, and a table of all that are measured.

use events::Family;
use policy::diagnostic::Language;
use policy::guideline::catalogue::{Control, Coverage};
use policy::guideline::{Catalogue, State, Words};

use super::overview::title_label;
use super::panel::{Column, Legend, Panel, Show, Source, Target};
use super::units::Unit;
use crate::groups::{GROUPS, Group};
use crate::promql::{or_unknown, or_zero, panel, panel_named};
use crate::rules::CONTROL_CODE;
use crate::runbooks::worded;
use crate::titles::CONTROLS;
use crate::vocabulary::CONTROL_STATES;
use crate::words::said;

const TILE: (u32, u32) = (6, 4);

/// The panels.
pub(crate) fn panels(catalogue: &Catalogue, language: Language) -> Vec<Panel> {
    let mut panels = vec![table(language), changes()];
    for group in &GROUPS {
        panels.push(Panel::row(group.title));
        panels.extend(group.controls(catalogue).into_iter().map(|control| tile(group, control)));
    }
    panels
}

fn tile(group: &Group, control: &Control) -> Panel {
    let show = match control.coverage {
        Coverage::Live => {
            let matcher = format!("control=\"{}\"", control.id);
            let expression = or_unknown(&format!("max({})", panel_named(CONTROL_CODE, &matcher)));
            Show::Stat(Unit::State, vec![Target::new(Legend::Pattern(""), expression)])
        }
        Coverage::NotMeasured => unmeasured(State::NotMeasured, control),
        Coverage::Organizational => unmeasured(State::Organizational, control),
    };
    Panel {
        title: control.title.clone(),
        description: description(control),
        size: TILE,
        show,
        guide: Some(group.slug),
    }
}

/// What is not measured has no value, and shows none.
fn unmeasured(state: State, control: &Control) -> Show {
    let text =
        |language| format!("### {}\n\n{}", worded(state, language), control.measured_by.text(language));
    Show::Text(Words::new(text(Language::Ja), text(Language::En)))
}

fn description(control: &Control) -> Words {
    let Control { requirement, measured_by, next_step, .. } = control;
    Words::new(
        format!(
            "求められること: {}\n\n測っていること: {}\n\n次にすること: {}",
            requirement.ja, measured_by.ja, next_step.ja
        ),
        format!(
            "What is asked: {}\n\nWhat is measured: {}\n\nWhat to do next: {}",
            requirement.en, measured_by.en, next_step.en
        ),
    )
}

/// State, since when, and when it was last measured; titles in place of ids.
fn table(language: Language) -> Panel {
    let title = title_label(language);
    let titled = |series: String, factor: &str| {
        let join = format!("on (control) group_left ({title}) {CONTROLS}");
        Target::new(Legend::Pattern(""), format!("max by ({title}) ({series} * {join}){factor}"))
    };
    let targets = vec![
        titled(panel_named(CONTROL_CODE, ""), ""),
        titled(panel(Family::ControlSince, ""), " * 1000"),
        titled(panel(Family::ControlChecked, ""), " * 1000"),
    ];
    let columns = vec![
        Column { source: Source::Label(title), title: said("管理策", "control") },
        Column { source: Source::Value(0, Unit::State), title: said("状態", "state") },
        Column { source: Source::Value(1, Unit::When), title: said("いつから", "since") },
        Column { source: Source::Value(2, Unit::When), title: said("最後の測定", "last measured") },
    ];
    Panel::new(
        said("測定している管理策", "Measured controls"),
        said(
            "関所が測って判定している管理策の一覧。30秒より古い測定は「不明」になります。",
            "Every control that the gateway judges by measurements; one that is older than 30 s counts as unknown.",
        ),
        (16, 12),
        Show::Table(targets, columns),
    )
    .guided("control-failed")
}

fn changes() -> Panel {
    let growth = format!("sum by (state) (increase({}[$__range]))", panel(Family::ControlChanges, ""));
    Panel::new(
        said("状態の変化", "Changes of state"),
        said(
            "表示している期間に、管理策がその状態になった回数。変化は監査ログに残ります。",
            "How often a control came into a state in the time shown. Each change is in the audit log.",
        ),
        (8, 12),
        Show::Bars(
            Unit::Of(said("回", "times")),
            vec![Target::new(Legend::Words("state", &CONTROL_STATES), or_zero(&growth, "console"))],
        ),
    )
}
