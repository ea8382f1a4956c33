//! A tar file (POSIX ustar, pax(1)) of plain files, written in order: what `tar xf` reads everywhere.

use std::io::{self, Write};

const BLOCK_BYTES: usize = 512;
const NAME_BYTES_MAX: usize = 100;

/// Writes a file's head and bytes.
///
/// # Errors
/// When the name is too long for the format, or the bytes cannot be written.
pub(crate) fn add(to: &mut impl Write, name: &str, bytes: &[u8], modified_s: u64) -> io::Result<()> {
    to.write_all(&head(name, bytes.len(), modified_s).ok_or(io::ErrorKind::InvalidFilename)?)?;
    to.write_all(bytes)?;
    let padding = bytes.len().next_multiple_of(BLOCK_BYTES) - bytes.len();
    to.write_all(&vec![0; padding])
}

/// Ends the file.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn finish(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK_BYTES])
}

fn head(name: &str, length: usize, modified_s: u64) -> Option<[u8; BLOCK_BYTES]> {
    let mut head = [0; BLOCK_BYTES];
    let mut put = |at: usize, field: &[u8]| {
        head.get_mut(at..at + field.len()).map(|place| place.copy_from_slice(field))
    };
    if name.len() > NAME_BYTES_MAX || u64::try_from(length).ok()? >= 1 << 33 {
        return None;
    }
    put(0, name.as_bytes())?;
    put(100, b"0000644\0")?;
    put(108, b"0000000\0")?;
    put(116, b"0000000\0")?;
    put(124, format!("{length:011o}\0").as_bytes())?;
    put(136, format!("{:011o}\0", modified_s.min((1 << 33) - 1)).as_bytes())?;
    // The sum is taken with its own field full of spaces.
    put(148, b"        ")?;
    put(156, b"0")?;
    put(257, b"ustar\x0000")?;
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head.get_mut(148..156)?.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_system_s_tar_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tar");
        let mut file = std::fs::File::create(&path).unwrap();
        add(&mut file, "log/tile/0/x001/234", b"hashes", 1_700_000_000).unwrap();
        add(&mut file, "log/empty", b"", 0).unwrap();
        add(&mut file, "log/block", &[7; 512], 0).unwrap();
        finish(&mut file).unwrap();
        let status =
            Command::new("tar").arg("xf").arg(&path).arg("-C").arg(directory.path()).status().unwrap();
        assert!(status.success());
        let read = |name: &str| std::fs::read(directory.path().join("log").join(name)).unwrap();
        assert_eq!(
            (read("tile/0/x001/234"), read("empty"), read("block")),
            (b"hashes".to_vec(), vec![], vec![7; 512])
        );
        assert!(add(&mut Vec::new(), &"x".repeat(101), b"", 0).is_err());
    }
}
