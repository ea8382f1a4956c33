//! What can go wrong while a lab is built, used or torn down.
use std::{io, path::PathBuf, time::Duration};

/// Says why the lab could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Network namespaces need root.
    #[error("the lab makes network namespaces and needs root (user id is {uid}); run it with sudo")]
    NotRoot {
        /// The effective user id of this process.
        uid: u32,
    },
    /// The topology asked for cannot be built.
    #[error("lab specification: {0}")]
    Spec(String),
    /// What was asked of a lab cannot be done.
    #[error("{0}")]
    Impossible(String),
    /// No host of this name is in the lab.
    #[error("the lab has no host `{name}`; it has {known}")]
    UnknownHost {
        /// The name asked for.
        name: String,
        /// The names that exist, comma separated.
        known: String,
    },
    /// No zone of this name is in the lab.
    #[error("the lab has no zone `{name}`; it has {known}")]
    UnknownZone {
        /// The name asked for.
        name: String,
        /// The names that exist, comma separated.
        known: String,
    },
    /// The host has no address of the family that is needed.
    #[error("host `{host}` has no {family} address")]
    NoAddress {
        /// The host's name.
        host: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// A program ended with an error.
    #[error("`{program}` failed ({status}): {stderr}")]
    Program {
        /// The program and its arguments.
        program: String,
        /// Its exit status.
        status: String,
        /// What it said on standard error, shortened.
        stderr: String,
    },
    /// A call to the system failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done, in the infinitive.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Something did not happen in time.
    #[error("waited {} ms for {what}, in vain", waited.as_millis())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// A unit file says something that the lab cannot follow.
    #[error("unit {unit}: {reason}")]
    Unit {
        /// The unit's file or name.
        unit: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
}

impl LabError {
    /// Gives a closure that wraps an I/O error together with what was being done.
    pub(crate) fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source: source.into() }
    }
}
