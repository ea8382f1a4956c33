//! The command line's grammar and its help.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::Timestamp;
use policy::diagnostic::Language;

const EXAMPLES: &str = "\
Examples:
  sekisho policy check clinic.toml            is the file right?
  sekisho policy why zone:guest device:pacs tcp/104 --policy clinic.toml
  sekisho apply clinic.toml --dry-run         what would change?
  sekisho apply clinic.toml                   put it in force
  sekisho flows                               what passes, and how much

Exit status:
  0  done; the answer is yes     4  the daemon cannot be reached
  1  failed                      5  not permitted
  2  wrong usage                 6  the kernel differs from the policy
  3  policy or backup refused    7  denied (policy why)
  8  failed, and nothing passes now          9  a control failed or is unknown (controls)";

const CHECK_HELP: &str = "\
Reads FILE and what it includes (inside its own directory), and tells every error and warning with its line.
Nothing is sent anywhere; the daemon need not run.

Examples:
  sekisho policy check clinic.toml
  sekisho --json policy check clinic.toml | jq .diagnostics
  sekisho policy check - < clinic.toml";

const WHY_HELP: &str = "\
FROM and TO are `zone:NAME`, `device:NAME`, `gateway` or an address; SERVICE is a name or `tcp/104`, `icmp`, `esp`.
Without --policy the policy in force is asked.

Examples:
  sekisho policy why device:ct device:pacs dicom
  sekisho policy why 192.168.90.50 192.168.10.11 tcp/445 --policy clinic.toml

Exit status 0 when it may pass, 7 when it may not.";

const APPLY_HELP: &str = "\
The file is checked here first, then by the daemon, put into the kernel in one transaction, read back and compared.
Only then is it in force. When anything fails, the last applied policy stays or comes back.
Connections that the new policy no longer allows end at once; all others go on.

Examples:
  sekisho apply clinic.toml --dry-run
  sekisho apply clinic.toml";

