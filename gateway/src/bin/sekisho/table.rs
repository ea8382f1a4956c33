//! Plain tables for terminals: columns as wide as their widest cell, Japanese letters counted as two.

/// Lays out rows under heads.
pub(crate) fn lay_out(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| width(head)).collect();
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let heads: Vec<String> = heads.iter().map(ToString::to_string).collect();
    let lines = std::iter::once(&heads).chain(rows).map(|row| line(row, &widths));
    lines.collect::<Vec<_>>().join("\n")
}

fn line(row: &[String], widths: &[usize]) -> String {
    let pad = |(cell, widest): (&String, &usize)| {
        format!("{cell}{}", " ".repeat(widest.saturating_sub(width(cell))))
    };
    row.iter().zip(widths).map(pad).collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// Columns a text takes: East Asian wide and full-width letters take two (Unicode UAX #11, its common blocks).
fn width(text: &str) -> usize {
    let wide = |c: char| {
        matches!(c, '\u{1100}'..='\u{115F}' | '\u{2E80}'..='\u{A4CF}' | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}' | '\u{FE30}'..='\u{FE6F}' | '\u{FF00}'..='\u{FF60}' | '\u{FFE0}'..='\u{FFE6}'
        | '\u{20000}'..='\u{3FFFD}')
    };
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_with_wide_letters() {
        let rows = vec![vec!["画像".to_owned(), "1".to_owned()], vec!["a".to_owned(), "2".to_owned()]];
        assert_eq!(lay_out(&["名前", "n"], &rows), "名前  n\n画像  1\na     2");
    }
}
