//! The table of roles in docs/ARCHITECTURE.md, read by the names of its columns.
use std::collections::{BTreeMap, BTreeSet};

const DOCUMENT: &str = include_str!("../../../../docs/ARCHITECTURE.md");
const SECTION: &str = "## Processes";
const FIRST_COLUMN: &str = "role";
const NONE: &str = "none";
/// What stands before the descriptors that are not always there.
const AT_TIMES: &str = "; at times ";

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) unit: String,
    pub(crate) user: String,
    pub(crate) capabilities: BTreeSet<String>,
    pub(crate) seccomp: Seccomp,
    pub(crate) descriptors: Descriptors,
}

/// The cell that says which system calls are left.
#[derive(Debug, Default)]
pub(crate) struct Seccomp {
    /// Calls and groups as in `SystemCallFilter=`.
    pub(crate) calls: Vec<String>,
    /// Socket families as in `RestrictAddressFamilies=`.
    pub(crate) families: BTreeSet<String>,
    /// Whether the process adds filters of its own.
    pub(crate) own: bool,
}

impl Seccomp {
    /// How many filters the unit makes of it: one for the calls, one for the families.
    pub(crate) fn filters_of_unit(&self) -> usize {
        usize::from(!self.calls.is_empty()) + usize::from(!self.families.is_empty())
    }
}

/// The cell that says what is open besides standard input, output and error.
#[derive(Debug)]
pub(crate) struct Descriptors {
    pub(crate) always: BTreeSet<String>,
    pub(crate) at_times: BTreeSet<String>,
}

/// Reads the rows, by role.
pub(crate) fn documented() -> BTreeMap<String, Row> {
    let section = DOCUMENT.split(SECTION).nth(1).unwrap();
    let mut lines = section.lines().filter(|line| line.starts_with('|'));
    let header = cells(lines.next().unwrap());
    assert_eq!(header[0], FIRST_COLUMN);
    let rows = lines.skip(1).map(|line| {
        let cells: BTreeMap<_, _> = header.iter().copied().zip(cells(line)).collect();
        (cells[FIRST_COLUMN].to_owned(), row(&cells))
    });
    rows.collect()
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

fn row(cells: &BTreeMap<&str, &str>) -> Row {
    let capabilities = cells["capabilities"].split(", ").filter(|word| *word != NONE);
    let (always, at_times) =
        cells["open descriptors"].split_once(AT_TIMES).unwrap_or((cells["open descriptors"], ""));
    let user = quoted(cells["user"]).into_iter().next().unwrap();
    Row {
        unit: quoted(cells["unit"]).into_iter().next().unwrap(),
        user,
        capabilities: capabilities.map(str::to_owned).collect(),
        seccomp: seccomp(cells["seccomp"]),
        descriptors: Descriptors {
            always: quoted(always).into_iter().collect(),
            at_times: quoted(at_times).into_iter().collect(),
        },
    }
}

fn seccomp(cell: &str) -> Seccomp {
    let mut seccomp = Seccomp::default();
    for part in cell.split("; ") {
        let words = || quoted(part).concat().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        match part.split([':', ' ']).next().unwrap() {
            "calls" => seccomp.calls = words(),
            "sockets" => seccomp.families = words().into_iter().collect(),
            "own" => seccomp.own = true,
            other => panic!("`{other}` in the cell `{cell}`"),
        }
    }
    seccomp
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
