//! What may be a name, uniqueness, and the ASCII names used in the kernel.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::context::Context;
use crate::diagnostic::{Diagnostic, brief, visible};
use crate::model::Place;
use crate::raw::{NAME_CHARS_MAX, Named, Spot};

/// Words that mean something else.
const RESERVED: [&str; 3] = ["gateway", "any", "*"];
/// Longest ASCII name used as it is.
const SLUG_BYTES_MAX: usize = 20;

/// Checks a name; names appear in `zone:NAME`, `device:NAME:SERVICE` and tests, so they hold no space and no separator.
pub(super) fn check(context: &mut Context<'_>, name: &str, spot: Spot) -> bool {
    let reserved = RESERVED.contains(&name) || name.starts_with('@');
    let separator =
        |c: char| c.is_whitespace() || matches!(c, ':' | ',' | '+' | '*' | '`' | '"' | '\'' | '\\');
    // A mark that is typed apart from its letter looks the same as the letter with its mark.
    let combining = |c: char| matches!(c, '\u{0300}'..='\u{036F}' | '\u{3099}' | '\u{309A}');
    let (en, ja) = if name.is_empty() {
        ("is empty", "が空です")
    } else if name.chars().nth(NAME_CHARS_MAX).is_some() {
        ("is longer than 64 characters", "が64文字を超えています")
    } else if reserved {
        ("is reserved", "は予約されています")
    } else if name.contains("->") || name.contains(separator) {
        ("contains a space or one of : , + * \\ or a quote", "に空白か : , + * \\ 引用符が含まれています")
    } else if visible(name) != name || name.contains(combining) {
        ("contains a character that cannot be seen", "に目に見えない文字が含まれています")
    } else {
        return true;
    };
    let code = if reserved { "reserved-name" } else { "bad-name" };
    let name = brief(name);
    let found = Diagnostic::error(code, format!("the name `{name}` {en}"), format!("名前 `{name}` {ja}"))
        .label(context.place(spot), "choose another name", "別の名前にしてください")
        .help(
            "use letters, digits, `-`, `_` and `.`, in any script",
            "文字・数字・`-`・`_`・`.` を使ってください (日本語も使えます)",
        );
    context.error(found);
    false
}

/// Remembers where names were first written, and reports the second time.
#[derive(Default)]
pub(super) struct Seen(BTreeMap<String, Place>);

impl Seen {
    /// Whether the name is new.
    pub(super) fn first(&mut self, context: &mut Context<'_>, name: &str, place: Place) -> bool {
        match self.0.get(name) {
            None => {
                self.0.insert(name.to_owned(), place);
                true
            }
            Some(first) => {
                let shown = brief(name);
                let words = (
                    format!("the name `{shown}` is used twice"),
                    format!("名前 `{shown}` が2回使われています"),
                );
                context.twice("duplicate-name", words, *first, place);
                false
            }
        }
    }
}

/// Checks the names of a section and returns them.
pub(super) fn keys<T>(context: &mut Context<'_>, items: &[Named<T>]) -> BTreeSet<String> {
    let mut seen = Seen::default();
    let mut names = BTreeSet::new();
    for item in items {
        let place = context.place(item.here());
        if check(context, &item.name.value, item.here()) && seen.first(context, &item.name.value, place) {
            names.insert(item.name.value.clone());
        }
    }
    names
}

/// ASCII names for zones, in the same order: the name itself where it is plain and unlike the others, else a digest.
pub(super) fn slugs(names: &[&str]) -> Vec<String> {
    let plain: Vec<Option<String>> = names.iter().map(|name| plain(name)).collect();
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    plain.iter().flatten().for_each(|slug| *uses.entry(slug).or_default() += 1);
    let mut taken: BTreeSet<String> =
        uses.iter().filter(|(_, n)| **n == 1).map(|(slug, _)| (*slug).to_owned()).collect();
    let mut slugs = Vec::with_capacity(names.len());
    for (name, plain) in names.iter().zip(&plain) {
        match plain {
            Some(plain) if uses.get(plain.as_str()) == Some(&1) => slugs.push(plain.clone()),
            _ => {
                let slug = digest(name, &taken);
                taken.insert(slug.clone());
                slugs.push(slug);
            }
        }
    }
    slugs
}

fn plain(name: &str) -> Option<String> {
    let ok = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (name.len() <= SLUG_BYTES_MAX && name.bytes().all(ok)).then(|| name.replace('-', "_"))
}

/// `z` and eight hexadecimal digits of the name's SHA-256; more digits should two names share them.
fn digest(name: &str, taken: &BTreeSet<String>) -> String {
    let hex = super::hex(&Sha256::digest(name.as_bytes()));
    let cut = |digits: usize| format!("z{}", hex.get(..digits).unwrap_or(&hex));
    [8, 12, 16].into_iter().map(cut).find(|slug| !taken.contains(slug)).unwrap_or_else(|| cut(64))
}
