//! The first page. Its one question is whether the clinic is safe now.

use events::Family;
use policy::diagnostic::Language;
use policy::guideline::State;

use super::panel::{Column, Legend, Panel, Show, Source, Target};
use super::units::Unit;
use crate::promql::{JOB, UNKNOWN, or_unknown, or_zero, panel, panel_named};
use crate::rules::{self, CONTROL_CODE, code};
use crate::titles::{ALERT_TITLES, CONTROLS};
use crate::vocabulary::CONTROL_STATES;
use crate::words::{Said, said};

const TILE: (u32, u32) = (4, 5);
const WIDE: (u32, u32) = (12, 9);

/// The panels, at most twelve.
pub(crate) fn panels(language: Language) -> Vec<Panel> {
    let mut panels = tiles();
    panels.extend([needs_action(language), alerts(language), counts(), traffic(), denied(), reading()]);
    panels
}

fn tiles() -> Vec<Panel> {
    let tile = |title, description, record, guide| {
        let expression = or_unknown(&format!("max({})", panel_named(record, "")));
        let targets = vec![Target::new(Legend::Said(title), expression)];
        Panel::new(title, description, TILE, Show::Stat(Unit::State, targets)).guided(guide)
    };
    vec![
        tile(
            said("いま安全か", "Safe now?"),
            said(
                "右の5つのうち最も悪いもの。関所の状態が読めないときは「不明」です。",
                "The worst of the five beside it; unknown when the gateway's state cannot be read.",
            ),
            rules::SAFETY_CODE,
            "gateway-absent",
        ),
        tile(
            said("通信の関所", "The rules"),
            said(
                "通信方針が適用され、実際の規則が方針と同じで、ほかの規則が置かれていないこと。",
                "The policy is in force, the kernel's rules are equal to it, and nobody put others beside them.",
            ),
            rules::ENFORCEMENT_CODE,
            "nothing-passes",
        ),
        tile(
            said("管理策", "Controls"),
            said("測定している管理策のうち最も悪い状態。", "The worst state of any measured control."),
            rules::CONTROLS_CODE,
            "control-failed",
        ),
        tile(
            said("記録", "Records"),
            said(
                "監査ログと通信台帳が、欠けずに書かれ、検証されていること。",
                "The audit log and the ledger are written without gaps, and verified.",
            ),
            rules::RECORD_CODE,
            "log-not-accepting",
        ),
        tile(
            said("不審な通信", "Suspicious traffic"),
            said(
                "24時間以内に、登録された機器なら出さない通信があったか。観測が止まると「不明」です。",
                "Whether traffic that no registered device should send was seen within 24 hours; unknown while nobody watches.",
            ),
            rules::SUSPICION_CODE,
            "suspicious-traffic",
        ),
        tile(
            said("装置の手入れ", "Upkeep"),
            said(
                "関所の各機能、時計、証明書、バックアップ。",
                "The parts of the gateway, its clock, its certificate and its backup.",
            ),
            rules::UPKEEP_CODE,
            "role-down",
        ),
    ]
}

/// What people read in a table when there is nothing to list, or nobody to say so.
fn or_line(expression: &str, calm: &str, calm_line: &str, silent_line: &str, title: &str) -> String {
    let line =
        |series: &str, text: &str| format!("label_replace({series}, \"{title}\", \"{text}\", \"\", \"\")");
    format!(
        "{expression} or on() {} or on() {}",
        line(calm, calm_line),
        line(&format!("vector({UNKNOWN})"), silent_line)
    )
}

fn needs_action(language: Language) -> Panel {
    let title = title_label(language);
    let codes = panel_named(CONTROL_CODE, "");
    let join = format!("on (control) group_left ({title}) {CONTROLS}");
    let warning = code(State::Warning);
    let expression = or_line(
        &format!("max by ({title}) (({codes} >= {warning}) * {join})"),
        &format!("(max({codes}) < {warning})"),
        said("手当ての必要な管理策はありません", "no control needs anybody").text(language),
        said("関所の状態が読めません", "the gateway's state cannot be read").text(language),
        title,
    );
    let show = Show::Table(
        vec![Target::new(Legend::Pattern(""), expression)],
        vec![
            Column { source: Source::Value(0, Unit::State), title: said("状態", "state") },
            Column { source: Source::Label(title), title: said("管理策", "control") },
        ],
    );
    Panel::new(
        said("手当ての必要な管理策", "Controls that need somebody"),
        said(
            "名前から「管理策」のページの該当項目を開くと、次にすることが読めます。",
            "The page of controls says what to do next.",
        ),
        WIDE,
        show,
    )
    .guided("control-failed")
}

