//! Reads a policy file, what it includes, and the certificate authorities that it names, inside the file's own directory,
//! bounded.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use policy::raw::{
    AUTHORITY_BYTES_MAX, Beside, LIMITS, SOURCE_BYTES_MAX, SOURCES_MAX, Sources, TOTAL_BYTES_MAX, wanted,
};
use thiserror::Error;

/// Most certificate authorities: a vendor has one at most.
const AUTHORITIES_MAX: usize = LIMITS.vendors;

/// Why a policy cannot be read.
#[derive(Debug, Error)]
pub enum SourcesError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is too long.
    #[error("`{}` is longer than {SOURCE_BYTES_MAX} bytes: split it with `include`", .0.display())]
    TooLong(PathBuf),
    /// A file is not text.
    #[error("`{}` is not UTF-8 text: save it as UTF-8", .0.display())]
    NotText(PathBuf),
    /// An included file leads out of the directory.
    #[error("`{}` leads out of the policy's directory `{}`: move it inside", path.display(), directory.display())]
    Outside {
        /// The included file.
        path: PathBuf,
        /// The main file's directory.
        directory: PathBuf,
    },
    /// All files together are too many or too long.
    #[error("the policy has more than {SOURCES_MAX} files or {TOTAL_BYTES_MAX} bytes in all")]
    TooMuch,
}

/// Reads a policy; `-` is the standard input, which can include nothing.
///
/// # Errors
/// [`SourcesError`] names the file. An included file that is missing, and whatever is wrong with a certificate authority,
/// is left to the policy's own finding, which knows the line.
pub fn read(path: &Path) -> Result<Sources, SourcesError> {
    if path == Path::new("-") {
        return Ok(Sources::single("stdin", text(io::stdin().lock(), path)?));
    }
    let unreadable = |source| SourcesError::Unreadable { path: path.to_owned(), source };
    let main =
        path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy()).into_owned();
    let real = path.canonicalize().map_err(unreadable)?;
    let directory = real.parent().unwrap_or(Path::new("/")).to_owned();
    let main_text = text(File::open(&real).map_err(unreadable)?, path)?;
    gather(&directory, main, main_text)
}

fn gather(directory: &Path, main: String, main_text: String) -> Result<Sources, SourcesError> {
    let mut open = wanted(&main_text);
    let mut total = main_text.len();
    let mut texts = BTreeMap::from([(main.clone(), main_text)]);
    while let Some(name) = open.includes.pop() {
        if texts.contains_key(&name) {
            continue;
        }
        let Some(text) = included(directory, &name)? else { continue };
        total += text.len();
        if texts.len() >= SOURCES_MAX || total > TOTAL_BYTES_MAX {
            return Err(SourcesError::TooMuch);
        }
        let further = wanted(&text);
        open.includes.extend(further.includes);
        open.authorities.extend(further.authorities);
        texts.insert(name, text);
    }
    let found = open.authorities.into_iter().filter_map(|name| beside(directory, &name).map(|is| (name, is)));
    Ok(Sources { main, texts, authorities: found.take(AUTHORITIES_MAX).collect() })
}

/// A file beside the policy, if it is there.
fn beside(directory: &Path, name: &str) -> Option<Beside> {
    let unreadable = |error: &io::Error| Beside::Unreadable(error.to_string());
    let real = match directory.join(name).canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(unreadable(&error)),
    };
    if !real.starts_with(directory) {
        return Some(Beside::Outside);
    }
    Some(contents(&real).unwrap_or_else(|error| unreadable(&error)))
}

/// The beginning of a plain file, as far as shows whether it is too long. What is no text is none of PEM either.
fn contents(path: &Path) -> io::Result<Beside> {
    // A pipe would be waited for.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(AUTHORITY_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Beside::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

fn included(directory: &Path, name: &str) -> Result<Option<String>, SourcesError> {
    let path = directory.join(name);
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SourcesError::Unreadable { path, source }),
    };
    if !real.starts_with(directory) {
        return Err(SourcesError::Outside { path, directory: directory.to_owned() });
    }
    let file = File::open(&real).map_err(|source| SourcesError::Unreadable { path: path.clone(), source })?;
    text(file, &path).map(Some)
}

fn text(reader: impl Read, path: &Path) -> Result<String, SourcesError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(SOURCE_BYTES_MAX).unwrap_or(u64::MAX);
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| SourcesError::Unreadable { path: path.to_owned(), source })?;
    if bytes.len() > SOURCE_BYTES_MAX {
        return Err(SourcesError::TooLong(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| SourcesError::NotText(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn includes_are_read_inside_the_directory_only() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.toml"), "x = 1").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let main = inside.path().join("clinic.toml");
        std::fs::write(&main, "include = [\"flows.toml\", \"missing.toml\"]").unwrap();
        std::fs::write(inside.path().join("flows.toml"), "include = [\"clinic.toml\"]").unwrap();
        let sources = read(&main).unwrap();
        assert_eq!(sources.main, "clinic.toml");
        assert_eq!(sources.texts.keys().collect::<Vec<_>>(), ["clinic.toml", "flows.toml"]);
        std::fs::remove_file(inside.path().join("flows.toml")).unwrap();
        symlink(outside.path().join("secret.toml"), inside.path().join("flows.toml")).unwrap();
        assert!(matches!(read(&main), Err(SourcesError::Outside { .. })));
    }

    #[test]
    fn authorities_are_read_inside_the_directory_only_and_as_far_as_shows_what_they_are() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("ca.pem"), "secret").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let at = |name: &str| inside.path().join(name);
        let names = ["good", "none", "out", "pipe", "directory", "long"];
        let vendor = |name: &&str| format!("[vendor.{name}]\nca = \"v/{name}.pem\"\n");
        std::fs::write(at("clinic.toml"), "include = [\"more.toml\"]\n[vendor.up]\nca = \"../ca.pem\"")
            .unwrap();
        std::fs::write(at("more.toml"), names.iter().map(vendor).collect::<String>()).unwrap();
        std::fs::create_dir(at("v")).unwrap();
        std::fs::write(at("v/good.pem"), "PEM").unwrap();
        symlink(outside.path().join("ca.pem"), at("v/out.pem")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("v/pipe.pem"), rustix::fs::Mode::RUSR).unwrap();
        std::fs::create_dir(at("v/directory.pem")).unwrap();
        std::fs::write(at("v/long.pem"), vec![b'x'; 1 << 20]).unwrap();
        let found = read(&at("clinic.toml")).unwrap().authorities;
        let of = |name: &str| found.get(&format!("v/{name}.pem"));
        assert_eq!((of("good"), of("none")), (Some(&Beside::Text("PEM".to_owned())), None));
        assert_eq!((of("out"), found.get("../ca.pem")), (Some(&Beside::Outside), None));
        for odd in ["pipe", "directory"] {
            assert!(matches!(of(odd), Some(Beside::Unreadable(_))), "{odd}: {:?}", of(odd));
        }
        assert!(matches!(of("long"), Some(Beside::Text(text)) if text.len() == AUTHORITY_BYTES_MAX + 1));
    }

    #[test]
    fn a_file_that_is_no_text_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.toml");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path), Err(SourcesError::NotText(_))));
        assert!(matches!(read(&directory.path().join("none")), Err(SourcesError::Unreadable { .. })));
    }
}
