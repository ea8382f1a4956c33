//! From byte offsets to lines and columns, in time that hostile input (one line of many megabytes) cannot stretch.

use super::{Sources, Spot};
use crate::model::Place;

/// Characters are counted up to every such byte once, so that a column costs at most this many bytes.
const STEP: usize = 1024;

/// Lines and characters of every source.
#[derive(Clone, Debug, Default)]
pub struct Index {
    files: Vec<Lines>,
}

#[derive(Clone, Debug)]
struct Lines {
    text: String,
    /// Offset of each line's first byte.
    starts: Vec<usize>,
    /// Characters before each multiple of [`STEP`].
    characters: Vec<usize>,
}

impl Index {
    /// Indexes every source.
    #[must_use]
    pub fn new(sources: &Sources) -> Self {
        let texts = (0..sources.texts.len()).map(|source| sources.get(source).map_or("", |(_, text)| text));
        Self { files: texts.map(Lines::new).collect() }
    }

    /// The place of a spot; an unknown source gives its beginning.
    #[must_use]
    pub fn place(&self, spot: Spot) -> Place {
        let length = spot.end.saturating_sub(spot.start);
        let at = Place { source: spot.source, line: 1, column: 1, offset: spot.start, length };
        let Some(lines) = self.files.get(spot.source) else { return at };
        let line = lines.starts.partition_point(|start| *start <= spot.start).max(1);
        let start = lines.starts.get(line - 1).copied().unwrap_or_default();
        let column = lines.characters_before(spot.start).saturating_sub(lines.characters_before(start)) + 1;
        Place { line, column, ..at }
    }
}

impl Lines {
    fn new(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let starts = std::iter::once(0).chain(newlines).collect();
        let mut count = 0;
        let mut characters = vec![0];
        for block in text.as_bytes().chunks(STEP) {
            count += begins(block);
            characters.push(count);
        }
        Self { text: text.to_owned(), starts, characters }
    }

    fn characters_before(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        let block = offset / STEP;
        let known = self.characters.get(block).copied().unwrap_or_default();
        known + self.text.as_bytes().get(block * STEP..offset).map_or(0, begins)
    }
}

/// Bytes that begin a character.
fn begins(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}
