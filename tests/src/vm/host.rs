//! The host's programs: where they are, what they need, and what they say.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::VmError;

/// Finds a program on the search path and in the system directories that an ordinary user's path leaves out.
pub(super) fn find(name: &str, package: &str) -> Result<PathBuf, VmError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| VmError::MissingTool { name: name.to_owned(), package: package.to_owned() })
}

/// Runs a command to its end and returns what it printed; its last lines of complaint are the error.
pub(super) fn output(command: &mut Command) -> Result<String, VmError> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.output().map_err(VmError::file(command.get_program()))?;
    if !output.status.success() {
        let reason = tail(&String::from_utf8_lossy(&output.stderr), 30);
        return Err(VmError::Command { command: shown, reason: format!("{}\n{reason}", output.status) });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Lists the shared libraries of an executable, the loader included, by the paths the loader would open.
pub(super) fn libraries(executable: &Path) -> Result<Vec<String>, VmError> {
    let output =
        Command::new("ldd").env("LC_ALL", "C").arg(executable).output().map_err(VmError::file("ldd"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if stderr.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    let failed = |reason: &str| VmError::Command {
        command: format!("ldd {}", executable.display()),
        reason: reason.to_owned(),
    };
    if !output.status.success() {
        return Err(failed(&stderr));
    }
    parse_ldd(&stdout).map_err(|line| failed(&line))
}

/// The last lines of a text.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let start = all.len().saturating_sub(lines);
    all.get(start..).unwrap_or_default().join("\n")
}

/// Reads ldd's lines: `name => /path (address)`, `/path (address)`, `name (address)` for the kernel's own page.
fn parse_ldd(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.ends_with("not found") {
            return Err(line.to_owned());
        }
        if line == "statically linked" {
            continue;
        }
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        let path = path.split_once(" (").map_or(path, |(path, _)| path);
        if path.starts_with('/') {
            found.push(path.to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_become_paths() {
        let text = "\tlinux-vdso.so.1 (0x00007f)\n\tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libmnl.so.0", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse_ldd(text).unwrap(), expected);
        assert_eq!(parse_ldd("\tstatically linked\n").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_missing_library_is_an_error() {
        assert_eq!(parse_ldd("\tlibgone.so.1 => not found\n"), Err("libgone.so.1 => not found".to_owned()));
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = find("sekisho-no-such-program", "no-such-package").unwrap_err();
        assert!(error.to_string().contains("install the Debian package `no-such-package`"));
    }
}
