//! HTML, SVG and XML: scripts, handlers, what is embedded, and Office documents as one XML file.

use base64::Engine as _;

use crate::bytes::find_any_case;
use crate::case::{Case, Halt};
use crate::examine::Part;
use crate::ooxml::Watch;
use crate::xml::{self, Form, Node};
use crate::{FileType, FindingId};

/// Beginnings by which a browser takes text for HTML (WHATWG MIME Sniffing, section 7.1).
const HTML: &[&str] = &[
    "<!doctype html",
    "<html",
    "<head",
    "<script",
    "<iframe",
    "<h1",
    "<div",
    "<font",
    "<table",
    "<a ",
    "<style",
    "<title",
    "<b>",
    "<body",
    "<br",
    "<p>",
    "<p ",
    "<meta",
    "<form",
    "<link",
    "<img",
    "<object",
    "<embed",
    "<base",
    "<video",
];
/// Elements that run, fetch or embed by themselves.
const EMBEDS: &[&str] = &[
    "iframe",
    "frame",
    "object",
    "embed",
    "applet",
    "portal",
    "base",
    "bgsound",
    "form",
    "foreignobject",
    "handler",
    "listener",
];
/// What a web server runs.
const SERVER: &[&str] = &["<?php", "<?=", "<%eval", "<%@page", "<%@ page", "<jsp:", "<%execute", "<!--#exec"];

/// The form of text that begins with a tag; `lower` is its beginning in lower case.
pub(super) fn identify(lower: &str) -> Option<FileType> {
    let embedded = ["<script", "<iframe", "<html", "<svg", "<body", "<!doctype html", "<object "];
    if !lower.starts_with('<') {
        return embedded.iter().any(|tag| lower.contains(tag)).then_some(FileType::Html);
    }
    if lower.starts_with("<hta:") || lower.contains("<hta:application") {
        return Some(FileType::Script);
    }
    if lower.starts_with("<%") {
        return Some(FileType::Script);
    }
    let Some(root) = root(lower) else {
        // Somebody who believes the declaration reads it as XML, so it is looked at as such.
        return (lower.starts_with("<?xml") || lower.starts_with("<!")).then_some(FileType::Xml);
    };
    Some(match root {
        "svg" => FileType::Svg,
        "html" => FileType::Html,
        "job" | "package" | "component" | "scriptlet" | "registration" if lower.contains("<script") => {
            FileType::Script
        }
        "jnlp"
        | "assembly"
        | "application"
        | "project"
        | "unattend"
        | "librarydescription"
        | "persistedquery"
        | "searchconnectordescription"
        | "mmc_consolefile"
        | "powershellmetadata"
        | "pcsettings" => FileType::Script,
        _ if HTML.iter().any(|tag| lower.starts_with(tag)) => FileType::Html,
        _ => FileType::Xml,
    })
}

/// The local name of the first element, past declarations, comments and the document type.
fn root(lower: &str) -> Option<&str> {
    let mut rest = lower;
    loop {
        rest = rest.trim_start();
        let end = if rest.starts_with("<!--") {
            rest.find("-->")? + 3
        } else if rest.starts_with("<?") {
            rest.find("?>")? + 2
        } else if rest.starts_with("<!doctype html") {
            return Some("html");
        } else if rest.starts_with("<!doctype svg") {
            return Some("svg");
        } else if rest.starts_with("<!") {
            declaration_end(rest)?
        } else {
            let name = rest
                .strip_prefix('<')?
                .split(|letter: char| letter.is_whitespace() || "/>".contains(letter))
                .next()?;
            return name.rsplit(':').next();
        };
        rest = rest.get(end..)?;
    }
}

/// The end of a declaration; what stands in brackets within it does not end it.
fn declaration_end(rest: &str) -> Option<usize> {
    let end = rest.find('>')?;
    match rest.find('[') {
        Some(open) if open < end => rest.find("]>").map(|close| close + 2),
        _ => Some(end + 1),
    }
}

/// What of it a web server would run.
pub(super) fn server_page(bytes: &[u8]) -> Option<&'static str> {
    find_any_case(bytes, SERVER)
}

/// Examines HTML or SVG the way browsers read them: tag by tag, whatever else is wrong.
pub(super) fn examine(case: &mut Case<'_>, part: Part<'_>, found: FileType) {
    let Some(text) = super::decode(part.bytes) else { return };
    if found == FileType::Svg {
        svg_doctype(case, &text, part.at);
    }
    for tag in tags(&text) {
        if case.step(1, part.at).is_err() {
            return;
        }
        check_tag(case, tag, found, part.at);
    }
}

