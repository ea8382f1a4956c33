//! Archives: names, headers, bytes shared and left over, bombs, and what is inside.

use inspect::FindingId as Id;
use inspect::{Kind, Limits, Verdict, inspect};

use super::make::{Entry, docx, entry, gzip, program, zip};
use super::{judge, trick};

const NOTE: &[u8] = b"a note for the ward\n";

fn twin() -> Vec<u8> {
    zip(&[entry("ward/note.txt", NOTE), entry("list.txt", b"one\ntwo\n")])
}

fn changed(change: impl Fn(&mut Entry)) -> Vec<u8> {
    let mut second = entry("list.txt", b"one\ntwo\n");
    change(&mut second);
    zip(&[entry("ward/note.txt", NOTE), second])
}

#[test]
fn names_that_leave_their_directory_or_lie() {
    for name in [
        "../../etc/cron.d/x",
        "/etc/passwd",
        "C:/Windows/x.txt",
        "a\\..\\b.txt",
        "ward/../../x.txt",
        "CON",
        "nul.txt",
        "COM1.log",
        "ward/x.txt\u{202e}gpj",
        "line\nbreak.txt",
        "stream.txt:hidden",
        "trailing. ",
        "zero\u{200b}width.txt",
    ] {
        trick("files.zip", &twin(), &changed(|entry| entry.name = name.as_bytes().to_vec()), Id::UnsafeName);
    }
}

#[test]
fn headers_that_disagree() {
    let changes: [fn(&mut Entry); 3] = [
        |entry| entry.local_name = Some(b"tool.exe".to_vec()),
        |entry| entry.local_method = Some(0),
        |entry| entry.said_bytes = Some(3),
    ];
    for change in changes {
        trick("files.zip", &twin(), &changed(change), Id::ArchiveMismatch);
    }
}

#[test]
fn bytes_shared_and_left_over() {
    trick(
        "files.zip",
        &twin(),
        &changed(|entry| {
            entry.shares = true;
            entry.name = b"ward/copy.txt".to_vec();
        }),
        Id::ArchiveOverlap,
    );
    trick("files.zip", &twin(), &changed(|entry| entry.gap = b"hidden".to_vec()), Id::ArchiveGap);
    trick("files.zip", &twin(), &[twin(), b"appended".to_vec()].concat(), Id::ForeignBytes);
    trick("files.zip", &twin(), &[program(), twin()].concat(), Id::Polyglot);
    trick(
        "files.zip",
        &twin(),
        &changed(|entry| entry.name = b"WARD/Note.txt".to_vec()),
        Id::ArchiveDuplicate,
    );
    trick("files.zip", &twin(), &changed(|entry| entry.mode = 0o120_777), Id::ArchiveSpecial);
    trick("files.zip", &twin(), &changed(|entry| entry.flags |= 1), Id::Encrypted);
    trick(
        "files.zip",
        &twin(),
        &changed(|entry| {
            entry.method = Some(14);
            entry.local_method = Some(14);
        }),
        Id::ArchiveMethod,
    );
}

#[test]
fn what_is_inside_counts() {
    let inside = |name: &str, data: &[u8]| zip(&[entry("note.txt", NOTE), entry(name, data)]);
    trick("files.zip", &twin(), &inside("tool.dat", &program()), Id::Executable);
    trick("files.zip", &twin(), &inside("run.cmd", b"whatever"), Id::Script);
    trick("files.zip", &twin(), &inside("deep.zip", &inside("tool.dat", &program())), Id::Executable);
    trick("notes.gz", &gzip(NOTE), &gzip(&program()), Id::Executable);
    trick("files.zip", &twin(), &inside("META-INF/MANIFEST.MF", b"Main-Class: X\n"), Id::Executable);
    trick("files.zip", &twin(), &inside("eicar.txt", &eicar()), Id::Executable);
    let kinds = judge("files.zip", &zip(&[entry("note.txt", NOTE), entry("app.log", NOTE)])).kinds;
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [Kind::Text, Kind::LogText]);
}

/// The test line of anti-virus engines, in two halves, so that this file is not taken for it.
fn eicar() -> Vec<u8> {
    [&b"X5O!P%@AP[4\\PZX54(P^)7CC)7}"[..], b"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"].concat()
}

#[test]
fn bombs_are_refused_within_the_limits() {
    let zeros = vec![0_u8; 40 << 20];
    let mut nested = zip(&[entry("x.txt", NOTE)]);
    for _ in 0..8 {
        nested = zip(&[entry("x.zip", &nested)]);
    }
    let deep = format!("<?xml version=\"1.0\"?>{}{}", "<a>".repeat(5000), "</a>".repeat(5000));
    let rtf = [b"{\\rtf1 ".to_vec(), vec![b'{'; 5000], vec![b'}'; 5001]].concat();
    let bombs = [
        ("big.zip", zip(&[entry("x.txt", &zeros)])),
        ("big.gz", gzip(&zeros)),
        ("deep.zip", nested),
        ("many.zip", zip(&vec![entry("", b""); 20_000])),
        ("deep.xml", deep.into_bytes()),
        ("deep.rtf", rtf),
        ("zeros.docx", docx("", "", &[("word/media/x.dat", &zeros)])),
    ];
    for (name, bomb) in bombs {
        let report = judge(name, &bomb);
        assert!(
            report.findings.iter().any(|finding| finding.id == Id::Bomb),
            "{name}: {:?}",
            report.findings
        );
        assert_eq!(report.verdict, Verdict::Refuse);
        assert!(report.findings.len() <= Limits::default().findings);
    }
}

#[test]
fn a_file_beyond_the_limit_is_not_looked_at() {
    let limits = Limits { size_bytes: 10, ..Limits::default() };
    assert_eq!(inspect(&[b'x'; 10], None, &limits).verdict, Verdict::Allow);
    assert_eq!(inspect(&[b'x'; 11], None, &limits).findings[0].id, Id::TooLarge);
}
