//! `sekisho person`: second factors of the persons whom the policy names.

use std::path::PathBuf;

use clap::Subcommand;
use gateway::wire::persons::{PersonRow, PersonsAnswer, PersonsAsk};
use gateway::wire::{Answer, Ask};
use policy::diagnostic::Language;
use serde_json::json;

use crate::ask::{Codes, ask, qr};
use crate::daemon::Sockets;
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::table;

pub(crate) const ENROL_HELP: &str = "\
PERSON is a person of the policy in force. The new factor is shown as a QR code for an authenticator, and counts once a
first code of it was typed. While no admin of the policy is enrolled, root enrols one, who must hold the role `admin`;
everybody else is enrolled by an enrolled admin, who types a code, too. Codes are read from standard input, a line each: the
admin's first.

Examples:
  sekisho person enrol \"佐倉 花子\"                      the first
  sekisho person enrol \"山田 太郎\" --by \"佐倉 花子\"";

/// Orders about persons.
#[derive(Debug, Subcommand)]
pub(crate) enum PersonCommand {
    /// Lists persons, and whose second factor is enrolled.
    List,
    /// Gives a person a second factor (TOTP).
    #[command(after_help = ENROL_HELP)]
    Enrol {
        /// Key of the person in the policy.
        person: String,
        /// The enrolled admin who does this.
        #[arg(long, value_name = "ADMIN")]
        by: Option<String>,
    },
    /// Takes a second factor away; the last admin's stays.
    Remove {
        /// Key of the person in the policy.
        person: String,
        /// The enrolled admin who does this.
        #[arg(long, value_name = "ADMIN")]
        by: String,
        /// File with the admin's code; else standard input.
        #[arg(long, value_name = "FILE")]
        code_file: Option<PathBuf>,
    },
    /// Replaces a lost factor by a recovery code, which is used up.
    Recover {
        /// Key of the person in the policy.
        person: String,
    },
}

/// `sekisho person`.
pub(crate) fn person(output: &Output, sockets: &Sockets, command: PersonCommand) -> Result<Exit, CliError> {
    let told = |question| match ask(&sockets.core, Ask::Persons(question))? {
        Answer::Persons(answer) => Ok(answer),
        _ => Err(CliError::Confused),
    };
    let codes = Codes::new(None);
    match command {
        PersonCommand::List => list(output, told(PersonsAsk::List {})?),
        PersonCommand::Enrol { person, by } => {
            let by = by.map(|admin| codes.proof(output, &admin)).transpose()?;
            let offer = told(PersonsAsk::Enrol { person: person.clone(), by })?;
            confirm(output, &codes, &person, offer, told)
        }
        PersonCommand::Recover { person } => {
            let code = codes.read(output, "Recovery code: ", "回復コード: ")?;
            let offer = told(PersonsAsk::Recover { person: person.clone(), code })?;
            confirm(output, &codes, &person, offer, told)
        }
        PersonCommand::Remove { person, by, code_file } => {
            let by = Codes::new(code_file).proof(output, &by)?;
            let PersonsAnswer::Removed {} = told(PersonsAsk::Remove { person: person.clone(), by })? else {
                return Err(CliError::Confused);
            };
            let text = output.pick("the second factor is gone", "二要素を解除しました");
            output.answer(text, &json!({ "removed": person }));
            Ok(Exit::Ok)
        }
    }
}

/// Shows a new factor and takes its first code.
fn confirm(
    output: &Output,
    codes: &Codes,
    person: &str,
    offer: PersonsAnswer,
    told: impl Fn(PersonsAsk) -> Result<PersonsAnswer, CliError>,
) -> Result<Exit, CliError> {
    let PersonsAnswer::Offer { uri, secret } = offer else { return Err(CliError::Confused) };
    if output.is_json() {
        output.json(&json!({ "person": person, "uri": uri, "secret": secret }));
    } else {
        let head = output.pick(
            "Scan this with an authenticator, or type the secret into it:",
            "認証アプリで読み取るか、秘密の文字列を入力してください:",
        );
        output.line(&format!("{head}\n\n{}\n{secret}\n", qr(&uri).unwrap_or_default()));
    }
    let code = codes.read(output, "First code it shows: ", "表示された最初のコード: ")?;
    let PersonsAnswer::Enrolled { recovery_codes } =
        told(PersonsAsk::Confirm { person: person.to_owned(), code })?
    else {
        return Err(CliError::Confused);
    };
    let head = output.pick(
        "● enrolled. Recovery codes, shown only now; print them and lock them away:",
        "● 登録しました。回復コードは今だけ表示されます。印刷して施錠保管してください:",
    );
    let text = format!("{head}\n  {}", recovery_codes.join("\n  "));
    output.answer(&text, &json!({ "person": person, "enrolled": true, "recovery_codes": recovery_codes }));
    Ok(Exit::Ok)
}

fn list(output: &Output, answer: PersonsAnswer) -> Result<Exit, CliError> {
    let PersonsAnswer::Persons(rows) = answer else { return Err(CliError::Confused) };
    let heads = match output.language {
        Language::En => ["person", "name", "roles", "second factor", "recovery codes"],
        Language::Ja => ["キー", "氏名", "役割", "二要素", "回復コード"],
    };
    let cells = |row: &PersonRow| {
        vec![
            row.person.clone(),
            row.name.clone(),
            row.roles.join(", "),
            factor(output, row),
            row.recovery_codes_left.to_string(),
        ]
    };
    let text = table::lay_out(&heads, &rows.iter().map(cells).collect::<Vec<_>>());
    output.answer(&text, &serde_json::to_value(&rows)?);
    Ok(Exit::Ok)
}

fn factor(output: &Output, row: &PersonRow) -> String {
    match (row.is_living, row.enrolled_at, row.locked_until) {
        (false, _, _) => output.pick("✖ may no longer act", "✖ 権限の期限切れ").to_owned(),
        (true, None, _) => output.pick("－ not enrolled", "－ 未登録").to_owned(),
        (true, Some(_), Some(until)) => {
            format!("▲ {} {}", output.pick("locked until", "ロック中 解除"), output.time(until))
        }
        (true, Some(at), None) => format!("● {}", output.time(at)),
    }
}
