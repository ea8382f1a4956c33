//! The little of YAML 1.2 that the generated files need: every text is quoted, every expression a literal block.

use std::fmt::Write as _;

/// A text in double quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A text of several lines as a literal block, indented by `indent` spaces.
pub(crate) fn block(text: &str, indent: usize) -> String {
    let mut out = "|-".to_owned();
    for line in text.lines() {
        // Writing to a text cannot fail.
        let _ = write!(out, "\n{:indent$}{line}", "");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_and_blocks_indented() {
        assert_eq!(quoted("a \"b\" \\ c\n✖"), "\"a \\\"b\\\" \\\\ c\\n✖\"");
        assert_eq!(block("a\n  b", 4), "|-\n    a\n      b");
    }
}
