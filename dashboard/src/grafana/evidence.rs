//! The audit log, the ledger, the clock, what has to be done from time to time, and the gateway's own parts.

use events::Family;
use policy::diagnostic::Language;

use super::panel::{Column, Legend, Panel, Show, Source, Target};
use super::units::Unit;
use crate::promql::{or_unknown, or_zero, panel, panel_named};
use crate::rules::{FEED_LOST_GREW, LOG_REFUSED_GREW, RECORD_CODE, RECORDER_LOST_GREW, UPKEEP_CODE};
use crate::words::{Said, said};

const TILE: (u32, u32) = (4, 4);
const THIRD: (u32, u32) = (8, 8);
const ENTRIES: Said = said("件", "entries");
const TIMES: Said = said("回", "times");

/// The panels.
pub(crate) fn panels(_: Language) -> Vec<Panel> {
    let mut panels = vec![Panel::row(said("監査ログ", "The audit log"))];
    panels.extend(log());
    panels.extend(log_times());
    panels.extend(log_room());
    panels.push(Panel::row(said("通信台帳", "The ledger of flows")));
    panels.extend(ledger());
    panels.push(Panel::row(said("時計", "The clock")));
    panels.extend(time());
    panels.push(Panel::row(said("手入れ", "Upkeep")));
    panels.extend(upkeep());
    panels.push(Panel::row(said("関所の各機能", "The parts of the gateway")));
    panels.extend(parts());
    panels
}

fn stat(title: Said, description: Said, unit: Unit, expression: impl Into<String>) -> Panel {
    Panel::new(title, description, TILE, Show::Stat(unit, vec![Target::new(Legend::Said(title), expression)]))
}

fn max(family: Family) -> String {
    format!("max({})", panel(family, ""))
}

fn min(family: Family) -> String {
    format!("min({})", panel(family, ""))
}

fn instant(family: Family) -> String {
    format!("{} * 1000", max(family))
}

/// Used and allowed room side by side.
fn room(title: Said, description: Said, used: Family, budget: Family) -> Panel {
    let targets = vec![
        Target::new(Legend::Said(said("使用", "used")), max(used)),
        Target::new(Legend::Said(said("上限", "budget")), max(budget)),
    ];
    Panel::new(title, description, THIRD, Show::Series(Unit::Bytes, targets)).guided("disk-budget")
}

fn log() -> Vec<Panel> {
    vec![
        stat(
            said("記録", "Records"),
            said("監査ログと通信台帳の全体の状態。", "How the audit log and the ledger stand together."),
            Unit::State,
            or_unknown(&format!("max({})", panel_named(RECORD_CODE, ""))),
        )
        .guided("log-not-accepting"),
        stat(
            said("書き込み", "Takes entries"),
            said("新しい記録を受け付けるか。", "Whether new entries are taken."),
            Unit::Good,
            min(Family::LogAccepting),
        )
        .guided("log-not-accepting"),
        stat(
            said("改ざん・欠落なし", "Intact"),
            said("最後の検証で異常がなかったか。", "Whether the last verification found nothing wrong."),
            Unit::Good,
            min(Family::LogIntact),
        )
        .guided("log-damaged"),
        stat(
            said("記録の件数", "Entries"),
            said("監査ログの件数。減ることはありません。", "Entries in the log; it never shrinks."),
            Unit::Of(ENTRIES),
            max(Family::LogEntries),
        ),
    ]
}

fn log_times() -> Vec<Panel> {
    vec![
        stat(
            said("最後の署名", "Last signed"),
            said("監査ログに最後に署名した時。", "When the log was last signed."),
            Unit::When,
            instant(Family::LogCheckpoint),
        )
        .guided("log-checkpoint-stale"),
        stat(
            said("最後の検証", "Last verified"),
            said("監査ログの全体を最後に検証した時。", "When the whole log was last verified."),
            Unit::When,
            instant(Family::LogVerified),
        )
        .guided("log-checkpoint-stale"),
        stat(
            said("最も古い記録", "Oldest entry"),
            said("監査ログに残る最も古い記録。", "The oldest entry that is kept."),
            Unit::When,
            instant(Family::LogOldest),
        ),
    ]
}

