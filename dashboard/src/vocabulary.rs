//! The closed values of labels, in words for people. A value of `events` or `policy` that is missing here fails a test.

use policy::diagnostic::Language;

use crate::words::{Said, said};

/// A value of a label, and what people read instead.
pub(crate) type Word = (&'static str, Said);

/// Roles.
pub(crate) const ROLES: [Word; 6] = [
    ("core", said("判断と規則の適用 (core)", "decides and carries out (core)")),
    ("watch", said("通信の観測と台帳 (watch)", "reads traffic, keeps the ledger (watch)")),
    ("record", said("監査ログ (record)", "keeps the audit log (record)")),
    ("console", said("状態の判定と統計 (console)", "judges and serves metrics (console)")),
    ("edge", said("VPNと保守の入口 (edge)", "the doors of VPN and maintenance (edge)")),
    ("files", said("ファイルの検査と受け渡し (files)", "holds and delivers files (files)")),
];

/// What is in force.
pub(crate) const ENFORCEMENT: [Word; 3] = [
    ("applied", said("● 方針どおり", "● as the policy says")),
    ("closed", said("✖ 全遮断", "✖ nothing passes")),
    ("unsettled", said("▲ 未確定", "▲ unsettled")),
];

/// States of a control, as [`policy::guideline::State`] words them.
pub(crate) const CONTROL_STATES: [Word; 7] = [
    ("failed", said("✖ 要対応", "✖ action needed")),
    ("unknown", said("？ 不明", "？ unknown")),
    ("warning", said("▲ 注意", "▲ attention")),
    ("ok", said("● 正常", "● ok")),
    ("not_applicable", said("－ 対象外", "－ not applicable")),
    ("organizational", said("○ 組織で対応", "○ done by the clinic")),
    ("not_measured", said("… 未測定", "… not measured")),
];

/// Outcomes of an apply.
pub(crate) const OUTCOMES: [Word; 5] = [
    ("applied", said("適用した", "applied")),
    ("refused", said("断った", "refused")),
    ("unchanged", said("変えられなかった", "unchanged")),
    ("rolled_back", said("元に戻した", "rolled back")),
    ("closed", said("全遮断にした", "closed")),
];

/// Why packets are denied.
pub(crate) const REASONS: [Word; 11] = [
    ("no_flow", said("許可がない", "no flow allows it")),
    ("spoofed", said("送信元の偽り", "spoofed source")),
    ("invalid_input", said("つながりのない通信 (関所あて)", "part of no connection (to the gateway)")),
    ("invalid_forward", said("つながりのない通信 (通り抜け)", "part of no connection (through it)")),
    ("invalid_output", said("つながりのない通信 (関所から)", "part of no connection (from it)")),
    ("stray", said("途中からの通信", "does not begin a connection")),
    ("unrelated", said("関係のないエラー通知", "error about no connection")),
    ("unroutable", said("行き先がない", "no way there")),
    ("grant_ended", said("終わった遠隔保守の通信", "of maintenance that has ended")),
    ("unknown_interface", said("どの区画でもない口から", "from no zone")),
    ("closed", said("全遮断中", "nothing passes")),
];

/// Kinds of suspicious traffic.
pub(crate) const SUSPICIONS: [Word; 5] = [
    ("dhcp_server", said("知らないDHCPサーバ", "unknown DHCP server")),
    ("router", said("知らないルータ", "unknown router")),
    ("remote_control", said("登録のない遠隔操作", "remote control that no vendor declared")),
    ("clear_text", said("暗号化されていない医療・ログイン通信", "medical data or login in clear text")),
    ("spoofed", said("送信元の偽り", "spoofed source")),
];

/// What the kernel tells of.
pub(crate) const FEEDS: [Word; 2] = [
    ("denials", said("止めた通信", "denied packets")),
    ("connections", said("通信の開始と終了", "connections")),
];

/// Changes of a connection.
pub(crate) const CHANGES: [Word; 2] =
    [("started", said("開始", "started")), ("ended", said("終了", "ended"))];

/// Ways in which a clock is set.
pub(crate) const DIRECTIONS: [Word; 2] =
    [("forward", said("進んだ", "forward")), ("back", said("戻った", "back"))];

/// Things that somebody does from time to time.
pub(crate) const DEEDS: [Word; 9] = [
    ("backup", said("設定のバックアップ", "backup of the settings")),
    ("restore_check", said("バックアップの復元確認", "restore check")),
    ("restore", said("バックアップの復元", "restore")),
    ("log_review", said("ログの確認", "log review")),
    ("log_export", said("ログの書き出し", "log export")),
    ("report", said("報告書の作成", "report")),
    ("reader_added", said("統計の読み手の追加", "reader of the metrics added")),
    ("reader_removed", said("統計の読み手の削除", "reader of the metrics removed")),
    ("token_made", said("統計の読み取り用トークンの作成", "token for the metrics made")),
];

/// Results of a scrape.
pub(crate) const RESULTS: [Word; 5] = [
    ("answered", said("応じた", "answered")),
    ("handshake", said("証明書で断った", "refused: certificate")),
    ("token", said("トークンで断った", "refused: token")),
    ("request", said("要求で断った", "refused: request")),
    ("busy", said("混雑で断った", "refused: busy")),
];

/// Devices.
pub(crate) const DEVICES: [Word; 3] = [
    ("registered", said("台帳の機器", "registered")),
    ("seen", said("最近つながった台帳の機器", "registered and seen")),
    ("unknown", said("台帳にない機器", "not in the ledger")),
];

/// Tests that the gateway makes of itself.
pub(crate) const SELF_TESTS: [Word; 4] = [
    ("inspection", said("ファイル検査の点検", "the inspection of files")),
    ("listeners", said("待ち受けポートの点検", "listening sockets")),
    ("metrics_door", said("統計の受け口の点検", "the metrics listener")),
    ("time", said("時刻サービスの点検", "the time service")),
];

/// Peers of the VPN.
pub(crate) const VPN_PEERS: [Word; 3] = [
    ("configured", said("登録", "configured")),
    ("connected", said("接続中", "connected")),
    ("expired", said("期限切れ", "expired")),
];

/// Which WireGuard carries the VPN's packets.
pub(crate) const VPN_DATA_PATHS: [Word; 3] = [
    ("kernel", said("カーネル", "the kernel")),
    ("user", said("edgeプロセス", "the edge role")),
    ("none", said("VPNなし", "no VPN")),
];

/// Maintenance sessions that are not over.
pub(crate) const SESSIONS: [Word; 3] = [
    ("waiting", said("承認待ち", "waiting for approval")),
    ("approved", said("承認済み", "approved")),
    ("open", said("接続できる", "open")),
];

/// Persons with a second factor.
pub(crate) const PERSONS: [Word; 2] =
    [("enrolled", said("登録済み", "enrolled")), ("locked", said("締め出し中", "locked out"))];

/// Ways of bytes through a door.
pub(crate) const WAYS: [Word; 2] =
    [("received", said("外から", "from outside")), ("sent", said("外へ", "to the outside"))];

/// Why the VPN drops.
pub(crate) const CAUSES: [Word; 5] = [
    ("stranger", said("鍵のない相手", "strangers")),
    ("forged", said("偽の握手・改ざん", "forged")),
    ("spoofed", said("送信元の偽り", "spoofed source")),
    ("expired", said("期限の切れた相手", "expired peers")),
    ("unsent", said("送れなかった", "could not be sent")),
];

/// Steps of a maintenance session.
pub(crate) const STEPS: [Word; 4] = [
    ("requested", said("申請", "requested")),
    ("approved", said("承認", "approved")),
    ("denied", said("却下", "denied")),
    ("opened", said("開始", "opened")),
];

/// Why maintenance sessions end.
pub(crate) const WHYS: [Word; 11] = [
    ("expired", said("時間切れ", "its time was over")),
    ("killed", said("医院が止めた", "the clinic ended it")),
    ("idle", said("通信がなかった", "nothing moved")),
    ("disconnected", said("接続が切れた", "the line broke")),
    ("finished", said("事業者が終えた", "the vendor was done")),
    ("recorder-failed", said("記録できなくなった", "it could not be recorded")),
    ("disk-full", said("記録の容量が尽きた", "no room to record it")),
    ("revoked", said("担当者の登録を取り消した", "the engineer was revoked")),
    ("policy-changed", said("通信方針が変わった", "the policy changed")),
    ("core-restarted", said("関所を起動し直した", "the gateway started anew")),
    ("grant-failed", said("経路を開けなかった", "the path could not be opened")),
];

/// Ends of handshakes at the maintenance door.
pub(crate) const ENDS: [Word; 4] = [
    ("admitted", said("成立", "admitted")),
    ("refused", said("拒否", "refused")),
    ("slow", said("時間切れ", "too slow")),
    ("limited", said("回数超過で無視", "too many, ignored")),
];

/// What becomes of files.
pub(crate) const FATES: [Word; 5] = [
    ("held", said("受け取った", "held")),
    ("released", said("検査を通った", "released")),
    ("delivered", said("届けた", "delivered")),
    ("refused", said("断った", "refused")),
    ("quarantined", said("隔離した", "quarantined")),
];

/// Verdicts of inspections.
pub(crate) const VERDICTS: [Word; 3] = [
    ("allow", said("問題なし", "allow")),
    ("disarm", said("動く中身あり", "disarm")),
    ("refuse", said("受け入れ不可", "refuse")),
];

/// Doors with a certificate.
pub(crate) const DOORS: [Word; 1] = [("metrics", said("統計の受け口", "the metrics listener"))];

/// The words of a label, where its values are closed; zones and versions are not.
pub(crate) fn of_label(label: &str) -> Option<&'static [Word]> {
    match label {
        "role" => Some(&ROLES),
        "outcome" => Some(&OUTCOMES),
        "reason" => Some(&REASONS),
        "kind" => Some(&SUSPICIONS),
        "feed" => Some(&FEEDS),
        "change" => Some(&CHANGES),
        "direction" => Some(&DIRECTIONS),
        "deed" => Some(&DEEDS),
        "result" => Some(&RESULTS),
        "test" => Some(&SELF_TESTS),
        "door" => Some(&DOORS),
        "way" => Some(&WAYS),
        "cause" => Some(&CAUSES),
        "step" => Some(&STEPS),
        "why" => Some(&WHYS),
        "end" => Some(&ENDS),
        "fate" => Some(&FATES),
        "verdict" => Some(&VERDICTS),
        _ => None,
    }
}

