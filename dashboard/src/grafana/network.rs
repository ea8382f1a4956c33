//! What passes between the zones and what is stopped; who comes in by the doors.

use events::Family;
use policy::diagnostic::Language;

use super::panel::{Column, Legend, Panel, Show, Source, Target};
use super::units::Unit;
use crate::promql::{or_unknown, or_zero, panel, panel_named};
use crate::rules::{DRIFTS_GREW, ENFORCEMENT_CODE, SUSPICIONS_SHOWN};
use crate::vocabulary::{DEVICES, ENFORCEMENT};
use crate::words::{Said, said};

const HALF: (u32, u32) = (12, 8);
const QUARTER: (u32, u32) = (6, 4);
const PACKETS: Said = said("個", "packets");
const TIMES: Said = said("回", "times");

/// The panels.
pub(crate) fn panels(_: Language) -> Vec<Panel> {
    let mut panels = vec![Panel::row(said("通信の規則", "The rules"))];
    panels.extend(rules());
    panels.extend(changes());
    panels.push(Panel::row(said("通った通信", "Traffic that passed")));
    panels.extend(passed());
    panels.push(Panel::row(said("止めた通信", "Traffic that was stopped")));
    panels.extend(stopped());
    panels.push(Panel::row(said("機器と接続", "Devices and connections")));
    panels.extend(connected());
    panels.extend(super::doors::panels());
    panels
}

fn one(name: Said, expression: impl Into<String>) -> Vec<Target> {
    vec![Target::new(Legend::Said(name), expression)]
}

fn stat(title: Said, description: Said, unit: Unit, expression: impl Into<String>) -> Panel {
    Panel::new(title, description, QUARTER, Show::Stat(unit, one(title, expression)))
}

fn max(family: Family) -> String {
    format!("max({})", panel(family, ""))
}

fn rules() -> Vec<Panel> {
    let in_force =
        Target::new(Legend::Pattern(""), format!("max by (state) ({} == 1)", panel(Family::Enforcement, "")));
    vec![
        stat(
            said("通信の関所", "The rules"),
            said("方針どおりで、実際の規則と同じか。", "As the policy says, and equal in the kernel."),
            Unit::State,
            or_unknown(&format!("max({})", panel_named(ENFORCEMENT_CODE, ""))),
        )
        .guided("nothing-passes"),
        Panel::new(
            said("適用状態", "In force"),
            said("いま働いている状態。", "What is in force now."),
            QUARTER,
            Show::Table(
                vec![in_force],
                vec![Column { source: Source::Words("state", &ENFORCEMENT), title: said("状態", "state") }],
            ),
        )
        .guided("nothing-passes"),
        stat(
            said("方針を適用した時", "Policy applied"),
            said("いまの方針を適用した時。", "When the policy in force was applied."),
            Unit::When,
            format!("{} * 1000", max(Family::PolicyApplied)),
        ),
        stat(
            said("最後に一致を確認した時", "Last found equal"),
            said(
                "実際の規則が方針と同じだと最後に確かめた時。",
                "When the kernel's rules were last found equal to the policy.",
            ),
            Unit::When,
            format!("{} * 1000", max(Family::ReadBack)),
        )
        .guided("readback-stale"),
    ]
}

fn changes() -> Vec<Panel> {
    let outcomes = format!("sum by (outcome) (increase({}[$__range]))", panel(Family::Applies, ""));
    vec![
        stat(
            said("見つかった違い", "Differences"),
            said("最後の照合で見つかった違い。", "Differences that the last comparison found."),
            Unit::Of(said("件", "differences")),
            max(Family::ReadBackDifferences),
        )
        .guided("rules-changed-by-others"),
        stat(
            said("ほかのプログラムの規則", "Rules of others"),
            said(
                "ほかのプログラムが置いたフィルタ表。",
                "Tables that other programs put into the packet filter.",
            ),
            Unit::Of(said("表", "tables")),
            max(Family::ForeignTables),
        )
        .guided("rules-changed-by-others"),
        stat(
            said("元に戻した回数", "Put back"),
            said(
                "最近15分に、第三者の変更を元に戻した回数。",
                "Times in the last 15 minutes that a change of somebody else was put back.",
            ),
            Unit::Of(TIMES),
            or_zero(&format!("sum({})", panel_named(DRIFTS_GREW, "")), "core"),
        )
        .guided("rules-changed-by-others"),
        Panel::new(
            said("方針の適用", "Policies applied"),
            said("表示している期間の、適用の結果。", "What came of applying, in the time shown."),
            QUARTER,
            Show::Bars(
                Unit::Of(TIMES),
                vec![Target::new(Legend::Label("outcome"), or_zero(&outcomes, "core"))],
            ),
        ),
    ]
}

