//! Frames of the maintenance protocol: four bytes of length, big endian, then as many bytes of one JSON value.
//! Lengths are claims until the bytes are there; nothing is made room for in advance.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Longest body of a frame in bytes.
pub const FRAME_BYTES_MAX: usize = 64 << 10;
/// How long a frame may take once its first byte is awaited in earnest, and how long it may take to leave.
pub const FRAME_WAIT: Duration = Duration::from_secs(20);
/// Bytes made room for before any have arrived.
const FIRST_ROOM_BYTES: usize = 4 << 10;

/// Why there is no value.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The stream broke.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    /// The peer closed the stream where a frame could begin.
    #[error("the peer closed the stream")]
    Ended,
    /// More is announced than may be.
    #[error("a frame of {0} bytes is announced, above the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// The bytes are not of this protocol.
    #[error("the frame is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It takes too long.
    #[error("the frame did not come through within {} s", FRAME_WAIT.as_secs())]
    TooSlow,
}

/// Reads a frame, within [`FRAME_WAIT`].
///
/// # Errors
/// When none comes, or it is none.
pub async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T, FrameError> {
    timeout(FRAME_WAIT, read_patiently(stream)).await.map_err(|_| FrameError::TooSlow)?
}

/// Reads a frame however long its first byte takes; the rest must come within [`FRAME_WAIT`].
///
/// # Errors
/// When it is none, or the stream ends.
pub async fn read_patiently<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<T, FrameError> {
    let mut first = [0; 1];
    if stream.read(&mut first).await? == 0 {
        return Err(FrameError::Ended);
    }
    let [first] = first;
    timeout(FRAME_WAIT, read_rest(stream, first)).await.map_err(|_| FrameError::TooSlow)?
}

async fn read_rest<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    first: u8,
) -> Result<T, FrameError> {
    let mut rest = [0; 3];
    stream.read_exact(&mut rest).await?;
    let [second, third, fourth] = rest;
    let announced = u32::from_be_bytes([first, second, third, fourth]);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let mut body = Vec::with_capacity(length.min(FIRST_ROOM_BYTES));
    let read = stream.take(u64::from(announced)).read_to_end(&mut body).await?;
    if read < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    decode(&body)
}

/// Writes a frame, within [`FRAME_WAIT`].
///
/// # Errors
/// When the value is too long or the stream breaks.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> Result<(), FrameError> {
    let bytes = encode(value)?;
    let whole = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    Ok(timeout(FRAME_WAIT, whole).await.map_err(|_| FrameError::TooSlow)??)
}

/// The value in a frame's body.
///
/// # Errors
/// When it is none of the type.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

/// A frame.
///
/// # Errors
/// When the value is too long.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let body = serde_json::to_vec(value)?;
    let head = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_BYTES_MAX);
    let head = head.ok_or(FrameError::TooLong(body.len()))?;
    Ok([head.to_be_bytes().as_slice(), &body].concat())
}
