//! Reading numbers and looking for words in bytes, never past their end.

use memchr::memmem;

/// The `len` bytes at `at`.
pub(crate) fn part(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)
}

/// True when `word` stands at `at`.
pub(crate) fn has(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    part(bytes, at, word.len()) == Some(word)
}

/// A little-endian number of two bytes.
pub(crate) fn u16_le(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(part(bytes, at, 2)?.try_into().ok()?))
}

/// A little-endian number of four bytes.
pub(crate) fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(part(bytes, at, 4)?.try_into().ok()?))
}

/// A little-endian number of four bytes, as a place.
pub(crate) fn size_le(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_le(bytes, at)?).ok()
}

/// A big-endian number of two bytes.
pub(crate) fn u16_be(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(part(bytes, at, 2)?.try_into().ok()?))
}

/// A big-endian number of four bytes, as a place.
pub(crate) fn size_be(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(part(bytes, at, 4)?.try_into().ok()?)).ok()
}

/// The first `len` bytes, or all.
pub(crate) fn head(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(..len).unwrap_or(bytes)
}

/// The last `len` bytes, or all.
pub(crate) fn tail(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(len)..).unwrap_or(bytes)
}

/// Where `word` stands first.
pub(crate) fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    memmem::find(bytes, word)
}

/// True when one of `words` (in lower case) stands anywhere, whatever the case of its letters.
pub(crate) fn find_any_case<'w>(bytes: &[u8], words: &[&'w str]) -> Option<&'w str> {
    words.iter().copied().find(|word| stands(bytes, word.as_bytes()))
}

fn stands(bytes: &[u8], word: &[u8]) -> bool {
    let Some((first, rest)) = word.split_first() else { return false };
    let follows =
        |at: usize| part(bytes, at + 1, rest.len()).is_some_and(|found| found.eq_ignore_ascii_case(rest));
    memchr::memchr2_iter(*first, first.to_ascii_uppercase(), bytes).any(follows)
}

/// True when nothing is left but white space and zeros.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace())
}

/// The text of UTF-16LE bytes, broken letters replaced.
pub(crate) fn utf16_le(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| u16_le(pair, 0));
    char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
