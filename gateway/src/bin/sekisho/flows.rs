//! `sekisho flows` with a question: who spoke to whom, or was kept from it, out of the ledger.

use gateway::client;
use gateway::wire::watch::{
    DeniedPage, DeniedRow, End, Ending, Gap, GapReason, LedgerPage, LedgerQuery, LedgerRow, ROWS_MAX,
    WatchAnswer, WatchAsk,
};
use gateway::wire::{Answer, Ask};
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};
use policy::diagnostic::Language;
use serde_json::json;

use crate::checking;
use crate::daemon::{self, Sockets};
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::table;

/// Most rows of one answer; the daemon tells them in pages.
const LIMIT_MAX: u32 = 100_000;

/// What is shown after the help of `flows`.
pub(crate) const HELP: &str = "\
Without a question: the flows of the policy in force, or with --denied the last denied packets.
With one, the ledger answers: connections that ended or are open, or with --denied what was denied, by minute.
An end is a device's name, `zone:NAME`, `gateway` or an address. Times are the clinic's: `2026-11-17`,
`\"2026-11-17 09:30\"`, `today`, `yesterday`, `tuesday`, `2h` (ago), or with an offset as in 2026-11-17T09:30:00+09:00.
A day given to --until is included. When the ledger misses something in that time, it says so.

Examples:
  sekisho flows --device ehr-server --since tuesday --until tuesday
  sekisho flows --device ct --peer pacs --since 2026-11-01 --json | jq '.rows[].sent.bytes'
  sekisho flows --denied --device zone:guest --since 2h";

/// Options of `sekisho flows`.
#[derive(Debug, clap::Args)]
pub(crate) struct FlowsArgs {
    /// What was denied, instead.
    #[arg(long)]
    denied: bool,
    /// One end of the connections.
    #[arg(long, value_name = "END")]
    device: Option<String>,
    /// The other end.
    #[arg(long, value_name = "END")]
    peer: Option<String>,
    /// The flow that let them pass.
    #[arg(long, value_name = "NAME", conflicts_with = "denied")]
    flow: Option<String>,
    /// What ended, or was denied, from then on, or is open.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// What began, or was denied, before.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Most rows.
    #[arg(long, value_name = "ROWS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)))]
    limit: u32,
}

impl FlowsArgs {
    fn is_question(&self) -> bool {
        let FlowsArgs { denied: _, device, peer, flow, since, until, limit: _ } = self;
        [device, peer, flow, since, until].into_iter().any(Option::is_some)
    }
}

/// `sekisho flows`.
pub(crate) fn flows(output: &Output, sockets: &Sockets, args: &FlowsArgs) -> Result<Exit, CliError> {
    if !args.is_question() {
        return daemon::flows(output, sockets, args.denied);
    }
    // The clinic's days are meant, also where nobody set this terminal's time zone.
    let zone =
        checking::in_force(sockets).map_or_else(|_| TimeZone::system(), |policy| policy.clinic.timezone);
    let now = Timestamp::now().to_zoned(zone.clone());
    let time = |text: &Option<String>, edge| {
        text.as_deref().map(|text| time(text, &now, edge)).transpose().map_err(CliError::Question)
    };
    let query = LedgerQuery {
        device: args.device.clone(),
        peer: args.peer.clone(),
        flow: args.flow.clone(),
        since: time(&args.since, Edge::Begin)?,
        until: time(&args.until, Edge::End)?,
        limit: args.limit,
        after: None,
    };
    if args.denied {
        let page = denials(sockets, query)?;
        output.answer(&denials_text(output, &page, &zone), &serde_json::to_value(&page)?);
    } else {
        let page = connections(sockets, query)?;
        output.answer(&connections_text(output, &page, &zone), &connections_json(&page)?);
    }
    Ok(Exit::Ok)
}

fn connections(sockets: &Sockets, mut query: LedgerQuery) -> Result<LedgerPage, CliError> {
    let (mut whole, mut left) = (LedgerPage::default(), query.limit);
    loop {
        query.limit = left.min(ROWS_MAX);
        let WatchAnswer::Ledger(page) = ask(sockets, WatchAsk::Ledger(query.clone()))? else {
            return Err(CliError::Confused);
        };
        left = left.saturating_sub(u32::try_from(page.rows.len()).unwrap_or(u32::MAX));
        let rows = std::mem::take(&mut whole.rows);
        whole = LedgerPage { rows: [rows, page.rows].concat(), ..page };
        query.after = whole.more;
        if whole.more.is_none() || left == 0 {
            return Ok(whole);
        }
    }
}

