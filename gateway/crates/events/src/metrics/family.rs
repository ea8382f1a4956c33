//! Every metric family that the gateway exports. The list is closed: what is not here cannot be exported, and the
//! dashboards are generated from it.

use serde::{Deserialize, Serialize};

use crate::words::Role;

/// Prefix of every name.
pub const PREFIX: &str = "sekisho_";

/// Kinds of metric, as Prometheus has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until its role starts again.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What is fixed about a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Name without [`PREFIX`].
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Roles whose word is taken for it: those that count or measure it. Edge, files and watch take bytes of strangers
    /// apart; one of them that fell must not be able to say that the log is whole, or the policy in force.
    pub from: &'static [Role],
    /// Meaning and unit, in English: the text of `# HELP`.
    pub help: &'static str,
    /// The same in Japanese, for dashboards.
    pub help_ja: &'static str,
}

impl Info {
    /// The whole name.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }
}

/// One line per family: the enum, the list of all and the facts cannot disagree.
macro_rules! families {
    ($($variant:ident = $kind:ident $name:literal [$($label:literal)*] from [$($role:ident)*]
        $help:literal $help_ja:literal;)*) => {
        /// The families.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Family {
            $(#[doc = $help] $variant,)*
        }

        impl Family {
            /// Every family, in the order of the list.
            pub const ALL: &'static [Family] = &[$(Family::$variant),*];

            /// What is fixed about the family.
            #[must_use]
            pub const fn info(self) -> Info {
                match self {
                    $(Family::$variant => Info {
                        name: $name,
                        kind: Kind::$kind,
                        labels: &[$($label),*],
                        from: &[$(Role::$role),*],
                        help: $help,
                        help_ja: $help_ja,
                    },)*
                }
            }
        }
    };
}

