//! What can go wrong between this crate and the kernel, for the person who can act.

use std::fmt;

use rustix::io::Errno;

use crate::attr::Malformed;
use crate::batch::Origin;

/// Why the kernel could not be asked, did not answer, or refused.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The process may not change or read the kernel's rules.
    #[error("no permission for nf_tables: run with CAP_NET_ADMIN in the network namespace's user namespace")]
    Permission,
    /// The socket could not be made or set up.
    #[error("no netlink socket ({step}): {errno}; the kernel needs nf_tables (CONFIG_NF_TABLES)")]
    Socket {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Sending failed before the kernel looked at the message; nothing has changed.
    #[error("a request of {length_bytes} bytes could not be sent: {errno}; nothing has changed")]
    Send {
        /// The length of the request.
        length_bytes: usize,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Receiving failed.
    #[error("an answer could not be received: {errno}")]
    Receive {
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel dropped answers (ENOBUFS): what happened is unknown until it is read back.
    #[error("the kernel dropped answers for lack of buffers: read the rules back before going on")]
    AnswersLost,
    /// No answer came in time: what happened is unknown until it is read back.
    #[error("no answer within {waited_ms} ms: read the rules back before going on")]
    Timeout {
        /// How long was waited.
        waited_ms: u64,
    },
    /// The kernel refused the request; a transaction that is refused changes nothing.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// Somebody else changed the rules while they were read, again and again.
    #[error(
        "the rules changed during each of {attempts} attempts to read them: stop the other program that writes"
    )]
    Unsteady {
        /// How often reading was tried.
        attempts: u32,
    },
    /// The kernel sent more than this crate takes.
    #[error("the kernel reports more than {limit} entries: look at the rules with `nft list ruleset`")]
    TooMany {
        /// The named limit.
        limit: usize,
    },
    /// The kernel's answer could not be read.
    #[error("the kernel's answer makes no sense: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl From<Malformed> for NetlinkError {
    fn from(error: Malformed) -> Self {
        Self::Malformed { what: error.what }
    }
}

/// A refusal by the kernel, joined to what was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kernel's error number.
    pub errno: Errno,
    /// The caller's tag of the refused request.
    pub origin: Origin,
    /// The index, among the elements given with that tag, of the refused one; none when the kernel did not say.
    pub element: Option<usize>,
    /// The name of the refused instruction; none when the kernel did not say.
    pub instruction: Option<String>,
    /// The kernel's own words (extended ACK).
    pub message: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the kernel refused `{}`", self.origin)?;
        if let Some(element) = self.element {
            write!(out, ", element {element}")?;
        }
        if let Some(instruction) = &self.instruction {
            write!(out, ", instruction `{instruction}`")?;
        }
        write!(out, ": {}", self.errno)?;
        if let Some(message) = &self.message {
            write!(out, " ({message})")?;
        }
        match advice(self.errno) {
            Some(advice) => write!(out, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

fn advice(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::PERM => Some("run with CAP_NET_ADMIN, or another program owns the table"),
        Errno::NOENT => Some("what it refers to does not exist, or this kernel lacks the feature"),
        Errno::OPNOTSUPP => Some("this kernel lacks the feature"),
        Errno::EXIST => Some("it exists already, or overlaps another element"),
        Errno::BUSY => Some("something still refers to it"),
        Errno::NOMEM | Errno::NOBUFS => Some("the kernel is out of memory"),
        Errno::RESTART => Some("somebody else changed the rules in between: read them back and try again"),
        _ => None,
    }
}
