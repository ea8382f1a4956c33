//! What is generated from the program itself: the schema, completions, manual pages.

use std::fs;
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
pub(crate) fn completions(output: &Output, shell: Shell) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "sekisho", &mut script);
    output.line(&String::from_utf8_lossy(&script));
    Ok(Exit::Ok)
}

/// A manual page for each command.
pub(crate) fn man(directory: &Path) -> Result<Exit, CliError> {
    let failed = |source| CliError::Write { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Args::command(), directory).map_err(failed)?;
    Ok(Exit::Ok)
}