families! {
    Build = Gauge "build_info" ["version"] from [Console]
        "Version of the gateway; always 1."
        "この装置の版 (値は常に1)";
    RoleUp = Gauge "role_up" ["role"] from [Console]
        "1 while a role of the gateway answers, 0 while it does not."
        "各役割のプロセスが応答していれば1";
    RoleStarted = Gauge "role_started_timestamp_seconds" ["role"] from [Console]
        "When a role started."
        "各役割の起動時刻";
    RoleResident = Gauge "role_resident_bytes" ["role"] from [Core Watch Record Console Edge Files]
        "Memory that a role holds resident."
        "各役割の使用メモリ";
    Enforcement = Gauge "enforcement_state" ["state"] from [Core]
        "What is in force, as a state set: applied, closed (nothing passes), unsettled."
        "適用状態 (applied=方針どおり, closed=全遮断, unsettled=未確定)";
    PolicyApplied = Gauge "policy_applied_timestamp_seconds" [] from [Core]
        "When the policy in force was applied."
        "いまの方針を適用した時刻";
    ReadBack = Gauge "readback_last_success_timestamp_seconds" [] from [Core]
        "When the kernel's rules were last read back and found equal to the policy."
        "カーネルの規則が方針と一致すると最後に確かめた時刻";
    ReadBackDifferences = Gauge "readback_differences" [] from [Core]
        "Differences that the last reading of the kernel's rules found."
        "最後の照合で見つかった差異の数";
    ForeignTables = Gauge "foreign_tables" [] from [Core]
        "Tables of other programs in the packet filter."
        "他のプログラムが置いたフィルタ表の数";
    Applies = Counter "applies_total" ["outcome"] from [Core]
        "Policies that somebody asked for, by outcome: applied, refused, unchanged, rolled_back, closed."
        "方針適用の回数 (結果別)";
    Drifts = Counter "drift_repairs_total" [] from [Core]
        "Times that rules, or settings of the kernel, changed by somebody else were put back."
        "第三者による規則やカーネル設定の変更を元に戻した回数";
    Troubles = Counter "troubles_total" [] from [Core]
        "Failures around the rules: addresses, services, state on disk."
        "周辺設定の失敗の回数";
    TimeTrusted = Gauge "time_trusted" [] from [Core]
        "1 while the clock is trusted to open windows."
        "時刻が信頼できれば1";
    ClockJumps = Counter "clock_jumps_total" ["direction"] from [Core]
        "Times that the wall clock was set."
        "時計が飛んだ回数";
    ClockOffset = Gauge "clock_offset_seconds" [] from [Console]
        "Offset of the box's clock from its time service."
        "時刻サービスとの時刻差";
    ClockStratum = Gauge "clock_stratum" [] from [Console]
        "Stratum of the box's time service; 16 means not synchronised."
        "時刻サービスの階層 (16は未同期)";
    AllowedPackets = Counter "allowed_packets_total" ["from" "to"] from [Core]
        "Packets of allowed flows, both directions, by zone pair."
        "許可された通信のパケット数 (区画の組別)";
    AllowedBytes = Counter "allowed_bytes_total" ["from" "to"] from [Core]
        "Bytes of allowed flows, both directions, by zone pair."
        "許可された通信のバイト数 (区画の組別)";
    DeniedPackets = Counter "denied_packets_total" ["zone" "reason"] from [Core]
        "Packets denied, by the zone they came from and why; what the log's rate limit hid is counted here too."
        "止めたパケット数 (区画・理由別)";
    DenialsTold = Counter "denials_logged_total" ["zone"] from [Watch]
        "Denied packets of which the kernel gave a copy."
        "記録に残した拒否パケット数";
    Suspicions = Counter "suspicious_total" ["kind"] from [Watch]
        "Sightings of traffic that no registered device should send."
        "不審な通信を見つけた回数";
    FeedUp = Gauge "feed_up" ["feed"] from [Watch]
        "1 while the kernel tells of denials or connections."
        "カーネルからの通知を受けていれば1";
    FeedLost = Counter "feed_lost_total" ["feed"] from [Watch]
        "Notices of the kernel that did not arrive."
        "受け損ねた通知の数";
    FeedEvent = Gauge "feed_last_event_timestamp_seconds" ["feed"] from [Watch]
        "When the kernel last told of anything."
        "最後に通知を受けた時刻";
    LedgerFlows = Counter "ledger_flows_total" ["change"] from [Watch]
        "Connections that the ledger took up, by change: started, ended."
        "台帳に記録した通信の数";
    LedgerPruned = Counter "ledger_pruned_rows_total" [] from [Watch]
        "Rows that the ledger let go of at the end of their retention."
        "保存期間を過ぎて消した行数";
    LedgerOpen = Gauge "ledger_open_flows" [] from [Watch]
        "Connections open now."
        "いま続いている通信の数";
    LedgerBytes = Gauge "ledger_disk_bytes" [] from [Watch]
        "Room that the flow ledger takes."
        "通信台帳の使用容量";
    LedgerBudget = Gauge "ledger_budget_bytes" [] from [Watch]
        "Room that the flow ledger may take."
        "通信台帳の上限容量";
    LedgerOldest = Gauge "ledger_oldest_timestamp_seconds" [] from [Watch]
        "Begin of the oldest row in the ledger."
        "台帳の最も古い記録の時刻";
    ConntrackEntries = Gauge "conntrack_entries" [] from [Core]
        "Connections that the kernel tracks."
        "カーネルが追跡中の通信数";
    ConntrackLimit = Gauge "conntrack_limit_entries" [] from [Core]
        "Connections that the kernel can track."
        "カーネルが追跡できる通信数の上限";
    LogEntries = Gauge "audit_entries" [] from [Record]
        "Entries in the transparency log."
        "監査ログの件数";
    LogCheckpoint = Gauge "audit_checkpoint_timestamp_seconds" [] from [Record]
        "When the last checkpoint of the log was signed."
        "監査ログの最後の署名時刻";
    LogVerified = Gauge "audit_verified_timestamp_seconds" [] from [Record]
        "When the log was last read and checked."
        "監査ログを最後に検証した時刻";
    LogIntact = Gauge "audit_intact" [] from [Record]
        "1 while the last check found nothing wrong with the log."
        "監査ログに異常がなければ1";
    LogBytes = Gauge "audit_disk_bytes" [] from [Record]
        "Room that the log takes."
        "監査ログの使用容量";
    LogBudget = Gauge "audit_budget_bytes" [] from [Record]
        "Room that the log may take."
        "監査ログの上限容量";
    LogOldest = Gauge "audit_oldest_timestamp_seconds" [] from [Record]
        "Time of the oldest entry."
        "監査ログの最も古い記録の時刻";
    LogAccepting = Gauge "audit_accepting" [] from [Record]
        "1 while the log takes new entries; 0 means that changes are refused."
        "監査ログが書き込めれば1 (0の間は変更を受け付けない)";
    LogRefused = Counter "audit_refused_total" [] from [Record]
        "Entries that the log refused for want of room or right."
        "監査ログが受け付けなかった件数";
    RecorderLost = Counter "recorder_lost_total" ["role"] from [Core Watch Record Console Edge Files]
        "Events that a role could not get recorded."
        "記録できなかった出来事の数";
    ControlState = Gauge "control_state" ["control" "state"] from [Console]
        "State of a measured control of the guideline, as a state set: ok, warning, failed, not_applicable, unknown."
        "管理策の状態 (ok=正常, warning=注意, failed=要対応, not_applicable=対象外, unknown=不明)";
    ControlSince = Gauge "control_since_timestamp_seconds" ["control"] from [Console]
        "Since when a control is in its state."
        "管理策がいまの状態になった時刻";
    ControlChecked = Gauge "control_checked_timestamp_seconds" ["control"] from [Console]
        "When what a control stands on was last measured."
        "管理策の根拠を最後に測った時刻";
    Controls = Gauge "controls" ["state"] from [Console]
        "Controls of the guideline by state, those of the organisation and those not yet measured included."
        "管理策の数 (状態別)";
    ControlChanges = Counter "control_changes_total" ["state"] from [Console]
        "Times that a control came into a state."
        "管理策の状態が変わった回数";
    SelfTest = Gauge "self_test_last_success_timestamp_seconds" ["test"] from [Console Files]
        "When a test of the gateway by itself last succeeded."
        "自己診断が最後に成功した時刻";
    Devices = Gauge "devices" ["state"] from [Core]
        "Devices by state: registered, seen (registered and on the network lately), unknown."
        "機器の数 (registered=台帳, seen=最近確認, unknown=未登録)";
    Deed = Gauge "last_done_timestamp_seconds" ["deed"] from [Record]
        "When somebody last did what has to be done from time to time: backup, restore_check, log_review, log_export, report."
        "定期作業を最後に行った時刻";
    Scrapes = Counter "scrapes_total" ["result"] from [Console]
        "Scrapes of these metrics, by result."
        "この統計の読み取り回数 (結果別)";
    Certificate = Gauge "certificate_expiry_timestamp_seconds" ["door"] from [Console]
        "When the certificate of a door of the gateway ends."
        "証明書の有効期限";
    VpnPeers = Gauge "vpn_peers" ["state"] from [Core Edge]
        "Peers of the VPN by state: configured, connected (a handshake within the last three minutes), expired."
        "VPN利用者の数 (configured=登録, connected=接続中, expired=期限切れ)";
    VpnDataPath = Gauge "vpn_data_path" ["path"] from [Core Edge]
        "Which WireGuard carries the VPN's packets, as a state set: kernel, user (the edge role), none (no VPN)."
        "VPNのパケットを運んでいるもの (kernel=カーネル, user=edgeプロセス, none=VPNなし)";
    VpnHandshake = Gauge "vpn_last_handshake_timestamp_seconds" [] from [Core Edge]
        "When a peer of the VPN last finished a handshake, whichever it was; 0 if none since the role started."
        "VPNの握手が最後に成立した時刻 (起動からまだなければ0)";
    VpnBytes = Counter "vpn_bytes_total" ["way"] from [Core Edge]
        "Bytes that the VPN carried, by way: received from peers, sent to peers."
        "VPNが運んだバイト数 (received=受信, sent=送信)";
    VpnDrops = Counter "vpn_dropped_total" ["cause"] from [Core Edge]
        "What the VPN dropped, by cause: stranger (no peer), forged (not authentic), spoofed (a source that is not the peer's), expired, unsent (no way to send it)."
        "VPNが捨てたパケット数 (原因別)";
    SessionStates = Gauge "sessions" ["state"] from [Core]
        "Maintenance sessions that are not over, by state: waiting (for somebody's approval), approved, open."
        "終わっていない保守の申請 (waiting=承認待ち, approved=承認済み, open=接続できる)";
    Sessions = Counter "sessions_total" ["step"] from [Core]
        "Steps that maintenance sessions took: requested, approved, denied, opened."
        "保守の申請の歩み (requested=申請, approved=承認, denied=却下, opened=開始)";
    SessionsEnded = Counter "sessions_ended_total" ["why"] from [Core]
        "Maintenance sessions that ended, by why."
        "終わった保守の数 (理由別)";
    SessionConnections = Counter "session_connections_total" [] from [Edge]
        "Connections to devices that maintenance sessions carried."
        "保守で張られた機器への接続の数";
    SessionBytes = Counter "session_bytes_total" ["way"] from [Edge]
        "Bytes that maintenance sessions carried, by way: received from the vendor, sent to the vendor."
        "保守で運んだバイト数 (received=事業者から, sent=事業者へ)";
    Handshakes = Counter "maintenance_handshakes_total" ["end"] from [Edge]
        "Handshakes at the maintenance door, by end: admitted, refused, slow, limited (dropped unanswered)."
        "保守の入口での握手の数 (admitted=成立, refused=拒否, slow=時間切れ, limited=回数超過で無視)";
    Persons = Gauge "persons" ["state"] from [Core]
        "Persons with a second factor by state: enrolled, locked (too many wrong codes)."
        "二要素目を登録した人の数 (enrolled=登録済み, locked=締め出し中)";
    PersonLocks = Counter "persons_locked_total" [] from [Core]
        "Times that a person was locked out after too many wrong codes."
        "コードの誤りが続いて締め出した回数";
    Files = Counter "files_total" ["fate"] from [Files]
        "Files that vendors sent, by what became of them: held, released, delivered, refused, quarantined."
        "事業者が送ったファイルの数 (結果別)";
    FileVerdicts = Counter "file_verdicts_total" ["verdict"] from [Files]
        "Verdicts of inspections: allow, disarm, refuse."
        "ファイル検査の判定 (allow=可, disarm=要無害化, refuse=不可)";
    FileFindings = Counter "file_findings_total" ["finding"] from [Files]
        "Files that were refused, by what the inspection found in them."
        "断ったファイルの数 (検出事項別)";
    FilesHeld = Gauge "files_held" [] from [Files]
        "Files that are held now: inspected, or on their way."
        "検査中・受け渡し中のファイルの数";
    FilesBytes = Gauge "files_disk_bytes" [] from [Files]
        "Room that held files and sealed originals take."
        "保管中のファイルと封印した原本の使用容量";
    FilesBudget = Gauge "files_budget_bytes" [] from [Files]
        "Room that held files and sealed originals may take."
        "保管中のファイルと封印した原本の上限容量";
}