fn log_room() -> Vec<Panel> {
    vec![
        stat(
            said("断った記録", "Refused"),
            said(
                "最近15分に、監査ログが断った件数。",
                "Entries that the log refused in the last 15 minutes.",
            ),
            Unit::Of(ENTRIES),
            or_zero(&format!("sum({})", panel_named(LOG_REFUSED_GREW, "")), "record"),
        )
        .guided("log-not-accepting"),
        Panel::new(
            said("記録できなかった出来事", "Events not recorded"),
            said(
                "最近15分に、記録できなかった件数。",
                "Events of the last 15 minutes that were not recorded.",
            ),
            THIRD,
            Show::Bars(
                Unit::Of(ENTRIES),
                vec![Target::new(
                    Legend::Label("role"),
                    or_zero(&format!("max by (role) ({})", panel_named(RECORDER_LOST_GREW, "")), "console"),
                )],
            ),
        )
        .guided("log-not-accepting"),
        room(
            said("監査ログの容量", "Room of the audit log"),
            said("使用量と上限。", "What is used, and the budget."),
            Family::LogBytes,
            Family::LogBudget,
        ),
    ]
}

fn ledger() -> Vec<Panel> {
    let by_feed = |family| format!("max by (feed) ({})", panel(family, ""));
    let lost = format!("sum by (feed) ({})", panel_named(FEED_LOST_GREW, ""));
    vec![
        stat(
            said("カーネルからの通知", "Feeds"),
            said("通信と拒否の通知を受けているか。", "Whether the kernel's notices arrive."),
            Unit::Good,
            min(Family::FeedUp),
        )
        .guided("ledger-losing"),
        Panel::new(
            said("最後の通知", "Last notice"),
            said(
                "最後に通知を受けた時。通信がなければ古くなります。",
                "When a notice last came; it grows old when there is no traffic.",
            ),
            (8, 4),
            Show::Stat(
                Unit::When,
                vec![Target::new(Legend::Label("feed"), format!("{} * 1000", by_feed(Family::FeedEvent)))],
            ),
        )
        .guided("ledger-losing"),
        Panel::new(
            said("受け損ねた通知", "Lost notices"),
            said("最近15分に受け損ねた数。", "Notices of the last 15 minutes that did not arrive."),
            (4, 4),
            Show::Stat(Unit::Of(ENTRIES), vec![Target::new(Legend::Label("feed"), or_zero(&lost, "watch"))]),
        )
        .guided("ledger-losing"),
        stat(
            said("最も古い台帳の行", "Oldest row"),
            said("台帳に残る最も古い通信。", "The oldest connection that is kept."),
            Unit::When,
            instant(Family::LedgerOldest),
        ),
        stat(
            said("期限で消した行", "Rows let go"),
            said(
                "表示している期間に、保存期間を過ぎて消した行。",
                "Rows that reached the end of their retention in the time shown.",
            ),
            Unit::Of(said("行", "rows")),
            or_zero(&format!("sum(increase({}[$__range]))", panel(Family::LedgerPruned, "")), "watch"),
        ),
        room(
            said("通信台帳の容量", "Room of the ledger"),
            said("使用量と上限。", "What is used, and the budget."),
            Family::LedgerBytes,
            Family::LedgerBudget,
        ),
    ]
}

fn time() -> Vec<Panel> {
    let jumps = format!("sum by (direction) (increase({}[$__range]))", panel(Family::ClockJumps, ""));
    let offset = vec![Target::new(Legend::Said(said("ずれ", "offset")), max(Family::ClockOffset))];
    vec![
        stat(
            said("時計の信頼", "Clock trusted"),
            said("時間帯つきの通信許可を開いてよいか。", "Whether flows with opening hours may open."),
            Unit::Good,
            min(Family::TimeTrusted),
        )
        .guided("time-not-trusted"),
        stat(
            said("時刻サーバの階層", "Stratum"),
            said("16は時刻サーバに届いていないことを表します。", "16 means that no time server is reached."),
            Unit::Of(said("階層", "stratum")),
            max(Family::ClockStratum),
        )
        .guided("time-not-trusted"),
        Panel::new(
            said("時計のずれ", "Offset of the clock"),
            said("時刻サービスとの差。", "The difference to the time service."),
            (8, 8),
            Show::Series(Unit::Seconds, offset),
        )
        .guided("time-not-trusted"),
        Panel::new(
            said("時計が飛んだ回数", "Jumps of the clock"),
            said(
                "表示している期間に時計が合わせ直された回数。",
                "Times that the clock was set, in the time shown.",
            ),
            (8, 8),
            Show::Bars(
                Unit::Of(TIMES),
                vec![Target::new(Legend::Label("direction"), or_zero(&jumps, "core"))],
            ),
        )
        .guided("time-not-trusted"),
    ]
}

