//! How a command ends. The numbers are a promise: docs/cli.md and the help list them.

use std::io;
use std::path::PathBuf;

use gateway::client::ClientError;
use gateway::sources::SourcesError;
use gateway::wire::{Fault, FaultKind};
use policy::diagnostic::Report;
use policy::raw::Sources;
use thiserror::Error;

/// Exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done; the answer is yes.
    Ok = 0,
    /// Failed; what was in force is in force.
    Failed = 1,
    /// Wrong usage (clap says this itself).
    Usage = 2,
    /// The policy, or the backup, is refused.
    Refused = 3,
    /// The daemon cannot be reached.
    Unreachable = 4,
    /// Not permitted.
    NotPermitted = 5,
    /// The kernel differs from the policy.
    Differs = 6,
    /// It may not pass.
    Denied = 7,
    /// Failed, and nothing passes.
    Closed = 8,
    /// A control failed or is unknown.
    Attention = 9,
    /// A file must be disarmed before it may be delivered.
    Disarm = 10,
    /// A file is refused.
    RefusedFile = 20,
}

/// Why a command has no answer.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// The policy's files cannot be read.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// The policy is refused.
    #[error("the policy is refused")]
    Refused(Box<(Report, Sources)>),
    /// The policy is refused by the daemon, which found what this program did not.
    #[error("the daemon refuses the policy")]
    RefusedThere(serde_json::Value),
    /// The policy is valid and cannot be compiled.
    #[error(transparent)]
    Compile(#[from] policy::compile::CompileError),
    /// A service's configuration cannot be made.
    #[error(transparent)]
    Services(#[from] policy::services::ServicesError),
    /// The question makes no sense.
    #[error("{0}")]
    Question(String),
    /// No answer from the daemon.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon says no.
    #[error("{}", .0.message)]
    Fault(Fault),
    /// The daemon answers something else than it was asked.
    #[error("the daemon gave an answer to another question: install the same release on both sides")]
    Confused,
    /// A backup is not made or not put back.
    #[error(transparent)]
    Backup(#[from] gateway::backup::BackupError),
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A value cannot be written as JSON.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The catalogue of controls cannot be read.
    #[error(transparent)]
    Catalogue(#[from] policy::guideline::catalogue::CatalogueError),
}

impl CliError {
    /// The exit status.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            CliError::Refused(_)
            | CliError::RefusedThere(_)
            | CliError::Compile(_)
            | CliError::Services(_) => Exit::Refused,
            CliError::Backup(error) if error.is_refusal() => Exit::Refused,
            CliError::Backup(error) if error.is_not_permitted() => Exit::NotPermitted,
            CliError::Question(_) => Exit::Usage,
            CliError::Client(ClientError::Unreachable { .. } | ClientError::NoAnswer { .. }) => {
                Exit::Unreachable
            }
            CliError::Client(ClientError::NotPermitted(_)) => Exit::NotPermitted,
            CliError::Fault(fault) => match fault.kind {
                FaultKind::NotPermitted => Exit::NotPermitted,
                FaultKind::Closed => Exit::Closed,
                FaultKind::BadRequest
                | FaultKind::Busy
                | FaultKind::RolledBack
                | FaultKind::Failed
                | FaultKind::Full => Exit::Failed,
            },
            CliError::Sources(_)
            | CliError::Client(ClientError::Frame(_))
            | CliError::Confused
            | CliError::Backup(_)
            | CliError::Read { .. }
            | CliError::Write { .. }
            | CliError::Catalogue(_)
            | CliError::Json(_) => Exit::Failed,
        }
    }

    /// The stable word for programs.
    pub(crate) fn word(&self) -> &'static str {
        match self.exit() {
            Exit::Ok => "ok",
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::Refused => "refused",
            Exit::Unreachable => "unreachable",
            Exit::NotPermitted => "not-permitted",
            Exit::Differs => "differs",
            Exit::Denied => "denied",
            Exit::Closed => "closed",
            Exit::Attention => "attention",
            Exit::Disarm => "disarm",
            Exit::RefusedFile => "refused-file",
        }
    }
}
