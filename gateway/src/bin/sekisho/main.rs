//! `sekisho`: the admin's command line. Reads policies by itself; asks the daemon for everything that touches the box.

mod args;
mod ask;
mod audit;
mod backup;
mod checking;
mod controls;
mod daemon;
mod documents;
mod exit;
mod flows;
mod inspect;
mod metrics;
mod output;
mod person;
mod report;
mod session;
mod table;
mod vendor;
mod vpn;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Args, Command, PolicyCommand, TimeCommand};
use self::exit::Exit;
use self::output::Output;

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(args.json, args.lang);
    let exit = run(args, &output).unwrap_or_else(|error| output.error(&error));
    // Done or not, what was to be read was not.
    let exit = output.finish().map_or_else(|error| output.error(&error), |()| exit);
    ExitCode::from(exit as u8)
}

fn run(args: Args, output: &Output) -> Result<Exit, exit::CliError> {
    let sockets = daemon::Sockets {
        core: args.socket,
        watch: args.watch_socket,
        record: args.record_socket,
        console: args.console_socket,
        edge: args.edge_socket,
    };
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
        Command::Flows(asked) => flows::flows(output, &sockets, &asked),
        Command::Verify => daemon::verify(output, &sockets),
        Command::Controls(asked) => controls::controls(output, &sockets, &asked),
        Command::Report(asked) => report::report(output, &sockets, &asked),
        Command::Backup(asked) => backup::backup(output, &sockets, &asked),
        Command::Restore(asked) => backup::restore(output, &sockets, &asked),
        Command::Audit { command } => audit::audit(output, &sockets, command),
        Command::Metrics { command } => metrics::metrics(output, &sockets, command),
        Command::Person { command } => person::person(output, &sockets, command),
        Command::Vendor { command } => vendor::vendor(output, &sockets, command),
        Command::Session { command } => session::session(output, &sockets, command),
        Command::Vpn { command } => vpn::vpn(output, &sockets, command),
        Command::Inspect(asked) => inspect::inspect(output, &asked),
        Command::Time { command: TimeCommand::Trusted } => daemon::trust_time(output, &sockets),
        Command::Services => daemon::render_services(output, &sockets),
        Command::Completions { shell } => documents::completions(output, shell),
        Command::Man { directory } => documents::man(&directory),
    }
}