/// Everything from `<` and a letter to the next `>` outside of quotes, or to the end.
fn tags(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('<').filter_map(|(at, _)| {
        let rest = text.get(at + 1..)?;
        rest.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '?').then_some(())?;
        let mut quote = None;
        let end = rest.char_indices().take(1 << 16).find(|(_, letter)| match (quote, letter) {
            (None, '"' | '\'') => {
                quote = Some(*letter);
                false
            }
            (Some(open), letter) if open == *letter => {
                quote = None;
                false
            }
            (None, '>') => true,
            _ => false,
        });
        // An unclosed quote ends nowhere: then the next bracket does.
        let end = end.map(|(end, _)| end).or_else(|| rest.find('>')).unwrap_or(rest.len());
        rest.get(..end)
    })
}

fn check_tag(case: &mut Case<'_>, tag: &str, found: FileType, at: &str) {
    let lower = unescape(&tag.to_ascii_lowercase());
    let name = lower
        .split(|letter: char| letter.is_whitespace() || letter == '/' || letter == '>')
        .next()
        .unwrap_or_default();
    let local = name.rsplit(':').next().unwrap_or(name);
    if local == "script" {
        case.find(FindingId::MarkupScript, at, format!("<{}>", crate_short(tag)));
    }
    if EMBEDS.contains(&local) && !(local == "form" && found == FileType::Svg) {
        case.find(FindingId::MarkupEmbed, at, format!("<{}>", crate_short(tag)));
    }
    let fetches = |word: &str| lower.contains(word);
    if local == "meta" && fetches("http-equiv") && fetches("refresh") {
        case.find(FindingId::MarkupEmbed, at, "a page that leads elsewhere by itself");
    }
    if local == "link" && (fetches("import") || fetches("preload") || fetches("prefetch")) {
        case.find(FindingId::MarkupEmbed, at, "a page that is brought in");
    }
    if found == FileType::Svg
        && matches!(local, "use" | "image" | "feimage" | "set" | "animate")
        && leads_out(&lower)
    {
        case.find(FindingId::MarkupEmbed, at, format!("<{}>", crate_short(tag)));
    }
    if name.starts_with("?xml-stylesheet") {
        case.find(FindingId::MarkupStylesheet, at, "a style sheet of its own");
    }
    let tight: String =
        lower.chars().filter(|letter| !letter.is_whitespace() && !letter.is_control()).collect();
    if ["javascript:", "vbscript:", "data:text/html", "data:image/svg", "data:application/x", "livescript:"]
        .iter()
        .any(|scheme| tight.contains(scheme))
    {
        case.find(FindingId::MarkupScript, at, "an address that is a script");
    }
    if has_handler(&lower) {
        case.find(FindingId::MarkupEvent, at, format!("<{}>", crate_short(tag)));
    }
}

fn leads_out(lower: &str) -> bool {
    lower.contains("href=")
        && [
            "href=\"http",
            "href='http",
            "href=\"//",
            "href='//",
            "href=\"file",
            "href='file",
            "href=http",
            "attributename=\"href",
            "attributename=\"xlink:href",
            "attributename=\"on",
        ]
        .iter()
        .any(|word| lower.contains(word))
        || lower.contains("attributename=\"href")
        || lower.contains("attributename=\"on")
        || lower.contains("attributename=\"xlink:href")
}

/// An attribute whose name begins with `on`.
fn has_handler(lower: &str) -> bool {
    lower.match_indices("on").any(|(at, _)| {
        let before = lower.get(..at).and_then(|text| text.chars().next_back());
        let rest = lower.get(at..).unwrap_or_default();
        let len = rest.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let after = rest.get(len..).unwrap_or_default().trim_start();
        before.is_some_and(|letter| letter.is_whitespace() || "/\"'".contains(letter))
            && len > 3
            && after.starts_with('=')
            && !inside_quotes(lower, at)
    })
}

fn inside_quotes(text: &str, at: usize) -> bool {
    let mut open = None;
    for letter in text.get(..at).unwrap_or_default().chars() {
        match (open, letter) {
            (None, '"' | '\'') => open = Some(letter),
            (Some(quote), letter) if quote == letter => open = None,
            _ => {}
        }
    }
    open.is_some()
}

/// Numeric references hide a scheme from who looks for its letters.
fn unescape(text: &str) -> String {
    quick_xml::escape::unescape_with(text, |name| match name {
        "tab" | "newline" => Some(" "),
        "colon" => Some(":"),
        _ => quick_xml::escape::resolve_predefined_entity(name).or(Some("")),
    })
    .map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}

