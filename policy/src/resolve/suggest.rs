//! "Did you mean ..": the known word nearest to a mistyped one.

/// Longest word for which a near one is looked for, in bytes: the search costs the product of the lengths.
const WORD_BYTES_MAX: usize = 256;
/// Most known words that are compared.
const KNOWN_MAX: usize = 4_096;
/// How alike two words must be, 0 to 1 (Jaro-Winkler), or one contains the other.
const ALIKE: f64 = 0.78;

/// The known word most like this one, if any is alike.
pub(crate) fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > WORD_BYTES_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let alike = |known: &'a str| (strsim::jaro_winkler(&lower, &known.to_lowercase()), known);
    let scored = known.take(KNOWN_MAX).filter(|known| known.len() <= WORD_BYTES_MAX).map(alike);
    let best = scored.fold(None, |best: Option<(f64, &str)>, next| match best {
        Some(best) if best.0 >= next.0 => Some(best),
        _ => Some(next),
    });
    best.filter(|(score, _)| *score >= ALIKE).map(|(_, known)| known)
}
