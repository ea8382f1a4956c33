//! The pages that alerts and panels link to, for somebody at the reception desk: what it means, what to look at, whom to
//! call, what not to do.

use std::collections::BTreeMap;

use policy::diagnostic::Language;
use policy::guideline::catalogue::{Control, Coverage};
use policy::guideline::{Catalogue, State, Words};

use crate::Thresholds;
use crate::alerts::{ALERTS, Alert, Severity};
use crate::groups::{GROUPS, Group};
use crate::thresholds::duration;
use crate::words::{LANGUAGES, Said, said, slug};

const MEANING: Said = said("何が起きていますか", "What it means");
const LOOK: Said = said("まず見るもの", "What to look at first");
const CALL: Said = said("電話する相手", "Whom to call");
const NEVER: Said = said("してはいけないこと", "What not to do");
const OPERATOR: Said = said("システム運用担当者へ", "For the system operator");
const CONTROLS_CALL: Said = said(
    "下の「次にすること」に書かれた相手に連絡します。分からないときはシステム運用担当者に電話してください。電話番号は院内の責任者一覧にあります。",
    "Call whom the next step below names; if in doubt, the system operator. The numbers are in the clinic's list of responsible persons.",
);
const CONTROLS_NEVER: Said = said(
    "表示を消すために、通信許可や例外を足したり、測定を止めたりしないでください。",
    "Do not add flows or exceptions, or stop a measurement, to make a sign go away.",
);

/// A page in both languages.
#[derive(Clone, Debug)]
pub(crate) struct Guide {
    /// Its name in paths.
    pub(crate) slug: &'static str,
    /// Its title.
    pub(crate) title: Words,
    /// Markdown below the title.
    pub(crate) body: Words,
}

/// Every page: of alerts, then of groups of controls.
pub(crate) fn guides(catalogue: &Catalogue, limits: &Thresholds) -> Vec<Guide> {
    let of_alert = |alert: &&Alert| Guide {
        slug: alert.slug,
        title: alert.title.into(),
        body: both(|language| alert_body(alert, limits, language)),
    };
    let of_group = |group: &Group| Guide {
        slug: group.slug,
        title: Words::new(format!("管理策: {}", group.title.ja), format!("Controls: {}", group.title.en)),
        body: both(|language| group_body(group, catalogue, language)),
    };
    ALERTS.iter().map(of_alert).chain(GROUPS.iter().map(of_group)).collect()
}

/// Every page as a file, and a list of them, by path.
pub(crate) fn files(catalogue: &Catalogue, limits: &Thresholds) -> BTreeMap<String, String> {
    let guides = guides(catalogue, limits);
    let mut files = BTreeMap::new();
    for language in LANGUAGES {
        let mut list = String::new();
        for Guide { slug: name, title, body } in &guides {
            let title = title.text(language);
            let text = format!("# {title}\n\n{}", body.text(language));
            files.insert(format!("runbooks/{}/{name}.md", slug(language)), text);
            list.push_str(&format!("- [{title}]({name}.md)\n"));
        }
        let head = match language {
            Language::Ja => {
                "# 手順書\n\n警報や管理策の表示ごとに、何を見て、誰に電話し、何をしてはいけないかを書いています。\n\n"
            }
            Language::En => {
                "# Runbooks\n\nFor each alert and each group of controls: what to look at, whom to call, what not to do.\n\n"
            }
        };
        files.insert(format!("runbooks/{}/README.md", slug(language)), format!("{head}{list}"));
    }
    files
}

fn both(text: impl Fn(Language) -> String) -> Words {
    Words::new(text(Language::Ja), text(Language::En))
}

fn alert_body(alert: &Alert, limits: &Thresholds, language: Language) -> String {
    let page = &alert.page;
    let text = |said: Said| said.text(language);
    let mut look = String::new();
    for (number, step) in (1..).zip(page.look) {
        look.push_str(&format!("{number}. {}\n", text(*step)));
    }
    let operator: String = page.operator.iter().map(|step| format!("- {}\n", text(*step))).collect();
    format!(
        "{}\n\n## {}\n\n{}\n\n## {}\n\n{look}\n## {}\n\n{}\n\n## {}\n\n{}\n\n## {}\n\n{operator}{}",
        urgency(alert, language),
        text(MEANING),
        text(page.meaning),
        text(LOOK),
        text(CALL),
        text(page.call),
        text(NEVER),
        text(page.never),
        text(OPERATOR),
        condition(alert, limits, language),
    )
}

fn urgency(alert: &Alert, language: Language) -> &'static str {
    match (alert.severity, language) {
        (Severity::Critical, Language::Ja) => "**✖ すぐに対応してください。**",
        (Severity::Critical, Language::En) => "**✖ Act at once.**",
        (Severity::Warning, Language::Ja) => "**▲ その日のうちに対応してください。**",
        (Severity::Warning, Language::En) => "**▲ Act on the same day.**",
    }
}

fn condition(alert: &Alert, limits: &Thresholds, language: Language) -> String {
    let hold = duration(alert.hold.seconds(limits));
    let says = match language {
        Language::Ja => format!("- 警報 `{}` の条件 (続く時間: {hold}):", alert.name),
        Language::En => format!("- The condition of the alert `{}` (for: {hold}):", alert.name),
    };
    format!("{says}\n\n```promql\n{}\n```\n", alert.condition(limits))
}

fn group_body(group: &Group, catalogue: &Catalogue, language: Language) -> String {
    let controls: String =
        group.controls(catalogue).into_iter().map(|control| control_section(control, language)).collect();
    format!(
        "## {}\n\n{}\n\n## {}\n\n{}\n\n{controls}",
        CALL.text(language),
        CONTROLS_CALL.text(language),
        NEVER.text(language),
        CONTROLS_NEVER.text(language),
    )
}

fn control_section(control: &Control, language: Language) -> String {
    let (asked, measured, next) = match language {
        Language::Ja => ("求められること", "測っていること", "次にすること"),
        Language::En => ("What is asked", "What is measured", "What to do next"),
    };
    let state = match control.coverage {
        Coverage::Live => String::new(),
        Coverage::NotMeasured => format!(" ({})", worded(State::NotMeasured, language)),
        Coverage::Organizational => format!(" ({})", worded(State::Organizational, language)),
    };
    format!(
        "## {}{state}\n\n- {asked}: {}\n- {measured}: {}\n- {next}: {}\n\n",
        control.title.text(language),
        control.requirement.text(language),
        control.measured_by.text(language),
        control.next_step.text(language),
    )
}

/// A state as people read it: symbol and word.
pub(crate) fn worded(state: State, language: Language) -> String {
    format!("{} {}", state.symbol(), state.word(language))
}
