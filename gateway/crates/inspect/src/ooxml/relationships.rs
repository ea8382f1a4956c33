//! Relationships (ECMA-376 part 2, section 9.3): by what a document reaches out or brings along.

use crate::FindingId;
use crate::case::{Case, Halt};
use crate::xml::{self, Form, Node};

/// Kinds of relationships that are active wherever they lead, by the last word of the type.
const ACTIVE: &[(&str, FindingId)] = &[
    ("vbaproject", FindingId::VbaMacro),
    ("vbaprojectsignature", FindingId::VbaMacro),
    ("wordvbadata", FindingId::VbaMacro),
    ("xlmacrosheet", FindingId::XlmMacro),
    ("xlintlmacrosheet", FindingId::XlmMacro),
    ("dialogsheet", FindingId::XlmMacro),
    ("oleobject", FindingId::OleObject),
    ("package", FindingId::EmbeddedFile),
    ("control", FindingId::Activex),
    ("activexcontrol", FindingId::Activex),
    ("activexcontrolbinary", FindingId::Activex),
    ("ctrlprop", FindingId::FormControl),
    ("afchunk", FindingId::AltChunk),
    ("connections", FindingId::DataConnection),
    ("querytable", FindingId::DataConnection),
    ("mailmergesource", FindingId::DataConnection),
    ("mailmergeheadersource", FindingId::DataConnection),
    ("recipientdata", FindingId::DataConnection),
    ("externallink", FindingId::ExternalWorkbook),
    ("externallinkpath", FindingId::ExternalWorkbook),
    ("extensibility", FindingId::CustomUi),
    ("usercustomization", FindingId::CustomUi),
    ("customui", FindingId::CustomUi),
    ("attachedtoolbars", FindingId::CustomUi),
    ("keymapcustomizations", FindingId::CustomUi),
    ("webextension", FindingId::WebExtension),
    ("webextensiontaskpanes", FindingId::WebExtension),
    ("subdocument", FindingId::ExternalPart),
    ("frame", FindingId::ExternalPart),
];

/// Schemes of hyperlinks that a person may follow; others start something.
const FOLLOWED: &[&str] = &["http", "https", "mailto", "ftp", "file", "tel", "news"];

/// Notes what the relationships of a part bring in.
pub(super) fn check(case: &mut Case<'_>, bytes: &[u8], at: &str) -> Result<(), Halt> {
    xml::walk(case, bytes, Form::Strict, at, &mut |case, node| {
        let Node::Open(element) = node else { return Ok(()) };
        if element.local() == "Relationship" {
            let value = |name: &str| element.attribute(name).unwrap_or_default();
            one(
                case,
                &value("Type"),
                &value("Target"),
                value("TargetMode").eq_ignore_ascii_case("external"),
                at,
            );
        }
        Ok(())
    })
}

/// Notes what one relationship brings in.
pub(crate) fn one(case: &mut Case<'_>, kind: &str, target: &str, external: bool, at: &str) {
    let kind = kind.rsplit('/').next().unwrap_or(kind).to_ascii_lowercase();
    if let Some((_, id)) = ACTIVE.iter().find(|(word, _)| *word == kind) {
        case.find(*id, at, format!("{kind} to `{target}`"));
    }
    if !external && !leaves(target) {
        return;
    }
    match kind.as_str() {
        "hyperlink" => hyperlink(case, target, at),
        "attachedtemplate" => case.find(FindingId::ExternalTemplate, at, format!("template `{target}`")),
        "oleobject" | "externallinkpath" => {}
        _ => case.find(FindingId::ExternalPart, at, format!("{kind} from `{target}`")),
    }
}

/// A target that is no part of the package, whatever the mode says.
fn leaves(target: &str) -> bool {
    target.contains("://") || target.starts_with("\\\\") || target.starts_with("//")
}

fn hyperlink(case: &mut Case<'_>, target: &str, at: &str) {
    let Some((scheme, _)) = target.split_once(':') else { return };
    let is_scheme = scheme.len() > 1
        && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
    if is_scheme && !FOLLOWED.contains(&scheme.to_ascii_lowercase().as_str()) {
        case.find(FindingId::ActionSetting, at, format!("a hyperlink to `{target}`"));
    }
}
