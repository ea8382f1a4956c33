//! What can go wrong between the host and a guest, worded for the person who runs the tests.

use std::path::PathBuf;
use std::time::Duration;

/// The reason why a guest could not be built, started, or believed.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// A file of the host could not be read or written.
    #[error("`{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program that the host needs is not installed.
    #[error("`{name}` is not on the search path; install the Debian package `{package}`")]
    MissingTool {
        /// The program.
        name: String,
        /// The Debian package that has it.
        package: String,
    },
    /// A program of the host ended with an error.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// The program with its arguments.
        command: String,
        /// Its last words.
        reason: String,
    },
    /// The kernel has no module of this name, neither as a file nor built in.
    #[error("kernel {release} has no module `{module}`; run `scripts/qemu-kernel --refresh`")]
    MissingModule {
        /// The kernel's release.
        release: String,
        /// The module.
        module: String,
    },
    /// A guest path or program name that the archive or the report could not carry.
    #[error("`{name}` cannot be used in the guest: {reason}")]
    Name {
        /// The path or name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Everything for the guest together is more than its memory can hold.
    #[error(
        "the guest's files take {size_bytes} bytes, more than {limit_bytes}; leave out or strip programs"
    )]
    TooLarge {
        /// What they take.
        size_bytes: u64,
        /// What is allowed.
        limit_bytes: u64,
    },
    /// The guest did not power off in time and was killed.
    #[error("the guest was still running after {} s and was killed; its console ends with:\n{console}", limit.as_secs())]
    Timeout {
        /// The limit.
        limit: Duration,
        /// The end of its console.
        console: String,
    },
    /// The guest wrote more to a serial line than is kept, and was killed.
    #[error(
        "the guest wrote more than {limit_bytes} bytes to a serial line; its console ends with:\n{console}"
    )]
    Flood {
        /// The limit.
        limit_bytes: u64,
        /// The end of its console.
        console: String,
    },
    /// The guest ended without a complete report: it panicked, or its first process failed.
    #[error("the guest's report is not complete: {reason}; its console ends with:\n{console}")]
    Report {
        /// What is missing or malformed.
        reason: String,
        /// The end of its console.
        console: String,
    },
}

impl VmError {
    /// Names the file that an input or output error is about.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
