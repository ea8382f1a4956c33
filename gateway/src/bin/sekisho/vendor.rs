//! `sekisho vendor`: engineers of vendors; who may ask, never who may pass.

use clap::Subcommand;
use gateway::wire::doors::{Engineer, Invitation, KeyId, Text};
use gateway::wire::persons::{VendorsAnswer, VendorsAsk};
use gateway::wire::{Answer, Ask};
use policy::diagnostic::Language;
use serde_json::json;

use crate::ask::ask;
use crate::daemon::Sockets;
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::table;

/// Least digits of a key that name it.
const KEY_DIGITS_MIN: usize = 8;

const INVITE_HELP: &str = "\
Prints a code that lets one engineer enrol a key of his own, once, within seven days. Hand it over by another way than
mail, to the person you know. It opens nothing: every session still needs an approval.

Example:
  sekisho vendor invite acme-emr --engineer \"鈴木\"";

const AUTHORITY_HELP: &str = "\
Prints the certificate (PEM) by which engineers know this gateway. An invitation carries its hash;
a vendor whose own certificate authority the policy names (`ca`) needs the certificate itself. It is
no secret, but hand it over so that nobody can change it on the way.

Example:
  sekisho vendor authority > clinic.pem";

/// Orders about vendors.
#[derive(Debug, Subcommand)]
pub(crate) enum VendorCommand {
    /// Lists engineers and invitations.
    List,
    /// Makes a one-time code for an engineer.
    #[command(after_help = INVITE_HELP)]
    Invite {
        /// The vendor, as the policy names it.
        vendor: String,
        /// The engineer's name.
        #[arg(long)]
        engineer: String,
    },
    /// Prints the clinic's maintenance authority, for vendors with an authority of their own.
    #[command(after_help = AUTHORITY_HELP)]
    Authority,
    /// Takes no longer a key, or an invitation; its sessions end.
    Revoke {
        /// The key as `list` or `session show` gives it; its first digits are enough for `list`'s.
        key: String,
    },
}

/// `sekisho vendor`.
pub(crate) fn vendor(output: &Output, sockets: &Sockets, command: VendorCommand) -> Result<Exit, CliError> {
    let told = |question| match ask(&sockets.core, Ask::Vendors(question))? {
        Answer::Vendors(answer) => Ok(answer),
        _ => Err(CliError::Confused),
    };
    match command {
        VendorCommand::List => list(output, told(VendorsAsk::List {})?),
        VendorCommand::Invite { vendor, engineer } => {
            let engineer = Text::try_from(engineer).map_err(|error| CliError::Question(error.to_string()))?;
            let VendorsAnswer::Invited { code, key, until } = told(VendorsAsk::Invite { vendor, engineer })?
            else {
                return Err(CliError::Confused);
            };
            let note = output.pick("valid once, until", "1回限り有効 期限");
            let value = json!({ "code": code, "key": key, "until": until });
            output.answer(&format!("{code}\n{note} {}", output.time(until)), &value);
            Ok(Exit::Ok)
        }
        VendorCommand::Authority => {
            let VendorsAnswer::Authority { certificate } = told(VendorsAsk::Authority {})? else {
                return Err(CliError::Confused);
            };
            output.answer(certificate.trim_end(), &json!({ "certificate": certificate }));
            Ok(Exit::Ok)
        }
        VendorCommand::Revoke { key } => {
            let key = named(&key, told(VendorsAsk::List {})?)?;
            let VendorsAnswer::Revoked {} = told(VendorsAsk::Revoke { key })? else {
                return Err(CliError::Confused);
            };
            let text =
                output.pick("revoked; its sessions have ended", "失効させました。セッションも終了しました");
            output.answer(text, &json!({ "revoked": key }));
            Ok(Exit::Ok)
        }
    }
}

/// The one key that begins so.
fn named(digits: &str, listed: VendorsAnswer) -> Result<KeyId, CliError> {
    let VendorsAnswer::Engineers { enrolled, invitations } = listed else { return Err(CliError::Confused) };
    let keys = enrolled.iter().map(|one| one.key).chain(invitations.iter().map(|one| one.key));
    let found: Vec<KeyId> = keys.filter(|key| key.to_string().starts_with(digits)).collect();
    match found.as_slice() {
        [key] if digits.len() >= KEY_DIGITS_MIN => Ok(*key),
        _ => Err(CliError::Question(format!(
            "`{digits}` names no single key: give at least {KEY_DIGITS_MIN} digits as `sekisho vendor list` shows them"
        ))),
    }
}

fn list(output: &Output, answer: VendorsAnswer) -> Result<Exit, CliError> {
    let VendorsAnswer::Engineers { enrolled, invitations } = answer else { return Err(CliError::Confused) };
    let heads = match output.language {
        Language::En => ["vendor", "engineer", "state", "until", "key"],
        Language::Ja => ["事業者", "担当者", "状態", "期限", "鍵"],
    };
    let engineer = |Engineer { key, vendor, name, not_after }: &Engineer| {
        let state = output.pick("● enrolled", "● 登録済み").to_owned();
        vec![vendor.clone(), name.clone(), state, output.time(*not_after), key.to_string()]
    };
    let invitation = |Invitation { key, vendor, name, until }: &Invitation| {
        let state = output.pick("▲ invited", "▲ 招待中").to_owned();
        vec![vendor.clone(), name.clone(), state, output.time(*until), key.to_string()]
    };
    let rows: Vec<_> = enrolled.iter().map(engineer).chain(invitations.iter().map(invitation)).collect();
    let value = json!({ "enrolled": enrolled, "invitations": invitations });
    output.answer(&table::lay_out(&heads, &rows), &value);
    Ok(Exit::Ok)
}
