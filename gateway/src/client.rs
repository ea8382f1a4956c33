//! The asking side of the sockets: blocking, bounded in time, one question per connection.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::wire::frame::{self, FrameError, HEAD_BYTES};
use crate::wire::record::RecordAsk;
use crate::wire::{Answer, Ask, Fault, Request, VERSION};

/// How long an answer to a question may take.
pub const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// How long an apply may take, the way back included; and the reading of a whole log.
pub const APPLY_WAIT: Duration = Duration::from_secs(600);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("cannot reach `{}`: {source}; is the service running?", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket or the role refused this user.
    #[error("not permitted: {0}")]
    NotPermitted(String),
    /// No answer came in time, or the connection broke.
    #[error("no answer from `{}`: {source}", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is not understood.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Asks one question.
///
/// # Errors
/// [`ClientError`] when there is no answer; a [`Fault`] is an answer.
pub fn ask(path: &Path, ask: Ask) -> Result<Answer, ClientError> {
    let is_long = matches!(ask, Ask::Apply { .. } | Ask::Record(RecordAsk::Verify {}));
    let wait = if is_long { APPLY_WAIT } else { ANSWER_WAIT };
    let mut stream = connect(path, wait)?;
    let bytes = frame::encode(&Request { version: VERSION, ask })?;
    let broken = |source| ClientError::NoAnswer { path: path.to_owned(), source };
    // A peer that refuses us answers and closes before it has read everything: its answer is worth more than the error.
    let sent = stream.write_all(&bytes);
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).map_err(|source| broken(sent.err().unwrap_or(source)))?;
    let mut body = vec![0; frame::body_bytes(head)?];
    stream.read_exact(&mut body).map_err(broken)?;
    Ok(frame::decode(&body)?)
}

/// Whether a fault means that this user may not ask.
#[must_use]
pub fn is_not_permitted(fault: &Fault) -> bool {
    fault.kind == crate::wire::FaultKind::NotPermitted
}

fn connect(path: &Path, wait: Duration) -> Result<UnixStream, ClientError> {
    let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotPermitted(format!(
            "only root and members of the group `{}` may open `{}`",
            crate::accounts::ADMIN_GROUP,
            path.display()
        )),
        _ => ClientError::Unreachable { path: path.to_owned(), source },
    })?;
    let broken = |source| ClientError::NoAnswer { path: path.to_owned(), source };
    stream.set_read_timeout(Some(wait)).map_err(broken)?;
    stream.set_write_timeout(Some(ANSWER_WAIT)).map_err(broken)?;
    Ok(stream)
}
