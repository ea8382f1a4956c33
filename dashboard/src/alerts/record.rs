//! Alerts about what is recorded: the audit log and the ledger of flows.

use super::expressions as when;
use super::{Alert, Hold, Page, Severity};
use crate::words::said;

pub(super) static NOT_ACCEPTING: Alert = Alert {
    name: "LogNotAccepting",
    slug: "log-not-accepting",
    severity: Severity::Critical,
    hold: Hold::None,
    expression: when::not_accepting,
    title: said("監査ログに書き込めません", "The audit log takes no entries"),
    summary: said(
        "記録できない出来事があります (種類: {{ $labels.what }})。",
        "Something could not be recorded (kind: {{ $labels.what }}).",
    ),
    first_step: said(
        "診療の通信は続きます。設定の変更と遠隔保守は控え、システム運用担当者に電話してください。",
        "Traffic for care goes on. Hold changes of settings and remote maintenance, and call the system operator.",
    ),
    page: Page {
        meaning: said(
            "監査ログが新しい記録を受け付けないか、記録しきれない出来事がありました。記録できない変更は関所が断ります。いま動いている通信方針はそのまま続きます。",
            "The audit log takes no new entries, or some event could not be recorded. The gateway refuses changes that it cannot record. The policy in force stays.",
        ),
        look: &[
            said(
                "種類を控えてください: closed=書き込めない、refused=断った、lost=記録できなかった。",
                "Note the kind: closed = takes no entries, refused = refused one, lost = one was lost.",
            ),
            said(
                "ダッシュボードの「記録」で、使用容量が上限に近くないか見てください。",
                "See on the page of records whether its room is nearly used up.",
            ),
        ],
        call: said(
            "システム運用担当者に電話し、種類と容量を伝えてください。遠隔保守の予定があれば、事業者に延期を伝えてください。",
            "Call the system operator; give the kind and the room used. If remote maintenance is planned, ask the vendor to wait.",
        ),
        never: said(
            "空きを作るためにログのファイルを消さないでください。改ざんと区別できなくなります。",
            "Do not delete files of the log to make room: it would look like tampering.",
        ),
        operator: &[
            said(
                "`sekisho status` と `df -h` で空きを見る。",
                "See the room left: `sekisho status` and `df -h`.",
            ),
            said(
                "`sekisho audit export` で外に保管してから、`[evidence]` の `log_budget` を見直す。",
                "Keep an export elsewhere (`sekisho audit export`), then look at `log_budget` of `[evidence]`.",
            ),
        ],
    },
};

pub(super) static DAMAGED: Alert = Alert {
    name: "LogDamaged",
    slug: "log-damaged",
    severity: Severity::Critical,
    hold: Hold::None,
    expression: when::damaged,
    title: said("監査ログに異常があります", "The audit log is damaged"),
    summary: said(
        "検証で、書き換え・欠落・巻き戻しのいずれかが見つかりました。",
        "Verification found an edit, a loss or a rollback.",
    ),
    first_step: said(
        "関所に触らず、医療情報システム安全管理責任者とシステム運用担当者に電話してください。",
        "Leave the gateway alone, and call the person responsible for the safety of the systems and the system operator.",
    ),
    page: Page {
        meaning: said(
            "監査ログは、後から書き換えると必ず分かる形で保存しています。検証で食い違いが見つかりました。ディスクの故障か、誰かが書き換えた可能性があります。",
            "The audit log is kept so that any later change shows. Verification found a contradiction: the disk is failing, or somebody changed the log.",
        ),
        look: &[
            said(
                "最近、停電やディスクの故障がありませんでしたか。",
                "Was there a power cut or a failing disk lately?",
            ),
            said("バックアップを戻す作業をした人がいませんか。", "Did somebody put a backup in place?"),
        ],
        call: said(
            "医療情報システム安全管理責任者とシステム運用担当者の両方に電話してください。不正の疑いがあれば、院内の手順に従って届け出ます。",
            "Call both the person responsible for the safety of the systems and the system operator. If tampering is suspected, report it as your own procedure says.",
        ),
        never: said(
            "再起動、ファイルの削除、バックアップからの復元をしないでください。証拠が失われます。",
            "Do not restart, delete files or restore a backup: evidence would be lost.",
        ),
        operator: &[
            said(
                "`sekisho audit verify` で最初の食い違いの番号を見る。",
                "See the first entry that contradicts: `sekisho audit verify`.",
            ),
            said(
                "ディスクの写しを取り、外に保管した書き出しと比べる。",
                "Copy the disk, and compare with exports kept elsewhere.",
            ),
        ],
    },
};

