//! The formats of C2SP and of Go's `sumdb/note`, byte by byte; and whatever else somebody may feed their parsers.

use proptest::prelude::*;
use record::TreeHash;
use record::checkpoint::{Checkpoint, CheckpointError};
use record::note::{NoteError, NoteSigner, VerifierKey};
use record::proof::{InclusionProof, ProofError};
use record::tile::{Kind, Tile, bundle_with, decode_entries, decode_hashes, push_entry, tile_with};

/// Key and note of the documentation of golang.org/x/mod/sumdb/note.
const SECRET: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn signer() -> NoteSigner {
    NoteSigner::from_seed("sekisho-log-test", [5; 32]).unwrap()
}

#[test]
fn keys_and_notes_are_those_of_go() {
    let (signer, key) = (NoteSigner::parse(SECRET).unwrap(), VerifierKey::parse(PUBLIC).unwrap());
    assert_eq!(signer.verifier(), key);
    assert_eq!((signer.secret_text().as_str(), key.to_string().as_str()), (SECRET, PUBLIC));
    assert_eq!(signer.sign(TEXT), NOTE);
    assert_eq!(key.open(NOTE.as_bytes()), Ok(TEXT));
}

#[test]
fn signatures_of_others_are_ignored_and_forged_ones_are_not() {
    let key = VerifierKey::parse(PUBLIC).unwrap();
    let stranger = signer().sign(TEXT);
    assert_eq!(key.open(stranger.as_bytes()), Err(NoteError::Unsigned("PeterNeumann".into())));
    let line = stranger.lines().last().unwrap();
    assert_eq!(key.open(format!("{NOTE}{line}\n").as_bytes()), Ok(TEXT), "a witness signed too");
    let forged = NOTE.replace("your problem is", "my problem is");
    assert_eq!(key.open(forged.as_bytes()), Err(NoteError::Forged("PeterNeumann".into())));
    let named = NOTE.replace("PeterNeumann", "PeterNewmann");
    assert_eq!(key.open(named.as_bytes()), Err(NoteError::Unsigned("PeterNeumann".into())));
}

#[test]
fn malformed_keys_and_notes_are_errors() {
    for text in [
        "",
        "+",
        "a+b+c",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpcARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        " +c74f20a3+ARpc",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        SECRET,
    ] {
        assert!(VerifierKey::parse(text).is_err(), "{text}");
    }
    assert!(NoteSigner::parse(PUBLIC).is_err());
    let key = VerifierKey::parse(PUBLIC).unwrap();
    for note in [
        "",
        "\n\n",
        "text\n",
        "text\n\nsignature\n",
        "text\n\n\u{2014} x\n",
        "text\n\n\u{2014} x !!\n",
        "te\rxt\n\n\u{2014} x AAAAAAA=\n",
    ] {
        assert_eq!(key.open(note.as_bytes()), Err(NoteError::Malformed), "{note:?}");
    }
    assert!(matches!(NoteSigner::from_seed("a b", [0; 32]), Err(NoteError::Name(_))));
}

#[test]
fn a_checkpoint_is_three_lines_and_nothing_else_of_ours() {
    let signer = signer();
    let key = signer.verifier();
    let checkpoint =
        Checkpoint { origin: key.name().to_owned(), size: 20_852_163, root: TreeHash::leaf(b"x") };
    let note = checkpoint.sign(&signer);
    assert_eq!(Checkpoint::open(note.as_bytes(), &key), Ok(checkpoint));
    let root = TreeHash::leaf(b"x");
    let refuse = |text: &str| Checkpoint::open(signer.sign(text).as_bytes(), &key).unwrap_err();
    assert_eq!(refuse(&format!("other\n1\n{root}\n")), CheckpointError::Origin("other".into()));
    for text in [
        "sekisho-log-test\n1\n".to_owned(),
        format!("sekisho-log-test\n01\n{root}\n"),
        format!("sekisho-log-test\n+1\n{root}\n"),
        format!("sekisho-log-test\n18446744073709551616\n{root}\n"),
        "sekisho-log-test\n1\nAAAA\n".to_owned(),
        format!("\n1\n{root}\n"),
    ] {
        assert_eq!(refuse(&text), CheckpointError::Malformed, "{text:?}");
    }
    // Extension lines are allowed.
    let extended = signer.sign(&format!("sekisho-log-test\n0\n{root}\nmore\n"));
    assert!(Checkpoint::open(extended.as_bytes(), &key).is_ok());
}

