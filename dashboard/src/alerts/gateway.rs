//! Alerts about the gateway, its rules and what it sees.

use super::expressions as when;
use super::{Alert, Hold, Page, Severity};
use crate::words::said;

pub(super) static ABSENT: Alert = Alert {
    name: "GatewayAbsent",
    slug: "gateway-absent",
    severity: Severity::Critical,
    hold: Hold::Short,
    expression: when::absent,
    title: said("関所から応答がありません", "The gateway does not answer"),
    summary: said(
        "関所の状態が読めません。通信が正しく止められているか、いまは分かりません。",
        "Its state cannot be read. Whether traffic is still held as the policy says is not known.",
    ),
    first_step: said(
        "関所の電源ランプとLANケーブルを見て、システム運用担当者に電話してください。電源は切らないでください。",
        "Look at the power lamp and the LAN cable of the gateway and call the system operator. Do not switch it off.",
    ),
    page: Page {
        meaning: said(
            "見張り役(Prometheus)が関所の状態を読めません。関所が止まった、見張り役とのケーブルが抜けた、証明書が切れた、のどれかです。関所は見張り役がいなくても通信を止め続けますが、それを確かめる目がない状態です。",
            "The watcher (Prometheus) cannot read the gateway's state: the gateway has stopped, the cable between them is out, or a certificate has ended. The gateway goes on holding traffic without a watcher, but nobody can see that it does.",
        ),
        look: &[
            said("関所の電源ランプは点いていますか。", "Is the power lamp of the gateway on?"),
            said("関所につながるLANケーブルが抜けていませんか。", "Is a LAN cable of the gateway out?"),
            said("電子カルテはいつもどおり使えますか。", "Does the electronic record work as usual?"),
        ],
        call: said(
            "システム運用担当者に電話し、「関所から応答がない」と、上の3つの答えを伝えてください。電子カルテも使えないときは、医療情報システム安全管理責任者にも電話してください。",
            "Call the system operator, say that the gateway does not answer, and give the three answers. If the electronic record does not work either, call the person responsible for the safety of the systems as well.",
        ),
        never: said(
            "関所を外して、機器をインターネット回線に直接つながないでください。",
            "Do not take the gateway out and connect devices to the internet line directly.",
        ),
        operator: &[
            said("`sekisho status` を関所の上で実行する。", "Run `sekisho status` on the gateway."),
            said(
                "`sekisho metrics readers` で読み手の証明書の期限を見る。",
                "See with `sekisho metrics readers` until when the reader's certificate is good.",
            ),
            said(
                "管理用の区画から関所の統計ポート(通常 9464)に届くか確かめる。",
                "See whether the metrics port (usually 9464) is reached from the management zone.",
            ),
        ],
    },
};

pub(super) static ROLE_DOWN: Alert = Alert {
    name: "RoleDown",
    slug: "role-down",
    severity: Severity::Critical,
    hold: Hold::Short,
    expression: when::role_down,
    title: said("関所の機能の一部が止まっています", "A part of the gateway has stopped"),
    summary: said(
        "「{{ $labels.title_ja }}」が応答していません。",
        "`{{ $labels.title_en }}` does not answer.",
    ),
    first_step: said(
        "診療は続けられます。システム運用担当者に、止まっている機能の名前を伝えてください。",
        "Work goes on. Tell the system operator the name of the part that has stopped.",
    ),
    page: Page {
        meaning: said(
            "関所は役割ごとに別々のプログラムで動きます。そのうちの1つが応答していません。通信の遮断はカーネルの中で続きますが、記録・観測・判定のどれかが止まっています。",
            "The gateway runs as several programs, one for each role. One of them does not answer. Traffic is still held by the kernel, but recording, watching or judging has stopped.",
        ),
        look: &[
            said("警報の文に書かれた機能の名前を控えてください。", "Note the name of the part in the alert."),
            said(
                "数分待っても直らないか見てください(自動で起動し直します)。",
                "Wait a few minutes: it is started again by itself.",
            ),
        ],
        call: said(
            "5分たっても直らなければ、システム運用担当者に機能の名前を伝えてください。",
            "If it lasts five minutes, tell the system operator the name of the part.",
        ),
        never: said(
            "関所の電源を切らないでください。調べるための手がかりが消えます。",
            "Do not switch the gateway off: what could explain it would be lost.",
        ),
        operator: &[
            said(
                "`systemctl status 'sekisho-*'` で止まったユニットを見る。",
                "See which unit has stopped: `systemctl status 'sekisho-*'`.",
            ),
            said(
                "`journalctl -u sekisho-役割` で終わり方を読む。",
                "Read how it ended: `journalctl -u sekisho-ROLE`.",
            ),
        ],
    },
};

