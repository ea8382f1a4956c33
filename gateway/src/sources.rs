//! Reads a policy file and what it includes, inside the file's own directory, bounded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use policy::raw::{SOURCE_BYTES_MAX, SOURCES_MAX, Sources, TOTAL_BYTES_MAX, includes};
use thiserror::Error;

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
/// [`SourcesError`] names the file. An included file that is missing is left to the policy's own error, which knows
/// the line.
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
    let mut wanted = includes(&main_text);
    let mut total = main_text.len();
    let mut texts = BTreeMap::from([(main.clone(), main_text)]);
    while let Some(name) = wanted.pop() {
        if texts.contains_key(&name) {
            continue;
        }
        let Some(text) = included(directory, &name)? else { continue };
        total += text.len();
        if texts.len() >= SOURCES_MAX || total > TOTAL_BYTES_MAX {
            return Err(SourcesError::TooMuch);
        }
        wanted.extend(includes(&text));
        texts.insert(name, text);
    }
    Ok(Sources { main, texts })
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
    fn a_file_that_is_no_text_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.toml");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path), Err(SourcesError::NotText(_))));
        assert!(matches!(read(&directory.path().join("none")), Err(SourcesError::Unreadable { .. })));
    }
}
