//! The test executables of a package, as cargo builds them, to be run elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::error::VmError;
use super::host;

/// Builds the integration tests of a workspace package and returns their names and files, ordered by name.
///
/// Profile and target directory are those of the caller. The whole workspace is selected, because a selection of one
/// package would resolve other features for shared dependencies and build them a second time.
pub fn test_executables(workspace: &Path, package: &str) -> Result<Vec<(String, PathBuf)>, VmError> {
    let metadata = cargo(workspace, &["metadata", "--locked", "--no-deps", "--format-version", "1"])?;
    let (manifest, names) = test_targets(&metadata, package).ok_or_else(|| VmError::Command {
        command: "cargo metadata".to_owned(),
        reason: format!("the workspace has no package `{package}`"),
    })?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut arguments = vec!["test", "--locked", "--workspace", "--no-run", "--message-format", "json"];
    arguments.extend(names.iter().flat_map(|name| ["--test", name]));
    let messages = cargo(workspace, &arguments)?;
    let mut found: Vec<_> = messages.lines().filter_map(|line| test_executable(line, &manifest)).collect();
    found.sort();
    Ok(found)
}

fn cargo(workspace: &Path, arguments: &[&str]) -> Result<String, VmError> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_one_package) {
            command.env_remove(name);
        }
    }
    host::output(command.args(arguments).current_dir(workspace))
}

/// Whether cargo, or nextest in its place, tells this to the programs of one package. A cargo that inherits it takes it for
/// a change (ring's build script asks for some of these), and builds half the workspace anew beside the other tests.
fn is_of_one_package(variable: &str) -> bool {
    variable == "OUT_DIR" || ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|begin| variable.starts_with(begin))
}

/// Reads `cargo metadata`: the manifest of a package and the names of its integration tests.
fn test_targets(metadata: &str, package: &str) -> Option<(String, Vec<String>)> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let package = metadata
        .get("packages")?
        .as_array()?
        .iter()
        .find(|found| found.get("name").is_some_and(|name| name == package))?;
    let targets = package.get("targets")?.as_array()?.iter().filter(|target| is_test(target));
    let names = targets.filter_map(|target| target.get("name")?.as_str().map(str::to_owned)).collect();
    Some((package.get("manifest_path")?.as_str()?.to_owned(), names))
}

/// Reads one of cargo's messages (doc.rust-lang.org/cargo/reference/external-tools.html): the target's name and file.
fn test_executable(message: &str, manifest: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = message.get("target").filter(|target| is_test(target))?;
    let name = target.get("name")?.as_str()?.to_owned();
    let executable = message.get("executable")?.as_str()?;
    (message.get("manifest_path")?.as_str()? == manifest).then(|| (name, executable.into()))
}

fn is_test(target: &Value) -> bool {
    target.get("kind").and_then(Value::as_array).is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_inherits_nothing_of_one_package_and_all_else() {
        for own in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_LINKS", "CARGO_PKG_VERSION_PRE", "OUT_DIR"] {
            assert!(is_of_one_package(own), "{own}");
        }
        for other in ["CARGO", "CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL", "PATH"] {
            assert!(!is_of_one_package(other), "{other}");
        }
    }

    #[test]
    fn only_this_packages_test_targets_with_an_executable_count() {
        let read = |kind: &str, executable: &str, manifest: &str| {
            let target = format!(r#"{{"kind":["{kind}"],"name":"batch"}}"#);
            let place = format!(r#""manifest_path":"{manifest}","executable":{executable}"#);
            test_executable(&format!(r#"{{"reason":"x","target":{target},{place}}}"#), "/a/Cargo.toml")
        };
        let expected = Some(("batch".to_owned(), PathBuf::from("/t/batch-1")));
        assert_eq!(read("test", r#""/t/batch-1""#, "/a/Cargo.toml"), expected);
        assert_eq!(read("test", r#""/t/batch-1""#, "/b/Cargo.toml"), None);
        assert_eq!(read("lib", r#""/t/batch-1""#, "/a/Cargo.toml"), None);
        assert_eq!(read("test", "null", "/a/Cargo.toml"), None);
        assert_eq!(test_executable("   Compiling", "/a/Cargo.toml"), None);
    }

    #[test]
    fn a_package_is_found_by_its_whole_name() {
        let metadata = r#"{"packages":[{"name":"netfilter-x","manifest_path":"/x","targets":[]},
            {"name":"netfilter","manifest_path":"/n","targets":[{"kind":["lib"],"name":"netfilter"},
            {"kind":["test"],"name":"batch"}]}]}"#;
        let expected = Some(("/n".to_owned(), vec!["batch".to_owned()]));
        assert_eq!(test_targets(metadata, "netfilter"), expected);
        assert_eq!(test_targets(metadata, "filter"), None);
    }
}
