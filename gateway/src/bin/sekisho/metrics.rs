//! Who may read the metrics: certificates and the token, given by the console.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use gateway::wire::console::{Bundle, ConsoleAnswer, ConsoleAsk, Reader};
use policy::diagnostic::Language;
use serde_json::json;

use crate::controls::ask;
use crate::daemon::Sockets;
use crate::exit::{CliError, Exit};
use crate::output::Output;
use crate::table;

const ADD_HELP: &str = "\
DIR is made, and gets `ca.crt`, `client.crt` and `client.key`: what Prometheus calls ca_file, cert_file and key_file.
The key is given away once and not kept. A reader of the same name that was there before can no longer read.

Example:
  sekisho metrics add prometheus -o prometheus-keys";

const TOKEN_HELP: &str = "\
For a policy that says `auth = \"token\"`. DIR is made, and gets `token` and `ca.crt`: what Prometheus calls
credentials_file and ca_file. Only the token's hash is kept. The former token ends.

Example:
  sekisho metrics token -o prometheus-keys";

/// Orders about readers.
#[derive(Debug, Subcommand)]
pub(crate) enum MetricsCommand {
    /// Lists who may read by certificate.
    Readers,
    /// Gives a reader a certificate.
    #[command(after_help = ADD_HELP)]
    Add {
        /// Its name: ASCII letters, digits and hyphens.
        name: String,
        /// Where to write the files; must not exist yet.
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
    },
    /// Ends a reader's certificate.
    Remove {
        /// Its name.
        name: String,
    },
    /// Makes a token.
    #[command(after_help = TOKEN_HELP)]
    Token {
        /// Where to write the files; must not exist yet.
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
    },
}

/// `sekisho metrics`.
pub(crate) fn metrics(output: &Output, sockets: &Sockets, command: MetricsCommand) -> Result<Exit, CliError> {
    let console = &sockets.console;
    match command {
        MetricsCommand::Readers => readers(output, console),
        MetricsCommand::Add { name, output: directory } => add(output, console, name, &directory),
        MetricsCommand::Remove { name } => remove(output, console, name),
        MetricsCommand::Token { output: directory } => token(output, console, &directory),
    }
}

fn readers(output: &Output, console: &Path) -> Result<Exit, CliError> {
    let ConsoleAnswer::Readers(readers) = ask(console, ConsoleAsk::Readers {})? else {
        return Err(CliError::Confused);
    };
    let heads = match output.language {
        Language::En => ["reader", "made", "until", "sha256"],
        Language::Ja => ["読み手", "作成", "期限", "sha256"],
    };
    let cells = |Reader { name, sha256, made_at, not_after }: &Reader| {
        vec![name.clone(), output.time(*made_at), output.time(*not_after), sha256.clone()]
    };
    let table = table::lay_out(&heads, &readers.iter().map(cells).collect::<Vec<_>>());
    output.answer(&table, &serde_json::to_value(&readers)?);
    Ok(Exit::Ok)
}

fn add(output: &Output, console: &Path, name: String, directory: &Path) -> Result<Exit, CliError> {
    // Made before it is asked for: a key that cannot be put anywhere is not given away.
    make(directory)?;
    let answer = ask(console, ConsoleAsk::AddReader { name }).inspect_err(|_| unmake(directory))?;
    let ConsoleAnswer::Bundle(Bundle { authority, certificate, key, not_after }) = answer else {
        return Err(CliError::Confused);
    };
    for (file, text) in [("ca.crt", &authority), ("client.crt", &certificate), ("client.key", &key)] {
        put(&directory.join(file), text)?;
    }
    let (word, until) =
        (output.pick("written; good until", "書き出しました。有効期限"), output.time(not_after));
    let value = json!({ "directory": directory, "not_after": not_after });
    output.answer(&format!("{}: {word} {until}", directory.display()), &value);
    Ok(Exit::Ok)
}

fn remove(output: &Output, console: &Path, name: String) -> Result<Exit, CliError> {
    match ask(console, ConsoleAsk::RemoveReader { name })? {
        ConsoleAnswer::Removed {} => {
            let word = output.pick("this reader can no longer read", "この読み手は読めなくなりました");
            output.answer(word, &json!({ "removed": true }));
            Ok(Exit::Ok)
        }
        _ => Err(CliError::Confused),
    }
}

fn token(output: &Output, console: &Path, directory: &Path) -> Result<Exit, CliError> {
    make(directory)?;
    let answer = ask(console, ConsoleAsk::NewToken {}).inspect_err(|_| unmake(directory))?;
    let ConsoleAnswer::Token { token, authority } = answer else { return Err(CliError::Confused) };
    for (file, text) in [("ca.crt", &authority), ("token", &token)] {
        put(&directory.join(file), text)?;
    }
    let word = output.pick("written", "書き出しました");
    output.answer(&format!("{}: {word}", directory.display()), &json!({ "directory": directory }));
    Ok(Exit::Ok)
}

fn make(directory: &Path) -> Result<(), CliError> {
    DirBuilder::new().mode(0o700).create(directory).map_err(|source| write_error(directory, source))
}

/// An empty directory that nothing came into.
fn unmake(directory: &Path) {
    // Left behind it only has to be removed by hand; the answer says what went wrong.
    let _ = fs::remove_dir(directory);
}

fn put(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |source| write_error(path, source);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn write_error(path: &Path, source: io::Error) -> CliError {
    CliError::Write { path: path.to_owned(), source }
}
