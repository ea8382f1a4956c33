//! The XML of Office documents, packaged or flat: elements and attributes that are active.

use super::fields;
use crate::FindingId;
use crate::bytes::find_any_case;
use crate::case::Case;
use crate::xml::{Element, Node};

/// Formula functions that fetch or start something.
const FUNCTIONS: &[&str] = &[
    "webservice(",
    "rtd(",
    "call(",
    "register(",
    "register.id(",
    "exec(",
    "dde(",
    "importdata(",
    "importxml(",
    "importhtml(",
    "importfeed(",
    "importrange(",
    "filterxml(webservice",
    "sql.request(",
];

/// Form controls of VML's client data.
const CONTROLS: &[&str] = &[
    "button", "checkbox", "dialog", "drop", "edit", "list", "movie", "radio", "scroll", "spin", "gbox",
    "label",
];

/// Longest field instruction or formula that is kept.
const TEXT_BYTES: usize = 64 * 1024;

/// What is remembered while the nodes of one part go by.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Field instructions that have begun and not ended, innermost last.
    fields: Vec<String>,
    taking: Option<Taking>,
    text: String,
}

/// Whose text is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taking {
    Instruction,
    Formula,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Looks at one node.
    pub(crate) fn node(&mut self, case: &mut Case<'_>, node: &Node<'_>, at: &str) {
        match node {
            Node::Open(element) => self.open(case, element, at),
            Node::Close(local) => self.close(case, local, at),
            Node::Text(text) => {
                let room = TEXT_BYTES.saturating_sub(self.text.len());
                if self.taking.is_some() && text.len() <= room {
                    self.text.push_str(text);
                }
            }
            Node::Instruction(target, _) => {
                if target.eq_ignore_ascii_case("xml-stylesheet") {
                    case.find(FindingId::MarkupStylesheet, at, "a style sheet that transforms the part");
                }
            }
        }
    }

    fn open(&mut self, case: &mut Case<'_>, element: &Element<'_>, at: &str) {
        match element.local() {
            "instrText" | "delInstrText" => self.take(Taking::Instruction),
            "f" | "formula" | "definedName" | "formula1" | "formula2" => self.take(Taking::Formula),
            "fldChar" => self.field_mark(case, element, at),
            "fldSimple" => {
                fields::check(case, &element.attribute("instr").unwrap_or_default(), at);
            }
            local => {
                if let Some(id) = active_element(local, &element.prefix()) {
                    case.find(id, at, format!("element `{local}`"));
                }
            }
        }
        self.attributes(case, element, at);
    }

    fn take(&mut self, taking: Taking) {
        self.taking = Some(taking);
        self.text.clear();
    }

    fn field_mark(&mut self, case: &mut Case<'_>, element: &Element<'_>, at: &str) {
        match element.attribute("fldCharType").unwrap_or_default().as_str() {
            "begin" if self.fields.len() < 64 => self.fields.push(String::new()),
            "separate" | "end" => {
                if let Some(instruction) = self.fields.pop() {
                    fields::check(case, &instruction, at);
                    if let Some(outer) = self.fields.last_mut() {
                        outer.push(' ');
                    }
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, case: &mut Case<'_>, local: &str, at: &str) {
        match (self.taking, local) {
            (Some(Taking::Instruction), "instrText" | "delInstrText") => {
                match self.fields.last_mut() {
                    Some(field) if field.len() < TEXT_BYTES => field.push_str(&self.text),
                    _ => fields::check(case, &self.text, at),
                }
                self.taking = None;
            }
            (Some(Taking::Formula), "f" | "formula" | "definedName" | "formula1" | "formula2") => {
                check_formula(case, &self.text, at);
                self.taking = None;
            }
            _ => {}
        }
    }

    fn attributes(&self, case: &mut Case<'_>, element: &Element<'_>, at: &str) {
        for (name, value) in element.attributes() {
            let lower = value.to_ascii_lowercase();
            match name.as_str() {
                "action"
                    if ["program", "macro", "ole"]
                        .iter()
                        .any(|verb| lower.starts_with(&format!("ppaction://{verb}"))) =>
                {
                    case.find(FindingId::ActionSetting, at, format!("action `{value}`"));
                }
                "macro" if !value.is_empty() => {
                    case.find(FindingId::ActionSetting, at, format!("macro `{value}`"));
                }
                "ObjectType" if CONTROLS.contains(&lower.as_str()) => {
                    case.find(FindingId::FormControl, at, format!("a control `{value}`"));
                }
                "href" | "src" if lower.starts_with("javascript:") || lower.starts_with("vbscript:") => {
                    case.find(FindingId::MarkupScript, at, format!("`{value}`"));
                }
                "xlm" if element.local() == "definedName" && value != "0" && lower != "false" => {
                    case.find(FindingId::XlmMacro, at, "a name that is a macro");
                }
                "macrosPresent" if lower == "yes" => case.find(FindingId::VbaMacro, at, "macros are present"),
                "embeddedObjPresent" | "ocxPresent" if lower == "yes" => {
                    case.find(FindingId::OleObject, at, "objects are present");
                }
                _ => {}
            }
        }
    }
}

fn active_element(local: &str, prefix: &str) -> Option<FindingId> {
    Some(match local {
        "OLEObject" | "oleObj" | "oleObject" | "oleLink" | "objectEmbed" | "objectLink" | "docOleData" => {
            FindingId::OleObject
        }
        "binData" if prefix == "w" => return None,
        "ddeLink" => FindingId::Dde,
        "control" | "ocx" | "ocxPr" => FindingId::Activex,
        "altChunk" => FindingId::AltChunk,
        "subDoc" => FindingId::ExternalPart,
        "connection" | "webPr" | "dbPr" | "olapPr" | "queryTable" | "mailMerge" => FindingId::DataConnection,
        "vbaProject" | "vbaSuppData" | "docSuppData" => FindingId::VbaMacro,
        "FmlaMacro" | "fmlaMacro" => FindingId::ActionSetting,
        "externalBook" | "SupBook" => FindingId::ExternalWorkbook,
        "customUI" => FindingId::CustomUi,
        "script" if prefix != "a" => FindingId::MarkupScript,
        "webextension" | "taskpane" => FindingId::WebExtension,
        _ => return None,
    })
}

/// Notes a formula that fetches or starts something.
pub(crate) fn check_formula(case: &mut Case<'_>, formula: &str, at: &str) {
    let tight: String = formula.chars().filter(|letter| !letter.is_whitespace()).collect();
    if find_any_case(tight.as_bytes(), FUNCTIONS).is_some_and(|word| stands_alone(&tight, word)) {
        case.find(FindingId::DataConnection, at, format!("formula `{formula}`"));
    }
    if is_dde(&tight) {
        case.find(FindingId::Dde, at, format!("formula `{formula}`"));
    }
}

/// True unless the function's name is only the end of another one's.
fn stands_alone(formula: &str, word: &str) -> bool {
    let lower = formula.to_ascii_lowercase();
    lower.match_indices(word).any(|(at, _)| {
        !lower
            .get(..at)
            .is_some_and(|before| before.ends_with(|last: char| last.is_alphanumeric() || last == '_'))
    })
}

/// `application|'topic'!item`
pub(crate) fn is_dde(formula: &str) -> bool {
    formula.split_once('|').is_some_and(|(application, rest)| {
        let name = application.trim_start_matches(['=', '+', '-', '@', '"', '\'']);
        !name.is_empty()
            && name.chars().all(|letter| letter.is_alphanumeric() || "._\\: /'".contains(letter))
            && rest.contains('!')
    })
}
