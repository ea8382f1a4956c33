//! The initial RAM file system as the kernel reads it: a `newc` cpio archive, uncompressed.
//! Source: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's tree.
//!
//! The archive is not compressed, because QEMU copies it into the guest's memory for nothing, while every compressed
//! byte costs emulated instructions.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use super::error::VmError;

/// The most that all files of a guest may take: its root file system may fill half of its memory.
pub(super) const SIZE_LIMIT_BYTES: u64 = 320 << 20;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// One node of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A directory.
    Directory,
    /// A regular file with its permissions.
    File { content: Content, mode: u32 },
    /// A symbolic link to a path.
    Link(String),
    /// A character device.
    Device { major: u32, minor: u32 },
}

/// Where a file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// They are here.
    Bytes(Vec<u8>),
    /// They are read from the host when the archive is written.
    Host(PathBuf),
}

/// A tree of nodes, by absolute path without doubled or relative parts.
#[derive(Debug, Clone, Default)]
pub(super) struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl Archive {
    /// Adds a node and the directories above it; a later node replaces an earlier one at the same path.
    pub(super) fn insert(&mut self, path: &str, node: Node) -> Result<(), VmError> {
        let path = clean(path)?;
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default().to_owned();
            self.nodes.entry(parent).or_insert(Node::Directory);
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Tells whether there is a node at a path.
    pub(super) fn contains(&self, path: &str) -> bool {
        clean(path).is_ok_and(|path| self.nodes.contains_key(&path))
    }

    /// Writes the archive; directories come before what is in them, because the map is ordered.
    pub(super) fn write(&self, out: &mut impl Write) -> Result<(), VmError> {
        let mut size_bytes = 0;
        for (number, (path, node)) in (1..).zip(&self.nodes) {
            let (mode, data) = body(node)?;
            size_bytes += data.len() as u64;
            if size_bytes > SIZE_LIMIT_BYTES {
                return Err(VmError::TooLarge { size_bytes, limit_bytes: SIZE_LIMIT_BYTES });
            }
            entry(out, number, path, mode, device(node), &data).map_err(VmError::file("initrd"))?;
        }
        entry(out, 0, "TRAILER!!!", 0, (0, 0), &[]).map_err(VmError::file("initrd"))
    }
}

/// Checks an absolute guest path and returns it as cpio wants it, without the leading slash.
fn clean(path: &str) -> Result<String, VmError> {
    let bad = |reason| Err(VmError::Name { name: path.to_owned(), reason });
    let Some(relative) = path.strip_prefix('/') else { return bad("a guest path starts with `/`") };
    if relative.len() > 1024 || relative.contains('\0') {
        return bad("a guest path has at most 1024 bytes and no NUL");
    }
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return bad("a guest path has no empty or relative part");
    }
    Ok(relative.to_owned())
}

fn body(node: &Node) -> Result<(u32, Vec<u8>), VmError> {
    Ok(match node {
        Node::Directory => (DIRECTORY | 0o755, Vec::new()),
        Node::Link(target) => (SYMLINK | 0o777, target.clone().into_bytes()),
        Node::Device { .. } => (DEVICE | 0o600, Vec::new()),
        Node::File { content: Content::Bytes(bytes), mode } => (FILE | mode, bytes.clone()),
        Node::File { content: Content::Host(path), mode } => {
            (FILE | mode, std::fs::read(path).map_err(VmError::file(path))?)
        }
    })
}

fn device(node: &Node) -> (u32, u32) {
    match node {
        Node::Device { major, minor } => (*major, *minor),
        Node::Directory | Node::File { .. } | Node::Link(_) => (0, 0),
    }
}

/// Writes one header, name and body, each padded to four bytes; owner, time and link fields are fixed.
fn entry(
    out: &mut impl Write,
    number: u32,
    path: &str,
    mode: u32,
    (major, minor): (u32, u32),
    data: &[u8],
) -> io::Result<()> {
    let links = 1;
    let size = u32::try_from(data.len()).map_err(io::Error::other)?;
    let name_size = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
    out.write_all(b"070701")?;
    let fields = [number, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
    for field in fields {
        write!(out, "{field:08x}")?;
    }
    out.write_all(path.as_bytes())?;
    // The header is 110 bytes and the name ends with a NUL.
    pad(out, 110 + path.len(), 1)?;
    out.write_all(data)?;
    pad(out, data.len(), 0)
}

/// Writes at least `least` zero bytes, and as many more as bring `written` to a multiple of four.
fn pad(out: &mut impl Write, written: usize, least: usize) -> io::Result<()> {
    let end = (written + least).next_multiple_of(4);
    out.write_all(&vec![0; end - written])
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn file(text: &str) -> Node {
        Node::File { content: Content::Bytes(text.into()), mode: 0o755 }
    }

    #[test]
    fn another_reader_finds_the_same_files() {
        let mut archive = Archive::default();
        archive.insert("/usr/bin/hello", file("#!/bin/sh\n")).unwrap();
        archive.insert("/bin", Node::Link("usr/bin".into())).unwrap();
        archive.insert("/etc/odd", file("odd")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut out = std::fs::File::create(dir.path().join("archive")).unwrap();
        archive.write(&mut out).unwrap();

        let status = Command::new("busybox")
            .args(["cpio", "-i", "-d"])
            .stdin(Stdio::from(std::fs::File::open(dir.path().join("archive")).unwrap()))
            .stderr(Stdio::null())
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(std::fs::read_to_string(dir.path().join("bin/hello")).unwrap(), "#!/bin/sh\n");
        assert_eq!(std::fs::read_to_string(dir.path().join("etc/odd")).unwrap(), "odd");
        assert_eq!(std::fs::read_link(dir.path().join("bin")).unwrap().to_str(), Some("usr/bin"));
    }

    #[test]
    fn paths_that_leave_the_guest_are_refused() {
        let mut archive = Archive::default();
        for path in ["relative", "/a/../b", "/a//b", "/", "/a\0b"] {
            let error = archive.insert(path, Node::Directory).unwrap_err();
            assert!(matches!(error, VmError::Name { .. }), "{path}: {error}");
        }
    }
}
