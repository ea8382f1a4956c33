//! A file on its way to the clinic. Edge looks into no file: its bytes go on to the files role as they come, which holds,
//! inspects and delivers it, and says what became of it.

use std::io;
use std::path::Path;
use std::time::Duration;

use gateway::wire::doors::SessionState;
use gateway::wire::files::{
    ANSWER_BYTES_MAX, Attestation, EngineerKey, FilesAnswer, FilesAsk, FilesRequest, VERSION, VendorName,
};
use gateway::wire::frame::{self as wire, HEAD_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use transfer::{FileName, Hash, Outcome};
use transport::Stream;
use transport::frame::{self, FrameError};
use transport::protocol::{Announcement, Judgement, Outcome as Told, Refusal, Reply};

use super::visit::Guest;
use super::{Shared, refusals};

/// Bytes on their way.
const BUFFER_BYTES: usize = 64 << 10;
/// Silence of the sender after which a file is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long holding and inspecting may take, beyond what the files role itself allows.
const ANSWER_WAIT: Duration = Duration::from_secs(180);

/// Passes a file on, and tells the sender what became of it.
pub(super) async fn send(
    shared: &Shared,
    guest: &Guest,
    announcement: Announcement,
    mut stream: Stream,
) -> Result<(), FrameError> {
    let reply = match pass(shared, guest, announcement, &mut stream).await {
        Ok(judgement) => Reply::Judged(judgement),
        Err(SendError::Refused(refusal)) => Reply::Refused(refusal),
        Err(SendError::Broken(error)) => {
            tracing::info!(%error, key = %guest.key, "a file did not come through");
            Reply::Refused(refusals::no_files())
        }
    };
    frame::write(&mut stream, &reply).await
}

/// Why a file has no outcome here.
enum SendError {
    /// It may not be sent.
    Refused(Refusal),
    /// The sender or the files role broke off; that role has the outcome.
    Broken(io::Error),
}

impl From<io::Error> for SendError {
    fn from(error: io::Error) -> Self {
        SendError::Broken(error)
    }
}

async fn pass(
    shared: &Shared,
    guest: &Guest,
    announcement: Announcement,
    stream: &mut Stream,
) -> Result<Judgement, SendError> {
    let live = shared.session(announcement.session.as_str(), &guest.key);
    let live = live.ok_or_else(|| SendError::Refused(refusals::no_session()))?;
    if live.watch().borrow().state != SessionState::Open {
        return Err(SendError::Refused(refusals::not_open()));
    }
    let vendor = live.book().vendor.clone();
    let size = announcement.size;
    let request = request(guest, vendor, announcement).map_err(io::Error::other)?;
    let mut files = begin(&shared.files, &request).await?;
    match answer(&mut files).await? {
        FilesAnswer::Send { .. } => {}
        other => return judged(other),
    }
    frame::write(stream, &Reply::Sending {}).await.map_err(io::Error::other)?;
    let carried = tokio::select! {
        biased;
        () = super::forward::over(live.watch()) => Err(io::Error::other("the session ended")),
        carried = carry(stream, &mut files, size, &live.moved) => carried,
    };
    // A broken transfer is dropped, which the files role sees as its end.
    carried?;
    judged(answer(&mut files).await?)
}

fn request(
    guest: &Guest,
    vendor: String,
    announcement: Announcement,
) -> Result<FilesRequest, Box<dyn std::error::Error + Send + Sync>> {
    let Announcement { session, name, size, sha256, attestation } = announcement;
    let begin = FilesAsk::Begin {
        session: session::SessionId::parse(session.as_str())?,
        vendor: VendorName::try_from(vendor)?,
        name: FileName::try_from(name.as_str().to_owned())?,
        size_bytes: size,
        sha256: Hash::try_from(sha256.as_str().to_owned())?,
        attestation: attestation.map(|of| Attestation::try_from(of.as_str().to_owned())).transpose()?,
        engineer_key: EngineerKey::try_from(guest.spki.clone())?,
    };
    Ok(FilesRequest { version: VERSION, files: begin })
}

async fn begin(path: &Path, request: &FilesRequest) -> io::Result<UnixStream> {
    let bytes = wire::encode(request).map_err(io::Error::other)?;
    let mut files = UnixStream::connect(path).await?;
    timeout(SILENCE_MAX, files.write_all(&bytes)).await??;
    Ok(files)
}

async fn answer(files: &mut UnixStream) -> io::Result<FilesAnswer> {
    let whole = async {
        let mut head = [0; HEAD_BYTES];
        files.read_exact(&mut head).await?;
        let length = wire::body_bytes(head).map_err(io::Error::other)?;
        if length > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the files role's answer is too long"));
        }
        let mut body = vec![0; length];
        files.read_exact(&mut body).await?;
        wire::decode(&body).map_err(io::Error::other)
    };
    timeout(ANSWER_WAIT, whole).await?
}

/// Carries exactly so many bytes. Nothing is announced twice: fewer are an error, more stay unread.
async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    size: u64,
    moved: &std::sync::atomic::AtomicU64,
) -> io::Result<()> {
    let (mut left, mut buffer) = (size, vec![0; BUFFER_BYTES]);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let room = buffer.get_mut(..most).unwrap_or_default();
        let read = timeout(SILENCE_MAX, from.read(room)).await??;
        let Some(part) = room.get(..read).filter(|part| !part.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        to.write_all(part).await?;
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        left = left.saturating_sub(read);
        moved.fetch_add(read, std::sync::atomic::Ordering::Relaxed);
    }
    to.flush().await
}

fn judged(answer: FilesAnswer) -> Result<Judgement, SendError> {
    match answer {
        FilesAnswer::Judged { transfer, outcome, ja, en } => {
            let (told, delivered) = match outcome {
                Outcome::Delivered { sha256 } => (Told::Delivered, sha256.to_string().try_into().ok()),
                Outcome::Refused { .. } => (Told::Refused, None),
                Outcome::Quarantined { .. } => (Told::Quarantined, None),
            };
            let reasons = if told == Told::Delivered { Vec::new() } else { vec![en, ja] };
            Ok(Judgement {
                transfer: transfer.to_string(),
                outcome: told,
                reasons,
                delivered_sha256: delivered,
            })
        }
        FilesAnswer::Failed(fault) => {
            tracing::warn!(why = fault.message, "the files role takes no file");
            Err(SendError::Refused(refusals::no_files()))
        }
        FilesAnswer::Send { .. } => {
            Err(SendError::Broken(io::Error::other("the files role answered out of turn")))
        }
    }
}
