//! The role's test of inspection: a document with a macro and a harmless text are handed to it as a vendor's files would be,
//! by the same way. The first must be stopped; a text that is stopped too says that nothing passes at all.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use events::{Family, Sample};
use jiff::Timestamp;
use policy::guideline::Observed;
use policy::guideline::observation::FileDoor;
use policy::services::FilesVendor;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use tokio::time::timeout;
use transfer::Verdict;

use super::house::House;
use super::inspection;
use super::keep::directory;
use crate::notify::every;

/// How often. A control calls inspection untested after two minutes.
const EVERY: Duration = Duration::from_secs(30);
/// How long one inspection of these few bytes may take on a busy box.
const LIMIT: Duration = Duration::from_secs(20);
/// Below the role's own directory.
const PLACE: &str = "trial";
const MACRO: &str = "macro.docm";
const HARMLESS: &str = "harmless.txt";
const TEXT: &[u8] = b"This text does nothing. It is inspected to see that inspection lets something pass.\n";
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

/// How inspection was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    at: Timestamp,
    stops_macro: bool,
    passes_harmless: bool,
}

/// Tries it again and again, while some vendor may send files.
pub(super) async fn keep(house: Rc<House>, state: PathBuf) {
    let place = state.join(PLACE);
    if let Err(error) = lay_out(&place) {
        return tracing::error!(%error, "inspection cannot be tried: its test files cannot be written");
    }
    let mut again = every(EVERY);
    loop {
        again.tick().await;
        if house.vendors().is_some_and(|vendors| !vendors.is_empty()) {
            let tried = once(&house.inspect, &place).await;
            if !tried.stops_macro || !tried.passes_harmless {
                tracing::warn!(?tried, "inspection is not as it should be");
            }
            house.trial.set(Some(tried));
        }
    }
}

/// What it says about the door for files.
pub(super) fn observed(tried: Option<Tried>, vendors: &[FilesVendor]) -> Observed {
    let unattested = vendors.iter().filter(|vendor| !vendor.attestation_required);
    let fact = FileDoor {
        vendors: u32::try_from(vendors.len()).unwrap_or(u32::MAX),
        unattested: unattested.map(|vendor| &vendor.name).collect(),
        tried_at: tried.map(|tried| tried.at),
        stops_macro: tried.is_some_and(|tried| tried.stops_macro),
        passes_harmless: tried.is_some_and(|tried| tried.passes_harmless),
    };
    Observed { at: Timestamp::now(), fact: fact.into() }
}

/// When it last found all as it should be.
pub(super) fn sample(tried: Option<Tried>) -> Option<Sample> {
    let good = tried.filter(|tried| tried.stops_macro && tried.passes_harmless)?;
    Some(Sample::new(Family::SelfTest, &["inspection"], good.at.as_duration().as_secs_f64()))
}

async fn once(socket: &Path, place: &Path) -> Tried {
    let passes = async |name: &str| {
        let asked = timeout(LIMIT, inspection::inspect(socket, &place.join(name), name)).await;
        matches!(asked, Ok(Ok(inspection)) if inspection.verdict == Verdict::Allow)
    };
    let (passes_macro, passes_harmless) = (passes(MACRO).await, passes(HARMLESS).await);
    Tried { at: Timestamp::now(), stops_macro: !passes_macro, passes_harmless }
}

fn lay_out(place: &Path) -> io::Result<()> {
    directory(place, 0o700)?;
    fs::write(place.join(MACRO), document()?)?;
    fs::write(place.join(HARMLESS), TEXT)
}

/// The document: its parts in an archive.
fn document() -> io::Result<Vec<u8>> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for (name, text) in PARTS {
        let started = archive.new_file(name).compression_method(CompressionMethod::STORE).start();
        let (mut entry, config) = started.map_err(io::Error::other)?;
        let mut writer = config.wrap(&mut entry);
        writer.write_all(text.as_bytes())?;
        let (_, descriptor) = writer.finish().map_err(io::Error::other)?;
        entry.finish(descriptor).map_err(io::Error::other)?;
    }
    archive.finish().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::inspect::{FindingId, Limits, Verdict as Said, inspect};

    #[test]
    fn inspection_itself_stops_the_macro_for_the_macro_and_lets_the_text_pass() {
        let stopped = inspect(&document().unwrap(), Some(MACRO), &Limits::default());
        assert_eq!(stopped.verdict, Said::Refuse, "{stopped:?}");
        assert!(stopped.findings.iter().any(|finding| finding.id == FindingId::VbaMacro), "{stopped:?}");
        assert_eq!(inspect(TEXT, Some(HARMLESS), &Limits::default()).verdict, Said::Allow);
    }
}