fn crate_short(tag: &str) -> String {
    tag.chars().take(80).collect()
}

fn svg_doctype(case: &mut Case<'_>, text: &str, at: &str) {
    if find_any_case(text.as_bytes(), &["<!entity", "<!attlist"]).is_some() {
        case.find(FindingId::XmlDoctype, at, "a document type with entities");
    }
}

/// What an XML file turns out to be.
#[derive(Default)]
struct Flat {
    office: bool,
    part: String,
    data: String,
    in_data: bool,
    html: bool,
}

/// Examines XML; an Office document in one file is examined as what it is.
pub(super) fn xml(case: &mut Case<'_>, part: Part<'_>) -> FileType {
    let mut flat = Flat::default();
    let mut watch = Watch::new();
    let done = xml::walk(case, part.bytes, Form::Public, part.at, &mut |case, node| {
        watch.node(case, node, part.at);
        flat.node(case, node, part)
    });
    if done.is_err() {
        case.malformed(part.at, "the XML was not read to its end");
    }
    if flat.html {
        examine(case, part, FileType::Html);
    }
    if flat.office { FileType::FlatOffice } else { FileType::Xml }
}

impl Flat {
    fn node(&mut self, case: &mut Case<'_>, node: &Node<'_>, part: Part<'_>) -> Result<(), Halt> {
        match node {
            Node::Open(element) => {
                let prefix = element.prefix();
                match (prefix.as_str(), element.local()) {
                    ("pkg", "package")
                    | ("w", "wordDocument")
                    | ("ss" | "", "Workbook")
                    | ("office", "document") => {
                        self.office = true;
                    }
                    ("pkg", "part") => {
                        self.part = element.attribute("name").unwrap_or_default();
                        self.telling(case, part);
                    }
                    ("pkg", "binaryData")
                    | ("w", "binData" | "docOleData" | "docSuppData")
                    | ("office", "binary-data") => {
                        self.in_data = true;
                        self.data.clear();
                        if let Some(name) = element.attribute("name") {
                            self.part = name;
                        }
                    }
                    (_, "Relationship") => {
                        let value = |name: &str| element.attribute(name).unwrap_or_default();
                        let external = value("TargetMode").eq_ignore_ascii_case("external");
                        crate::ooxml::relationship(case, &value("Type"), &value("Target"), external, part.at);
                    }
                    (_, "html") => self.html = true,
                    ("xsl", "stylesheet" | "transform") => {
                        case.find(FindingId::MarkupStylesheet, part.at, "a transformation");
                    }
                    ("draw", "object" | "object-ole" | "plugin" | "applet") if self.office => {
                        case.find(FindingId::OleObject, part.at, "an object");
                    }
                    ("script", _) | ("office", "script") if self.office => {
                        case.find(FindingId::OdfMacro, part.at, "a macro or an event");
                    }
                    _ => {}
                }
            }
            Node::Text(text) if self.in_data => self.data.push_str(text),
            Node::Close("binaryData" | "binData" | "docOleData" | "docSuppData" | "binary-data")
                if self.in_data =>
            {
                self.in_data = false;
                self.check_data(case, part)?;
            }
            Node::Instruction(target, content) => self.instruction(case, target, content, part),
            _ => {}
        }
        Ok(())
    }

    fn instruction(&mut self, case: &mut Case<'_>, target: &str, content: &str, part: Part<'_>) {
        if target == "mso-application" {
            self.office = true;
        }
        if target == "xml-stylesheet" || target == "mso-infoPathSolution" || target == "php" {
            case.find(FindingId::MarkupStylesheet, part.at, format!("{target} {content}"));
        }
    }

    fn telling(&self, case: &mut Case<'_>, part: Part<'_>) {
        crate::ooxml::telling(case, &self.part.to_ascii_lowercase(), &part.within(&self.part));
    }

    /// Binary parts are pictures; OLE2 files, ActiveMime and programs are not.
    fn check_data(&mut self, case: &mut Case<'_>, part: Part<'_>) -> Result<(), Halt> {
        let tight: String = self.data.chars().filter(|letter| !letter.is_whitespace()).collect();
        let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(tight) else { return Ok(()) };
        let at = part.within(&self.part);
        case.inflated(bytes.len() as u64, bytes.len() as u64, &at)?;
        if bytes.starts_with(b"ActiveMime") {
            case.find(FindingId::OleObject, &at, "ActiveMime");
        }
        crate::ooxml::binary(case, &self.part, &bytes, &at);
        Ok(())
    }
}
