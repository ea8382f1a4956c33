//! The controls, grouped by state: what needs somebody first.

use maud::{Markup, html};

use super::Page;
use crate::guideline::catalogue::{Clause, Control};
use crate::guideline::state::{Assessment, State};

pub(super) fn section(page: Page<'_>) -> Markup {
    html! {
        section {
            h2 { (page.say("管理策", "Controls")) }
            @for state in State::ALL {
                @let group = of_state(page, state);
                @if !group.is_empty() {
                    h3 { (page.state(state)) " — " (group.len()) (page.say(" 件", "")) }
                    (table(page, state, &group))
                }
            }
        }
    }
}

fn of_state(page: Page<'_>, state: State) -> Vec<(&Control, &Assessment)> {
    let found = page.input.assessments.iter().filter(|assessment| assessment.state == state);
    found.filter_map(|one| page.input.catalogue.control(&one.control).map(|control| (control, one))).collect()
}

fn table(page: Page<'_>, state: State, group: &[(&Control, &Assessment)]) -> Markup {
    let is_judged = !matches!(state, State::Organizational | State::NotMeasured);
    html! {
        table {
            caption { (state.word(page.language)) }
            thead { tr {
                th scope="col" { (page.say("管理策", "Control")) }
                th scope="col" { (page.say(if is_judged { "測定した事実" } else { "理由" }, if is_judged { "Facts measured" } else { "Why" })) }
                @if is_judged { th scope="col" { (page.say("いつから・証拠", "Since, evidence")) } }
                th scope="col" { (page.say("条文", "Clauses")) }
            } }
            tbody {
                @for (control, assessment) in group { (row(page, control, assessment, is_judged)) }
            }
        }
    }
}

fn row(page: Page<'_>, control: &Control, assessment: &Assessment, is_judged: bool) -> Markup {
    html! {
        tr {
            th scope="row" {
                (control.title.text(page.language))
                br; code.small { (control.id) }
                br; span.small { (control.kind.word(page.language)) }
            }
            td {
                ul { @for reason in &assessment.reasons { li { (reason.text(page.language)) } } }
                @if is_judged {
                    p.small { (page.say("測り方: ", "How: ")) (control.measured_by.text(page.language)) }
                }
                @if let Some(step) = &assessment.next_step {
                    p { strong { (page.say("次にすること: ", "Next: ")) } (step.text(page.language)) }
                } @else if !is_judged {
                    p { strong { (page.say("医院で行うこと: ", "For the clinic: ")) } (control.next_step.text(page.language)) }
                }
            }
            @if is_judged { td { (since(page, assessment)) } }
            td { (clauses(page, control)) }
        }
    }
}

fn since(page: Page<'_>, assessment: &Assessment) -> Markup {
    let span = page.input.timeline.span(&assessment.control).filter(|span| span.state == assessment.state);
    html! {
        @if let Some(span) = span {
            (page.instant(span.since))
            @if let Some(index) = span.evidence { br; (page.say("ログ ", "log ")) "#" (index) }
            @else { br; span.small { (page.say("ログの番号なし", "no log entry")) } }
        } @else { (page.say("記録なし", "not recorded")) }
        @if let Some(at) = assessment.measured_at {
            br; span.small { (page.say("測定 ", "measured ")) (page.instant(at)) }
        }
    }
}

/// The clauses of the version that the report speaks of; where it has none, that is said, and the others follow.
fn clauses(page: Page<'_>, control: &Control) -> Markup {
    let version = page.input.version;
    let (own, others): (Vec<&Clause>, Vec<&Clause>) =
        control.clauses.iter().partition(|clause| version.covers(clause.edition));
    html! {
        @if own.is_empty() {
            p.small { (page.say("この版に該当する条文は見つかっていません。", "No clause of this version was found.")) }
        }
        ul.small {
            @for clause in own.iter().chain(&others) { li { (self::clause(page, clause)) } }
        }
    }
}

fn clause(page: Page<'_>, clause: &Clause) -> Markup {
    let Clause { edition, part, section, item, verified, stage, source: _, note: _ } = clause;
    html! {
        (edition.name(page.language)) " " (part) " " (section) " " (item) " "
        span class=(if *verified { "read" } else { "unread" }) { "[" (stage.word(page.language)) "]" }
    }
}
