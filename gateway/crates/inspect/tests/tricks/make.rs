//! Builders of files, from the specifications, with every field open to a lie.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// An entry of a ZIP file, and what its headers say.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) local_name: Option<Vec<u8>>,
    pub(crate) data: Vec<u8>,
    pub(crate) packed: bool,
    pub(crate) method: Option<u16>,
    pub(crate) local_method: Option<u16>,
    pub(crate) flags: u16,
    pub(crate) said_bytes: Option<u32>,
    pub(crate) mode: u32,
    /// Points at the first entry's bytes instead of its own.
    pub(crate) shares: bool,
    /// Bytes after the entry that belong to nobody.
    pub(crate) gap: Vec<u8>,
}

pub(crate) fn entry(name: &str, data: &[u8]) -> Entry {
    Entry {
        name: name.as_bytes().to_vec(),
        local_name: None,
        data: data.to_vec(),
        packed: true,
        method: None,
        local_method: None,
        flags: 0x800,
        said_bytes: None,
        mode: 0,
        shares: false,
        gap: Vec::new(),
    }
}

/// A ZIP file of these entries.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let packed = if entry.packed { deflate(&entry.data) } else { entry.data.clone() };
        let method = entry.method.unwrap_or(if entry.packed { 8 } else { 0 });
        let crc = crc32(&entry.data);
        let at = if entry.shares { 0 } else { u32::try_from(out.len()).unwrap() };
        let sizes = |size: u32| {
            let mut fields = crc.to_le_bytes().to_vec();
            fields.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
            fields.extend(size.to_le_bytes());
            fields
        };
        let size = entry.said_bytes.unwrap_or_else(|| u32::try_from(entry.data.len()).unwrap());
        let local_name = entry.local_name.as_ref().unwrap_or(&entry.name);
        if !entry.shares {
            out.extend(b"PK\x03\x04\x14\x00");
            out.extend(entry.flags.to_le_bytes());
            out.extend(entry.local_method.unwrap_or(method).to_le_bytes());
            out.extend([0; 4]);
            out.extend(sizes(size));
            out.extend(u16::try_from(local_name.len()).unwrap().to_le_bytes());
            out.extend([0; 2]);
            out.extend(local_name);
            out.extend(&packed);
            out.extend(&entry.gap);
        }
        directory.extend(b"PK\x01\x02\x14\x03\x14\x00");
        directory.extend(entry.flags.to_le_bytes());
        directory.extend(method.to_le_bytes());
        directory.extend([0; 4]);
        directory.extend(sizes(size));
        directory.extend(u16::try_from(entry.name.len()).unwrap().to_le_bytes());
        directory.extend([0; 8]);
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(at.to_le_bytes());
        directory.extend(&entry.name);
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let (start, len) = (u32::try_from(out.len()).unwrap(), u32::try_from(directory.len()).unwrap());
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count, count].concat());
    out.extend(len.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// CRC-32 of RFC 1952, bit by bit.
pub(crate) fn crc32(data: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !data.iter().fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A Word document with this body, and more parts.
pub(crate) fn docx(body: &str, rels: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let types = r#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>"#;
    let rel = |inner: &str| {
        format!(
            r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{inner}</Relationships>"#
        )
    };
    let root = rel(
        r#"<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>"#,
    );
    let document = format!(
        r#"<?xml version="1.0"?><w:document xmlns:w="w" xmlns:r="r" xmlns:o="o"><w:body>{body}</w:body></w:document>"#
    );
    let mut entries = vec![
        entry("[Content_Types].xml", types.as_bytes()),
        entry("_rels/.rels", root.as_bytes()),
        entry("word/document.xml", document.as_bytes()),
        entry("word/_rels/document.xml.rels", rel(rels).as_bytes()),
    ];
    entries.extend(more.iter().map(|(name, data)| entry(name, data)));
    zip(&entries)
}

pub(crate) fn relationship(kind: &str, target: &str, mode: &str) -> String {
    format!(
        r#"<Relationship Id="r9" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}" Target="{target}" TargetMode="{mode}"/>"#
    )
}

/// An OpenDocument text with this content, and more parts.
pub(crate) fn odt(content: &str, manifest: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let xml = format!(
        r#"<?xml version="1.0"?><office:document-content xmlns:office="o" xmlns:text="t" xmlns:draw="d" xmlns:xlink="x" xmlns:script="s" xmlns:table="b"><office:body><office:text>{content}</office:text></office:body></office:document-content>"#
    );
    let manifest = format!(
        r#"<?xml version="1.0"?><manifest:manifest xmlns:manifest="m">{manifest}</manifest:manifest>"#
    );
    let mut mimetype = entry("mimetype", b"application/vnd.oasis.opendocument.text");
    mimetype.packed = false;
    let mut entries = vec![
        mimetype,
        entry("content.xml", xml.as_bytes()),
        entry("META-INF/manifest.xml", manifest.as_bytes()),
    ];
    entries.extend(more.iter().map(|(name, data)| entry(name, data)));
    zip(&entries)
}

/// A PDF of one page whose catalog says this; more objects follow.
pub(crate) fn pdf(catalog: &str, objects: &[&str]) -> Vec<u8> {
    let mut all = vec![
        format!("<< /Type /Catalog /Pages 2 0 R {catalog} >>"),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>".to_owned(),
    ];
    all.extend(objects.iter().map(|object| (*object).to_owned()));
    let mut out = b"%PDF-1.7\n".to_vec();
    let mut table = String::from("0000000000 65535 f \n");
    for (number, object) in all.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", out.len()));
        out.extend(format!("{} 0 obj\n{object}\nendobj\n", number + 1).bytes());
    }
    let start = out.len();
    let count = all.len() + 1;
    out.extend(
        format!(
            "xref\n0 {count}\n{table}trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
        )
        .bytes(),
    );
    out
}

/// A DICOM file in explicit little endian: preamble, and elements after the meta information.
pub(crate) fn dicom(preamble: &[u8], elements: &[(u16, u16, &[u8; 2], &[u8])]) -> Vec<u8> {
    let mut out = preamble.to_vec();
    out.resize(128, 0);
    out.extend(b"DICM");
    out.extend(element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0"));
    out.extend(
        elements.iter().flat_map(|(group, number, kind, value)| element(*group, *number, kind, value)),
    );
    out
}

fn element(group: u16, number: u16, kind: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut out = [group.to_le_bytes(), number.to_le_bytes(), *kind].concat();
    if [b"OB", b"UN", b"SQ", b"OW"].contains(&kind) {
        out.extend([0; 2]);
        out.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
    } else {
        out.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
    }
    out.extend(value);
    out
}

/// A program for Windows, as far as its headers go.
pub(crate) fn program() -> Vec<u8> {
    let mut out = b"MZ".to_vec();
    out.resize(60, 0);
    out.extend(64_u32.to_le_bytes());
    out.extend(b"PE\0\0\x4c\x01");
    out.resize(256, 0);
    out
}

/// A PNG of one black dot.
pub(crate) fn png() -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(1, 1).write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

/// A picture of eight by eight.
pub(crate) fn picture(format: image::ImageFormat) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(8, 8).write_to(&mut out, format).unwrap();
    out.into_inner()
}
