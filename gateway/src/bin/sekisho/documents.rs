//! What is generated from the program itself: the schema, completions, manual pages.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::exit::{CliError, Exit};
use crate::output::Output;

/// The language's JSON schema.
pub(crate) fn schema(output: &Output) -> Result<Exit, CliError> {
    output.json(&policy::raw::schema());
    Ok(Exit::Ok)
}

/// Completions on standard output.
pub(crate) fn completions(shell: Shell) -> Result<Exit, CliError> {
    clap_complete::generate(shell, &mut Args::command(), "sekisho", &mut io::stdout().lock());
    Ok(Exit::Ok)
}

/// A manual page for each command.
pub(crate) fn man(directory: &Path) -> Result<Exit, CliError> {
    let failed = |source| CliError::Write { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Args::command(), directory).map_err(failed)?;
    Ok(Exit::Ok)
}
