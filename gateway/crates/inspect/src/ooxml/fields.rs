//! Field instructions of Word, in OOXML, RTF and the binary format alike (ECMA-376 part 1, section 17.16).

use crate::FindingId;
use crate::case::Case;

/// Fields that fetch, start or embed something.
const ACTIVE: &[&str] = &[
    "includetext",
    "includepicture",
    "include",
    "import",
    "link",
    "database",
    "macrobutton",
    "rd",
    "print",
    "htmlactivex",
    "addin",
    "mergerec-source",
];

/// Notes an instruction that does something by itself.
pub(crate) fn check(case: &mut Case<'_>, instruction: &str, at: &str) {
    let mut words = instruction.split_whitespace();
    let Some(keyword) = words.next() else { return };
    let keyword = keyword.trim_start_matches(['"', '=']).to_ascii_lowercase();
    let id = match keyword.as_str() {
        "dde" | "ddeauto" => FindingId::Dde,
        "control" => FindingId::Activex,
        "quote" if spells_letters(words.clone()) => FindingId::ActiveField,
        keyword if keyword.starts_with("ddeauto") => FindingId::Dde,
        keyword if ACTIVE.contains(&keyword) => FindingId::ActiveField,
        _ => return,
    };
    case.find(id, at, format!("field `{}`", instruction.trim()));
}

/// `QUOTE 68 68 69` spells letters by their numbers, to hide an instruction from those who look for words.
fn spells_letters<'a>(words: impl Iterator<Item = &'a str>) -> bool {
    words.take(2).filter(|word| word.parse::<u16>().is_ok()).count() == 2
}
