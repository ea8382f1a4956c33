//! What the daemon is asked, and its answers in words.

use std::path::{Path, PathBuf};

use gateway::client;
use gateway::wire::{Answer, Ask, Change, Denials, FlowRow, State, Status};
use policy::diagnostic::Language;
use serde_json::json;

use crate::checking;
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::{table, vpn};

/// Where the roles listen.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) core: PathBuf,
    pub(crate) watch: PathBuf,
    pub(crate) record: PathBuf,
    pub(crate) console: PathBuf,
    pub(crate) edge: PathBuf,
}

/// `sekisho apply`.
pub(crate) fn apply(
    output: &Output,
    sockets: &Sockets,
    file: &Path,
    dry_run: bool,
) -> Result<Exit, CliError> {
    let checked = checking::load(file)?;
    if !output.is_json() {
        output.findings(checked.warnings.iter(), &checked.sources);
    }
    let (change, head) = match ask(&sockets.core, Ask::Apply { sources: checked.sources.into(), dry_run })? {
        Answer::Applied(change) => {
            (change, output.pick("applied and read back", "適用し、読み戻して確認しました"))
        }
        Answer::Planned(change) => (change, output.pick("would change", "変更案です(まだ適用していません)")),
        Answer::Refused { report } => return Err(CliError::RefusedThere(report)),
        _ => return Err(CliError::Confused),
    };
    let mut value = serde_json::to_value(&change)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("applied".to_owned(), (!dry_run).into());
    }
    output.answer(&change_text(output, head, &change), &value);
    Ok(Exit::Ok)
}

fn change_text(output: &Output, head: &str, change: &Change) -> String {
    let mut lines = vec![format!("{head}: {}", short(&change.id))];
    let kinds = [
        ("+", output.pick("new", "追加"), &change.added),
        ("-", output.pick("gone", "削除"), &change.removed),
        ("~", output.pick("narrower", "縮小"), &change.narrowed),
    ];
    for (sign, word, names) in kinds {
        lines.extend(names.iter().map(|name| format!("  {sign} {name} ({word})")));
    }
    lines.push(match output.language {
        Language::En => format!("  = {} flows as before", change.kept),
        Language::Ja => format!("  = 変わらない通信許可 {}件", change.kept),
    });
    lines.join("\n")
}

/// `sekisho status`.
pub(crate) fn status(output: &Output, sockets: &Sockets) -> Result<Exit, CliError> {
    match ask(&sockets.core, Ask::Status {})? {
        Answer::Status(status) => {
            output.answer(&status_text(output, &status), &serde_json::to_value(&status)?);
            Ok(Exit::Ok)
        }
        _ => Err(CliError::Confused),
    }
}

fn status_text(output: &Output, status: &Status) -> String {
    let mut lines = vec![match status.state {
        State::Applied => output.pick("● in force", "● 適用中").to_owned(),
        State::Closed => output.pick("✖ closed: nothing passes", "✖ 閉鎖中: 何も通りません").to_owned(),
        State::Unsettled => output.pick("▲ not settled", "▲ 未確定").to_owned(),
    }];
    if let (State::Closed, Some(why)) = (status.state, &status.closed_because) {
        lines.push(format!("  {why}"));
    }
    if let Some(policy) = &status.policy {
        let by = output.pick("by uid", "適用者 uid");
        lines.push(format!("  {} ({}), {}", policy.clinic, policy.file, short(&policy.id)));
        lines.push(format!("  {}, {by} {}", output.time(policy.applied_at), policy.applied_by));
        lines.push(match output.language {
            Language::En => format!("  {} of {} flows open", policy.live_count, policy.flow_count),
            Language::Ja => format!("  通信許可 {}件のうち {}件が有効", policy.flow_count, policy.live_count),
        });
    }
    lines.extend(status.vpn.map(|carrier| format!("  {}", vpn::carried_by(output, carrier))));
    let trust = if status.time.trusted {
        output.pick("trusted", "信頼済み")
    } else {
        output.pick(
            "not trusted: nothing with an end or a schedule is open",
            "未信頼: 期限・時間帯のある許可は閉じています",
        )
    };
    lines.push(format!("  {} ({trust})", output.time(status.time.effective)));
    lines.extend(status.warnings.iter().map(|warning| format!("▲ {warning}")));
    lines.join("\n")
}

/// `sekisho flows`.
pub(crate) fn flows(output: &Output, sockets: &Sockets, denied: bool) -> Result<Exit, CliError> {
    if denied {
        return denials(output, sockets);
    }
    match ask(&sockets.core, Ask::Flows {})? {
        Answer::Flows(rows) => {
            output.answer(&flows_text(output, &rows), &serde_json::to_value(&rows)?);
            Ok(Exit::Ok)
        }
        _ => Err(CliError::Confused),
    }
}