fn denials(sockets: &Sockets, mut query: LedgerQuery) -> Result<DeniedPage, CliError> {
    let (mut whole, mut left) = (DeniedPage::default(), query.limit);
    loop {
        query.limit = left.min(ROWS_MAX);
        let WatchAnswer::Denied(page) = ask(sockets, WatchAsk::Denied(query.clone()))? else {
            return Err(CliError::Confused);
        };
        left = left.saturating_sub(u32::try_from(page.rows.len()).unwrap_or(u32::MAX));
        whole.rows.extend(page.rows);
        whole.more = page.more;
        query.after = page.more;
        if whole.more.is_none() || left == 0 {
            return Ok(whole);
        }
    }
}

fn ask(sockets: &Sockets, question: WatchAsk) -> Result<WatchAnswer, CliError> {
    match client::ask(&sockets.watch, Ask::Watch(question))? {
        Answer::Watch(answer) => Ok(answer),
        Answer::Failed(fault) => Err(CliError::Fault(fault)),
        _ => Err(CliError::Confused),
    }
}

fn connections_json(page: &LedgerPage) -> Result<serde_json::Value, CliError> {
    let LedgerPage { rows, more, with_open, gaps, kept_since } = page;
    Ok(json!({
        "rows": serde_json::to_value(rows)?,
        "complete": more.is_none() && *with_open && gaps.is_empty(),
        "more": more.is_some(),
        "with_open": with_open,
        "gaps": serde_json::to_value(gaps)?,
        "kept_since": kept_since,
    }))
}

fn connections_text(output: &Output, page: &LedgerPage, zone: &TimeZone) -> String {
    let heads = match output.language {
        Language::En => {
            ["begin", "end", "from", "to", "protocol", "flow", "bytes sent", "bytes back", "over by"]
        }
        Language::Ja => [
            "開始",
            "終了",
            "発信側",
            "着信側",
            "プロトコル",
            "通信許可",
            "送信バイト",
            "返信バイト",
            "終わり方",
        ],
    };
    let cells = |row: &LedgerRow| {
        let flow = row
            .later_flow
            .as_ref()
            .map_or_else(|| row.flow.clone(), |later| format!("{} > {later}", row.flow));
        vec![
            at(row.started, zone),
            row.ended.map(|ended| at(ended, zone)).unwrap_or_default(),
            end(&row.from),
            end(&row.to),
            row.protocol.clone(),
            flow,
            row.sent.bytes.to_string(),
            row.returned.bytes.to_string(),
            ending(output, row.ending).to_owned(),
        ]
    };
    let mut lines = vec![table::lay_out(&heads, &page.rows.iter().map(cells).collect::<Vec<_>>())];
    let count = page.rows.len();
    lines.push(match output.language {
        Language::En => format!("{count} connections"),
        Language::Ja => format!("通信 {count}件"),
    });
    lines.extend(page.more.map(|_| more(output)));
    if !page.with_open && page.more.is_none() {
        let words = output.pick(
            "▲ connections that are still open are missing, or not all here: there are more than asked for, or core does not answer",
            "▲ 続いている通信は、含まれないか一部だけです(表示の上限を超えたか、coreが応答しません)",
        );
        lines.push(words.to_owned());
    }
    lines.extend(page.gaps.iter().map(|gap| gap_text(output, gap, zone)));
    lines.join("\n")
}

fn denials_text(output: &Output, page: &DeniedPage, zone: &TimeZone) -> String {
    let heads = match output.language {
        Language::En => ["minute", "from", "to", "protocol", "where", "packets"],
        Language::Ja => ["時刻(分)", "送信元", "宛先", "プロトコル", "箇所", "パケット"],
    };
    let cells = |row: &DeniedRow| {
        vec![
            at(row.minute, zone),
            end(&row.from),
            end(&row.to),
            row.protocol.clone(),
            row.prefix.clone(),
            row.count.to_string(),
        ]
    };
    let mut lines = vec![table::lay_out(&heads, &page.rows.iter().map(cells).collect::<Vec<_>>())];
    lines.extend(page.more.map(|_| more(output)));
    lines.join("\n")
}

fn more(output: &Output) -> String {
    let words = output.pick(
        "▲ there are more: ask for a shorter time, or raise --limit",
        "▲ 続きがあります。期間を短くするか、--limit を上げてください",
    );
    words.to_owned()
}

fn gap_text(output: &Output, gap: &Gap, zone: &TimeZone) -> String {
    let since = at(gap.since, zone);
    let until = gap.until.map(|until| at(until, zone)).unwrap_or_default();
    let why = match gap.why {
        GapReason::Overrun => output.pick("more happened than could be taken", "処理が追いつきませんでした"),
        GapReason::Absent => output.pick("nobody listened", "記録の役割が動いていませんでした"),
        GapReason::Storage => output.pick("the disk did not take it", "ディスクに書けませんでした"),
        GapReason::Damaged => output.pick("the ledger's file was damaged", "台帳のファイルが壊れていました"),
    };
    match (output.language, gap.lost) {
        (Language::En, Some(lost)) => format!("▲ missing between {since} and {until}: {lost} events ({why})"),
        (Language::En, None) => format!("▲ missing between {since} and {until}: nobody counted ({why})"),
        (Language::Ja, Some(lost)) => format!("▲ 欠落 {since} から {until}: {lost}件 ({why})"),
        (Language::Ja, None) => format!("▲ 欠落 {since} から {until}: 件数不明 ({why})"),
    }
}