/// A table of what happened when, by a label.
fn times(title: Said, description: Said, family: Family, label: &'static str, head: Said) -> Panel {
    let latest = format!("max by ({label}) ({}) * 1000", panel(family, ""));
    let columns = vec![
        Column { source: Source::Label(label), title: head },
        Column { source: Source::Value(0, Unit::When), title: said("いつ", "when") },
    ];
    Panel::new(
        title,
        description,
        THIRD,
        Show::Table(vec![Target::new(Legend::Pattern(""), latest)], columns),
    )
}

fn upkeep() -> Vec<Panel> {
    vec![
        stat(
            said("装置の手入れ", "Upkeep"),
            said(
                "各機能、時計、証明書、バックアップの全体の状態。",
                "How parts, clock, certificate and backup stand together.",
            ),
            Unit::State,
            or_unknown(&format!("max({})", panel_named(UPKEEP_CODE, ""))),
        )
        .guided("backup-old"),
        stat(
            said("うまくいかなかったこと", "Troubles"),
            said(
                "表示している期間の、アドレスや周辺サービスの設定の失敗。",
                "Failures around the rules in the time shown: addresses, services, files.",
            ),
            Unit::Of(TIMES),
            or_zero(&format!("sum(increase({}[$__range]))", panel(Family::Troubles, "")), "core"),
        )
        .guided("role-down"),
        times(
            said("最後に行った日", "Last done"),
            said(
                "定期的に行う作業を最後に行った時。",
                "When what has to be done from time to time was last done.",
            ),
            Family::Deed,
            "deed",
            said("作業", "what"),
        )
        .guided("backup-old"),
        times(
            said("証明書の期限", "Certificates"),
            said("関所の受け口の証明書が切れる時。", "When the certificates of the gateway's doors end."),
            Family::Certificate,
            "door",
            said("受け口", "door"),
        )
        .guided("certificate-ending"),
    ]
}

fn parts() -> Vec<Panel> {
    let by_role = |family| format!("max by (role) ({})", panel(family, ""));
    let role = |targets: &str| vec![Target::new(Legend::Label("role"), targets)];
    let scrapes = format!("sum by (result) (increase({}[$__range]))", panel(Family::Scrapes, ""));
    let build = Target::new(Legend::Pattern(""), format!("max by (version) ({})", panel(Family::Build, "")));
    vec![
        Panel::new(
            said("各機能の応答", "Parts that answer"),
            said("各機能のプロセスが応答しているか。", "Whether each part of the gateway answers."),
            (24, 4),
            Show::Stat(Unit::Good, role(&format!("min by (role) ({})", panel(Family::RoleUp, "")))),
        )
        .guided("role-down"),
        times(
            said("起動した時", "Started"),
            said("各機能が起動した時。", "When each part started."),
            Family::RoleStarted,
            "role",
            said("機能", "part"),
        )
        .guided("role-down"),
        Panel::new(
            said("使用メモリ", "Memory"),
            said("各機能の使用メモリ。", "Memory that each part holds."),
            THIRD,
            Show::Series(Unit::Bytes, role(&by_role(Family::RoleResident))),
        ),
        times(
            said("自己診断", "Self-tests"),
            said(
                "関所が自分で行う点検に最後に成功した時。",
                "When each test of the gateway by itself last succeeded.",
            ),
            Family::SelfTest,
            "test",
            said("点検", "test"),
        ),
        Panel::new(
            said("統計の読み取り", "Scrapes"),
            said(
                "表示している期間に、統計を読みに来た回数。断った相手も数えます。",
                "Who came to read the metrics in the time shown; the refused are counted too.",
            ),
            THIRD,
            Show::Bars(
                Unit::Of(TIMES),
                vec![Target::new(Legend::Label("result"), or_zero(&scrapes, "console"))],
            ),
        ),
        Panel::new(
            said("関所の版", "Version"),
            said("動いている関所の版。", "The version that runs."),
            THIRD,
            Show::Table(
                vec![build],
                vec![Column { source: Source::Label("version"), title: said("版", "version") }],
            ),
        ),
    ]
}
