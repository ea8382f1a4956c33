//! What the reader sees: numbered sections, numbered expectations, commands as typed, aligned columns.
use std::{env, fmt, io::IsTerminal};

use unicode_width::UnicodeWidthStr;

use crate::words::Words;

/// Prints, and counts what held.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) words: Words,
    coloured: bool,
    section: usize,
    line: usize,
    held: usize,
}

/// Says which expectation did not hold; the demo ends there.
#[derive(Debug)]
pub(crate) struct Broken {
    number: String,
    what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.what)
    }
}

impl std::error::Error for Broken {}

/// How a piece of text is shown on a terminal (ECMA-48, SGR).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    Title,
    Good,
    Bad,
    Quiet,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Title => "1",
            Self::Good => "32",
            Self::Bad => "1;31",
            Self::Quiet => "2",
        }
    }
}

impl Screen {
    pub(crate) fn new(words: Words) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let coloured = std::io::stdout().is_terminal() && !refused;
        Self { words, coloured, section: 0, line: 0, held: 0 }
    }

    /// Begins the next section.
    pub(crate) fn section(&mut self, title: &str) {
        (self.section, self.line) = (self.section + 1, 0);
        println!("\n{}", self.paint(Tone::Title, &format!("{}. {title}", self.section)));
    }

    /// Begins the end.
    pub(crate) fn summary(&self, tone: Tone, text: &str) {
        println!("\n{}", self.paint(Tone::Title, &self.words.summary()));
        println!("{}", self.paint(tone, text));
    }

    /// Prints text, indented.
    pub(crate) fn say(&self, text: &str) {
        text.lines().for_each(|line| println!("   {line}"));
    }

    /// Prints text that is there to be looked up rather than read.
    pub(crate) fn quote(&self, text: &str) {
        text.lines().for_each(|line| println!("   {}", self.paint(Tone::Quiet, &format!("│ {line}"))));
    }

    /// Prints a command as the admin types it.
    pub(crate) fn command(&self, line: &str) {
        println!("   {}", self.paint(Tone::Title, &format!("$ {line}")));
    }

    /// Prints an expectation with what became of it; a broken one is an error, which ends the demo.
    pub(crate) fn expect(&mut self, holds: bool, what: &str) -> Result<(), Broken> {
        self.line += 1;
        let number = format!("{}.{}", self.section, self.line);
        let verdict = if holds {
            self.paint(Tone::Good, &format!("✔ {number} {}", self.words.held()))
        } else {
            self.paint(Tone::Bad, &format!("✖ {number} {}", self.words.broken()))
        };
        println!(" {verdict}  {what}");
        if holds {
            self.held += 1;
            return Ok(());
        }
        Err(Broken { number, what: what.to_owned() })
    }

    /// How many expectations held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        if self.coloured { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text.to_owned() }
    }
}

/// Writes arguments as they are typed.
pub(crate) fn typed(arguments: &[&str]) -> String {
    let quoted = |word: &&str| if word.contains(' ') { format!("\"{word}\"") } else { (*word).to_owned() };
    arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Fills text with spaces up to a number of terminal columns, of which a Japanese letter takes two.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(text.width())))
}

/// Lays rows out in columns as wide as their widest cell.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.width()));
    }
    let lay = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| pad(cell, *width)).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(lay).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn japanese_letters_take_two_columns() {
        let row = |one: &str, two: &str| vec![one.to_owned(), two.to_owned()];
        assert_eq!(columns(&[row("検査", "x"), row("ehr-a", "検"), row("a", "")]), "検査   x\nehr-a  検\na");
    }

    #[test]
    fn a_broken_expectation_names_its_line() {
        let mut screen = Screen::new(Words::new(Some("en")));
        screen.section("one");
        screen.section("two");
        assert!(screen.expect(true, "first").is_ok());
        let broken = screen.expect(false, "second").unwrap_err();
        assert_eq!((broken.to_string().as_str(), screen.held()), ("2.2 second", 1));
    }
}
