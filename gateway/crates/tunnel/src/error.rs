//! What can go wrong with a tunnel, for the person who can act.

use std::io;

/// Says why a tunnel cannot be made, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The system refused something.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// More peers than a tunnel may have.
    #[error(
        "{count} peers are more than the {limit} that one tunnel holds; revoke those that are no longer used"
    )]
    TooManyPeers {
        /// How many were asked for.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Two peers have something that only one can have.
    #[error("peers `{first}` and `{second}` have the same {what}; give each its own")]
    Conflict {
        /// The peer that has it already.
        first: String,
        /// The peer that wants it too.
        second: String,
        /// What it is.
        what: &'static str,
    },
    /// A key that is not one.
    #[error("`{text}` is not a WireGuard key; expected 44 characters of base64")]
    Key {
        /// What was given.
        text: String,
    },
    /// A port that is not the one the socket has.
    #[error("the tunnel listens on port {now}; close it and open one on {wanted}")]
    Port {
        /// The port in use.
        now: u16,
        /// The port asked for.
        wanted: u16,
    },
    /// Somebody else changes the kernel's interface faster than it is put back.
    #[error("{what}, and has it again after it was put back; see who else runs wg(8) on this box")]
    Drift {
        /// The difference that is left.
        what: String,
    },
    /// A part of the tunnel has ended by itself.
    #[error("the tunnel's {part} has stopped; restart the role that runs it")]
    Stopped {
        /// Which part.
        part: &'static str,
    },
}

impl TunnelError {
    /// Adds to a system error what was being done.
    pub(crate) fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source: source.into() }
    }
}
