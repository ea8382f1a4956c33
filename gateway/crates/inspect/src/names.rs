//! What a name alone can do: leave its directory, hide its ending, name a device, make a system run the file.

use crate::case::Case;
use crate::{FileType, FindingId};

/// Longest name, in bytes; that of the usual file systems.
const NAME_BYTES: usize = 255;

/// Endings that Windows, macOS or a desktop runs, mounts or installs when somebody opens the file.
const RUN: &[&str] = &[
    "ade",
    "adp",
    "app",
    "appimage",
    "appinstaller",
    "application",
    "appref-ms",
    "appx",
    "appxbundle",
    "asp",
    "aspx",
    "bas",
    "bash",
    "bat",
    "bin",
    "chm",
    "class",
    "cmd",
    "com",
    "command",
    "cpl",
    "crt",
    "csh",
    "deb",
    "desktop",
    "diagcab",
    "dll",
    "dmg",
    "drv",
    "dylib",
    "elf",
    "exe",
    "fxp",
    "gadget",
    "grp",
    "hlp",
    "hta",
    "htc",
    "img",
    "inf",
    "ins",
    "iqy",
    "iso",
    "isp",
    "its",
    "jar",
    "jnlp",
    "js",
    "jse",
    "jsp",
    "ksh",
    "lib",
    "library-ms",
    "lnk",
    "lua",
    "mad",
    "maf",
    "mag",
    "mam",
    "maq",
    "mar",
    "mas",
    "mat",
    "mau",
    "mav",
    "maw",
    "mcf",
    "mda",
    "mdb",
    "mde",
    "mdt",
    "mdw",
    "mdz",
    "mht",
    "mhtml",
    "mof",
    "msc",
    "msh",
    "msh1",
    "msh2",
    "mshxml",
    "msi",
    "msix",
    "msixbundle",
    "msp",
    "mst",
    "msu",
    "ocx",
    "one",
    "onepkg",
    "oqy",
    "osd",
    "pcd",
    "php",
    "phtml",
    "pif",
    "pkg",
    "pl",
    "plg",
    "prf",
    "prg",
    "ps1",
    "ps1xml",
    "ps2",
    "ps2xml",
    "psc1",
    "psc2",
    "psd1",
    "psm1",
    "py",
    "pyc",
    "pyo",
    "pyw",
    "pyz",
    "rb",
    "reg",
    "rpm",
    "rqy",
    "run",
    "scf",
    "scpt",
    "scr",
    "sct",
    "search-ms",
    "searchconnector-ms",
    "service",
    "settingcontent-ms",
    "sh",
    "shb",
    "shs",
    "sldm",
    "slk",
    "snap",
    "so",
    "swf",
    "sys",
    "theme",
    "themepack",
    "udl",
    "url",
    "vb",
    "vbe",
    "vbp",
    "vbs",
    "vhd",
    "vhdx",
    "vmdk",
    "vsmacros",
    "vsw",
    "vxd",
    "war",
    "wasm",
    "webloc",
    "website",
    "whl",
    "workflow",
    "ws",
    "wsc",
    "wsf",
    "wsh",
    "xbap",
    "xla",
    "xlam",
    "xll",
    "xlw",
    "xnk",
    "xpi",
    "zsh",
    "ppa",
    "ppam",
    "wll",
    "wbk",
    "dotm-lnk",
];

/// Names that Windows gives to devices, whatever follows the first dot.
const DEVICES: &[&str] = &["con", "prn", "aux", "nul", "clock$", "conin$", "conout$"];

/// Notes what is dangerous about a plain file name.
pub(crate) fn check_file(case: &mut Case<'_>, name: &str) {
    if name.contains(['/', '\\']) {
        case.find(FindingId::UnsafeName, "", format!("`{name}` is a path"));
    }
    check_component(case, name, "");
    check_ending(case, name, "");
}

/// Notes what is dangerous about the path of an archive's entry.
pub(crate) fn check_path(case: &mut Case<'_>, path: &str, at: &str) {
    let absolute = path.starts_with(['/', '\\']) || path.get(1..2) == Some(":");
    if absolute || path.contains('\\') {
        case.find(FindingId::UnsafeName, at, format!("`{path}` is no relative path"));
    }
    let inner = path.strip_suffix('/').unwrap_or(path);
    for component in inner.split(['/', '\\']) {
        check_component(case, component, at);
    }
}

fn check_component(case: &mut Case<'_>, name: &str, at: &str) {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_lowercase();
    let why = if name.is_empty() || name == "." || name == ".." {
        "leaves its directory or is empty"
    } else if name.len() > NAME_BYTES {
        "is too long"
    } else if name.chars().any(is_unsafe_letter) {
        "holds control or direction characters"
    } else if name.contains([':', '<', '>', '"', '|', '?', '*']) {
        "holds characters that address streams or many files"
    } else if name.ends_with([' ', '.']) || name.starts_with(' ') {
        "begins or ends with a space, or ends with a dot"
    } else if is_device(&stem) {
        "names a device"
    } else {
        return;
    };
    case.find(FindingId::UnsafeName, at, format!("`{name}` {why}"));
}

fn is_device(stem: &str) -> bool {
    let numbered = |start: &str| {
        stem.strip_prefix(start).is_some_and(|rest| {
            let mut letters = rest.chars();
            letters.next().is_some_and(|one| one.is_ascii_digit() || "¹²³".contains(one))
                && letters.next().is_none()
        })
    };
    DEVICES.contains(&stem) || numbered("com") || numbered("lpt")
}

/// Notes an ending that makes a system run the file.
pub(crate) fn check_ending(case: &mut Case<'_>, name: &str, at: &str) {
    let Some(ending) = ending(name) else { return };
    if RUN.contains(&ending.as_str()) {
        case.find(
            FindingId::Script,
            at,
            format!("names ending in `.{ending}` are run, mounted or installed"),
        );
    }
}

/// Notes a name that promises another type than the content has.
pub(crate) fn compare(case: &mut Case<'_>, name: &str, found: FileType, at: &str) {
    let Some(ending) = ending(name) else { return };
    let promised = |file_type: &&FileType| file_type.endings().contains(&ending.as_str());
    let known = FileType::ALL.iter().any(|file_type| promised(&file_type));
    let kept =
        promised(&&found) || (found.is_textual() && matches!(ending.as_str(), "xml" | "txt" | "csv" | "tsv"));
    if known && !kept && found != FileType::Unknown {
        case.find(FindingId::NameMismatch, at, format!("`.{ending}` is promised, `{found}` is found"));
    }
}

fn ending(name: &str) -> Option<String> {
    let (_, ending) = name.rsplit_once('.')?;
    Some(ending.trim_end_matches([' ', '.']).to_ascii_lowercase())
}

/// Letters that a terminal, a page or a reader of names may act on: controls, directions, invisible ones.
pub(crate) fn is_unsafe_letter(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{061c}' | '\u{00ad}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Notes the ending of a part of a document: settings and data end in `.bin` there.
pub(crate) fn check_ending_of_part(case: &mut Case<'_>, name: &str, at: &str) {
    if !name.to_ascii_lowercase().ends_with(".bin") {
        check_ending(case, name, at);
    }
}