/// Sets, asks and explains what may pass in this clinic's network.
#[derive(Debug, Parser)]
#[command(name = "sekisho", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Args {
    /// Answer with one JSON value on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Language of the answers; else LC_ALL, LC_MESSAGES and LANG are asked.
    #[arg(long, global = true, value_enum)]
    pub(crate) lang: Option<Lang>,
    /// The daemon's socket.
    #[arg(
        long,
        global = true,
        env = "SEKISHO_SOCKET",
        default_value = "/run/sekisho/core.sock",
        value_name = "PATH"
    )]
    pub(crate) socket: PathBuf,
    /// The socket of the role that reads denied packets.
    #[arg(
        long,
        global = true,
        env = "SEKISHO_WATCH_SOCKET",
        default_value = "/run/sekisho-watch/watch.sock",
        value_name = "PATH"
    )]
    pub(crate) watch_socket: PathBuf,
    /// The socket of the role that keeps the log.
    #[arg(
        long,
        global = true,
        env = "SEKISHO_RECORD_SOCKET",
        default_value = "/run/sekisho-record/record.sock",
        value_name = "PATH"
    )]
    pub(crate) record_socket: PathBuf,
    /// The socket of the role that judges the controls and serves the metrics.
    #[arg(
        long,
        global = true,
        env = "SEKISHO_CONSOLE_SOCKET",
        default_value = "/run/sekisho-console/console.sock",
        value_name = "PATH"
    )]
    pub(crate) console_socket: PathBuf,
    /// The socket of the role that speaks with those outside.
    #[arg(
        long,
        global = true,
        env = "SEKISHO_EDGE_SOCKET",
        default_value = "/run/sekisho-edge/edge.sock",
        value_name = "PATH"
    )]
    pub(crate) edge_socket: PathBuf,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Reads, shows and explains policies.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Puts a policy in force.
    #[command(after_help = APPLY_HELP)]
    Apply {
        /// The policy; `-` is standard input.
        file: PathBuf,
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
    },
    /// Says what is in force, and what somebody should look at.
    Status,
    /// Lists the flows: whether each is open, until when, and what passed; or who spoke to whom, and when.
    #[command(after_help = crate::flows::HELP)]
    Flows(crate::flows::FlowsArgs),
    /// Compares the kernel's rules with the policy, rule by rule and element by element.
    #[command(after_help = "Exit status 0 when they are equal, 6 when they differ or had to be repaired.")]
    Verify,
    /// Says how the controls of the guideline stand, since when, and what to do.
    #[command(after_help = crate::controls::HELP)]
    Controls(crate::controls::ControlsArgs),
    /// Writes the measurement report, with the zone matrix, as one HTML file; that it was made is recorded.
    #[command(after_help = crate::report::HELP)]
    Report(crate::report::ReportArgs),
    /// Writes the roles' state into one sealed file; that it was made is recorded.
    #[command(after_help = crate::backup::BACKUP_HELP)]
    Backup(crate::backup::BackupArgs),
    /// Puts a backup in place, all of it or nothing.
    #[command(after_help = crate::backup::RESTORE_HELP)]
    Restore(crate::backup::RestoreArgs),
    /// The log: reads, proves, verifies and exports it.
    Audit {
        #[command(subcommand)]
        command: crate::audit::AuditCommand,
    },
    /// Who may read the metrics.
    Metrics {
        #[command(subcommand)]
        command: crate::metrics::MetricsCommand,
    },
    /// Second factors of the persons whom the policy names.
    Person {
        #[command(subcommand)]
        command: crate::person::PersonCommand,
    },
    /// Engineers of vendors: who may ask for a session.
    Vendor {
        #[command(subcommand)]
        command: crate::vendor::VendorCommand,
    },
    /// Maintenance sessions: approves, refuses and ends them.
    Session {
        #[command(subcommand)]
        command: crate::session::SessionCommand,
    },
    /// Peers of the VPN.
    Vpn {
        #[command(subcommand)]
        command: crate::vpn::VpnCommand,
    },
    /// Says what files are, and whether a transfer would deliver them.
    #[command(after_help = crate::inspect::HELP)]
    Inspect(crate::inspect::InspectArgs),
    /// The clock by which windows open and close.
    Time {
        #[command(subcommand)]
        command: TimeCommand,
    },
    /// Writes the configuration of DNS, DHCP and NTP again.
    Services,
    /// Prints completions for a shell.
    #[command(
        after_help = "Example:\n  sekisho completions bash > /usr/share/bash-completion/completions/sekisho"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Writes manual pages into a directory.
    Man {
        /// Where to.
        directory: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Tells every error and warning in a policy.
    #[command(after_help = CHECK_HELP)]
    Check {
        /// The policy; `-` is standard input.
        file: PathBuf,
    },
    /// Shows what a policy becomes: nft rules, or a service's configuration.
    #[command(
        after_help = "The marks shown are those of a first apply.\n\nExample:\n  sekisho policy render clinic.toml | less"
    )]
    Render {
        /// The policy; `-` is standard input.
        file: PathBuf,
        /// A service's configuration instead.
        #[arg(long, value_enum)]
        services: Option<Service>,
    },
    /// Says whether something may pass, by which line, or why not and what to do.
    #[command(after_help = WHY_HELP)]
    Why {
        /// Who begins.
        from: String,
        /// Whom it is for.
        to: String,
        /// What it is.
        service: String,
        /// Ask this file and not the policy in force.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Ask as of this time, such as 2026-03-02T20:00:00+09:00.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
    },
    /// Prints the JSON schema of the language, for editors.
    Schema,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TimeCommand {
    /// Says that the wall clock is good: windows may open by it.
    Trusted,
}

/// Services whose configuration is generated.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Service {
    /// DNS (dnsmasq).
    Names,
    /// DHCP and router advertisements (dnsmasq).
    Leases,
    /// NTP.
    Chrony,
    /// Addresses of the WAN.
    Dhcpcd,
}
