//! Alerts about what has to be looked after: clock, certificates, backups.

use super::expressions as when;
use super::{Alert, Hold, Page, Severity};
use crate::words::said;

pub(super) static TIME: Alert = Alert {
    name: "TimeNotTrusted",
    slug: "time-not-trusted",
    severity: Severity::Warning,
    hold: Hold::Settle,
    expression: when::time,
    title: said("関所の時計を信頼できません", "The gateway's clock is not trusted"),
    summary: said(
        "時刻が合っていると確かめられません (種類: {{ $labels.what }})。",
        "Its time is not known to be right (kind: {{ $labels.what }}).",
    ),
    first_step: said(
        "時間帯を決めた通信許可は開きません。システム運用担当者に電話してください。",
        "Flows with opening hours stay closed. Call the system operator.",
    ),
    page: Page {
        meaning: said(
            "関所の時計が時刻サーバと合っていないか、誰も確かめていません。記録の時刻が証拠になりにくく、時間帯つきの通信許可は安全のため閉じたままです。",
            "The gateway's clock does not agree with a time server, or nobody has confirmed it. Times in the records are weak evidence, and flows with opening hours stay closed to be safe.",
        ),
        look: &[
            said(
                "種類を控えてください: untrusted=未確認、unsynchronised=時刻サーバに届かない、off=ずれている。",
                "Note the kind: untrusted = not confirmed, unsynchronised = no time server, off = wrong.",
            ),
            said("インターネットは使えますか。", "Does the internet work?"),
        ],
        call: said("システム運用担当者に種類を伝えてください。", "Tell the system operator the kind."),
        never: said(
            "記録がある装置の時計を手で進めたり戻したりしないでください。",
            "Do not turn the clock of a machine that keeps records by hand.",
        ),
        operator: &[
            said(
                "関所の `chronyc tracking` と `chronyc sources` を見る。",
                "See `chronyc tracking` and `chronyc sources` on the gateway.",
            ),
            said(
                "時計が正しいことを確かめてから `sekisho time trusted` を実行する。",
                "Make sure the clock is right, then run `sekisho time trusted`.",
            ),
        ],
    },
};

pub(super) static CERTIFICATE: Alert = Alert {
    name: "CertificateEnding",
    slug: "certificate-ending",
    severity: Severity::Warning,
    hold: Hold::Patient,
    expression: when::certificate,
    title: said("証明書の期限が近づいています", "A certificate ends soon"),
    summary: said(
        "あと{{ $value | humanizeDuration }}で切れます (受け口: {{ $labels.door }})。",
        "It ends in {{ $value | humanizeDuration }} (door: {{ $labels.door }}).",
    ),
    first_step: said(
        "切れると関所の状態が読めなくなります。今週中にシステム運用担当者に更新を頼んでください。",
        "When it ends the gateway's state can no longer be read. Ask the system operator this week to renew it.",
    ),
    page: Page {
        meaning: said(
            "関所の受け口の証明書がまもなく切れます。普段は自動で更新されるので、この警報が出るのは更新が失敗しているか、時計が狂っているときです。",
            "The certificate of one of the gateway's doors ends soon. It is renewed by itself, so this alert means that renewal fails or a clock is wrong.",
        ),
        look: &[said(
            "「時計を信頼できません」の警報も出ていませんか。",
            "Is there an alert about the clock as well?",
        )],
        call: said(
            "今週中にシステム運用担当者に更新を頼んでください。",
            "Ask the system operator this week to renew it.",
        ),
        never: said(
            "証明書の確認を無効にする設定をしないでください。",
            "Do not switch the check of certificates off.",
        ),
        operator: &[
            said(
                "`journalctl -u sekisho-console` で更新の失敗を探す。",
                "Look for a failed renewal in `journalctl -u sekisho-console`.",
            ),
            said(
                "`sekisho metrics readers` で読み手側の期限も見る。",
                "See the readers' ends as well: `sekisho metrics readers`.",
            ),
        ],
    },
};

pub(super) static BACKUP: Alert = Alert {
    name: "BackupOld",
    slug: "backup-old",
    severity: Severity::Warning,
    hold: Hold::Patient,
    expression: when::backup,
    title: said("関所のバックアップが古くなっています", "The gateway's backup is old"),
    summary: said(
        "設定のバックアップが1か月以上ありません (種類: {{ $labels.what }})。",
        "There is no backup of its settings of the last month (kind: {{ $labels.what }}).",
    ),
    first_step: said(
        "システム運用担当者に、関所のバックアップを取って別の場所に置くよう頼んでください。",
        "Ask the system operator to make a backup of the gateway and to keep it elsewhere.",
    ),
    page: Page {
        meaning: said(
            "関所の設定と鍵の控えが古いか(old)、一度も取られていません(never)。関所が壊れたとき、元に戻すのに時間がかかります。電子カルテのバックアップとは別のものです。",
            "The copy of the gateway's settings and keys is old (old) or was never made (never). If the gateway breaks, it takes long to put it right. The backup of the electronic record is another matter.",
        ),
        look: &[said(
            "バックアップ用の媒体(USBなど)がつながっているか見てください。",
            "See whether the backup medium is connected.",
        )],
        call: said("今週中にシステム運用担当者に頼んでください。", "Ask the system operator this week."),
        never: said(
            "バックアップの媒体を関所につないだままにしないでください。",
            "Do not leave the backup medium connected.",
        ),
        operator: &[
            said(
                "`sekisho backup` で取り、別の建物か鍵のかかる場所に置く。",
                "Make one with `sekisho backup` and keep it in another building or under lock.",
            ),
            said("年に一度は復元できることを確かめる。", "Once a year see that it can be restored."),
        ],
    },
};
