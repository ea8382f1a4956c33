//! Words that may not stand in our code, and the one crate where `unsafe` may, with its reason.

use proc_macro2::{Delimiter, TokenTree};

use super::tokens::{group, is_ident, is_punct, line_of, parse, walk};
use super::tree::{self, Complaint, SourceFile};

const UNSAFE_ALLOWED: &str = "gateway/crates/netfilter/";

/// How far above an unsafe block its reason may begin.
const SAFETY_REACH_LINES: usize = 30;

/// Complains of unfinished code, of tests that are switched off, and of lints that are switched off.
fn banned_words(files: &[SourceFile]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in files {
        let Some(stream) = parse(file) else { continue };
        walk(stream, &mut |trees| {
            for index in 0..trees.len() {
                let rest = trees.get(index..).unwrap_or_default();
                if let Some(message) = unfinished(rest).or_else(|| switched_off(rest)) {
                    complaints.push(Complaint::new(&file.path, rest.first().map_or(1, line_of), message));
                }
            }
        });
    }
    complaints
}

fn unfinished(trees: &[TokenTree]) -> Option<&'static str> {
    let [name, sign, ..] = trees else { return None };
    let is_stub = is_ident(name, "todo") || is_ident(name, "unimplemented");
    (is_stub && is_punct(sign, '!')).then_some("a stub; write the code, or leave the item out until then")
}

fn switched_off(trees: &[TokenTree]) -> Option<&'static str> {
    let inside: Vec<TokenTree> = attribute(trees)?.stream().into_iter().collect();
    if attribute_uses(&inside, "ignore") {
        return Some("an ignored test proves nothing; delete it, or let SEKISHO_LONG decide its size");
    }
    let allows = attribute_uses(&inside, "allow");
    allows
        .then_some("use #[expect(lint, reason = \"..\")]: it says why, and goes when it is no longer needed")
}

/// The brackets of an attribute that starts here.
fn attribute(trees: &[TokenTree]) -> Option<&proc_macro2::Group> {
    let (first, rest) = trees.split_first()?;
    let rest = if is_punct(rest.first()?, '!') { rest.get(1..)? } else { rest };
    if is_punct(first, '#') { group(rest.first()?, Delimiter::Bracket) } else { None }
}

/// Says whether an attribute is `name`, or applies it on a condition.
fn attribute_uses(inside: &[TokenTree], name: &str) -> bool {
    let Some(first) = inside.first() else { return false };
    let conditional = || {
        let arguments = inside.get(1).and_then(|tree| group(tree, Delimiter::Parenthesis));
        arguments.is_some_and(|group| group.stream().into_iter().any(|tree| is_ident(&tree, name)))
    };
    is_ident(first, name) || (is_ident(first, "cfg_attr") && conditional())
}

/// Complains of `unsafe` outside its crate, and inside it where no reason is given.
fn unsafe_code(files: &[SourceFile]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in files {
        let Some(stream) = parse(file) else { continue };
        walk(stream, &mut |trees| {
            for (index, tree) in trees.iter().enumerate() {
                let rest = trees.get(index + 1..).unwrap_or_default();
                if is_ident(tree, "unsafe")
                    && let Some(message) = unsafe_here(file, line_of(tree), rest)
                {
                    complaints.push(Complaint::new(&file.path, line_of(tree), message));
                }
            }
        });
    }
    complaints
}

fn unsafe_here(file: &SourceFile, line: usize, rest: &[TokenTree]) -> Option<String> {
    if !file.path.starts_with(UNSAFE_ALLOWED) {
        return Some(format!("`unsafe` is allowed in {UNSAFE_ALLOWED} only; add a safe function there"));
    }
    let needs_reason = !is_function_type(rest) && !has_reason(&file.text, line);
    needs_reason.then(|| "`unsafe` without a reason; put `// SAFETY: ..` right above it".into())
}

/// `unsafe extern "C" fn(..)` is a type, and `#[unsafe(..)]` an attribute: nothing is promised there.
fn is_function_type(rest: &[TokenTree]) -> bool {
    let mut after = rest.iter().skip_while(|tree| {
        is_ident(tree, "extern") || matches!(tree, TokenTree::Literal(_)) || is_ident(tree, "fn")
    });
    after.next().is_some_and(|tree| group(tree, Delimiter::Parenthesis).is_some())
}

/// Looks for the reason on the line itself and in the comments above the statement it belongs to.
fn has_reason(text: &str, line: usize) -> bool {
    let is_reason = |text: &str| text.contains("SAFETY:") || text.contains("# Safety");
    let lines: Vec<&str> = text.lines().take(line).map(str::trim).collect();
    let Some((own, above)) = lines.split_last() else { return false };
    let is_comment = |text: &str| text.starts_with("//") || text.starts_with("#[");
    let ends_statement =
        |text: &str| !is_comment(text) && (text.is_empty() || text.ends_with([';', '}', '{', ',']));
    let mut reachable =
        above.iter().rev().take(SAFETY_REACH_LINES).take_while(|&&text| !ends_statement(text));
    own.split_once("//").is_some_and(|(_, comment)| is_reason(comment))
        || reachable.any(|&text| is_comment(text) && is_reason(text))
}

#[test]
fn no_stub_no_ignored_test_no_silenced_lint() -> anyhow::Result<()> {
    tree::hold(&banned_words(&tree::rust_files()?));
    Ok(())
}

#[test]
fn unsafe_stays_in_one_crate_with_reasons() -> anyhow::Result<()> {
    tree::hold(&unsafe_code(&tree::rust_files()?));
    Ok(())
}

#[test]
fn planted_words_are_caught() {
    let text = "#![allow(dead_code)]\n\
                // todo!() and #[ignore] in a comment, allow(x) in \"a string\"\n\
                #[test]\n\
                #[ignore = \"slow\"]\n\
                fn f() { todo!() }\n\
                #[cfg_attr(debug_assertions, allow(unused))]\n\
                fn g(allow: bool) { m!(unimplemented!(\"later\")); }\n\
                #[arg(allow_hyphen_values = true)] struct Args; const S: &str = \"todo!()\";\n";
    let mut complaints = banned_words(&[SourceFile::planted("a.rs", text)]);
    complaints.sort();
    tree::caught(&complaints, &[("a.rs", 1), ("a.rs", 4), ("a.rs", 5), ("a.rs", 6), ("a.rs", 7)]);
}

#[test]
fn planted_unsafe_is_caught() {
    let text = "fn f() {\n    // SAFETY: the pointer is ours.\n    unsafe { g() }\n}\n\
                fn h() {\n    unsafe { g() }\n}\n\
                type Callback = unsafe extern \"C\" fn(u8);\n\
                /// # Safety\n/// The caller holds the lock.\nunsafe fn i() {}\n\
                unsafe impl Send for S {}\n\
                fn k() {\n    // SAFETY: as above.\n    let a =\n        unsafe { g() };\n    let b = unsafe { g() };\n}\n";
    let inside = SourceFile::planted("gateway/crates/netfilter/src/a.rs", text);
    let outside = SourceFile::planted("policy/src/a.rs", "m! {\n unsafe { } // SAFETY: none\n}\n");
    let mut complaints = unsafe_code(&[inside, outside]);
    complaints.sort();
    let path = "gateway/crates/netfilter/src/a.rs";
    tree::caught(&complaints, &[(path, 6), (path, 12), (path, 17), ("policy/src/a.rs", 2)]);
}
