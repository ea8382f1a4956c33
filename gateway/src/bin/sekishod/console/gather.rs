//! Asks the other roles what they counted and measured: all at once, each with a limit, whatever the others do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use events::Role;
use gateway::wire::frame::{self, FrameError, HEAD_BYTES};
use gateway::wire::{Answer, Ask, Measured, Request, VERSION};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long a role may take to answer.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Longest answer taken; those of a clinic have some tens of kilobytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Bytes made room for before any have arrived.
const FIRST_ROOM_BYTES: usize = 64 << 10;

/// Why a role is silent.
#[derive(Debug, Error)]
pub(crate) enum SilenceError {
    /// It takes too long.
    #[error("no answer within {} s", ANSWER_WAIT.as_secs())]
    Slow,
    /// The connection broke, or there was none.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What it says is not understood.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// It answers something else than it was asked, or for another role.
    #[error("an answer to another question")]
    Confused,
}

/// Where the other roles answer.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Core's socket for the console.
    pub(crate) core: PathBuf,
    /// The watch role's.
    pub(crate) watch: PathBuf,
    /// The record role's.
    pub(crate) record: PathBuf,
    /// The edge role's.
    pub(crate) edge: PathBuf,
    /// The files role's.
    pub(crate) files: PathBuf,
    /// Where core writes the roles' settings: a door's role is there while it has some.
    pub(crate) services: PathBuf,
}

impl Places {
    /// The roles that should answer: those that are always there, and those whose door the policy opens.
    pub(crate) fn expected(&self) -> impl Iterator<Item = Role> {
        let settings = |role: &Role| self.services.join(role.word()).with_extension("json");
        Role::ALL.into_iter().filter(move |role| role.is_always_there() || settings(role).exists())
    }
}

/// What every role said; a silent one is absent.
pub(crate) type Gathered = BTreeMap<Role, Measured>;

/// Asks every role but this one.
pub(crate) async fn gather(places: &Places) -> Gathered {
    let Places { core, watch, record, edge, files, services: _ } = places;
    let (core, watch, record, edge, files) = tokio::join!(
        one(Role::Core, core, ANSWER_WAIT),
        one(Role::Watch, watch, ANSWER_WAIT),
        one(Role::Record, record, ANSWER_WAIT),
        one(Role::Edge, edge, ANSWER_WAIT),
        one(Role::Files, files, ANSWER_WAIT)
    );
    [core, watch, record, edge, files]
        .into_iter()
        .flatten()
        .map(|measured| (measured.role, measured))
        .collect()
}

async fn one(role: Role, place: &Path, limit: Duration) -> Option<Measured> {
    let answer = timeout(limit, ask(role, place)).await.unwrap_or(Err(SilenceError::Slow));
    answer.inspect_err(|error| tracing::debug!(role = role.word(), %error, "a role is silent")).ok()
}

async fn ask(role: Role, place: &Path) -> Result<Measured, SilenceError> {
    let mut stream = UnixStream::connect(place).await?;
    stream.write_all(&frame::encode(&Request { version: VERSION, ask: Ask::Measure {} })?).await?;
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let length = frame::body_bytes(head)?;
    if length > ANSWER_BYTES_MAX {
        return Err(FrameError::TooLong(length).into());
    }
    let mut body = Vec::with_capacity(length.min(FIRST_ROOM_BYTES));
    stream.take(u64::try_from(length).unwrap_or(0)).read_to_end(&mut body).await?;
    match frame::decode(&body)? {
        Answer::Measured(measured) if measured.role == role => Ok(*measured),
        Answer::Failed(fault) => Err(SilenceError::Refused(fault.message)),
        _ => Err(SilenceError::Confused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use tokio::net::UnixListener;

    fn answer(role: Role) -> Vec<u8> {
        let (started_at, samples, observations) = (Timestamp::UNIX_EPOCH, Vec::new(), Vec::new());
        let measured = Measured { role, started_at, samples, observations };
        frame::encode(&Answer::Measured(Box::new(measured))).unwrap()
    }

    /// Serves one answer a connection; `None` never answers.
    fn serve(listener: UnixListener, bytes: Option<Vec<u8>>) {
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Some(bytes) = &bytes {
                    stream.write_all(bytes).await.unwrap();
                }
                held.push(stream);
            }
        });
    }

    #[tokio::test]
    async fn a_role_that_hangs_lies_or_is_gone_takes_nothing_from_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        serve(UnixListener::bind(path("core")).unwrap(), Some(answer(Role::Core)));
        serve(UnixListener::bind(path("hangs")).unwrap(), None);
        serve(UnixListener::bind(path("lies")).unwrap(), Some(answer(Role::Core)));
        serve(UnixListener::bind(path("long")).unwrap(), Some(vec![0x0f; 64]));
        let brief = Duration::from_millis(200);
        assert!(one(Role::Watch, &path("hangs"), brief).await.is_none());
        assert!(one(Role::Watch, &path("long"), brief).await.is_none());
        let places = Places {
            core: path("core"),
            watch: path("gone"),
            record: path("lies"),
            edge: path("gone"),
            files: path("gone"),
            services: path("services"),
        };
        assert_eq!(places.expected().count(), 4, "no door is open");
        std::fs::create_dir(path("services")).unwrap();
        std::fs::write(path("services/edge.json"), "{}").unwrap();
        assert!(places.expected().any(|role| role == Role::Edge), "its door is open");
        let gathered = gather(&places).await;
        assert_eq!(gathered.keys().copied().collect::<Vec<_>>(), [Role::Core]);
    }
}
