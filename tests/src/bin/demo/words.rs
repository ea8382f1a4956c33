//! Everything the demo says, in Japanese and English. The words are those of the glossary.
use std::{env, fmt::Display};

/// Speaks Japanese or English.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    japanese: bool,
}

/// A sentence in both languages, Japanese first.
macro_rules! sentences {
    ($($name:ident($($argument:ident),*): $ja:literal, $en:literal;)*) => {
        impl Words {
            $(pub(crate) fn $name(self, $($argument: impl Display),*) -> String {
                if self.japanese { format!($ja) } else { format!($en) }
            })*
        }
    };
}

impl Words {
    /// Takes the language that was asked for, else the one of the environment (locale(7)).
    pub(crate) fn new(language: Option<&str>) -> Self {
        let environment = ["LC_ALL", "LC_MESSAGES", "LANG"];
        let found = environment.iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
        let language = language.map(ToOwned::to_owned).or(found).unwrap_or_default();
        Self { japanese: language.starts_with("ja") }
    }

    /// The locale for the programs that are run.
    pub(crate) fn locale(self) -> &'static str {
        if self.japanese { "ja_JP.UTF-8" } else { "C.UTF-8" }
    }

    /// The language, as the dashboards' directories are called.
    pub(crate) fn language(self) -> &'static str {
        if self.japanese { "ja" } else { "en" }
    }

    /// Short names of the places, at most six columns in Japanese, seven in English.
    pub(crate) fn place(self, zone: &str) -> &str {
        let (ja, en) = match zone {
            "ehr" => ("カルテ", "ehr"),
            "billing" => ("会計", "billing"),
            "modality" => ("検査", "modal."),
            "staff" => ("受付", "staff"),
            "guest" => ("来院者", "guest"),
            "management" => ("管理", "manage."),
            "wan" => ("院外", "outside"),
            "gateway" => ("関所", "gateway"),
            other => (other, other),
        };
        if self.japanese { ja } else { en }
    }
}

