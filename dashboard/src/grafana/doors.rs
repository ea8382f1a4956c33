//! The doors: who comes in by VPN, who maintains what, which files cross.

use events::Family;

use super::panel::{Column, Legend, Panel, Show, Source, Target};
use super::units::Unit;
use crate::promql::{or_zero, panel};
use crate::vocabulary::{PERSONS, SESSIONS, VPN_DATA_PATHS, VPN_PEERS, Word};
use crate::words::{Said, said};

const HALF: (u32, u32) = (12, 8);
const THIRD: (u32, u32) = (8, 8);
const QUARTER: (u32, u32) = (6, 8);
const TILE: (u32, u32) = (6, 4);
const TIMES: Said = said("回", "times");
const FILES: Said = said("件", "files");

/// The panels.
pub(crate) fn panels() -> Vec<Panel> {
    let mut panels = vec![Panel::row(said("入口: VPN", "The doors: VPN"))];
    panels.extend(vpn());
    panels.push(Panel::row(said("入口: 遠隔保守", "The doors: remote maintenance")));
    panels.extend(sessions());
    panels.extend(strangers());
    panels.push(Panel::row(said("入口: ファイル", "The doors: files")));
    panels.extend(files());
    panels
}

/// How many there are of each state, now.
fn states(
    title: Said,
    description: Said,
    size: (u32, u32),
    family: Family,
    of: (Said, &'static [Word]),
) -> Panel {
    let (counter, words) = of;
    let now = format!("max by (state) ({})", panel(family, ""));
    let target = Target::new(Legend::Words("state", words), now);
    Panel::new(title, description, size, Show::Bars(Unit::Of(counter), vec![target]))
}

/// How much a counter grew in the time shown, by its label.
fn grown(
    title: Said,
    description: Said,
    size: (u32, u32),
    counter: (Family, &'static str, &str),
    unit: Said,
) -> Panel {
    let (family, label, role) = counter;
    let growth = format!("sum by ({label}) (increase({}[$__range]))", panel(family, ""));
    let target = Target::new(Legend::Label(label), or_zero(&growth, role));
    Panel::new(title, description, size, Show::Bars(Unit::Of(unit), vec![target]))
}

/// Bytes a second, by way.
fn carried(title: Said, description: Said, size: (u32, u32), family: Family) -> Panel {
    let rate = format!("sum by (way) (rate({}[$__rate_interval]))", panel(family, ""));
    let target = Target::new(Legend::Label("way"), or_zero(&rate, "edge"));
    Panel::new(title, description, size, Show::Series(Unit::BytesPerS, vec![target]))
}

/// One number.
fn stat(title: Said, description: Said, unit: Unit, expression: String) -> Panel {
    Panel::new(title, description, TILE, Show::Stat(unit, vec![Target::new(Legend::Said(title), expression)]))
}

fn vpn() -> Vec<Panel> {
    let path =
        Target::new(Legend::Pattern(""), format!("max by (path) ({} == 1)", panel(Family::VpnDataPath, "")));
    vec![
        stat(
            said("最後の握手", "Last handshake"),
            said(
                "VPN利用者のどれかとの握手が最後に成立した時。",
                "When a handshake with any of the peers was last finished.",
            ),
            Unit::WhenIfEver,
            format!("max({}) * 1000", panel(Family::VpnHandshake, "")),
        ),
        Panel::new(
            said("VPNを運ぶもの", "Who carries the VPN"),
            said(
                "カーネルのWireGuardか、edgeプロセスのWireGuardか。",
                "The kernel's WireGuard, or that of the edge role.",
            ),
            TILE,
            Show::Table(
                vec![path],
                vec![Column {
                    source: Source::Words("path", &VPN_DATA_PATHS),
                    title: said("運ぶもの", "carried by"),
                }],
            ),
        ),
        states(
            said("VPN利用者", "VPN peers"),
            said(
                "登録されている数、いま接続中の数、期限の切れた数。",
                "How many there are, how many are connected now, how many have expired.",
            ),
            HALF,
            Family::VpnPeers,
            (said("件", "peers"), &VPN_PEERS),
        )
        .guided("controls-encryption"),
        carried(
            said("VPNの通信量", "Traffic of the VPN"),
            said("VPNの中を通った量。", "What passed inside the VPN."),
            HALF,
            Family::VpnBytes,
        ),
        grown(
            said("VPNが捨てたもの", "What the VPN dropped"),
            said(
                "表示している期間に、鍵のない相手や偽りの通信を捨てた数。",
                "Packets dropped in the time shown: of strangers, forged, spoofed.",
            ),
            HALF,
            (Family::VpnDrops, "cause", "edge"),
            said("個", "packets"),
        ),
    ]
}

fn sessions() -> Vec<Panel> {
    let connections = format!("sum(increase({}[$__range]))", panel(Family::SessionConnections, ""));
    vec![
        states(
            said("いまの保守", "Sessions now"),
            said(
                "承認を待つ申請と、いま接続できる保守の数。",
                "Requests that wait for an approval, and sessions that are open now.",
            ),
            QUARTER,
            Family::SessionStates,
            (said("件", "sessions"), &SESSIONS),
        )
        .guided("session-waiting"),
        grown(
            said("保守の申請と承認", "Requests and approvals"),
            said("表示している期間の、申請・承認・却下・開始の数。", "Steps of sessions in the time shown."),
            QUARTER,
            (Family::Sessions, "step", "core"),
            TIMES,
        )
        .guided("controls-maintenance"),
        grown(
            said("保守の終わり方", "How sessions ended"),
            said(
                "表示している期間に終わった保守、理由ごと。",
                "Sessions that ended in the time shown, by why.",
            ),
            QUARTER,
            (Family::SessionsEnded, "why", "core"),
            TIMES,
        )
        .guided("controls-maintenance"),
        carried(
            said("保守の通信量", "Traffic of maintenance"),
            said("保守の間に運んだ量。", "What sessions carried."),
            QUARTER,
            Family::SessionBytes,
        ),
        stat(
            said("保守の接続", "Connections"),
            said(
                "表示している期間に、保守で機器に張られた接続の数。",
                "Connections to devices that sessions carried in the time shown.",
            ),
            Unit::Of(TIMES),
            or_zero(&connections, "edge"),
        ),
    ]
}

fn strangers() -> Vec<Panel> {
    let locks = format!("sum(increase({}[$__range]))", panel(Family::PersonLocks, ""));
    vec![
        grown(
            said("保守の入口での握手", "Handshakes at the maintenance door"),
            said(
                "表示している期間に、入口に来た相手。断った相手も数えます。",
                "Who knocked in the time shown; those refused are counted too.",
            ),
            QUARTER,
            (Family::Handshakes, "end", "edge"),
            TIMES,
        )
        .guided("door-attacked"),
        states(
            said("二要素目を登録した人", "Persons with a second factor"),
            said(
                "登録した人と、コードの誤りが続いて締め出されている人。",
                "Those enrolled, and those locked out after wrong codes.",
            ),
            QUARTER,
            Family::Persons,
            (said("名", "persons"), &PERSONS),
        )
        .guided("door-attacked"),
        stat(
            said("締め出した回数", "Times locked out"),
            said(
                "表示している期間に、コードの誤りが続いて締め出した回数。",
                "Times in the time shown that a person was locked out after wrong codes.",
            ),
            Unit::Of(TIMES),
            or_zero(&locks, "core"),
        )
        .guided("door-attacked"),
    ]
}

fn files() -> Vec<Panel> {
    let max = |family| format!("max({})", panel(family, ""));
    let room = vec![
        Target::new(Legend::Said(said("使用", "used")), max(Family::FilesBytes)),
        Target::new(Legend::Said(said("上限", "budget")), max(Family::FilesBudget)),
    ];
    let by = |title, description, family, label| {
        grown(title, description, THIRD, (family, label, "files"), FILES).guided("controls-maintenance")
    };
    vec![
        by(
            said("ファイルの行方", "What became of files"),
            said(
                "表示している期間に事業者が送ったファイル、結果ごと。",
                "Files that vendors sent in the time shown, by what became of them.",
            ),
            Family::Files,
            "fate",
        ),
        by(
            said("検査の判定", "Verdicts of inspection"),
            said("表示している期間の検査の判定。", "What inspections said in the time shown."),
            Family::FileVerdicts,
            "verdict",
        ),
        by(
            said("断った理由", "What was found"),
            said(
                "表示している期間に断ったファイルの検出事項 (検出事項の名前)。",
                "What inspection found in files that were refused, by the name of the finding.",
            ),
            Family::FileFindings,
            "finding",
        ),
        stat(
            said("検査中のファイル", "Files held"),
            said("いま検査中・受け渡し中のファイル。", "Files that are inspected or on their way now."),
            Unit::Of(FILES),
            max(Family::FilesHeld),
        ),
        Panel::new(
            said("ファイルの保管容量", "Room of files"),
            said(
                "保管中のファイルと封印した原本の使用量と上限。",
                "Held files and sealed originals, and the budget.",
            ),
            THIRD,
            Show::Series(Unit::Bytes, room),
        ),
    ]
}