/// The values of a label with their words in one language.
pub(crate) fn named(words: &[Word], language: Language) -> Vec<(&'static str, &'static str)> {
    words.iter().map(|(value, word)| (*value, word.text(language))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runbooks::worded;
    use crate::words::LANGUAGES;
    use events::words::{Deed, Feed, Role, ScrapeRefusal, Suspicion};
    use policy::guideline::State;
    use policy::raw::Sources;
    use policy::ruleset::Counter;

    fn known(words: &[Word], value: &str) -> bool {
        words.iter().any(|(known, _)| *known == value)
    }

    #[test]
    fn every_closed_word_of_the_events_is_known() {
        for role in Role::ALL {
            assert!(known(&ROLES, role.word()), "{role:?}");
        }
        for feed in [Feed::Denials, Feed::Connections] {
            assert!(known(&FEEDS, feed.word()), "{feed:?}");
        }
        let suspicions = [
            Suspicion::DhcpServer,
            Suspicion::Router,
            Suspicion::RemoteControl,
            Suspicion::ClearText,
            Suspicion::Spoofed,
        ];
        for suspicion in suspicions {
            assert!(known(&SUSPICIONS, suspicion.word()), "{suspicion:?}");
        }
        let refusals =
            [ScrapeRefusal::Handshake, ScrapeRefusal::Token, ScrapeRefusal::Request, ScrapeRefusal::Busy];
        for refusal in refusals {
            assert!(known(&RESULTS, refusal.word()), "{refusal:?}");
        }
        let (sha256, policy) = (String::new(), String::new());
        let deeds = [
            Deed::Backup { sha256: sha256.clone(), bytes: 0, policy: policy.clone() },
            Deed::RestoreCheck { sha256: sha256.clone() },
            Deed::Restore { sha256: sha256.clone() },
            Deed::LogReview { person: String::new(), until: 0, note: String::new() },
            Deed::LogExport { entries: 0 },
            Deed::Report { sha256: sha256.clone(), language: String::new(), policy },
            Deed::ReaderAdded { reader: String::new(), sha256 },
            Deed::ReaderRemoved { reader: String::new() },
            Deed::TokenMade {},
        ];
        for deed in deeds {
            assert!(known(&DEEDS, deed.word()), "{deed:?}");
        }
    }

    #[test]
    fn every_reason_that_the_compiler_counts_is_known() {
        let example = include_str!("../../policy/examples/clinic.toml");
        let sources = Sources::single("clinic.toml", example);
        let policy = policy::load(&sources, jiff::Timestamp::UNIX_EPOCH).unwrap().policy;
        let compiled = policy::compile::compile(&policy, &policy::ledger::Ledger::default()).unwrap();
        let mut counted = 0;
        for counter in compiled.ruleset.counters.values() {
            if let Counter::Dropped { reason, .. } = counter {
                let reason = reason.replace('-', "_");
                assert!(known(&REASONS, &reason), "{reason}");
                counted += 1;
            }
        }
        assert!(counted > REASONS.len() && known(&REASONS, "no_flow"));
    }

    #[test]
    fn states_are_worded_as_everywhere_else() {
        for (state, (value, word)) in State::ALL.into_iter().zip(CONTROL_STATES) {
            assert_eq!(value, state.slug().replace('-', "_"));
            for language in LANGUAGES {
                assert_eq!(word.text(language), worded(state, language));
            }
        }
    }
}
