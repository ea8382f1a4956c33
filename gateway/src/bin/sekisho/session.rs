//! `sekisho session`: maintenance sessions; approving takes a person and that person's code over what was shown.

use std::path::PathBuf;

use clap::Subcommand;
use gateway::wire::doors::{SessionId, SessionState, Text};
use gateway::wire::persons::{Claim, SessionRow, SessionsAnswer, SessionsAsk};
use gateway::wire::{Answer, Ask};
use policy::diagnostic::Language;

use crate::ask::{Codes, ask};
use crate::daemon::Sockets;
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::table;

pub(crate) const APPROVE_HELP: &str = "\
Shows the request and its digest, then asks for the code. What was shown is what is approved: the gateway compares the
digest with what it would carry out, and takes the code once. Every role that the policy names needs another person.

Example:
  sekisho session approve s-abcdefghijkl --person \"佐倉 花子\"";

pub(crate) const KILL_HELP: &str = "\
Closing never needs a code and asks for none. The log names the account, and the person that --person names; with a code
of that person's it names the person alone.

Example:
  sekisho session kill s-abcdefghijkl --person \"佐倉 花子\"";

/// Orders about sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Lists the sessions, the oldest first.
    List,
    /// Shows one.
    Show {
        /// Which.
        session: String,
    },
    /// Approves one, as a person with a code.
    #[command(after_help = APPROVE_HELP)]
    Approve {
        /// Which.
        session: String,
        /// Key of the person in the policy.
        #[arg(long)]
        person: String,
        /// File with the code; else standard input.
        #[arg(long, value_name = "FILE")]
        code_file: Option<PathBuf>,
        /// The digest that the person saw elsewhere; else that of what is shown now.
        #[arg(long, value_name = "SHA256")]
        digest: Option<String>,
    },
    /// Refuses one.
    Deny {
        /// Which.
        session: String,
        /// Why; the engineer reads it.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        by: Claimed,
    },
    /// Ends one, now.
    #[command(after_help = KILL_HELP)]
    Kill {
        /// Which.
        session: String,
        #[command(flatten)]
        by: Claimed,
    },
}

/// Who says no. Nothing of it is needed.
#[derive(Debug, clap::Args)]
pub(crate) struct Claimed {
    /// Who says so, by key or name in the policy; else the log names the account.
    #[arg(long)]
    person: Option<String>,
    /// File with a code of that person's, which proves the name; `-` is standard input. Nothing is asked for without it.
    #[arg(long, value_name = "FILE", requires = "person")]
    code_file: Option<PathBuf>,
}

impl Claimed {
    /// What can be said of it: a code that cannot be read keeps nobody from closing.
    fn claim(self, output: &Output) -> Option<Claim> {
        let Claimed { person, code_file } = self;
        let person = Text::try_from(person?).ok()?;
        let code = code_file.and_then(|file| {
            let read = Codes::new(Some(file)).proof(output, person.as_str());
            let unproved = output.pick("the name goes without proof", "本人確認のない名前として記録します");
            read.inspect_err(|error| output.note(&format!("{unproved}: {error}"))).ok()
        });
        Some(Claim { person, code: code.map(|proof| proof.code) })
    }
}

