//! Frames: four bytes of length, big endian, then as many bytes of JSON. The same bytes for blocking and async peers.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{FRAME_BYTES_MAX, Request, VERSION};

/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 4;

/// Why a frame is refused.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The head announces more than is allowed.
    #[error("a frame of {0} bytes is announced, above the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// The bytes are not of this language.
    #[error("the frame is not understood: {0}")]
    Malformed(#[source] serde_json::Error),
    /// The peer speaks another version.
    #[error(
        "the peer speaks version {0} of the socket's language, this side version {VERSION}: install the same release"
    )]
    Version(u32),
}

/// The length that a head announces.
///
/// # Errors
/// Refuses lengths above [`FRAME_BYTES_MAX`].
pub fn body_bytes(head: [u8; HEAD_BYTES]) -> Result<usize, FrameError> {
    let announced = u32::from_be_bytes(head);
    match usize::try_from(announced) {
        Ok(length) if length <= FRAME_BYTES_MAX => Ok(length),
        Ok(length) => Err(FrameError::TooLong(length)),
        Err(_) => Err(FrameError::TooLong(usize::MAX)),
    }
}

/// A whole frame with its head.
///
/// # Errors
/// Refuses values whose JSON is longer than [`FRAME_BYTES_MAX`].
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEAD_BYTES];
    serde_json::to_writer(&mut bytes, value).map_err(FrameError::Malformed)?;
    let length = bytes.len() - HEAD_BYTES;
    let head = u32::try_from(length)
        .ok()
        .filter(|_| length <= FRAME_BYTES_MAX)
        .ok_or(FrameError::TooLong(length))?;
    bytes.splice(..HEAD_BYTES, head.to_be_bytes());
    Ok(bytes)
}

/// The value in a frame's body.
///
/// # Errors
/// Refuses whatever is not exactly one value of the type.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(FrameError::Malformed)
}

/// The request in a frame's body, if it is of our version.
///
/// # Errors
/// Refuses what is no request, naming another version when that is why.
pub fn decode_request(body: &[u8]) -> Result<Request, FrameError> {
    // The version is read first: a request of another version need not look like ours otherwise.
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = decode(body)?;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    decode(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ask;
    use proptest::prelude::*;

    fn body(frame: &[u8]) -> &[u8] {
        let (head, body) = frame.split_at(HEAD_BYTES);
        assert_eq!(body_bytes(head.try_into().unwrap()).unwrap(), body.len());
        body
    }

    #[test]
    fn a_request_survives_the_journey() {
        let frame = encode(&Request { version: VERSION, ask: Ask::Status {} }).unwrap();
        assert!(matches!(decode_request(body(&frame)).unwrap().ask, Ask::Status {}));
    }

    #[test]
    fn unknown_fields_versions_and_lengths_are_errors() {
        let refuse = |text: &str| decode_request(text.as_bytes()).unwrap_err();
        assert!(matches!(refuse(r#"{"version":1,"ask":{"status":{}},"more":1}"#), FrameError::Malformed(_)));
        assert!(matches!(refuse(r#"{"version":1,"ask":{"status":{"more":1}}}"#), FrameError::Malformed(_)));
        assert!(matches!(refuse(r#"{"version":2,"new":{}}"#), FrameError::Version(2)));
        assert!(matches!(refuse(r#"{"version":1,"ask":{"status":{}}} trailing"#), FrameError::Malformed(_)));
        assert!(matches!(body_bytes([0xff; 4]), Err(FrameError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode_request(&bytes);
        }

        #[test]
        fn a_damaged_request_never_becomes_a_write(at in 0usize..40, byte in any::<u8>()) {
            let mut bytes = br#"{"version":1,"ask":{"status":{}}}"#.to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok(request) = decode_request(&bytes) {
                prop_assert!(!request.ask.is_write());
            }
        }
    }
}
