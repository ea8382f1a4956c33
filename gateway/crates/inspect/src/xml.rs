//! XML, read once from front to back: no entities, no files of others, no depth without end.

use std::borrow::Cow;

use encoding_rs::Encoding;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::FindingId;
use crate::bytes::{find_any_case, head};
use crate::case::{Case, Halt};

/// Deepest nesting of elements.
const DEPTH: usize = 512;

/// What stands in the XML.
#[derive(Debug)]
pub(crate) enum Node<'x> {
    /// An element begins.
    Open(Element<'x>),
    /// An element ends; its local name.
    Close(&'x str),
    /// Text of an element, references left out.
    Text(&'x str),
    /// A processing instruction: target and content.
    Instruction(&'x str, &'x str),
}

/// An element and its attributes.
#[derive(Debug)]
pub(crate) struct Element<'x> {
    start: &'x BytesStart<'x>,
    local: &'x str,
}

impl Element<'_> {
    /// The name without its prefix.
    pub(crate) fn local(&self) -> &str {
        self.local
    }

    /// The prefix, or nothing.
    pub(crate) fn prefix(&self) -> String {
        let name = self.start.name();
        name.prefix().map_or_else(String::new, |prefix| text_of(prefix.as_ref()).into_owned())
    }

    /// The value of the attribute of that local name.
    pub(crate) fn attribute(&self, local: &str) -> Option<String> {
        self.attributes().find(|(name, _)| name == local).map(|(_, value)| value)
    }

    /// All attributes: local name and value.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (String, String)> {
        let mut attributes = self.start.attributes();
        attributes.with_checks(false);
        attributes.flatten().map(|attribute| {
            let name = text_of(attribute.key.local_name().as_ref()).into_owned();
            let value = quick_xml::escape::unescape(&attribute.value)
                .map_or_else(|_| attribute.value.clone().into_owned(), Cow::into_owned);
            (name, value)
        })
    }
}

fn text_of(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

/// How strict the XML has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Well-formed, without a document type.
    Strict,
    /// Well-formed; a public document type without anything of its own, as SVG and XHTML have.
    Public,
    /// VML, whose writers leave elements open; without a document type.
    Loose,
}

/// The text of XML bytes: UTF-8, UTF-16 by its mark, or what the declaration says.
pub(crate) fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        let (text, _, broken) = encoding.decode(bytes);
        return (!broken).then_some(text);
    }
    let encoding =
        declared(bytes).map_or(Some(encoding_rs::UTF_8), |label| Encoding::for_label(label.as_bytes()))?;
    // A declaration that can be read as ASCII cannot be one of UTF-16.
    let encoding = encoding.output_encoding();
    let (text, broken) = encoding.decode_without_bom_handling(bytes);
    (!broken).then_some(text)
}

fn declared(bytes: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head(bytes, 200)).into_owned();
    let declaration = head.trim_start().strip_prefix("<?xml")?.split("?>").next()?.to_owned();
    let rest = declaration.split("encoding").nth(1)?.trim_start().strip_prefix('=')?.trim_start().to_owned();
    let quote = rest.chars().next()?;
    rest.get(1..)?.split(quote).next().map(str::to_owned)
}

/// Shows `visit` every node; whatever is no plain XML becomes a finding.
pub(crate) fn walk(
    case: &mut Case<'_>,
    bytes: &[u8],
    form: Form,
    at: &str,
    visit: &mut dyn FnMut(&mut Case<'_>, &Node<'_>) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let Some(text) = decode(bytes) else {
        case.malformed(at, "the XML is not in the encoding that it says");
        return Ok(());
    };
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = form != Form::Loose;
    reader.config_mut().allow_unmatched_ends = form == Form::Loose;
    let mut depth = 0_usize;
    loop {
        case.step(1, at)?;
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => {
                case.malformed(at, format!("XML: {error}"));
                return Ok(());
            }
        };
        match &event {
            Event::Start(start) => {
                depth += 1;
                open(case, start, visit)?;
            }
            Event::Empty(start) => open(case, start, visit)?,
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                visit(case, &Node::Close(end.local_name().as_ref()))?;
            }
            Event::Text(text) => visit(case, &Node::Text(text))?,
            Event::CData(text) => visit(case, &Node::Text(text))?,
            Event::PI(instruction) => {
                visit(case, &Node::Instruction(instruction.target(), instruction.content()))?
            }
            Event::DocType(text) => check_doctype(case, text, form, at)?,
            Event::GeneralRef(_) | Event::Comment(_) | Event::Decl(_) => {}
            Event::Eof => break,
        }
        if depth > DEPTH {
            case.find(FindingId::Bomb, at, format!("elements nested deeper than {DEPTH}"));
            return Err(Halt);
        }
    }
    if depth != 0 && form != Form::Loose {
        case.malformed(at, "XML: elements are not closed");
    }
    Ok(())
}

fn open(
    case: &mut Case<'_>,
    start: &BytesStart<'_>,
    visit: &mut dyn FnMut(&mut Case<'_>, &Node<'_>) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let local = start.local_name();
    visit(case, &Node::Open(Element { start, local: local.as_ref() }))
}

/// Extensible Markup Language 1.0, section 2.8: an internal subset or a system identifier brings in entities and files.
fn check_doctype(case: &mut Case<'_>, text: &str, form: Form, at: &str) -> Result<(), Halt> {
    let own = text.contains('[') || find_any_case(text.as_bytes(), &["entity", "system"]).is_some();
    if form != Form::Public || own {
        case.find(FindingId::XmlDoctype, at, "a document type with entities or a place of its own");
        return Err(Halt);
    }
    Ok(())
}