fn alerts(language: Language) -> Panel {
    let title = title_label(language);
    let firing = |severity, state| {
        let selector = format!("ALERTS{{job=\"{JOB}\",alertstate=\"firing\",severity=\"{severity}\"}}");
        format!("{} * {selector}", code(state))
    };
    let all = format!("({} or {})", firing("critical", State::Failed), firing("warning", State::Warning));
    let expression = or_line(
        &format!("max by ({title}) ({all} * on (alertname) group_left ({title}) {ALERT_TITLES})"),
        &format!("max({ALERT_TITLES})"),
        said("出ている警報はありません", "no alert is firing").text(language),
        said("警報の規則が読み込まれていません", "the alerting rules are not loaded").text(language),
        title,
    );
    let show = Show::Table(
        vec![Target::new(Legend::Pattern(""), expression)],
        vec![
            Column { source: Source::Value(0, Unit::State), title: said("重さ", "severity") },
            Column { source: Source::Label(title), title: said("警報", "alert") },
        ],
    );
    Panel::new(
        said("出ている警報", "Alerts"),
        said(
            "警報ごとの手順は「手順書」のページにあります。",
            "The page of runbooks says what to do for each.",
        ),
        WIDE,
        show,
    )
}

/// The label that holds titles in a language.
pub(super) fn title_label(language: Language) -> &'static str {
    match language {
        Language::Ja => "title_ja",
        Language::En => "title_en",
    }
}

fn counts() -> Panel {
    let legend = Legend::Words("state", &CONTROL_STATES);
    let states = format!("max by (state) ({})", panel(Family::Controls, ""));
    Panel::new(
        said("管理策の数", "How many controls"),
        said(
            "状態ごとの数。「未測定」と「組織で対応」も数えます。",
            "By state; those not measured and those of the organisation are counted too.",
        ),
        (8, 8),
        Show::Bars(Unit::Of(said("件", "controls")), vec![Target::new(legend, states)]),
    )
    .guided("control-failed")
}

fn traffic() -> Panel {
    let bytes = format!("sum(rate({}[$__rate_interval]))", panel(Family::AllowedBytes, ""));
    let name = said("許可された通信", "allowed traffic");
    Panel::new(
        said("通った通信の量", "Traffic that passed"),
        said("許可された通信の量 (両方向)。", "Allowed traffic, both directions."),
        (8, 8),
        Show::Series(Unit::BytesPerS, vec![Target::new(Legend::Said(name), or_zero(&bytes, "core"))]),
    )
}

fn denied() -> Panel {
    let packets = format!("60 * sum(rate({}[$__rate_interval]))", panel(Family::DeniedPackets, ""));
    let name = said("止めた通信", "denied traffic");
    Panel::new(
        said("止めた通信", "Traffic that was stopped"),
        said(
            "1分あたりに止めたパケット数。急に増えたら「通信」のページで区画と理由を見てください。",
            "Packets stopped per minute. When it rises suddenly, see the network page for zone and reason.",
        ),
        (8, 8),
        Show::Series(
            Unit::Of(said("個/分", "packets/min")),
            vec![Target::new(Legend::Said(name), or_zero(&packets, "core"))],
        ),
    )
    .guided("suspicious-traffic")
}

fn reading() -> Panel {
    const TEXT: Said = said(
        "● 正常 — 測定して良いと分かった\n\n▲ 注意 — その日のうちに見る\n\n✖ 要対応 — すぐに手順書を開く\n\n？ 不明 — 測れていない。良いとはみなさない\n\n－ 対象外 — 当てはまるものがない\n\n各枠の手順書リンクに、何を見て誰に電話するかが書かれています。この画面は測定の結果で、ガイドラインを満たすことを証明するものではありません。",
        "● ok — measured and good\n\n▲ attention — look on the same day\n\n✖ action needed — open the runbook now\n\n？ unknown — not measured, and so not taken as good\n\n－ not applicable — there is nothing it could be about\n\nThe link of each tile says what to look at and whom to call. This page shows measurements; it does not prove that the guideline is met.",
    );
    Panel::new(
        said("読み方", "How to read it"),
        said("記号と言葉の意味。", "What symbols and words mean."),
        (24, 7),
        Show::Text(TEXT.into()),
    )
}