fn flows_text(output: &Output, rows: &[FlowRow]) -> String {
    let heads = match output.language {
        Language::En => ["flow", "open", "until", "since", "packets", "bytes", "purpose", "line"],
        Language::Ja => ["通信許可", "状態", "期限", "変更", "パケット", "バイト", "目的", "行"],
    };
    let cells = |row: &FlowRow| {
        vec![
            row.name.clone(),
            if row.live { output.pick("open", "有効") } else { output.pick("closed", "閉") }.to_owned(),
            row.until.map(|at| output.time(at)).unwrap_or_default(),
            row.last_change.map(|at| output.time(at)).unwrap_or_default(),
            row.packets.to_string(),
            row.bytes.to_string(),
            row.purpose.clone(),
            row.place.clone().unwrap_or_default(),
        ]
    };
    table::lay_out(&heads, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn denials(output: &Output, sockets: &Sockets) -> Result<Exit, CliError> {
    match ask(&sockets.watch, Ask::Denials {})? {
        Answer::Denials(denials) => {
            output.answer(&denials_text(output, &denials), &serde_json::to_value(&denials)?);
            Ok(Exit::Ok)
        }
        _ => Err(CliError::Confused),
    }
}

fn denials_text(output: &Output, denials: &Denials) -> String {
    let heads = match output.language {
        Language::En => ["count", "last", "where", "from", "to", "protocol", "port"],
        Language::Ja => ["回数", "最終", "箇所", "送信元", "宛先", "プロトコル", "ポート"],
    };
    let cells = |row: &gateway::wire::Denial| {
        vec![
            row.count.to_string(),
            output.time(row.last),
            row.prefix.clone(),
            row.source.clone(),
            row.destination.clone(),
            row.protocol.clone(),
            row.port.map(|port| port.to_string()).unwrap_or_default(),
        ]
    };
    let table = table::lay_out(&heads, &denials.rows.iter().map(cells).collect::<Vec<_>>());
    let (seen, lost, malformed) = (denials.seen, denials.lost, denials.malformed);
    let foot = match output.language {
        Language::En => format!("{seen} seen, {lost} lost on the way, {malformed} not understood"),
        Language::Ja => format!("観測 {seen}件、取りこぼし {lost}件、解釈不能 {malformed}件"),
    };
    format!("{table}\n{foot}")
}

/// `sekisho verify`.
pub(crate) fn verify(output: &Output, sockets: &Sockets) -> Result<Exit, CliError> {
    let Answer::Verified { differences, repaired } = ask(&sockets.core, Ask::Verify {})? else {
        return Err(CliError::Confused);
    };
    let equal = differences.is_empty() && repaired.is_empty();
    let mut lines = Vec::new();
    if equal {
        lines.push(
            output
                .pick("the kernel holds exactly the policy", "カーネルの規則は通信方針と一致しています")
                .to_owned(),
        );
    }
    lines.extend(differences.iter().map(|found| format!("✖ {found}")));
    let word = output.pick("repaired", "修復済み");
    lines.extend(repaired.iter().map(|found| format!("▲ {word}: {found}")));
    let value = json!({ "equal": equal, "differences": differences, "repaired": repaired });
    output.answer(&lines.join("\n"), &value);
    Ok(if equal { Exit::Ok } else { Exit::Differs })
}

/// `sekisho time trusted`.
pub(crate) fn trust_time(output: &Output, sockets: &Sockets) -> Result<Exit, CliError> {
    done(output, sockets, Ask::TimeTrusted {}, ("the time is trusted", "時刻を信頼します"))
}

/// `sekisho services`.
pub(crate) fn render_services(output: &Output, sockets: &Sockets) -> Result<Exit, CliError> {
    done(output, sockets, Ask::RenderServices {}, ("written", "書き出しました"))
}

fn done(output: &Output, sockets: &Sockets, order: Ask, words: (&str, &str)) -> Result<Exit, CliError> {
    match ask(&sockets.core, order)? {
        Answer::Done {} => {
            output.answer(output.pick(words.0, words.1), &json!({ "done": true }));
            Ok(Exit::Ok)
        }
        _ => Err(CliError::Confused),
    }
}

fn ask(path: &Path, question: Ask) -> Result<Answer, CliError> {
    match client::ask(path, question)? {
        Answer::Failed(fault) => Err(CliError::Fault(fault)),
        answer => Ok(answer),
    }
}

/// The first letters of an identity are enough for people.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
