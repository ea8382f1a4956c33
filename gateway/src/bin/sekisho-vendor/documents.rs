//! What is generated from the program itself: completions, manual pages.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::error::{self, Exit, VendorError};

/// Completions on standard output.
pub(crate) fn completions(shell: Shell) -> Exit {
    clap_complete::generate(shell, &mut Args::command(), "sekisho-vendor", &mut io::stdout().lock());
    Exit::Ok
}

/// A manual page for each command.
pub(crate) fn man(directory: &Path) -> Result<Exit, VendorError> {
    fs::create_dir_all(directory).map_err(error::file("write", directory))?;
    clap_mangen::generate_to(Args::command(), directory).map_err(error::file("write", directory))?;
    Ok(Exit::Ok)
}
