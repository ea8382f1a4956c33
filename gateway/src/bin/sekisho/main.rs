//! `sekisho`: the admin's command line. Reads policies by itself; asks the daemon for everything that touches the box.

mod args;
mod checking;
mod daemon;
mod documents;
mod exit;
mod output;
mod table;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Args, Command, PolicyCommand, TimeCommand};
use self::exit::Exit;
use self::output::Output;

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(args.json, args.lang);
    let exit = run(args, &output).unwrap_or_else(|error| output.error(&error));
    ExitCode::from(exit as u8)
}

fn run(args: Args, output: &Output) -> Result<Exit, exit::CliError> {
    let sockets = daemon::Sockets { core: args.socket, watch: args.watch_socket };
    match args.command {
        Command::Policy { command } => match command {
            PolicyCommand::Check { file } => checking::check(output, &file),
            PolicyCommand::Render { file, services } => checking::render(output, &file, services),
            PolicyCommand::Why { from, to, service, policy, at } => checking::why(
                output,
                &sockets,
                &checking::Question { from, to, service },
                policy.as_deref(),
                at,
            ),
            PolicyCommand::Schema => documents::schema(output),
        },
        Command::Apply { file, dry_run } => daemon::apply(output, &sockets, &file, dry_run),
        Command::Status => daemon::status(output, &sockets),
        Command::Flows { denied } => daemon::flows(output, &sockets, denied),
        Command::Verify => daemon::verify(output, &sockets),
        Command::Time { command: TimeCommand::Trusted } => daemon::trust_time(output, &sockets),
        Command::Services => daemon::render_services(output, &sockets),
        Command::Completions { shell } => documents::completions(shell),
        Command::Man { directory } => documents::man(&directory),
    }
}
