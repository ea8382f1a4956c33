//! One end of a tunnel without device or socket, for tests: what the protocol allows, and inside it whatever one likes.
//! The feature `hand` brings it; no role has it.

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;

use crate::datagram::INITIATION_BYTES;
use crate::{PrivateKey, PublicKey};

/// Room that an encrypted packet takes besides its own bytes, with some to spare; at least a handshake message fits.
const SPARE_BYTES: usize = 2 * INITIATION_BYTES;

/// An end.
pub struct Hand(Box<Tunn>);

/// What came of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// To be sent.
    pub answers: Vec<Vec<u8>>,
    /// The packet that was in it.
    pub packet: Option<Vec<u8>>,
}

impl Hand {
    /// Begins without a session.
    #[must_use]
    pub fn new(own: &PrivateKey, other: PublicKey) -> Self {
        Self(Box::new(Tunn::new(
            own.scalar(),
            x25519::PublicKey::from(*other.as_bytes()),
            None,
            None,
            1,
            None,
        )))
    }

    /// Says whether there is a session.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.0.time_since_last_handshake().is_some()
    }

    /// Begins a handshake, whatever was begun before.
    pub fn initiation(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; SPARE_BYTES];
        message(&self.0.format_handshake_initiation(&mut buffer, true))
    }

    /// Encrypts a packet, whatever it is; without a session that is not possible.
    pub fn seal(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = vec![0; packet.len().saturating_add(SPARE_BYTES)];
        if self.has_session() { message(&self.0.encapsulate(packet, &mut buffer)) } else { None }
    }

    /// Takes a message; one that is not authentic is nothing.
    pub fn open(&mut self, received: &[u8]) -> Heard {
        let mut buffer = vec![0; received.len().saturating_add(SPARE_BYTES)];
        let (mut heard, mut rest) = (Heard::default(), received);
        loop {
            match self.0.decapsulate(None, rest, &mut buffer) {
                TunnResult::WriteToNetwork(answer) => heard.answers.push(answer.to_vec()),
                TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                    heard.packet = Some(packet.to_vec());
                    return heard;
                }
                TunnResult::Done | TunnResult::Err(_) => return heard,
            }
            // The core asks to be called again until it has nothing more to send.
            rest = &[];
        }
    }

    /// Does what time demands.
    pub fn tick(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; SPARE_BYTES];
        message(&self.0.update_timers(&mut buffer))
    }
}

fn message(result: &TunnResult<'_>) -> Option<Vec<u8>> {
    match result {
        TunnResult::WriteToNetwork(message) => Some(message.to_vec()),
        _ => None,
    }
}

impl std::fmt::Debug for Hand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hand").finish_non_exhaustive()
    }
}
