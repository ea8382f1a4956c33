//! Tables as text: cells that a spreadsheet would compute (RFC 4180; OWASP, CSV injection).

use crate::FindingId;
use crate::case::Case;
use crate::examine::Part;
use crate::ooxml::is_dde;

/// Most lines by which a table is told.
const LINES: usize = 50;

/// True for a table, by its name or by lines of equally many cells.
pub(super) fn is_table(text: &str, name: Option<&str>) -> bool {
    let ending = name.and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending.to_ascii_lowercase());
    if matches!(ending.as_deref(), Some("csv" | "tsv" | "tab" | "slk" | "dif")) {
        return true;
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(LINES).collect();
    lines.len() >= 2
        && [',', '\t', ';'].iter().any(|delimiter| {
            let cells = |line: &&str| line.matches(*delimiter).count();
            let first = lines.first().map_or(0, cells);
            first > 0 && lines.iter().all(|line| cells(line) == first)
        })
}

/// Notes cells that a spreadsheet would compute; in plain text only those that fetch or start something.
pub(super) fn examine(case: &mut Case<'_>, part: Part<'_>, table: bool) {
    let Some(text) = super::decode(part.bytes) else { return };
    for (number, line) in text.lines().enumerate() {
        if case.step(1, part.at).is_err() {
            return;
        }
        let mut cells = line.split([',', '\t', ';', '|']);
        let active = if table { line.split([',', '\t', ';']).any(is_formula) } else { cells.any(calls) };
        if active || (begins(line) && is_dde(line.trim_start_matches(['"', '\'', ' ']))) {
            let at = part.within(&format!("line {}", number + 1));
            case.find(FindingId::CsvFormula, &at, line.trim());
            return;
        }
    }
}

fn bare(cell: &str) -> &str {
    cell.trim_start_matches([' ', '"', '\'', '\u{feff}', '\t', '\r']).trim_end_matches([' ', '"', '\''])
}

fn begins(line: &str) -> bool {
    bare(line).starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
}

/// A cell that begins with `=`, `+`, `-` or `@` and is more than a number or a dash.
fn is_formula(cell: &str) -> bool {
    let cell = bare(cell);
    let mut letters = cell.chars();
    let Some(first) = letters.next() else { return false };
    let rest = letters.as_str();
    match first {
        '=' | '＝' => {
            rest.starts_with(|letter: char| letter.is_alphanumeric() || "+-@('\"$_".contains(letter))
        }
        '+' | '-' | '＋' | '－' => {
            rest.contains(['(', '!', '|']) && !rest.starts_with(' ') && rest.parse::<f64>().is_err()
        }
        '@' | '＠' => rest.contains('('),
        _ => false,
    }
}

/// A cell of plain text that would fetch or start something if it were pasted.
fn calls(cell: &str) -> bool {
    let lower = bare(cell).to_ascii_lowercase();
    lower.starts_with(['=', '+', '@'])
        && [
            "hyperlink(",
            "webservice(",
            "importxml(",
            "importdata(",
            "dde(",
            "cmd|",
            "exec(",
            "call(",
            "register(",
        ]
        .iter()
        .any(|word| lower.contains(word))
}