sentences! {
    held(): "成立", "holds";
    broken(): "不成立", "BROKEN";
    title(): "関所 (Sekisho) デモ: 診療所のネットワークを名前空間の中に作り、実際に通った通信を測ります",
        "Sekisho, the demo: a clinic's network in namespaces, and what was measured in it";
    title_sabotage(name): "わざと壊します (SABOTAGE={name}): 該当する行で失敗して終わるのが正しい結果です",
        "SABOTAGE={name}: something is broken on purpose, and the demo must fail at the line that measures it";

    clinic(): "診療所が立ち上がります", "The clinic comes up";
    clinic_up(hosts, servers): "機器 {hosts}台とサーバ {servers}個が動き、関所はまだ何も通しません",
        "{hosts} hosts and {servers} servers run; the gateway lets nothing through yet";
    silent_before(sent, arrived): "通信方針の適用前: {sent}個送って {arrived}個到達",
        "before any policy: {sent} packets sent, {arrived} arrived";
    role_line(role, user, uid, capabilities, seccomp):
        "{role}: 利用者 {user} (uid {uid})、権限 {capabilities}、seccomp {seccomp}",
        "{role}: user {user} (uid {uid}), capabilities {capabilities}, seccomp filter {seccomp}";
    nothing(): "なし", "none";
    on(): "有効", "on";
    off(): "無効", "off";
    roles(): "core は CAP_NET_ADMIN だけ、ほかの役割は権限なし、すべて seccomp の中 (/proc で確認)",
        "core holds CAP_NET_ADMIN alone, the others nothing, each under a seccomp filter (read from /proc)";

    applying(): "通信方針を適用します", "The policy is applied";
    applied(ms): "{ms} ミリ秒で適用しました", "applied in {ms} ms";
    verified(rules, elements, id): "カーネルから読み戻した規則 {rules}件・要素 {elements}件が通信方針 {id} と一致",
        "{rules} rules and {elements} elements read back from the kernel equal policy {id}";
    differs(rules, elements, id): "カーネルの規則 {rules}件・要素 {elements}件が通信方針 {id} と一致しません",
        "the {rules} rules and {elements} elements in the kernel differ from policy {id}";
    time_trusted(): "時計を信頼するまでは、期限・時間帯のある通信許可は開きません:",
        "Until the clock is trusted, nothing with an end or a schedule opens:";

    matrix(): "区画の間で実際に通ったもの", "What really passed between the zones";
    matrix_legend(hosts, services):
        "{hosts}台の間で {services} を IPv4 と IPv6 の両方で送りました。\n行=送信元、列=宛先。「到達した数=通信方針が許す数」。判定は宛先での記録によります。",
        "Between {hosts} hosts, {services}, over both IPv4 and IPv6.\nRows send, columns receive: \"arrived=allowed by the policy\", judged by capture at the destination.";
    matrix_corner(): "元＼先", "from\\to";
    matrix_heads_flow(): "通信許可", "flow";
    matrix_heads_line(): "行", "line";
    matrix_heads_ways(): "到達した通信", "arrived";
    matrix_more(count): "ほか {count}件", "and {count} more";
    matrix_agrees(agreeing, cells, allowed, forbidden, passed, ms):
        "{cells}組のうち {agreeing}組で測定と通信方針が一致 (許可 {allowed}個、禁止 {forbidden}個のうち通過 {passed}個、{ms} ミリ秒)",
        "measured and policy agree in {agreeing} of {cells} pairs ({allowed} allowed; {forbidden} forbidden, {passed} of them passed; {ms} ms)";
    wrong_passed(what): "禁止されているのに通った: {what}", "forbidden, and passed: {what}";
    wrong_stopped(what): "許可されているのに届かない: {what}", "allowed, and did not arrive: {what}";

    applications(): "本物のアプリケーション", "Real applications";
    dicom(): "CT から PACS へ DICOM C-ECHO が成功", "DICOM C-ECHO from ct to pacs succeeds";
    ssh(connection): "管理用パソコンから電子カルテサーバへ SSH でログイン ({connection})",
        "SSH from admin to ehr-server logs in ({connection})";
    web(page): "受付から電子カルテサーバの 443番 へ HTTP: {page}",
        "HTTP from reception to port 443 of ehr-server: {page}";
    outside(page): "受付から院外のウェブへ HTTP: {page}", "HTTP from reception to the web outside: {page}";
    refused(): "待合室のスマートフォンから電子カルテサーバへは届きません", "phone cannot reach ehr-server";
    why(place): "理由と通信方針の行が示されます: {place}", "`why` names the policy's line: {place}";
    denied(): "watch がその拒否を記録しています", "watch has seen the refusal";
    own_line(): "その行は:", "That line reads:";

    ending(): "通信中の許可を外します", "A flow ends while a transfer runs";
    transfers(): "画像閲覧 (pacs → reception) とカルテ閲覧 (ehr-server → reception) が同時に流れています。画像閲覧の許可だけを外します:",
        "Images (pacs → reception) and records (ehr-server → reception) are being transferred; the flow of the images is taken out:";
    transfer_applied(ms): "{ms} ミリ秒で適用しました", "applied in {ms} ms";
    ended(last, v4, v6): "画像閲覧は終了: コマンドから {last} ミリ秒後が最後の到達 (それまでに IPv4 {v4}件、IPv6 {v6}件)",
        "the images ended: the last record arrived {last} ms after the command ({v4} before over IPv4, {v6} over IPv6)";
    goes_on(after): "画像閲覧は終わっていません: 適用の完了後も {after}件が到達",
        "the images did not end: {after} records arrived after the apply had ended";
    beside(sent, lost): "カルテ閲覧はそのまま: {sent}件送信、欠落 {lost}件、切断なし",
        "the records went on: {sent} sent, {lost} lost, no reset";

    load(): "通信中に 20回適用します", "Twenty applies under load";
    load_intro(permitted, forbidden):
        "許可された通信 {permitted}本と禁止された通信 {forbidden}本を流しながら、通信方針を切り替えます。",
        "The policy changes while {permitted} permitted and {forbidden} forbidden streams are sent.";
    load_applies(count, median, worst): "{count}回すべて適用 (中央値 {median} ミリ秒、最長 {worst} ミリ秒)",
        "{count} applies succeeded (median {median} ms, longest {worst} ms)";
    load_kept(sent, lost, resets): "許可された通信: {sent}件送信、欠落 {lost}件、切断 {resets}件",
        "permitted: {sent} sent, {lost} lost, {resets} resets";
    load_stopped(sent, passed): "禁止された通信: {sent}件送信、通過 {passed}件",
        "forbidden: {sent} sent, {passed} passed";

    tampering(): "だれかが規則を書き換えました", "Somebody edits the rules";
    leak(arrived): "書き換えは実際に効いていました (来院者→カルテ {arrived}個通過)",
        "the edit was real ({arrived} packets from guest to ehr passed)";
    found(): "verify が違いを見つけました", "`verify` finds the difference";
    put_back(): "もう一度適用し、一致を確認", "applied again, and equal again";
    closed_again(arrived): "来院者→カルテ: {arrived}個通過", "from guest to ehr: {arrived} packets passed";

    metrics(): "計測値を読み出します", "The metrics are read";
    metrics_read(series, families, roles):
        "管理区画から相互TLSで読み出し: {families}種類 {series}系列 (上限500)、役割 {roles}個がすべて応答",
        "read over mutual TLS from the management zone: {series} series of {families} metrics (500 allowed); all {roles} roles answer";
    metrics_private(): "アドレスも機器の名前も含まれていません", "they hold no address and no name of a device";
    metrics_strangers(): "証明書のない相手と、権利を取り消された相手は TLS で断られます",
        "who has no certificate, or one that was taken back, is refused by TLS";
    metrics_elsewhere(): "正しい証明書でも、受付からは接続できません", "the right certificate does not help at the reception: no answer";
    metrics_clean(): "promtool check metrics の指摘なし", "`promtool check metrics` has nothing to say";
    metrics_up(ms): "Debian の Prometheus が dashboard/prometheus の設定で読み出し: up=1 ({ms} ミリ秒後)",
        "Debian's Prometheus reads them with the configuration of dashboard/prometheus: up=1 after {ms} ms";
    metrics_down(): "Prometheus は計測値を読めません", "Prometheus cannot read them";
    metrics_dashboard(count): "ダッシュボード overview の問い合わせ {count}件すべてに答えがあります",
        "all {count} queries of the dashboard `overview` are answered";
    memory(sum, limit, parts): "全役割のメモリは合わせて {sum} MB、上限 {limit} MB (共有分を別々に数えると {parts})",
        "all roles together hold {sum} MB resident, {limit} MB allowed (what they share counted for each: {parts})";

    controls(): "ガイドラインの管理策を測ります", "The controls of the guideline are measured";
    controls_remembered(control): "7節の書き換えは元に戻っても、人が確かめるまで {control} を「要対応」にします",
        "section 7 is put right, and {control} has failed until a person has looked into it";
    controls_note(): "規則の書き換えを確認した", "looked into the edited rules";
    controls_ok(ok, measured, all, least):
        "測定する管理策 {measured}件のうち {ok}件が正常 ({least}件以上)。全 {all}件の残りは組織の対策か未測定",
        "{ok} of {measured} measured controls are ok ({least} wanted); the rest of {all} is for people, or not measured yet";
    controls_failed(control, resting, seconds):
        "{control} は「要対応」、watch の測定に基づく {resting} は「不明」に ({seconds} 秒後)",
        "{control} has failed, and {resting}, which rests on what watch measures, is unknown (after {seconds} s)";
    controls_exported(query): "Prometheus にも現れます: {query}", "and Prometheus says so: {query}";
    controls_restarted(role): "{role} を起動し直します (本番では systemd の仕事):", "{role} is started again, which is systemd's work on the box:";
    controls_back(control, seconds): "{control} は「正常」に戻りました ({seconds} 秒後)", "{control} is ok again (after {seconds} s)";
    controls_recorded(): "悪化と回復のどちらも、証跡としてログに残っています", "both changes are in the log, as the evidence that the control names";

    ledger(): "だれが、いつ、どれだけ電子カルテサーバと通信したか", "Who spoke to the record server, when, and how much";
    ledger_sent(from, to, count, bytes): "{from} → {to}: {bytes}バイトのデータを {count}個、同じだけ返信",
        "{from} → {to}: {count} datagrams of {bytes} bytes, and as many back";
    ledger_forget(): "カーネルが接続を忘れるのを早めます (ふつうは最後の通信の2分後):",
        "The kernel forgets these connections now, and not two minutes later:";
    ledger_equal(packets, bytes): "台帳は送ったものと一致: {packets}個 {bytes}バイト (IP と UDP のヘッダを含む)、通信許可 staff-ehr",
        "the ledger equals what was sent: {packets} packets, {bytes} bytes with the headers of IP and UDP, by the flow staff-ehr";
    ledger_differs(packets, bytes, sent, sent_bytes):
        "台帳が送ったものと一致しません: 台帳 {packets}個 {bytes}バイト、送信 {sent}個 {sent_bytes}バイト",
        "the ledger differs from what was sent: {packets} packets and {bytes} bytes in it, {sent} and {sent_bytes} sent";
    ledger_complete(): "この間の欠落なし (台帳が自分で報告)", "and it says that it misses nothing of that time";

    log(): "決めたことはすべて、改ざんの分かるログに残ります", "Every decision is in a log that shows tampering";
    log_take_along(): "あとで確かめるため、ログの公開鍵と署名 (checkpoint) を別の場所に控えます:",
        "To check later, the log's public key and its signed checkpoint are kept elsewhere:";
    log_decisions(entries, applied, applies): "記録 {entries}件。適用 {applies}回のうち {applied}回が残っています",
        "{entries} entries; {applied} of the {applies} applies of this demo are among them, each with what it took out";
    log_verified(): "ログは署名と一致", "the log is as it was signed";
    log_changed(): "ログが署名と一致しません", "the log is not as it was signed";
    log_proved(index, id): "2節の適用 ({id}) が第{index}番の記録であることを、公開鍵と証明だけで確認",
        "that the apply of section 2 ({id}) is entry {index} is shown by proof and public key alone";
    log_forged(): "書き換えた記録では証明が成り立ちません", "the proof does not hold for a forged entry";
    log_copy(): "書き出した写しを、別の言語のプログラムが最初の署名と照合", "a program in another language checks a copy against the checkpoint kept at the beginning";

    maintenance(): "遠隔保守: 頼む・承認する・働く・止める", "Remote maintenance: asked, approved, worked, killed";
    maintenance_window(): "保守の時間帯を外した通信方針を適用します (デモは昼でも動くように):",
        "The window of maintenance is taken out, so that the demo works at any hour:";
    person_enrolled(person): "{person} の二要素 (TOTP) を登録しました。初期パスワードはありません",
        "{person} has a second factor (TOTP); no default password exists";
    vendor_enrolled(): "事業者の担当者が1回限りのコードで鍵を登録しました。秘密鍵は事業者の手元から出ません",
        "the vendor's engineer enrolled a key with a one-time code; the private key never left that machine";
    vendor_once(): "同じコードは2度使えません", "the same code does not count twice";
    session_asked(session): "申請 {session} が承認を待っています", "{session} waits for the clinic's approval";
    session_closed(session, arrived): "承認前の {session}: 電子カルテサーバの SSH に届いたパケットは {arrived}個",
        "before the approval of {session}, {arrived} packets arrive at the record server's SSH";
    session_wrong_code(): "誤ったコードでは承認できません", "a wrong code approves nothing";
    session_open(person): "{person} のコードで承認され、接続できるようになりました", "{person} approved it with a code, and it is open";
    session_worked(connection): "担当者は電子カルテサーバに SSH でログインしました ({connection})",
        "the engineer logs in to the record server by SSH ({connection})";
    session_killed(ms): "診療所が止めると、作業中の SSH は {ms} ミリ秒で切れ、受領書が残りました",
        "the clinic kills it: the SSH at work ends after {ms} ms, and the vendor's program with it";
    session_socket(mark): "乗っ取られた edge が残したソケット (印 {mark}) のつもりで、もう一度つなぎます:",
        "Once more, as a taken-over edge would with a socket that it kept (mark {mark}):";
    session_gone(arrived): "終了後: 電子カルテサーバの SSH に届いたパケットは {arrived}個",
        "after the end, {arrived} packets arrive at the record server's SSH";
    session_told(): "申請から終了まで順にログに残り、ログは署名と一致", "the log tells it from request to end, in order, and is as it was signed";

    file_delivered(name, sha256): "{name} は検査を通り、診療所に届きました (SHA-256 {sha256} が一致)",
        "{name} passes its inspection and is delivered as it was sent (SHA-256 {sha256})";
    file_refused(name): "{name} はマクロがあるため断られ、理由が示されました。診療所には届いていません",
        "{name} is refused for its macro, the reason is given, and nothing of it is delivered";

    vpn(): "医師のノートパソコンが VPN で外からつながります", "The doctor's laptop comes in by VPN";
    vpn_added(peer, flow): "{peer} を通信方針に加えて適用しました。届く先は通信許可 {flow} の分だけです",
        "{peer} is in the policy, which is in force; what it reaches is the flow {flow}";
    vpn_reached(page): "VPN 経由で電子カルテサーバの 443番 に届きました: {page}",
        "through the tunnel, port 443 of ehr-server answers over IPv4 and IPv6: {page}";
    vpn_elsewhere(tries, arrived): "それ以外 ({tries}) に届いたパケットは {arrived}個",
        "anywhere else ({tries}), {arrived} packets arrive";
    vpn_shook(): "`vpn list` に最後の握手が示されます", "`vpn list` tells of the handshake";
    vpn_ledger(flow): "台帳はこの通信を通信許可 {flow} の名前で示します", "the ledger has the connection, by the flow {flow}";
    vpn_revoked(arrived): "取り消したあとに届いたパケットは {arrived}個", "after it was revoked, {arrived} packets arrive";

    session_proved(session, index): "{session} が承認の上で開いたことを、第{index}番の記録として、公開鍵と証明だけで確認",
        "that {session} was opened, and by whose word, is entry {index}: shown by proof and public key alone";
    session_unrecorded(): "もう一度つなぎ、作業中に記録の役割を止めます。記録できない作業は続けられません:",
        "Once more, and while the engineer is at work the record role dies. What cannot be recorded does not go on:";
    session_cut(ms): "記録が止まると、作業中の SSH は {ms} ミリ秒で切れ、その理由が示されました",
        "without a record the SSH at work ends after {ms} ms, and the reason is told";
    session_looked_at(control): "管理策 {control} は「要対応」になり、院内の人が確認して「正常」に戻りました",
        "{control} has failed for it, until a person of the clinic has looked into the log";

    doors(): "入口を測る", "The doors, measured";
    doors_in_order(): "関所は試験用のマクロ入りファイルを自分で検査に出し、止まることを確かめています。承認のない保守もありません",
        "the gateway has a macro of its own inspected, and it is stopped; no session was opened without an approval";
    doors_counted(count): "保守・ファイル・VPN の {count}系列を Prometheus が答え、実際に行ったことと一致",
        "Prometheus has {count} series of sessions, files and VPN, and they are what was done";

    timer(): "すべてのプロセスが止まっても期限は守られます", "An end comes with every process dead";
    timer_until(end): "期限 {end} の通信許可を加えます:", "A flow until {end} is added:";
    timer_applied(): "適用しました", "applied";
    timer_killed(): "SIGKILL ですべての役割を止めました。残った Sekisho のプロセス:",
        "every role is killed by SIGKILL; processes of Sekisho that are left:";
    timer_after_kill(after): "停止後も期限までは通信が続く ({after}件到達)",
        "after the kill it goes on until its end ({after} records arrived)";
    timer_ended(offset): "期限で終了: 最後の到達は期限の {offset} ミリ秒", "ended on time: the last record arrived {offset} ms from the end";
    timer_beside(sent, lost): "ほかの通信は停止と再起動の間もそのまま: {sent}件送信、欠落 {lost}件",
        "another connection went on through kill and restart: {sent} sent, {lost} lost";
    timer_back(id): "再起動後、最後に適用した通信方針 {id} が有効", "started again, the last applied policy {id} is in force";
    timer_verified(): "再起動後もカーネルの規則は一致", "and the kernel's rules equal it";
    timer_logged(count): "停止の前に残った適用の記録 {count}件は失われていません", "the {count} applies recorded before the kill are still in the log, and it is as it was signed";

    summary(): "まとめ", "Summary";
    all_held(count, seconds): "✔ 期待した {count}件すべてが成立しました ({seconds} 秒)",
        "✔ all {count} expectations held ({seconds} s)";
    one_broken(broken, held, seconds):
        "✖ 不成立: {broken}\n  それまでの {held}件は成立 ({seconds} 秒)。ここで終了します。",
        "✖ does not hold: {broken}\n  {held} held before it ({seconds} s); the demo ends here.";
    could_not_run(error): "デモを実行できませんでした: {error}", "the demo could not run: {error}";

    keep_title(): "このまま動かしておきます", "Left running";
    keep_shell(): "機器の中でシェルを開く (gw は関所):", "A shell in any host (gw is the gateway):";
    keep_admin(): "管理者として試す:", "As the admin:";
    keep_metrics(): "Prometheus に問い合わせる (管理用パソコンの中):", "To ask Prometheus, on the admin's device:";
    keep_try(): "試してみる通信:", "To try:";
    keep_end(): "Enter キーまたは Ctrl-C で終了し、すべて片付けます。", "Enter or Ctrl-C ends and removes everything.";
    keep_end_remote(): "Ctrl-C で終了し、すべて片付けます。", "Ctrl-C ends and removes everything.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_asked_for_wins() {
        assert_eq!(Words::new(Some("ja_JP.UTF-8")).held(), "成立");
        assert_eq!(Words::new(Some("en")).held(), "holds");
    }
}