pub(super) static CHECKPOINT_STALE: Alert = Alert {
    name: "LogCheckpointStale",
    slug: "log-checkpoint-stale",
    severity: Severity::Warning,
    hold: Hold::Settle,
    expression: when::checkpoint_stale,
    title: said("監査ログの署名か検証が遅れています", "The audit log is not signed or verified in time"),
    summary: said(
        "一日以上、署名または検証がありません (種類: {{ $labels.what }})。",
        "For more than a day nobody signed or verified it (kind: {{ $labels.what }}).",
    ),
    first_step: said(
        "診療は続けられます。今日中にシステム運用担当者に伝えてください。",
        "Work goes on. Tell the system operator today.",
    ),
    page: Page {
        meaning: said(
            "監査ログには定期的に署名し、全体を検証します。それが遅れています。記録は続いていますが、最近の分が書き換えられていないことを証明できません。",
            "The audit log is signed and verified at intervals, and that is late. Entries are still taken, but it cannot be proved that the latest were not changed.",
        ),
        look: &[said(
            "種類を控えてください: signed=署名、verified=検証。",
            "Note the kind: signed or verified.",
        )],
        call: said("今日中にシステム運用担当者に伝えてください。", "Tell the system operator today."),
        never: said("時計を手で合わせないでください。", "Do not set the clock by hand."),
        operator: &[
            said(
                "`journalctl -u sekisho-record` で署名の失敗を探す。",
                "Look for failed signatures in `journalctl -u sekisho-record`.",
            ),
            said("`sekisho audit verify` を実行する。", "Run `sekisho audit verify`."),
        ],
    },
};

pub(super) static LEDGER_LOSING: Alert = Alert {
    name: "LedgerLosing",
    slug: "ledger-losing",
    severity: Severity::Warning,
    hold: Hold::Short,
    expression: when::ledger_losing,
    title: said("通信台帳に取りこぼしがあります", "The ledger of flows has gaps"),
    summary: said(
        "カーネルの通知 ({{ $labels.feed }}) が届いていません (種類: {{ $labels.what }})。",
        "Notices of the kernel ({{ $labels.feed }}) do not arrive (kind: {{ $labels.what }}).",
    ),
    first_step: said(
        "通信の遮断は続いています。システム運用担当者に伝えてください。",
        "Traffic is still held as the policy says. Tell the system operator.",
    ),
    page: Page {
        meaning: said(
            "「誰と誰がいつ通信したか」を書く台帳に、書けなかった分があります。失われた数は数えてあり、遮断そのものには影響しません。大量の通信(攻撃や故障した機器)でも起こります。",
            "The ledger that says who spoke with whom has gaps. What was lost is counted, and what the gateway stops is not affected. A flood of traffic, by an attack or a broken device, can be the cause.",
        ),
        look: &[
            said(
                "「通信」のページで、止めた通信が急に増えていないか見てください。",
                "See on the network page whether denied traffic rose suddenly.",
            ),
            said("特定の機器のランプが激しく点滅していませんか。", "Does a device blink wildly?"),
        ],
        call: said("システム運用担当者に伝えてください。", "Tell the system operator."),
        never: said("関所の電源を切らないでください。", "Do not switch the gateway off."),
        operator: &[
            said("`sekisho flows` の隙間の表示を見る。", "See the gaps that `sekisho flows` shows."),
            said("`journalctl -u sekisho-watch` を読む。", "Read `journalctl -u sekisho-watch`."),
        ],
    },
};

pub(super) static DISK_BUDGET: Alert = Alert {
    name: "DiskBudget",
    slug: "disk-budget",
    severity: Severity::Warning,
    hold: Hold::Settle,
    expression: when::disk_budget,
    title: said("記録の置き場所が残りわずかです", "Room for records runs out"),
    summary: said(
        "上限の{{ $value | printf \"%.0f\" }}%を使っています (置き場所: {{ $labels.store }})。",
        "{{ $value | printf \"%.0f\" }} % of the budget is used (store: {{ $labels.store }}).",
    ),
    first_step: said(
        "今週中に、システム運用担当者に容量を増やす相談をしてください。",
        "Within the week, ask the system operator for more room.",
    ),
    page: Page {
        meaning: said(
            "監査ログ(audit)または通信台帳(ledger)が、決めておいた容量の上限に近づいています。監査ログは一杯になると、新しい変更を受け付けなくなります。",
            "The audit log (audit) or the ledger of flows (ledger) nears its budget. When the audit log is full, no change is accepted any more.",
        ),
        look: &[said(
            "どちらの置き場所か、何%かを控えてください。",
            "Note which store and how many percent.",
        )],
        call: said(
            "システム運用担当者に、置き場所と割合を伝えてください。",
            "Tell the system operator the store and the share.",
        ),
        never: said("記録のファイルを消さないでください。", "Do not delete files of the records."),
        operator: &[
            said(
                "ディスクの空きを確かめ、`[evidence]` の上限を見直す。",
                "See how much disk is free, and look at the budgets of `[evidence]`.",
            ),
            said(
                "消す前に `sekisho audit export` で外に保管する。",
                "Keep an export elsewhere first: `sekisho audit export`.",
            ),
        ],
    },
};