pub(super) static NOTHING_PASSES: Alert = Alert {
    name: "NothingPasses",
    slug: "nothing-passes",
    severity: Severity::Critical,
    hold: Hold::Short,
    expression: when::nothing_passes,
    title: said("通信がすべて止まっています", "Nothing passes"),
    summary: said(
        "関所は安全のため通信を止めたままです (状態: {{ $labels.state }})。",
        "The gateway holds all traffic, to be safe (state: {{ $labels.state }}).",
    ),
    first_step: said(
        "電子カルテや検査機器が使えません。システム運用担当者にすぐ電話し、紙の運用に切り替えてください。",
        "The electronic record and the examination devices cannot be used. Call the system operator at once and go over to paper.",
    ),
    page: Page {
        meaning: said(
            "正しいと確かめられた通信方針がないため、関所はすべての通信を止めています。壊れた設定で通すより止めるほうが安全なためで、故障とは限りません。",
            "There is no policy that is known to be right, so the gateway holds all traffic. Holding is safer than passing by a broken one; it need not be a fault.",
        ),
        look: &[
            said(
                "いま設定を変える作業をしている人がいませんか。",
                "Is somebody changing the settings right now?",
            ),
            said(
                "停電や再起動の直後ではありませんか(数分で直ることがあります)。",
                "Was there a power cut or a restart? It may settle within minutes.",
            ),
        ],
        call: said(
            "システム運用担当者にすぐ電話してください。診療に影響するので、医療情報システム安全管理責任者にも知らせてください。",
            "Call the system operator at once, and tell the person responsible for the safety of the systems: care is affected.",
        ),
        never: said(
            "関所を通さない配線に変えないでください。院内がインターネットに直接さらされます。",
            "Do not wire around the gateway: the clinic would stand open to the internet.",
        ),
        operator: &[
            said("`sekisho status` で理由を読む。", "Read the reason: `sekisho status`."),
            said(
                "`sekisho policy check 方針ファイル` で確かめ、`sekisho apply` で適用し直す。",
                "Check the policy with `sekisho policy check FILE` and put it in force with `sekisho apply`.",
            ),
            said(
                "管理区画からの統計の読み取りも止まるため、別の機械のPrometheusには「関所が応答しません」として見えます。この警報が出るのは、関所の中で読む場合だけです。",
                "A Prometheus on another machine cannot read the metrics then and shows the gateway as absent: this alert comes only where they are read on the gateway itself.",
            ),
        ],
    },
};

pub(super) static CHANGED_BY_OTHERS: Alert = Alert {
    name: "RulesChangedByOthers",
    slug: "rules-changed-by-others",
    severity: Severity::Critical,
    hold: Hold::None,
    expression: when::changed_by_others,
    title: said("通信の規則が関所以外から変えられました", "Somebody else changed the rules"),
    summary: said(
        "方針にない変更が見つかりました (種類: {{ $labels.what }})。",
        "A change was found that is not of the policy (kind: {{ $labels.what }}).",
    ),
    first_step: said(
        "いま関所で作業している人がいるか確かめ、いなければシステム運用担当者にすぐ電話してください。",
        "Ask who is working on the gateway. If nobody is, call the system operator at once.",
    ),
    page: Page {
        meaning: said(
            "関所の通信規則が、関所の通信方針とは別のところから書き換えられたか、別のプログラムの規則が置かれました。関所の規則は自動で元に戻します。誰が変えたか分からないときは、不正侵入の疑いがあります。",
            "The rules in the gateway were changed by something other than its policy, or another program put rules of its own beside them. The gateway puts its own rules back by itself. If nobody knows who did it, somebody may have broken in.",
        ),
        look: &[
            said(
                "関所で作業をしている事業者や担当者がいますか。",
                "Is a vendor or operator working on the gateway?",
            ),
            said(
                "警報の「種類」を控えてください: repaired=元に戻した、differs=まだ違う、foreign=別の規則がある。",
                "Note the kind: repaired = put back, differs = still different, foreign = rules of another program.",
            ),
        ],
        call: said(
            "作業の予定がなければ、システム運用担当者と医療情報システム安全管理責任者に電話し、時刻と種類を伝えてください。",
            "If no work was planned, call the system operator and the person responsible for the safety of the systems; give the time and the kind.",
        ),
        never: said(
            "関所を再起動しないでください。侵入の跡を調べられなくなります。",
            "Do not restart the gateway: traces of an intruder would be lost.",
        ),
        operator: &[
            said("`sekisho verify` で違いを見る。", "See the difference: `sekisho verify`."),
            said(
                "`nft list tables` で関所以外の表を探し、置いたプログラムを止める。",
                "Look for tables of others with `nft list tables` and stop the program that put them there.",
            ),
            said(
                "`sekisho audit list` で前後の出来事を見る。",
                "See what happened around it: `sekisho audit list`.",
            ),
        ],
    },
};