fn passed() -> Vec<Panel> {
    let by_pair = |family, unit, title: Said, description| {
        let rate = format!("sum by (from, to) (rate({}[$__rate_interval]))", panel(family, ""));
        let target = Target::new(Legend::Pattern("{{from}} → {{to}}"), or_zero(&rate, "core"));
        Panel::new(title, description, HALF, Show::Series(unit, vec![target]))
    };
    vec![
        by_pair(
            Family::AllowedBytes,
            Unit::BytesPerS,
            said("区画の間の通信量", "Traffic between zones"),
            said(
                "許可された通信の量 (両方向)、区画の組ごと。",
                "Allowed bytes, both directions, by zone pair.",
            ),
        ),
        by_pair(
            Family::AllowedPackets,
            Unit::Of(said("個/秒", "packets/s")),
            said("区画の間のパケット数", "Packets between zones"),
            said(
                "許可されたパケット (両方向)、区画の組ごと。",
                "Allowed packets, both directions, by zone pair.",
            ),
        ),
    ]
}

fn stopped() -> Vec<Panel> {
    let bars = |title, description, family, label: &'static str, role| {
        let growth = format!("sum by ({label}) (increase({}[$__range]))", panel(family, ""));
        let target = Target::new(Legend::Label(label), or_zero(&growth, role));
        Panel::new(title, description, HALF, Show::Bars(Unit::Of(PACKETS), vec![target]))
    };
    let suspicious = format!("max by (kind) ({})", panel_named(SUSPICIONS_SHOWN, ""));
    vec![
        bars(
            said("止めた理由", "Why it was stopped"),
            said(
                "表示している期間に止めたパケット、理由ごと。",
                "Packets stopped in the time shown, by reason.",
            ),
            Family::DeniedPackets,
            "reason",
            "core",
        ),
        bars(
            said("どの区画から", "From which zone"),
            said(
                "表示している期間に止めたパケット、来た区画ごと。",
                "Packets stopped in the time shown, by the zone they came from.",
            ),
            Family::DeniedPackets,
            "zone",
            "core",
        ),
        bars(
            said("内容を記録した拒否", "Denials with a copy"),
            said(
                "止めたパケットのうち、内容の写しが残るもの (多いときは一部だけ)。",
                "Stopped packets of which a copy was looked at; of many only some.",
            ),
            Family::DenialsTold,
            "zone",
            "watch",
        ),
        Panel::new(
            said("不審な通信 (24時間)", "Suspicious traffic (24 hours)"),
            said(
                "登録された機器なら出さない通信、種類ごと。",
                "Traffic that no registered device should send, by kind.",
            ),
            HALF,
            Show::Bars(
                Unit::Of(TIMES),
                vec![Target::new(Legend::Label("kind"), or_zero(&suspicious, "watch"))],
            ),
        )
        .guided("suspicious-traffic"),
    ]
}

fn connected() -> Vec<Panel> {
    let changes = format!("sum by (change) (rate({}[$__rate_interval]))", panel(Family::LedgerFlows, ""));
    let devices = format!("max by (state) ({})", panel(Family::Devices, ""));
    let share = format!("100 * {} / {}", max(Family::ConntrackEntries), max(Family::ConntrackLimit));
    vec![
        Panel::new(
            said("機器の数", "Devices"),
            said(
                "台帳の機器と、台帳にない機器。",
                "Registered devices, and those that are not in the ledger.",
            ),
            (8, 8),
            Show::Bars(
                Unit::Of(said("台", "devices")),
                vec![Target::new(Legend::Words("state", &DEVICES), devices)],
            ),
        )
        .guided("controls-devices"),
        Panel::new(
            said("通信の開始と終了", "Connections begun and ended"),
            said("台帳に記録した通信、1秒あたり。", "Connections that the ledger took up, per second."),
            (8, 8),
            Show::Series(
                Unit::Of(said("件/秒", "connections/s")),
                vec![Target::new(Legend::Label("change"), or_zero(&changes, "watch"))],
            ),
        )
        .guided("ledger-losing"),
        Panel::new(
            said("続いている通信", "Connections now"),
            said(
                "台帳が知る通信と、カーネルが追跡する通信。",
                "Those the ledger knows, and those the kernel tracks.",
            ),
            (8, 4),
            Show::Stat(
                Unit::Of(said("件", "connections")),
                vec![
                    Target::new(Legend::Said(said("台帳", "ledger")), max(Family::LedgerOpen)),
                    Target::new(Legend::Said(said("カーネル", "kernel")), max(Family::ConntrackEntries)),
                ],
            ),
        ),
        Panel::new(
            said("追跡できる数の使用率", "Room for connections used"),
            said(
                "カーネルが追跡できる通信数のうち使っている割合。",
                "Share of the connections that the kernel can track.",
            ),
            (8, 4),
            Show::Stat(Unit::Percent, one(said("使用率", "used"), share)),
        ),
    ]
}
