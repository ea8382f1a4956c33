//! Programs as text: by what only a program says, never by a word that a log may hold.

use crate::FileType;

/// Beginnings of files of settings that a desktop obeys when somebody opens them.
const SETTINGS: &[(&str, FileType)] = &[
    ("[internetshortcut", FileType::Shortcut),
    ("[{000214a0", FileType::Shortcut),
    ("[desktop entry]", FileType::Shortcut),
    ("[shell]", FileType::Shortcut),
    ("[autorun]", FileType::Shortcut),
    ("windows registry editor", FileType::Script),
    ("regedit4", FileType::Script),
    ("[version]", FileType::Installer),
    ("id;p", FileType::Script),
    ("web\r\n1", FileType::Script),
    ("web\n1", FileType::Script),
    ("[connect", FileType::Script),
    ("[.shellclassinfo]", FileType::Shortcut),
];

/// Words that only a program has, in lower case.
const SURE: &[&str] = &[
    "wscript.",
    "createobject(",
    "activexobject",
    "invoke-expression",
    "new-object system.",
    "new-object net.",
    "downloadstring(",
    "[system.convert]::frombase64string",
    "start-process ",
    "shellexecute",
    "getobject(\"winmgmts",
    "powershell -",
    "powershell.exe",
    "set-executionpolicy",
    "<?php",
    "cmd /c ",
    "cmd.exe /c",
    "eval(function",
    "fromcharcode(",
    "@echo off",
    "option explicit",
    "on error resume next",
    "sub autoopen",
    "sub document_open",
    "sub workbook_open",
    "private sub ",
    "rundll32",
    "regsvr32 ",
    "mshta ",
    "#!/usr/bin/env",
    "#!/bin/",
    "/bin/sh -c",
    "certutil -",
    "bitsadmin /",
];

/// First words of commands of cmd.exe.
const BATCH: &[&str] = &[
    "echo", "@echo", "rem", "@rem", "set", "setlocal", "endlocal", "goto", "call", "if", "for", "copy",
    "xcopy", "del", "erase", "md", "mkdir", "rd", "rmdir", "move", "ren", "start", "cd", "chdir", "pause",
    "exit", "cls", "title", "type", "net", "reg", "cscript", "wscript", "taskkill", "attrib", "ping",
    "timeout", "pushd", "popd", "@set", "@cls",
];

/// Beginnings of lines of Python, JavaScript, Ruby, Perl, shells, PowerShell, Lua and Visual Basic.
const LINES: &[&str] = &[
    "import ",
    "from ",
    "def ",
    "class ",
    "print(",
    "if __name__",
    "elif ",
    "except ",
    "async def ",
    "var ",
    "let ",
    "const ",
    "function ",
    "function(",
    "console.log(",
    "document.",
    "window.",
    "require(",
    "module.exports",
    "export ",
    "use strict",
    "'use strict'",
    "\"use strict\"",
    "my $",
    "sub ",
    "package ",
    "local ",
    "end sub",
    "end function",
    "dim ",
    "msgbox ",
    "$",
    "param(",
    "write-host",
    "get-",
    "set-",
    "require '",
    "require \"",
    "puts ",
    "fi",
    "then",
    "done",
    "esac",
    "} else",
    "};",
    "});",
    "return ",
    "alert(",
    "foreach",
    "while ",
    "for (",
    "if (",
    "while (",
    "@{",
    "throw ",
    "try {",
    "try:",
    "catch",
    "public ",
    "private ",
    "using ",
    "namespace ",
    "static ",
    "void ",
    "#include",
    "int main",
    "println",
    "fn ",
    "func ",
];

/// The type of a file of settings that a desktop obeys.
pub(super) fn of_settings(lead: &str) -> Option<FileType> {
    let lower = lead.to_ascii_lowercase();
    let found = SETTINGS.iter().find(|(start, _)| lower.starts_with(start)).map(|(_, found)| *found);
    match found {
        Some(FileType::Installer) if !lower.contains("signature") => None,
        Some(found) => Some(found),
        None => lower.contains("\n[internetshortcut]").then_some(FileType::Shortcut),
    }
}

/// True for bytes that are text and a program.
pub(crate) fn is_script(bytes: &[u8]) -> bool {
    let Some(text) = super::decode(bytes) else { return false };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    is_program(text, super::lead_of(text))
}

/// True for a program.
pub(super) fn is_program(text: &str, lead: &str) -> bool {
    if lead.starts_with("#!") || lead.starts_with("%!PS") || lead.starts_with("<?php") {
        return true;
    }
    if lead.starts_with('<')
        || lead.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    {
        return false;
    }
    let lower = lead.to_ascii_lowercase();
    begins_sure(&lower) || is_batch(&lower) || is_code(&lower)
}

/// A sure word at the beginning of a line, or after what assigns or calls it.
fn begins_sure(lower: &str) -> bool {
    lower.lines().any(|line| {
        let line = line.trim_start();
        SURE.iter().any(|word| {
            line.match_indices(word).any(|(at, _)| {
                let before = line.get(..at).unwrap_or_default().trim_end();
                before.is_empty()
                    || before.ends_with(['=', '(', ';', '&', '|', '{', '@'])
                    || before.ends_with(" new")
            })
        })
    })
}

fn is_batch(lower: &str) -> bool {
    let lines: Vec<&str> = lower.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_command = |line: &&&str| {
        let word = line
            .split(|letter: char| letter.is_whitespace() || letter == '.' || letter == '/')
            .next()
            .unwrap_or_default();
        BATCH.contains(&word)
            && (line.contains(['%', '@', '\\', '"', '>', '=', '/'])
                || word.len() > 3
                || line.split_whitespace().count() <= 3)
            || line.starts_with(':') && !line.contains(' ') && line.len() > 1
            || line.starts_with("::")
    };
    let commands = lines.iter().filter(is_command).count();
    !lines.is_empty() && commands * 10 >= lines.len() * 6
}

fn is_code(lower: &str) -> bool {
    let lines: Vec<&str> = lower
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '/', '*']))
        .collect();
    let is_code = |line: &&&str| {
        let marked = line.contains(['(', '=', '{', ';', ')', '}', '$'])
            || line.starts_with("import ")
            || line.ends_with(':')
            || line.len() < 8;
        LINES.iter().any(|start| line.starts_with(start)) && marked
            || line.ends_with(';') && (line.contains('(') && line.contains(')') || line.contains(" = "))
    };
    let code = lines.iter().filter(is_code).count();
    code >= 1 && code * 10 >= lines.len() * 4 && lower.contains(['(', '{', '='])
}
