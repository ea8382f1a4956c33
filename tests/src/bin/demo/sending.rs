//! Files that the vendor sends while the session is open: a harmless one is delivered, one with a macro is not.
use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::{
    Sabotage, inspections,
    maintenance::VENDOR,
    screen::Screen,
    site::{Said, Site},
    vendor::{self, Vendor},
};

/// The example clinic's site, for which a sender's statement has to be made.
const CLINIC: &str = "sakura-01";
const HARMLESS: &str = "release-notes.pdf";
const WITH_MACRO: &str = "release-notes.docm";
/// `sekisho-vendor`: the clinic says no.
const REFUSED: i32 = 3;
/// The parts of a Word document with a macro.
const PARTS: [(&str, &str); 4] = [
    (
        "[Content_Types].xml",
        r#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/><Default Extension="bin" ContentType="application/vnd.ms-office.vbaProject"/><Override PartName="/word/document.xml" ContentType="application/vnd.ms-word.document.macroEnabled.main+xml"/></Types>"#,
    ),
    (
        "_rels/.rels",
        r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>"#,
    ),
    ("word/document.xml", r#"<?xml version="1.0"?><w:document xmlns:w="w"><w:body/></w:document>"#),
    ("word/vbaProject.bin", "Sub AutoOpen()"),
];

/// Sends both.
pub(crate) fn sending(
    screen: &mut Screen,
    site: &Site,
    vendor: &Vendor<'_>,
    session: &str,
    sabotage: Option<Sabotage>,
) -> Result<()> {
    fs::write(site.files().join(HARMLESS), pdf())?;
    word(site)?;
    inspections::during(site, sabotage, || {
        delivered(screen, site, vendor, session)?;
        refused(screen, site, vendor, session)
    })
}

fn delivered(screen: &mut Screen, site: &Site, vendor: &Vendor<'_>, session: &str) -> Result<()> {
    let said = send(screen, vendor, session, HARMLESS)?;
    let sent = sha256(site, &site.files().join(HARMLESS))?;
    let arrived = site.delivered(VENDOR).join(HARMLESS);
    let same = arrived.exists() && sha256(site, &arrived)? == sent;
    let short: String = sent.chars().take(12).collect();
    Ok(screen.expect(said.ended(0) && same, &screen.words.file_delivered(HARMLESS, short))?)
}

fn refused(screen: &mut Screen, site: &Site, vendor: &Vendor<'_>, session: &str) -> Result<()> {
    let said = send(screen, vendor, session, WITH_MACRO)?;
    let names: Vec<_> =
        fs::read_dir(site.delivered(VENDOR))?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    let told = said.ended(REFUSED) && said.text().contains("macro");
    Ok(screen.expect(told && names == [HARMLESS], &screen.words.file_refused(WITH_MACRO))?)
}

/// States that the file was looked at, as the example's vendor must, and sends it with the statement.
fn send(screen: &Screen, vendor: &Vendor<'_>, session: &str, name: &str) -> Result<Said> {
    let sanitizer = ["--sanitizer", "demo", "--sanitizer-version", "1"];
    let attest = ["attest", name, "--session", session, "--site", CLINIC];
    let said = vendor.run(screen, &[attest.as_slice(), &sanitizer].concat())?;
    ensure!(said.ended(0), "no statement can be made: {}", said.text());
    let statement = format!("{name}.attestation.json");
    vendor.run(screen, &["send", name, "--session", session, "--attestation", &statement])
}

fn sha256(site: &Site, path: &Path) -> Result<String> {
    let path = path.to_str().context("the path is not text")?;
    let said = site.quietly_on(vendor::HOST, "sha256sum", &[path])?;
    let hash = said.out.split_whitespace().next().context("no hash")?;
    Ok(hash.to_owned())
}

/// A PDF of one empty page (ISO 32000-1, annex H.2).
fn pdf() -> Vec<u8> {
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>",
    ];
    let (mut text, mut table) = ("%PDF-1.7\n".to_owned(), "0000000000 65535 f \n".to_owned());
    for (number, object) in (1..).zip(objects) {
        table += &format!("{:010} 00000 n \n", text.len());
        text += &format!("{number} 0 obj\n{object}\nendobj\n");
    }
    let (start, count) = (text.len(), objects.len() + 1);
    text += &format!("xref\n0 {count}\n{table}trailer\n<< /Size {count} /Root 1 0 R >>\n");
    text += &format!("startxref\n{start}\n%%EOF\n");
    text.into_bytes()
}

/// A Word document with a macro, zipped by Python.
fn word(site: &Site) -> Result<()> {
    let directory = site.files().join("docm");
    for (name, text) in PARTS {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().context("a part without directory")?)?;
        fs::write(path, text)?;
    }
    let zip = format!("cd docm && python3 -m zipfile -c ../{WITH_MACRO} '[Content_Types].xml' _rels word");
    let said = site.quietly_on(vendor::HOST, "sh", &["-c", &zip])?;
    ensure!(said.ended(0), "no document can be made: {}", said.text());
    Ok(())
}