pub(super) static READBACK_STALE: Alert = Alert {
    name: "ReadBackStale",
    slug: "readback-stale",
    severity: Severity::Critical,
    hold: Hold::Short,
    expression: when::readback_stale,
    title: said("規則の照合が止まっています", "The rules are no longer compared"),
    summary: said(
        "実際の規則が方針と同じか、しばらく確かめられていません。",
        "For some time nobody has found the rules in the kernel equal to the policy.",
    ),
    first_step: said(
        "診療は続けられます。システム運用担当者に電話してください。",
        "Work goes on. Call the system operator.",
    ),
    page: Page {
        meaning: said(
            "関所は数秒ごとに、実際に動いている規則が通信方針と同じかを読み返して確かめます。その確認が止まったか、違いが直っていません。「方針どおり」と言えない状態です。",
            "Every few seconds the gateway reads its rules back and compares them with the policy. That has stopped, or a difference remains. It cannot be said that what runs is what the policy says.",
        ),
        look: &[
            said(
                "ほかの警報が同時に出ていませんか。あればそちらを先に読んでください。",
                "Are there other alerts? Read those first.",
            ),
            said(
                "関所と見張り役の時計が1分以上ずれていませんか。",
                "Do the clocks of the gateway and of the watcher differ by a minute or more?",
            ),
        ],
        call: said("システム運用担当者に電話してください。", "Call the system operator."),
        never: said("通信方針を急いで書き換えないでください。", "Do not hurry to rewrite the policy."),
        operator: &[
            said("`sekisho verify` を実行する。", "Run `sekisho verify`."),
            said(
                "`journalctl -u sekisho-core` で読み返しの失敗を探す。",
                "Look for failed readings in `journalctl -u sekisho-core`.",
            ),
        ],
    },
};

pub(super) static CONTROL_FAILED: Alert = Alert {
    name: "ControlFailed",
    slug: "control-failed",
    severity: Severity::Warning,
    hold: Hold::Settle,
    expression: when::control_failed,
    title: said("対応が必要な管理策があります", "A control needs action"),
    summary: said(
        "「{{ $labels.title_ja }}」が ✖ 要対応 です。",
        "`{{ $labels.title_en }}` is ✖ action needed.",
    ),
    first_step: said(
        "ダッシュボードの「管理策」でその項目を開き、「次にすること」を読んでください。",
        "Open the control on the page of controls and read what to do next.",
    ),
    page: Page {
        meaning: said(
            "厚生労働省のガイドラインにある項目のうち、関所が測っているものが「要対応」になりました。測定にもとづく判定で、理由と次にすることが項目ごとに書かれています。",
            "One of the items of the ministry's guideline that the gateway measures has come to need action. It is judged from measurements; each item says why and what to do next.",
        ),
        look: &[
            said("項目の名前と理由を読んでください。", "Read the name of the item and the reason."),
            said(
                "最近の工事・機器の入れ替え・設定変更に心当たりがないか確かめてください。",
                "Think of recent works, new devices and changed settings.",
            ),
        ],
        call: said(
            "「次にすること」に書かれた相手に連絡してください。分からないときはシステム運用担当者に電話してください。",
            "Call whom the next step names; if in doubt, the system operator.",
        ),
        never: said(
            "表示を消すために通信許可や例外を足さないでください。",
            "Do not add flows or exceptions to make the sign go away.",
        ),
        operator: &[said(
            "`sekisho controls` で理由と証跡の番号を見る。",
            "See the reason and the entry of the log: `sekisho controls`.",
        )],
    },
};

pub(super) static SUSPICIOUS: Alert = Alert {
    name: "SuspiciousTraffic",
    slug: "suspicious-traffic",
    severity: Severity::Warning,
    hold: Hold::None,
    expression: when::suspicious,
    title: said("不審な通信がありました", "Suspicious traffic was seen"),
    summary: said("種類: {{ $labels.title_ja }}", "kind: {{ $labels.title_en }}"),
    first_step: said(
        "最近つないだ機器がないか確かめ、心当たりがなければシステム運用担当者に電話してください。",
        "Ask whether somebody connected a device lately; if nobody did, call the system operator.",
    ),
    page: Page {
        meaning: said(
            "登録された機器なら出さないはずの通信を見つけました。勝手につながれたルータ、登録のない遠隔操作ソフト、暗号化されない医療情報の通信などです。方針にない通信は止めていますが、原因の機器はまだつながっています。",
            "Traffic was seen that no registered device should send: a router that somebody plugged in, remote-control software that no vendor declared, medical data in clear text. What the policy does not allow was stopped, but the device is still connected.",
        ),
        look: &[
            said(
                "最近、機器・Wi-Fiルータ・パソコンをつないだ人がいませんか。",
                "Did somebody connect a device, a Wi-Fi router or a PC lately?",
            ),
            said(
                "いま遠隔保守をしている事業者がいませんか。",
                "Is a vendor maintaining something from afar right now?",
            ),
        ],
        call: said(
            "心当たりの機器があれば外し、システム運用担当者に知らせてください。なければすぐにシステム運用担当者に電話してください。",
            "If you know the device, unplug it and tell the system operator; if not, call the system operator at once.",
        ),
        never: said(
            "疑わしいパソコンの電源を切らないでください。ケーブルだけ抜きます。",
            "Do not switch a suspicious PC off: only pull its cable.",
        ),
        operator: &[
            said(
                "`sekisho flows --since ..` で、どの機器が誰と話したかを見る。",
                "See which device spoke with whom: `sekisho flows --since ..`.",
            ),
            said("確認が済んだらログの確認を記録する。", "Record a log review once it is settled."),
        ],
    },
};
