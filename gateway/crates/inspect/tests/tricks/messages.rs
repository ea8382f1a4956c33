//! Text, tables, markup, mail and messages; and names.

use base64::Engine as _;
use inspect::FindingId as Id;
use inspect::{FileType, Verdict};

use super::make::{entry, png, program, zip};
use super::{judge, trick};

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn tables_that_compute() {
    let twin = "氏名,体温,変化\n山田,36.5,-0.2\n鈴木,-,+1\n".as_bytes();
    for cell in [
        "=1+1",
        "=cmd|'/c calc'!A1",
        "@SUM(A1)",
        "+cmd|'/c calc'!A1",
        "\"=HYPERLINK(\"\"http://e\"\")\"",
        "-2+3+cmd|' /C calc'!A0",
    ] {
        let table = format!("a,b\n1,{cell}\n");
        trick("a.csv", twin, table.as_bytes(), Id::CsvFormula);
    }
    let tabs = "a\tb\n1\t=WEBSERVICE(\"http://e\")\n";
    trick("a.txt", b"a\tb\n1\t2\n", tabs.as_bytes(), Id::CsvFormula);
}

#[test]
fn markup_that_acts() {
    let html = b"<!DOCTYPE html><html><body><p onlooker class='a'>on = off</p><a href=\"https://example.jp\">x</a></body></html>";
    for (tag, id) in [
        ("<script>alert(1)</script>", Id::MarkupScript),
        ("<ScRiPt src=x>", Id::MarkupScript),
        ("<img src=x OnError=alert(1)>", Id::MarkupEvent),
        ("<a href='java&#115;cript:alert(1)'>x</a>", Id::MarkupScript),
        ("<a href=\"jav\tascript:alert(1)\">x</a>", Id::MarkupScript),
        ("<iframe src=x>", Id::MarkupEmbed),
        ("<object data=x>", Id::MarkupEmbed),
        ("<meta http-equiv=refresh content='0;url=http://e'>", Id::MarkupEmbed),
    ] {
        trick("a.html", html, format!("<html><body>{tag}</body></html>").as_bytes(), id);
    }
    let svg = |inner: &str| format!("<svg xmlns=\"http://www.w3.org/2000/svg\">{inner}</svg>").into_bytes();
    let twin = svg("<rect width=\"1\" height=\"1\"/>");
    trick("a.svg", &twin, &svg("<script>alert(1)</script>"), Id::MarkupScript);
    trick("a.svg", &twin, &svg("<rect onload=\"alert(1)\"/>"), Id::MarkupEvent);
    trick("a.svg", &twin, &svg("<foreignObject/>"), Id::MarkupEmbed);
    trick("a.svg", &twin, &svg("<image href=\"http://e/x\"/>"), Id::MarkupEmbed);
    let xml = b"<?xml version=\"1.0\"?><ward><bed>1</bed></ward>";
    trick("a.xml", xml, b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", Id::XmlDoctype);
    trick(
        "a.xml",
        xml,
        b"<?xml version=\"1.0\"?><?xml-stylesheet href=\"x.xsl\"?><a/>",
        Id::MarkupStylesheet,
    );
}

#[test]
fn programs_as_text() {
    let twin = "2026-03-02 10:00:00 the service was started, function set to A (ok)\n温度: 20\n".as_bytes();
    for text in [
        "#!/bin/sh\nrm -rf /\n",
        "@echo off\r\ndel *.*\r\n",
        "Set s = CreateObject(\"WScript.Shell\")\r\n",
        "import os\nos.system('x')\n",
        "var a = 1;\nfunction b() { return a; }\n",
        "$a = New-Object Net.WebClient\nStart-Process $a\n",
        "Windows Registry Editor Version 5.00\r\n",
        "<?php phpinfo();",
        "%!PS-Adobe\n(x) run\n",
    ] {
        trick("a.txt", twin, text.as_bytes(), Id::Script);
    }
    trick("a.txt", twin, b"[InternetShortcut]\r\nURL=file://x\r\n", Id::Shortcut);
    trick("a.txt", twin, b"[Desktop Entry]\nExec=x\n", Id::Shortcut);
}

#[test]
fn mail_with_attachments() {
    let mail = |name: &str, bytes: &[u8]| {
        format!(
            "From: a@example.jp\r\nTo: b@example.jp\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\nContent-Type: application/octet-stream; name=\"{name}\"\r\nContent-Disposition: attachment; filename=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
            base64(bytes)
        )
        .into_bytes()
    };
    let twin = mail("a.png", &png());
    trick("a.eml", &twin, &mail("a.dat", &program()), Id::Executable);
    trick("a.eml", &twin, &mail("a.js", b"x"), Id::Script);
    trick("a.eml", &twin, &mail("a.zip", &zip(&[entry("x.dat", &program())])), Id::Executable);
    trick("a.eml", &twin, &mail("a.html", b"<html><script>x</script></html>"), Id::MarkupScript);
}

#[test]
fn payloads_in_messages() {
    let hl7 = |data: &[u8]| {
        format!("MSH|^~\\&|A|B|C|D|20260302||ORU^R01|1|P|2.5\rOBX|1|ED|x||A^AP^PNG^Base64^{}\r", base64(data))
            .into_bytes()
    };
    trick("a.hl7", &hl7(&png()), &hl7(&program()), Id::Executable);
    let fhir = |data: &[u8]| {
        format!(r#"{{"resourceType":"Binary","contentType":"image/png","data":"{}"}}"#, base64(data))
            .into_bytes()
    };
    trick("a.json", &fhir(&png()), &fhir(&program()), Id::Executable);
}

#[test]
fn japanese_text_is_text() {
    let text = "患者 山田太郎 体温36.5度\r\n";
    for encoding in
        [encoding_rs::SHIFT_JIS, encoding_rs::EUC_JP, encoding_rs::ISO_2022_JP, encoding_rs::UTF_8]
    {
        let report = judge("a.txt", &encoding.encode(text).0);
        assert_eq!(
            (report.types, report.verdict),
            (vec![FileType::Text], Verdict::Allow),
            "{}",
            encoding.name()
        );
    }
    let wide: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(judge("a.txt", &wide).verdict, Verdict::Allow);
    assert_eq!(judge("a.txt", b"\x00\x01\x02\x03").findings[0].id, Id::UnknownType);
}

#[test]
fn names_of_files() {
    for (name, id) in [
        ("invoice.pdf.exe", Id::Script),
        ("a.lnk", Id::Script),
        ("../a.txt", Id::UnsafeName),
        ("a\u{202e}txt.exe", Id::UnsafeName),
        ("a.pdf", Id::NameMismatch),
    ] {
        assert_eq!(judge("a.txt", b"text\n").verdict, Verdict::Allow);
        let report = judge(name, b"text\n");
        assert!(report.findings.iter().any(|finding| finding.id == id), "{name}: {:?}", report.findings);
        assert_eq!(report.verdict, Verdict::Refuse);
    }
}