#[test]
fn tiles_are_named_and_measured_as_the_specification_says() {
    let tile = |kind, index, width| Tile { kind, index, width };
    for (tile, path) in [
        (tile(Kind::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067"),
        (tile(Kind::Hashes(2), 0, 1), "tile/2/000.p/1"),
        (tile(Kind::Entries, 273, 112), "tile/entries/273.p/112"),
        (tile(Kind::Entries, 1000, 256), "tile/entries/x001/000"),
    ] {
        assert_eq!(tile.path().to_str(), Some(path));
        assert_eq!(Tile::from_path(path), Some(tile));
    }
    // Its example: a tree of 70,000.
    assert_eq!(tile_with(70_000, 0, 69_999), Some(tile(Kind::Hashes(0), 273, 112)));
    assert_eq!(tile_with(70_000, 1, 272), Some(tile(Kind::Hashes(1), 1, 17)));
    assert_eq!(tile_with(70_000, 1, 0), Some(tile(Kind::Hashes(1), 0, 256)));
    assert_eq!(tile_with(70_000, 2, 0), Some(tile(Kind::Hashes(2), 0, 1)));
    assert_eq!(tile_with(70_000, 3, 0), None);
    assert_eq!(bundle_with(70_000, 70_000), None);
    for path in [
        "tile/0/67",
        "tile/00/067",
        "tile/0/x067",
        "tile/8/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/x000/000",
        "tile/0/067.p",
        "tile/0/067.p/1/2",
        "tile/entries",
        "tile/x/000",
        "key",
        "tile/0/x001/234/000",
        "tile/0/../000",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
    ] {
        assert_eq!(Tile::from_path(path), None, "{path}");
    }
}

#[test]
fn a_proof_is_text_that_survives_and_stands_alone() {
    let signer = signer();
    let (one, two) = (TreeHash::leaf(b"one"), TreeHash::leaf(b"two"));
    let checkpoint =
        Checkpoint { origin: "sekisho-log-test".into(), size: 2, root: TreeHash::node(one, two) }
            .sign(&signer);
    let proof = InclusionProof { index: 1, hashes: vec![one], checkpoint };
    let text = proof.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 1\n"), "{text}");
    assert_eq!(InclusionProof::parse(&text), Ok(proof.clone()));
    let extra = text.replacen("index", "extra YWdl\nindex", 1);
    assert_eq!(InclusionProof::parse(&extra), Ok(proof.clone()));
    assert!(proof.check(b"two", &signer.verifier()).is_ok());
    assert_eq!(proof.check(b"one", &signer.verifier()), Err(ProofError::NotIncluded { index: 1 }));
    let other = NoteSigner::from_seed("sekisho-log-test", [6; 32]).unwrap();
    assert!(matches!(proof.check(b"two", &other.verifier()), Err(ProofError::Checkpoint(_))));
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), width in 0_u64..300) {
        let key = VerifierKey::parse(PUBLIC).unwrap();
        prop_assert!(key.open(&bytes).is_err());
        prop_assert!(Checkpoint::open(&bytes, &key).is_err());
        if let Ok(entries) = decode_entries(&bytes, width) {
            let mut again = Vec::new();
            entries.iter().for_each(|entry| assert!(push_entry(&mut again, entry)));
            prop_assert_eq!(again, bytes.clone());
        }
        if let Ok(hashes) = decode_hashes(&bytes, width) {
            prop_assert_eq!(hashes.len() as u64, width);
        }
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(VerifierKey::parse(&text).is_err() && NoteSigner::parse(&text).is_err());
        prop_assert!(InclusionProof::parse(&text).is_err());
        prop_assert!(Tile::from_path(&text).is_none());
    }

    #[test]
    fn one_changed_byte_of_a_note_is_noticed(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut note = NOTE.as_bytes().to_vec();
        let at = at.index(note.len());
        prop_assume!(note[at] != byte);
        note[at] = byte;
        let key = VerifierKey::parse(PUBLIC).unwrap();
        prop_assert!(key.open(&note).is_err());
    }

    #[test]
    fn names_of_tiles_are_read_as_written(level in 0_u32..8, index in any::<u64>(), width in 1_u64..=256, is_entries in any::<bool>()) {
        let kind = if is_entries { Kind::Entries } else { Kind::Hashes(level) };
        let tile = Tile { kind, index, width };
        prop_assert_eq!(Tile::from_path(tile.path().to_str().unwrap()), Some(tile));
    }

    #[test]
    fn a_name_like_a_tile_s_is_one_or_none(path in "tile/(entries|[0-9]{1,2})(/x?[0-9]{1,4}(\\.p)?){1,9}") {
        if let Some(tile) = Tile::from_path(&path) {
            let again = tile.path();
            prop_assert_eq!(again.to_str(), Some(path.as_str()));
        }
    }

    #[test]
    fn entries_survive_a_bundle(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let mut bundle = Vec::new();
        entries.iter().for_each(|entry| assert!(push_entry(&mut bundle, entry)));
        let width = entries.len() as u64;
        prop_assert_eq!(decode_entries(&bundle, width).unwrap(), entries.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert!(decode_entries(&bundle, width + 1).is_err());
        if !bundle.is_empty() {
            prop_assert!(decode_entries(&bundle[..bundle.len() - 1], width).is_err());
        }
    }
}
