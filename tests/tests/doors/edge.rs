//! Edge's side of `doors.sock`, blocking.
use std::{
    io::{IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use gateway::wire::{
    doors::{
        DoorsAnswer, DoorsAsk, DoorsRequest, KeyId, PublicKey, SessionId, SessionState, Standing, VERSION,
    },
    frame::{self, HEAD_BYTES},
};
use rustix::{
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};

/// How long core may take on a loaded machine: it looks at the network between two answers.
const LIMIT: Duration = Duration::from_secs(60);
/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410).
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A connection of edge.
pub(crate) struct Edge(pub(crate) UnixStream);

impl Edge {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self(stream)
    }

    /// Asks; nothing when core ends the connection in place of an answer.
    pub(crate) fn try_ask(&mut self, ask: DoorsAsk) -> Option<(DoorsAnswer, Option<OwnedFd>)> {
        self.0.write_all(&frame::encode(&DoorsRequest { version: VERSION, ask }).unwrap()).ok()?;
        self.read()
    }

    pub(crate) fn read(&mut self) -> Option<(DoorsAnswer, Option<OwnedFd>)> {
        let mut first = [0; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut place = [IoSliceMut::new(&mut first)];
        let got = match recvmsg(&self.0, &mut place, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(got) => got,
            // A signal for this process, such as of a program that has ended.
            Err(Errno::INTR) => return self.read(),
            Err(Errno::CONNRESET) => return None,
            Err(error) => panic!("core does not answer: {error}"),
        };
        if got.bytes == 0 {
            return None;
        }
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let mut descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
        assert!(descriptors.len() <= 1, "one descriptor at most");
        let mut rest = [0; HEAD_BYTES - 1];
        self.0.read_exact(&mut rest).unwrap();
        let mut body = vec![0; frame::body_bytes([first[0], rest[0], rest[1], rest[2]]).unwrap()];
        self.0.read_exact(&mut body).unwrap();
        Some((frame::decode(&body).unwrap(), descriptors.pop()))
    }

    pub(crate) fn ask(&mut self, ask: DoorsAsk) -> DoorsAnswer {
        let (answer, descriptor) = self.try_ask(ask).unwrap();
        assert!(descriptor.is_none(), "no descriptor comes with {answer:?}");
        answer
    }

    pub(crate) fn request(&mut self, engineer: KeyId, target: &str, duration_s: u32) -> DoorsAnswer {
        let text = |text: &str| text.to_owned().try_into().unwrap();
        self.ask(DoorsAsk::Request {
            engineer,
            vouched: None,
            target: text(target),
            purpose: text("サーバの更新"),
            duration_s,
        })
    }

    pub(crate) fn requested(&mut self, engineer: KeyId, target: &str) -> (SessionId, String) {
        match self.request(engineer, target, 60) {
            DoorsAnswer::Requested { session, digest } => (session, digest),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn connect_to(&mut self, session: &SessionId) -> (DoorsAnswer, Option<OwnedFd>) {
        self.try_ask(DoorsAsk::Connect { session: session.clone() }).unwrap()
    }

    pub(crate) fn follow(&mut self, session: &SessionId, seen: u32) -> Standing {
        match self.ask(DoorsAsk::Follow { session: session.clone(), seen }) {
            DoorsAnswer::Standing(standing) => standing,
            other => panic!("{other:?}"),
        }
    }

    /// Follows a session until it is in this state.
    pub(crate) fn wait(&mut self, session: &SessionId, state: SessionState, limit: Duration) -> Standing {
        let begun = Instant::now();
        let mut seen = 0;
        loop {
            let standing = self.follow(session, seen);
            if standing.state == state {
                return standing;
            }
            assert!(begun.elapsed() < limit, "not {state:?}: {standing:?}");
            seen = standing.revision;
        }
    }
}

/// The public key of an engineer: the shape is all that core looks at.
pub(crate) fn key(number: u8) -> PublicKey {
    [ED25519.as_slice(), &[number; 32]].concat().try_into().unwrap()
}

pub(crate) fn key_id(number: u8) -> KeyId {
    KeyId::of_spki(key(number).der())
}
