//! Alerts about the doors: somebody waits at one, or somebody tries to break it.

use super::expressions as when;
use super::{Alert, Hold, Page, Severity};
use crate::words::said;

pub(super) static WAITING: Alert = Alert {
    name: "SessionWaiting",
    slug: "session-waiting",
    severity: Severity::Warning,
    hold: Hold::Settle,
    expression: when::session_waiting,
    title: said("保守の申請が承認を待っています", "A request for maintenance waits"),
    summary: said(
        "5分以上、承認も却下もされていない申請があります。",
        "For five minutes nobody has approved or denied it.",
    ),
    first_step: said(
        "申請した事業者に心当たりがあるか確かめ、承認する人(院長など)に知らせてください。",
        "Find out whether the vendor was expected, and tell the person who approves.",
    ),
    page: Page {
        meaning: said(
            "保守事業者の担当者が、院内の機器につなぐ許可を求めて待っています。承認されるまで、つながる経路はありません。",
            "An engineer of a vendor waits for leave to reach a device of the clinic. Until somebody approves there is no path.",
        ),
        look: &[
            said("きょう保守の約束がありますか。", "Was maintenance planned for today?"),
            said("事業者から電話や連絡がありましたか。", "Has the vendor called or written?"),
        ],
        call: said(
            "約束があれば、承認する人に電話してください。なければ、事業者の代表番号(名刺や契約書にある番号)に電話して確かめてください。",
            "If it was planned, call the person who approves. If not, call the vendor by the number in the contract, and ask.",
        ),
        never: said(
            "相手が急いでいても、電話で認証コードを教えないでください。",
            "Do not tell anybody a code by telephone, however urgent it is said to be.",
        ),
        operator: &[
            said(
                "`sekisho session list` と `sekisho session show ID` で、誰が・どこへ・何のためかを見る。",
                "See who, where to and what for: `sekisho session list`, `sekisho session show ID`.",
            ),
            said(
                "`sekisho session approve ID --person 氏名` で承認、`sekisho session deny ID --reason 理由` で却下する。",
                "Approve with `sekisho session approve ID --person NAME`, or deny with `sekisho session deny ID --reason WHY`.",
            ),
        ],
    },
};

pub(super) static ATTACKED: Alert = Alert {
    name: "DoorAttacked",
    slug: "door-attacked",
    severity: Severity::Warning,
    hold: Hold::None,
    expression: when::door_attacked,
    title: said("入口が試されています", "Somebody tries the doors"),
    summary: said(
        "コードの誤りが続いたか、断った接続が急に増えました (種類: {{ $labels.what }})。",
        "Codes were wrong time and again, or refused connections rose suddenly (kind: {{ $labels.what }}).",
    ),
    first_step: said(
        "種類が guessed なら、締め出された本人に、自分で打ち間違えたか尋ねてください。違えばシステム運用担当者に電話してください。",
        "If the kind is guessed, ask the person who is locked out whether it was a slip. If not, call the system operator.",
    ),
    page: Page {
        meaning: said(
            "guessed=承認や管理に使う6桁のコードが5回続けて誤り、その人のコードをしばらく受け付けません。knocked=保守の入口に、証明書のない相手が15分に300回を超えて接続してきました。どちらも断っています。",
            "guessed = the six-digit code of a person who approves or administers was wrong five times, and none of that person is taken for a while. knocked = more than 300 connections without a certificate came to the maintenance door within 15 minutes. Both were refused.",
        ),
        look: &[
            said("警報の「種類」を控えてください。", "Note the kind in the alert."),
            said(
                "guessed: 誰が締め出されたか、本人に心当たりがあるか。",
                "guessed: who is locked out, and was it that person?",
            ),
            said(
                "knocked: 電子カルテやインターネットが遅くなっていませんか。",
                "knocked: is the record system or the internet slow?",
            ),
        ],
        call: said(
            "本人に心当たりがない、または通信が遅いときは、システム運用担当者に電話してください。",
            "If it was not that person, or the line is slow, call the system operator.",
        ),
        never: said(
            "締め出しを解くために、コードの登録を人に代わってもらわないでください。",
            "Do not let anybody else enrol a code in your place to end a lock.",
        ),
        operator: &[
            said(
                "`sekisho person list` で締め出しの終わりを見る。ほかの管理者は `sekisho person remove` と `enrol` で登録し直せる。",
                "See until when: `sekisho person list`. Another admin can enrol the person anew (`sekisho person remove`, `enrol`).",
            ),
            said(
                "`journalctl -u sekisho-edge` と、必要なら回線事業者で接続元を調べる。",
                "Look for the source in `journalctl -u sekisho-edge`, and with the provider of the line.",
            ),
        ],
    },
};
