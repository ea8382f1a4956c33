//! What comes from the clinic itself: other roles, the kernel, files that an administrator brings.

use std::path::Path;

use events::audit::Entry;
use gateway::backup::age::{self, Opener, Passphrase};
use gateway::wire::console::{ConsoleAnswer, ConsoleAsk};
use gateway::wire::doors::{DoorsAnswer, DoorsRequest};
use gateway::wire::edge::{EdgeAnswer, EdgeAsk};
use gateway::wire::files::{FilesAnswer, FilesRequest};
use gateway::wire::record::{RecordAnswer, RecordAsk};
use gateway::wire::watch::{WatchAnswer, WatchAsk};
use gateway::wire::{Answer, frame};
use jiff::Timestamp;
use netfilter::conntrack::ConntrackReader;
use netfilter::nflog;
use policy::ledger::Ledger;
use policy::raw::Sources;
use record::note::VerifierKey;
use record::tile::{self, Tile};
use record::{Checkpoint, InclusionProof};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

/// Any body of a frame is a word of a role's language or an error.
pub(crate) fn role_frame(body: &[u8]) {
    if let Some(&head) = body.first_chunk() {
        let _ = frame::body_bytes(head);
    }
    if let Ok(request) = frame::decode_request(body) {
        assert!(!request.ask.word().is_empty());
    }
    let _ = frame::decode::<Answer>(body);
    let _ = (frame::decode::<DoorsRequest>(body), frame::decode::<DoorsAnswer>(body));
    let _ = (frame::decode::<FilesRequest>(body), frame::decode::<FilesAnswer>(body));
    let _ = (frame::decode::<EdgeAsk>(body), frame::decode::<EdgeAnswer>(body));
    let _ = (frame::decode::<RecordAsk>(body), frame::decode::<RecordAnswer>(body));
    let _ = (frame::decode::<WatchAsk>(body), frame::decode::<WatchAnswer>(body));
    let _ = (frame::decode::<ConsoleAsk>(body), frame::decode::<ConsoleAnswer>(body));
}

/// Any datagram of the kernel's is packets, connections, or counted as malformed.
pub(crate) fn kernel_feed(datagram: &[u8]) {
    for packet in nflog::parse(datagram).flatten() {
        assert!(packet.prefix.chars().all(|letter| letter.is_ascii_graphic() || letter == ' '));
    }
    let pair = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let Ok((ours, theirs)) = pair else { return };
    let Ok(mut reader) = ConntrackReader::new(ours) else { return };
    if send(&theirs, datagram, SendFlags::DONTWAIT).is_ok() {
        let mut told = 0_usize;
        let more = reader.receive(2, |_| told += 1);
        assert!(matches!(more, Ok(false)), "{more:?}");
        // A message has a head of 16 bytes at least.
        assert!(told <= datagram.len() / 16 + 1);
    }
}

/// A policy is loaded or refused with places that exist; one that is loaded compiles or says why it cannot.
pub(crate) fn policy_text(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let sources = Sources::single("clinic.toml", text);
    let Ok(resolved) = policy::load(&sources, Timestamp::UNIX_EPOCH) else { return };
    let _ = policy::check::check(&resolved.policy, Timestamp::UNIX_EPOCH);
    let _ = policy::compile::compile(&resolved.policy, &Ledger::default());
}

/// Any bytes in place of a file of the log: an error, and what is taken reads back.
pub(crate) fn log_file(bytes: &[u8]) {
    for width in [1, 2, 256] {
        if let Ok(hashes) = tile::decode_hashes(bytes, width) {
            assert_eq!(tile::encode_hashes(&hashes), bytes);
        }
        if let Ok(entries) = tile::decode_entries(bytes, width) {
            entries.iter().for_each(|entry| drop(Entry::decode(entry)));
        }
    }
    if let Ok(entry) = Entry::decode(bytes) {
        let again = entry.encode().ok().and_then(|bytes| Entry::decode(&bytes).ok());
        assert_eq!(Some(entry), again);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(tile) = Tile::from_path(text) {
        assert_eq!(tile.path(), Path::new(text));
    }
    if let Ok(proof) = InclusionProof::parse(text) {
        assert_eq!(InclusionProof::parse(&proof.to_string()).ok(), Some(proof));
    }
    if let Ok(key) = VerifierKey::parse(text.lines().next().unwrap_or_default()) {
        assert!(Checkpoint::open(bytes, &key).is_err(), "nobody has this key");
    }
}

/// No bytes open without the words.
pub(crate) fn backup(bytes: &[u8]) {
    let opener = Opener::Passphrase(Passphrase::new("words that nobody chose".into()));
    assert!(age::open(bytes, &opener).is_err());
}
