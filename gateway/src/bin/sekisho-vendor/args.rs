//! The vendor's command line: its grammar and its help.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use policy::diagnostic::Language;

const EXAMPLES: &str = "\
Examples:
  sekisho-vendor enrol --gateway clinic.example.jp:8443          asks for the code that the clinic gave
  sekisho-vendor open device:record-server:ssh --purpose 'monthly check' --for 30m --listen 127.0.0.1:2222
  ssh -p 2222 maintenance@127.0.0.1                             in another terminal, once the clinic approved
  sekisho-vendor send update.pdf --session s-abcdefghijkl

The private key is made here and never leaves this machine. One --home is one clinic.

Exit status:
  0  done                          4  the gateway cannot be reached
  1  failed                        5  the gateway does not let this key in, or is another one
  2  wrong usage                   6  the session is over
  3  the clinic or its gateway says no";

const OPEN_HELP: &str = "\
Asks, shows how the request stands until the clinic has approved it, then forwards the local address to the target, for
as long as the session is open. Ctrl-C ends the session.";

const ADOPT_HELP: &str = "\
The clinic names the vendor's authority in its policy and hands over its own certificate, which
`sekisho vendor authority` prints there. The engineer's must be for client authentication and name
one person: by the common name of its subject, else by one mail address.

Example:
  sekisho-vendor adopt --gateway clinic.example.jp:8443 \\
      --key suzuki.key --chain suzuki.pem --clinic clinic.pem";

const CONNECT_HELP: &str = "\
Waits until the session is open, then forwards. Ctrl-C stops forwarding; the session stays open until its end.";

/// Asks a clinic for a maintenance session, and works in it.
#[derive(Debug, Parser)]
#[command(name = "sekisho-vendor", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Args {
    /// One JSON value per line on standard output, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Language of the answers; else LC_ALL, LC_MESSAGES and LANG are asked.
    #[arg(long, global = true, value_enum)]
    pub(crate) lang: Option<Lang>,
    /// Where the key and the certificate of this clinic are kept [default: ~/.config/sekisho-vendor].
    #[arg(long, global = true, env = "SEKISHO_VENDOR_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// How to reach the gateway.
    #[arg(long, global = true, value_enum, default_value_t = Transport::Auto)]
    pub(crate) transport: Transport,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Languages spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    /// Japanese.
    Ja,
    /// English.
    En,
}

impl From<Lang> for Language {
    fn from(lang: Lang) -> Self {
        match lang {
            Lang::Ja => Language::Ja,
            Lang::En => Language::En,
        }
    }
}

/// How to reach the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// QUIC, or TLS over TCP where UDP does not pass.
    Auto,
    /// QUIC only.
    Quic,
    /// TLS over TCP only.
    Tcp,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a key here and has the clinic certify it, with the code that the clinic gave.
    Enrol {
        /// The gateway, as HOST:PORT.
        #[arg(long, value_name = "HOST:PORT")]
        gateway: String,
        /// The code; without it, it is read from standard input, and no list of processes shows it.
        code: Option<String>,
    },
    /// Takes up a key and a certificate that the vendor's own authority made, where the clinic knows that authority.
    #[command(after_help = ADOPT_HELP)]
    Adopt(Adopting),
    /// Asks for a session.
    Request(Wanted),
    /// Forwards a local address to the target of a session.
    #[command(after_help = CONNECT_HELP)]
    Connect {
        /// The session.
        session: String,
        /// The local address.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
    },
    /// Asks for a session, waits for it, and forwards a local address to its target.
    #[command(after_help = OPEN_HELP)]
    Open {
        #[command(flatten)]
        wanted: Wanted,
        /// The local address.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
    },
    /// Sends a file; the clinic's gateway inspects it before anybody gets it.
    Send {
        /// The file.
        file: PathBuf,
        /// The session in which it is sent.
        #[arg(long)]
        session: String,
        /// A statement of what was done with the file.
        #[arg(long, value_name = "FILE")]
        attestation: Option<PathBuf>,
    },
    /// Signs a statement that a file was looked at, for a session in which it is to be sent.
    Attest(Attesting),
    /// Says how a session stands.
    Status {
        /// The session; else the one asked for last.
        session: Option<String>,
    },
    /// Ends a session.
    End {
        /// The session; else the one asked for last.
        session: Option<String>,
    },
    /// Fetches the signed receipt of a session that is over, and checks it.
    Receipt {
        /// The session; else the one asked for last.
        session: Option<String>,
    },
    /// Writes completions for a shell to standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages into a directory.
    Man {
        /// The directory.
        directory: PathBuf,
    },
}

/// What is taken up in place of an enrolment.
#[derive(Debug, clap::Args)]
pub(crate) struct Adopting {
    /// The gateway, as HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) gateway: String,
    /// The engineer's private key (PEM, PKCS #8).
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The engineer's certificate, then those between, the vendor's authority last (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) chain: PathBuf,
    /// The clinic's authority as the clinic handed it over (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) clinic: PathBuf,
}

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// The target as the clinic names it, such as device:record-server:ssh.
    pub(crate) target: String,
    /// What for.
    #[arg(long)]
    pub(crate) purpose: String,
    /// How long, such as 30m or 1h30m.
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) duration: Length,
}

/// What is stated of a file.
#[derive(Debug, clap::Args)]
pub(crate) struct Attesting {
    /// The file.
    pub(crate) file: PathBuf,
    /// The session in which it is to be sent.
    #[arg(long)]
    pub(crate) session: String,
    /// The clinic's site, as the clinic names it.
    #[arg(long)]
    pub(crate) site: String,
    /// The program that looked at the file.
    #[arg(long, value_name = "NAME")]
    pub(crate) sanitizer: String,
    /// That program's version.
    #[arg(long, value_name = "VERSION")]
    pub(crate) sanitizer_version: String,
    /// The program found something that could act, and took it out.
    #[arg(long)]
    pub(crate) disarmed: bool,
    /// Where the statement goes [default: beside the file].
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How long a session is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length {
    pub(crate) seconds: u32,
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
        let seconds = u32::try_from(parsed.as_secs()).ok().filter(|seconds| *seconds > 0);
        seconds
            .map(|seconds| Length { seconds })
            .ok_or_else(|| "a time such as 30m or 1h30m is needed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn lengths_are_read_as_people_write_them() {
        let seconds = |text: &str| text.parse::<Length>().map(|length| length.seconds);
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("1h30m"), Ok(5400));
        for bad in ["", "0s", "-5m", "30", "1 fortnight", "100000000h"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
