//! Bytes without sense: no panic, no more findings than asked for, and the limits hold.

use inspect::{Limits, inspect};
use proptest::prelude::*;

use super::make::{dicom, docx, entry, odt, pdf, picture, zip};

fn seeds() -> Vec<Vec<u8>> {
    vec![
        zip(&[entry("a.txt", b"text"), entry("b.txt", b"more text")]),
        docx("<w:p/>", "", &[("word/media/a.bin", b"x")]),
        odt("<text:p/>", "", &[]),
        pdf("/AA << /O 4 0 R >>", &["<< /S /JavaScript /JS (x) >>"]),
        picture(image::ImageFormat::Png),
        picture(image::ImageFormat::Jpeg),
        picture(image::ImageFormat::Gif),
        dicom(b"II*\0", &[(0x0010, 0x0010, b"PN", b"Yamada"), (0x0029, 0x1010, b"OB", &[1; 64])]),
        b"{\\rtf1{\\field{\\*\\fldinst DDE x}}\\bin3 abc{\\object}}".to_vec(),
        b"From: a@b\r\nTo: b@c\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"
            .to_vec(),
        b"MSH|^~\\&|A|B\rOBX|1|ED|x||A^B^C^Base64^AAAA\r".to_vec(),
        b"<html><body onload='x'><a href='y'></body></html>".to_vec(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..4096), name in proptest::option::of(".{0,40}")) {
        let limits = Limits { findings: 7, ..Limits::default() };
        prop_assert!(inspect(&bytes, name.as_deref(), &limits).findings.len() <= 7);
    }

    #[test]
    fn mutated_files(
        which in 0_usize..12,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = seeds().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Limits { steps: 10_000, inflated_bytes: 1 << 20, pixels: 1 << 20, ..Limits::default() };
        let report = inspect(&bytes, Some("a.bin.txt"), &limits);
        prop_assert!(report.findings.iter().all(|finding| finding.detail.chars().count() <= 200));
        prop_assert!(report.findings.iter().all(|finding| !finding.detail.contains(char::is_control)));
    }
}