/// `sekisho session`.
pub(crate) fn session(output: &Output, sockets: &Sockets, command: SessionCommand) -> Result<Exit, CliError> {
    let told = |question| match ask(&sockets.core, Ask::Sessions(question))? {
        Answer::Sessions(answer) => Ok(answer),
        _ => Err(CliError::Confused),
    };
    let one = |question| match told(question)? {
        SessionsAnswer::Session(row) => Ok(*row),
        SessionsAnswer::Sessions(_) => Err(CliError::Confused),
    };
    let row = match command {
        SessionCommand::List => return list(output, told(SessionsAsk::List {})?),
        SessionCommand::Show { session } => one(SessionsAsk::Show { session: id(&session)? })?,
        SessionCommand::Approve { session, person, code_file, digest } => {
            let session = id(&session)?;
            let shown = one(SessionsAsk::Show { session: session.clone() })?;
            if !output.is_json() {
                output.line(&text(output, &shown));
            }
            let proof = Codes::new(code_file).proof(output, &person)?;
            one(SessionsAsk::Approve { session, digest: digest.unwrap_or(shown.digest), proof })?
        }
        SessionCommand::Deny { session, reason, by } => {
            let why = Text::try_from(reason).map_err(|error| CliError::Question(error.to_string()))?;
            one(SessionsAsk::Deny { session: id(&session)?, why, by: by.claim(output) })?
        }
        SessionCommand::Kill { session, by } => {
            one(SessionsAsk::Kill { session: id(&session)?, by: by.claim(output) })?
        }
    };
    output.answer(&text(output, &row), &serde_json::to_value(&row)?);
    Ok(Exit::Ok)
}

fn id(text: &str) -> Result<SessionId, CliError> {
    SessionId::parse(text).map_err(|error| CliError::Question(error.to_string()))
}

fn list(output: &Output, answer: SessionsAnswer) -> Result<Exit, CliError> {
    let SessionsAnswer::Sessions(rows) = answer else { return Err(CliError::Confused) };
    let heads = match output.language {
        Language::En => ["session", "state", "vendor", "engineer", "target", "purpose"],
        Language::Ja => ["セッション", "状態", "事業者", "担当者", "対象", "目的"],
    };
    let cells = |row: &SessionRow| {
        vec![
            row.standing.session.to_string(),
            state(output, row),
            row.vendor.clone(),
            row.engineer.clone(),
            row.target.clone(),
            row.purpose.clone(),
        ]
    };
    let text = table::lay_out(&heads, &rows.iter().map(cells).collect::<Vec<_>>());
    output.answer(&text, &serde_json::to_value(&rows)?);
    Ok(Exit::Ok)
}

fn text(output: &Output, row: &SessionRow) -> String {
    let line = |en, ja, value: &str| format!("  {}: {value}", output.pick(en, ja));
    let minutes = row.duration_s.div_ceil(60);
    let length = match output.language {
        Language::En => format!("{minutes} min"),
        Language::Ja => format!("{minutes}分"),
    };
    let mut lines = vec![
        format!("{} {}", row.standing.session, state(output, row)),
        line("who", "申請者", &format!("{} ({})", row.engineer, row.vendor)),
        line("key", "鍵", &row.key.to_string()),
        line("target", "対象", &row.target),
        line("will open", "開くもの", &row.opens.join(", ")),
        line("purpose", "目的", &row.purpose),
        line("for", "時間", &length),
        line("asked", "申請", &output.time(row.requested_at)),
        line("digest", "ダイジェスト", &row.digest),
    ];
    if !row.standing.missing.is_empty() {
        lines.push(line("still needs", "承認待ちの役割", &row.standing.missing.join(", ")));
    }
    if !row.approved_by.is_empty() {
        lines.push(line("approved by", "承認者", &row.approved_by.join(", ")));
    }
    lines.extend(row.standing.why.as_ref().map(|why| line("why", "理由", why)));
    lines.join("\n")
}

fn state(output: &Output, row: &SessionRow) -> String {
    let at = row.standing.at.map(|at| output.time(at)).unwrap_or_default();
    match row.standing.state {
        SessionState::Requested => output.pick("▲ waits for approval", "▲ 承認待ち").to_owned(),
        SessionState::Approved if at.is_empty() => output.pick("● approved", "● 承認済み").to_owned(),
        SessionState::Approved => format!("● {} {at}", output.pick("approved, opens", "承認済み 開始")),
        SessionState::Open => format!("● {} {at}", output.pick("open until", "接続可 終了")),
        SessionState::Denied => output.pick("✖ denied", "✖ 却下").to_owned(),
        SessionState::Closed => output.pick("－ closed", "－ 終了").to_owned(),
    }
}
