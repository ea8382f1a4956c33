//! Rust source as a tree of tokens: comments and strings are out of the way, and the inside of a macro
//! call is seen like any other code (a syntax tree would stop at its door).

use std::str::FromStr as _;

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

use super::tree::SourceFile;

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// Lines from `fn` to the closing brace, both counted.
    pub(crate) lines: usize,
}

/// Reads a file's tokens; `None` where it is not Rust, which the compiler says better than we could.
pub(crate) fn parse(file: &SourceFile) -> Option<TokenStream> {
    TokenStream::from_str(&file.text).ok()
}

/// Calls `see` for every run of sibling tokens, the outermost first.
pub(crate) fn walk(stream: TokenStream, see: &mut impl FnMut(&[TokenTree])) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    see(&trees);
    for tree in trees {
        if let TokenTree::Group(group) = tree {
            walk(group.stream(), see);
        }
    }
}

/// Lists the functions of a file, nested ones and those inside macro calls included.
pub(crate) fn functions(file: &SourceFile) -> Vec<Function> {
    let mut found = Vec::new();
    let Some(stream) = parse(file) else { return found };
    walk(stream, &mut |trees| {
        for (index, tree) in trees.iter().enumerate() {
            let rest = trees.get(index + 1..).unwrap_or_default();
            if is_ident(tree, "fn")
                && let Some(function) = function_after(tree, rest)
            {
                found.push(function);
            }
        }
    });
    found
}

/// A `fn` without a name is a type, and one that ends with `;` is a declaration: neither has a length.
fn function_after(keyword: &TokenTree, rest: &[TokenTree]) -> Option<Function> {
    let name = ident(rest.first()?)?.to_string();
    let body = rest.iter().take_while(|tree| !is_punct(tree, ';')).find_map(braces)?;
    let line = line_of(keyword);
    Some(Function { name, line, lines: body.span_close().end().line + 1 - line })
}

pub(crate) fn line_of(tree: &TokenTree) -> usize {
    tree.span().start().line
}

pub(crate) fn ident(tree: &TokenTree) -> Option<&Ident> {
    match tree {
        TokenTree::Ident(ident) => Some(ident),
        TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => None,
    }
}

pub(crate) fn is_ident(tree: &TokenTree, name: &str) -> bool {
    ident(tree).is_some_and(|ident| ident == name)
}

pub(crate) fn is_punct(tree: &TokenTree, sign: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == sign)
}

pub(crate) fn group(tree: &TokenTree, delimiter: Delimiter) -> Option<&Group> {
    match tree {
        TokenTree::Group(group) if group.delimiter() == delimiter => Some(group),
        TokenTree::Group(_) | TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => None,
    }
}

fn braces(tree: &TokenTree) -> Option<&Group> {
    group(tree, Delimiter::Brace)
}

#[test]
fn functions_are_found_where_they_hide() {
    let text = "trait T { fn declared(&self); }\n\
                type Pointer = fn(u8) -> u8;\n\
                macro_call! {\n    fn inside() {\n        fn nested() {}\n    }\n}\n\
                impl S { fn method<T>(\n    t: T,\n) -> [u8; 3] {\n    todo()\n} }\n\
                // fn in_a_comment() {}\n\
                const S: &str = \"fn in_a_string() {}\";\n";
    let found = functions(&SourceFile::planted("a.rs", text));
    let mut seen: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [("inside", 4, 3), ("method", 8, 5), ("nested", 5, 1)]);
}
