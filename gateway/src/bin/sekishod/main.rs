//! `sekishod`: the gateway's roles. One binary, run as separate units with their own users.

mod console;
mod core;
mod edge;
mod files;
mod inspect;
mod logging;
mod memory;
mod notify;
mod record;
mod sandbox;
mod server;
mod settings;
mod signals;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use gateway::store::StoreError;

/// Exit status when another daemon holds the state directory.
const EXIT_SECOND_DAEMON: u8 = 3;

/// The gateway's daemon. Started by systemd; see the units sekisho-core.service and sekisho-watch.service.
///
/// Exit status: 0 stopped when asked; 1 failed; 2 wrong usage; 3 another daemon uses the state directory.
/// Stopping leaves the firewall as it is.
#[derive(Debug, Parser)]
#[command(name = "sekishod", version, max_term_width = 100)]
struct Args {
    /// What this process shall be.
    role: Role,
    /// Where the role keeps what must survive: core the last applied policy, watch its ledger.
    #[arg(long, env = "STATE_DIRECTORY", default_value = "/var/lib/sekisho")]
    state_dir: PathBuf,
    /// Where sockets and generated configuration appear.
    #[arg(long, env = "RUNTIME_DIRECTORY", default_value = "/run/sekisho")]
    runtime_dir: PathBuf,
    /// Socket at which core hands the log of denied packets to watch.
    #[arg(long, env = "SEKISHO_FEED", default_value = "/run/sekisho/feed.sock")]
    feed: PathBuf,
    /// Socket of the record role, where every decision is made durable.
    #[arg(long, env = "SEKISHO_RECORD", default_value = "/run/sekisho-record/record.sock")]
    record: PathBuf,
    /// Where core writes the settings of the other roles.
    #[arg(long, env = "SEKISHO_SERVICES", default_value = "/run/sekisho/services")]
    services: PathBuf,
    /// Socket at which core tells the console what it measured (console only).
    #[arg(long, env = "SEKISHO_MEASURE", default_value = "/run/sekisho/measure.sock")]
    measure: PathBuf,
    /// Socket of the watch role (console only).
    #[arg(long, env = "SEKISHO_WATCH", default_value = "/run/sekisho-watch/watch.sock")]
    watch: PathBuf,
    /// Socket of the edge role (console only).
    #[arg(long, env = "SEKISHO_EDGE", default_value = "/run/sekisho-edge/edge.sock")]
    edge: PathBuf,
    /// Socket of the files role (edge and console).
    #[arg(long, env = "SEKISHO_FILES", default_value = "/run/sekisho-files/files.sock")]
    files: PathBuf,
    /// Socket at which core answers the edge role (edge only).
    #[arg(long, env = "SEKISHO_DOORS", default_value = "/run/sekisho/doors.sock")]
    doors: PathBuf,
    /// Socket at which the service manager starts one inspection for each connection (files only).
    #[arg(long, env = "SEKISHO_INSPECT", default_value = "/run/sekisho-inspect/inspect.sock")]
    inspect: PathBuf,
    /// The vendors' drops: released files are delivered below (files only).
    #[arg(long, env = "SEKISHO_DROP", default_value = "/srv/sekisho/drop")]
    drop: PathBuf,
    /// Keys that originals are sealed to, `age1..` a line; without the file a key of the role's own (files only).
    #[arg(long, env = "SEKISHO_SEAL_TO", default_value = "/var/lib/sekisho-files/originals.recipients")]
    seal_to: PathBuf,
    /// Which WireGuard carries the VPN's packets (core only).
    #[arg(long, env = "SEKISHO_VPN_DATA_PATH", value_enum, default_value = "auto")]
    vpn_data_path: core::DataPath,
    /// Form of the log on standard error.
    #[arg(long, env = "SEKISHO_LOG_FORMAT", value_enum, default_value_t = logging::Format::Text)]
    log: logging::Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Decides and carries out: holds CAP_NET_ADMIN, parses nothing of strangers.
    Core,
    /// Reads what the kernel denied; holds nothing.
    Watch,
    /// Owns the transparency log; holds nothing else.
    Record,
    /// Judges the controls and serves the metrics; holds nothing.
    Console,
    /// Speaks with those outside; holds nothing, decides nothing.
    Edge,
    /// Holds what vendors send until it is inspected, delivers what is released; holds nothing else.
    Files,
    /// Inspects the one file that its standard input brings; holds nothing, may do nothing else.
    Inspect,
}

fn main() -> ExitCode {
    let args = Args::parse();
    logging::start(args.log);
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped");
            let second = matches!(error.downcast_ref(), Some(StoreError::Locked(_)));
            ExitCode::from(if second { EXIT_SECOND_DAEMON } else { 1 })
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if matches!(args.role, Role::Inspect) {
        // It has no state, and starts nothing that it would have to shut up again.
        return inspect::run();
    }
    if gateway::backup::finish(&args.state_dir).context("what is left of a restore cannot be put in place")? {
        tracing::info!("put in place what a restore had left");
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    match args.role {
        Role::Inspect => inspect::run(),
        Role::Core => runtime.block_on(core::run(core::Places {
            state: &args.state_dir,
            runtime: &args.runtime_dir,
            record: &args.record,
            data_path: args.vpn_data_path,
        })),
        Role::Record => runtime.block_on(record::run(record::Places {
            state: &args.state_dir,
            runtime: &args.runtime_dir,
            services: &args.services,
        })),
        Role::Console => runtime.block_on(console::run(console_paths(args))),
        Role::Edge => runtime.block_on(edge::run(edge::Places {
            state: &args.state_dir,
            runtime: &args.runtime_dir,
            doors: &args.doors,
            files: &args.files,
            services: &args.services,
            record: &args.record,
        })),
        Role::Files => runtime.block_on(files::run(files::Places {
            state: &args.state_dir,
            runtime: &args.runtime_dir,
            inspect: &args.inspect,
            drop: &args.drop,
            seal_to: &args.seal_to,
            services: &args.services,
            record: &args.record,
        })),
        Role::Watch => runtime.block_on(watch::run(watch::Places {
            state: &args.state_dir,
            runtime: &args.runtime_dir,
            feed: &args.feed,
            services: &args.services,
            record: &args.record,
        })),
    }
}

fn console_paths(args: &Args) -> console::Paths {
    console::Paths {
        state: args.state_dir.clone(),
        runtime: args.runtime_dir.clone(),
        services: args.services.clone(),
        places: console::Places {
            core: args.measure.clone(),
            watch: args.watch.clone(),
            record: args.record.clone(),
            edge: args.edge.clone(),
            files: args.files.clone(),
            services: args.services.clone(),
        },
    }
}