fn ending(output: &Output, ending: Ending) -> &'static str {
    match (output.language, ending) {
        (Language::En, Ending::Open) => "open",
        (Language::En, Ending::Closed) => "closed",
        (Language::En, Ending::Reset) => "reset",
        (Language::En, Ending::Idle) => "idle",
        (Language::En, Ending::Cut) => "cut by the policy",
        (Language::Ja, Ending::Open) => "継続中",
        (Language::Ja, Ending::Closed) => "正常終了",
        (Language::Ja, Ending::Reset) => "強制切断",
        (Language::Ja, Ending::Idle) => "無通信",
        (Language::Ja, Ending::Cut) => "方針により遮断",
    }
}

/// A device by its name, with its address; what has no name by zone and address.
fn end(end: &End) -> String {
    let End { address, port, device, zone } = end;
    let name = device.as_ref().unwrap_or(zone);
    let address = match port {
        Some(port) => std::net::SocketAddr::new(*address, *port).to_string(),
        None => address.to_string(),
    };
    format!("{name} {address}")
}

fn at(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Which edge of a day is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Begin,
    End,
}

/// Understands a time as the clinic says it.
fn time(text: &str, now: &Zoned, edge: Edge) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "`{text}` is no time: give 2026-11-17, \"2026-11-17 09:30\", today, yesterday, tuesday, 2h, or 2026-11-17T09:30:00+09:00"
        )
    };
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let zone = now.time_zone();
    if let Some(day) = day(text, now.date()) {
        let day = if edge == Edge::End { day.tomorrow().map_err(|_| wrong())? } else { day };
        return day.to_zoned(zone.clone()).map(|at| at.timestamp()).map_err(|_| wrong());
    }
    if let Ok(local) = text.parse::<DateTime>() {
        return zone.to_timestamp(local).map_err(|_| wrong());
    }
    let span: Span = text.parse().map_err(|_| wrong())?;
    now.checked_sub(span).map(|at| at.timestamp()).map_err(|_| wrong())
}

/// A day by its date, or by a word; a weekday is the last one, today included.
fn day(text: &str, today: Date) -> Option<Date> {
    let weekdays = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let word = text.to_ascii_lowercase();
    if word == "today" {
        return Some(today);
    }
    if word == "yesterday" {
        return today.yesterday().ok();
    }
    if let Some((_, weekday)) = weekdays.into_iter().find(|(name, _)| *name == word) {
        let back = i64::from(weekday.until(today.weekday()));
        return today.checked_sub(back.days()).ok();
    }
    // A date with a time is a moment, not a day.
    if text.len() == "2026-11-17".len() { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_clinics() {
        // A Sunday in Tokyo, and still Saturday in London.
        let now: Zoned = "2026-11-22T08:00:00+09:00[Asia/Tokyo]".parse().unwrap();
        for (text, edge, expected) in [
            ("2026-11-17", Edge::Begin, "2026-11-17T00:00:00+09:00"),
            ("2026-11-17", Edge::End, "2026-11-18T00:00:00+09:00"),
            ("2026-11-17 09:30", Edge::End, "2026-11-17T09:30:00+09:00"),
            ("2026-11-17T09:30", Edge::Begin, "2026-11-17T09:30:00+09:00"),
            ("2026-11-17T09:30:00Z", Edge::Begin, "2026-11-17T09:30:00Z"),
            ("today", Edge::Begin, "2026-11-22T00:00:00+09:00"),
            ("yesterday", Edge::End, "2026-11-22T00:00:00+09:00"),
            ("Tuesday", Edge::Begin, "2026-11-17T00:00:00+09:00"),
            ("sunday", Edge::Begin, "2026-11-22T00:00:00+09:00"),
            ("monday", Edge::Begin, "2026-11-16T00:00:00+09:00"),
            ("2h", Edge::Begin, "2026-11-22T06:00:00+09:00"),
        ] {
            assert_eq!(time(text, &now, edge), Ok(expected.parse().unwrap()), "{text} {edge:?}");
        }
        for text in ["", "17.11.2026", "tomorrow-ish", "2026-13-01"] {
            assert!(time(text, &now, Edge::Begin).unwrap_err().contains("is no time"), "{text}");
        }
    }
}
