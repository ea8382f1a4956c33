//! The guest's root file system: busybox, the host's programs with their libraries, kernel modules, and what to run.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::cpio::{Archive, Content, Node};
use super::error::VmError;
use super::kernel::Kernel;
use super::{Program, host};

const INIT: &str = include_str!("init.sh");

/// A tree under construction.
#[derive(Debug, Default)]
pub(super) struct Guest {
    archive: Archive,
}

impl Guest {
    /// Starts with the directories and links of a merged-/usr Debian and a console for the kernel.
    pub(super) fn new() -> Result<Self, VmError> {
        let mut guest = Self::default();
        for name in ["bin", "sbin", "lib", "lib64"] {
            guest.archive.insert(&format!("/{name}"), Node::Link(format!("usr/{name}")))?;
        }
        for name in ["proc", "sys", "dev", "run", "tmp", "usr/bin", "usr/sbin", "usr/lib64", "vm/programs"] {
            guest.archive.insert(&format!("/{name}"), Node::Directory)?;
        }
        guest.archive.insert("/dev/console", Node::Device { major: 5, minor: 1 })?;
        guest.text("/init", INIT, 0o755)?;
        // Tests look names of protocols and users up; `ip` and `nft` read the first two.
        guest.text(
            "/etc/protocols",
            "icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\n",
            0o644,
        )?;
        guest.text(
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
            0o644,
        )?;
        guest.text("/etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644)?;
        Ok(guest)
    }

    /// Adds a file of the host; an executable brings its libraries.
    pub(super) fn host_file(&mut self, host_path: &Path, guest_path: &str) -> Result<(), VmError> {
        let metadata = std::fs::metadata(host_path).map_err(VmError::file(host_path))?;
        let node = Node::File {
            content: Content::Host(host_path.to_owned()),
            mode: metadata.permissions().mode() & 0o777,
        };
        self.archive.insert(&merged(guest_path), node)?;
        if is_elf(host_path)? {
            for library in host::libraries(host_path)? {
                let content = Content::Host(library.clone().into());
                self.archive.insert(&merged(&library), Node::File { content, mode: 0o755 })?;
            }
        }
        Ok(())
    }

    /// Adds a file with a text.
    pub(super) fn text(&mut self, guest_path: &str, text: &str, mode: u32) -> Result<(), VmError> {
        let content = Content::Bytes(text.into());
        self.archive.insert(&merged(guest_path), Node::File { content, mode })
    }

    /// Adds a program of the host, where the host has it.
    pub(super) fn tool(&mut self, name: &str, package: &str) -> Result<(), VmError> {
        let path = host::find(name, package)?;
        self.host_file(&path, &path.to_string_lossy())
    }

    /// Adds busybox, and its applets by name unless a program of that name is there: so this comes last.
    pub(super) fn busybox(&mut self) -> Result<(), VmError> {
        let path = host::find("busybox", "busybox-static")?;
        if !host::libraries(&path)?.is_empty() {
            return Err(VmError::MissingTool {
                name: "busybox (static)".to_owned(),
                package: "busybox-static".to_owned(),
            });
        }
        self.host_file(&path, "/usr/bin/busybox")?;
        for applet in host::output(Command::new(&path).arg("--list"))?.lines() {
            let taken =
                ["bin", "sbin"].iter().any(|place| self.archive.contains(&format!("/usr/{place}/{applet}")));
            // The kernel calls /sbin/modprobe when a rule needs a module.
            let place = if applet == "modprobe" { "sbin" } else { "bin" };
            if !taken {
                self.archive
                    .insert(&format!("/usr/{place}/{applet}"), Node::Link("/usr/bin/busybox".to_owned()))?;
            }
        }
        Ok(())
    }

    /// Adds the kernel's modules, cut down to what the guest may load.
    pub(super) fn modules(&mut self, kernel: &Kernel) -> Result<(), VmError> {
        let chosen = kernel.modules()?;
        let directory = kernel.modules_directory();
        let base = format!("/usr/lib/modules/{}", kernel.release());
        for file in &chosen.files {
            self.host_file(&directory.join(file), &format!("{base}/{file}"))?;
        }
        self.text(&format!("{base}/modules.dep"), &chosen.dep, 0o644)?;
        self.text(&format!("{base}/modules.alias"), &chosen.alias, 0o644)?;
        self.host_file(&directory.join("modules.builtin"), &format!("{base}/modules.builtin"))?;
        self.text("/vm/loaded", &chosen.loaded.join("\n"), 0o644)
    }

    /// Adds the programs to run; their order is in their file names.
    pub(super) fn programs(&mut self, programs: &[Program]) -> Result<(), VmError> {
        for (number, program) in programs.iter().enumerate() {
            let file = format!("{number:03}:{}", program.name);
            let words: Vec<String> = program.argv.iter().map(|word| quoted(word)).collect();
            let script = format!("#!/bin/sh\nexec {}\n", words.join(" "));
            self.text(&format!("/vm/programs/{file}"), &script, 0o755)?;
            let seconds = program.limit.as_secs().max(1).to_string();
            self.text(&format!("/vm/seconds/{file}"), &seconds, 0o644)?;
        }
        Ok(())
    }

    /// Hands the finished tree over.
    pub(super) fn finish(self) -> Archive {
        self.archive
    }
}

/// Moves a path under /usr, where the guest's /bin, /sbin, /lib and /lib64 point.
fn merged(path: &str) -> String {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if matches!(first, "bin" | "sbin" | "lib" | "lib64") { format!("/usr{path}") } else { path.to_owned() }
}

fn is_elf(path: &Path) -> Result<bool, VmError> {
    // Modules are ELF files too, but relocatable ones without libraries.
    if path.extension().is_some_and(|extension| extension == "ko") {
        return Ok(false);
    }
    let mut magic = Vec::new();
    let file = std::fs::File::open(path).map_err(VmError::file(path))?;
    file.take(4).read_to_end(&mut magic).map_err(VmError::file(path))?;
    Ok(magic == b"\x7fELF")
}

/// Quotes a word for the guest's shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_unchanged() {
        for word in ["plain", "two words", "it's", "$(id)", "`id`", "a\\b", "", "*"] {
            let script = format!("printf %s {}", quoted(word));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn paths_follow_the_merged_usr() {
        assert_eq!(merged("/lib64/ld-linux-x86-64.so.2"), "/usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(merged("/usr/sbin/nft"), "/usr/sbin/nft");
        assert_eq!(merged("/library/x"), "/library/x");
    }
}
