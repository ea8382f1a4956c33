//! What every crate's manifest must say, and what the clippy.toml of a pure crate must ban.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use super::graph::{PURE, metadata};
use super::tree::{self, Complaint, line_where};

/// The one crate that writes its lints out, because it may use `unsafe`.
const OWN_LINTS: &str = "gateway/crates/netfilter/Cargo.toml";

/// What the time, the disk, the network and the order of a hash map are called.
const BANNED_METHODS: [&str; 12] = [
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "std::env::var",
    "std::env::vars",
    "std::env::args",
    "std::fs::read",
    "std::fs::read_to_string",
    "std::fs::write",
    "std::process::Command::new",
    "std::thread::spawn",
];
const BANNED_TYPES: [&str; 6] = [
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::fs::File",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
];

/// A TOML file of the repository.
#[derive(Debug)]
struct Document {
    path: String,
    text: String,
    table: Table,
}

impl Document {
    fn new(path: &str, text: String) -> Result<Self> {
        let table = toml::from_str(&text).with_context(|| format!("`{path}` is not TOML"))?;
        Ok(Self { path: path.into(), text, table })
    }

    fn read(path: &str) -> Result<Self> {
        let text = fs::read_to_string(tree::root().join(path));
        Self::new(path, text.with_context(|| format!("`{path}` cannot be read"))?)
    }

    fn complaint(&self, near: &str, message: impl Into<String>) -> Complaint {
        Complaint::new(&self.path, line_where(&self.text, |line| line.starts_with(near)), message)
    }
}

/// Complains of a crate that does not take the workspace's lints, all of them.
fn lints(root: &Document, member: &Document) -> Vec<Complaint> {
    let own = member.table.get("lints");
    if own.and_then(|lints| lints.get("workspace")) == Some(&Value::Boolean(true)) {
        return Vec::new();
    }
    if member.path != OWN_LINTS {
        return vec![member.complaint("[lints", "write `[lints]` and below it `workspace = true`")];
    }
    let ours = root.table.get("workspace").and_then(|workspace| workspace.get("lints"));
    let wanted = ours.and_then(Value::as_table).into_iter().flatten();
    let mut complaints = Vec::new();
    for (tool, lints) in wanted {
        for (lint, level) in lints.as_table().into_iter().flatten().filter(|(lint, _)| *lint != "unsafe_code")
        {
            if own.and_then(|own| own.get(tool)?.get(lint)) != Some(level) {
                let message =
                    format!("repeat the workspace's `{lint}` under [lints.{tool}], at the same level");
                complaints.push(member.complaint(&format!("[lints.{tool}]"), message));
            }
        }
    }
    complaints
}

/// Complains of a dependency that does not come from the root's [workspace.dependencies].
fn inherited(member: &Document) -> Vec<Complaint> {
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let own = tables.iter().filter_map(|table| member.table.get(*table)?.as_table());
    let targets = member.table.get("target").and_then(Value::as_table).into_iter().flatten();
    let of_targets =
        targets.flat_map(|(_, target)| tables.iter().filter_map(|table| target.get(*table)?.as_table()));
    let all = own.chain(of_targets).flatten();
    let strangers = all.filter(|(_, how)| how.get("workspace") != Some(&Value::Boolean(true)));
    let message =
        |name: &str| format!("declare `{name}` in the root's [workspace.dependencies] and inherit it");
    strangers.map(|(name, _)| member.complaint(name, message(name))).collect()
}

/// Complains where the clippy.toml of a pure crate bans too little. It replaces the root's, so it must
/// repeat that as well.
fn bans(root: &Document, own: &Document) -> Vec<Complaint> {
    let missing = |table: &str, wanted: &[&str]| {
        let entries = own.table.get(table).and_then(Value::as_array).cloned().unwrap_or_default();
        let banned: Vec<_> = entries.iter().filter_map(path_of).collect();
        let absent = wanted.iter().filter(|path| !banned.contains(*path));
        let message = |path: &&str| {
            format!("ban `{path}` in `{table}`, with a reason: a pure crate takes it as a value")
        };
        absent.map(|path| own.complaint(table, message(path))).collect::<Vec<_>>()
    };
    let mut complaints = missing("disallowed-methods", &BANNED_METHODS);
    complaints.extend(missing("disallowed-types", &BANNED_TYPES));
    let unrepeated = root.table.iter().filter(|(key, value)| own.table.get(*key) != Some(value));
    complaints.extend(unrepeated.map(|(key, _)| {
        own.complaint(key, format!("repeat `{key}` of the root's clippy.toml, which this file replaces"))
    }));
    complaints
}

/// A ban is a path, or a table with a path and a reason.
fn path_of(entry: &Value) -> Option<&str> {
    entry.as_str().or_else(|| entry.get("path")?.as_str())
}

/// The members' manifests by the name of the crate.
fn members() -> Result<BTreeMap<String, Document>> {
    let metadata = metadata()?;
    let document = |package: &cargo_metadata::Package| {
        let path = package.manifest_path.strip_prefix(&metadata.workspace_root)?;
        Ok((package.name.to_string(), Document::read(path.as_str())?))
    };
    metadata.workspace_packages().into_iter().map(document).collect()
}

#[test]
fn every_crate_takes_the_lints() -> Result<()> {
    let root = Document::read("Cargo.toml")?;
    let complaints: Vec<_> = members()?.values().flat_map(|member| lints(&root, member)).collect();
    tree::hold(&complaints);
    Ok(())
}

#[test]
fn every_dependency_is_inherited() -> Result<()> {
    tree::hold(&members()?.values().flat_map(inherited).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn pure_crates_ban_the_world() -> Result<()> {
    let root = Document::read("clippy.toml")?;
    let members = members()?;
    let pure: Vec<_> = PURE.into_iter().filter_map(|name| members.get(name)).collect();
    assert!(pure.len() >= 2, "policy and enforce are pure, and were not found");
    let original = Document::read("policy/clippy.toml")?;
    let mut complaints = Vec::new();
    for member in pure {
        let own = Document::read(&member.path.replace("Cargo.toml", "clippy.toml"))?;
        complaints.extend(bans(&root, &own));
        if own.table != original.table {
            complaints
                .push(own.complaint("", "copy policy/clippy.toml here: the pure crates share their bans"));
        }
    }
    tree::hold(&complaints);
    Ok(())
}

#[test]
fn planted_lints_are_judged() -> Result<()> {
    let root =
        "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n[workspace.lints.clippy]\npanic = \"deny\"\n";
    let root = Document::new("Cargo.toml", root.into())?;
    let judge = |path: &str, text: &str| -> Result<usize> {
        Ok(lints(&root, &Document::new(path, text.into())?).len())
    };
    assert_eq!(judge("a/Cargo.toml", "[lints]\nworkspace = true\n")?, 0);
    assert_eq!(judge("a/Cargo.toml", "[package]\nname = \"a\"\n")?, 1);
    assert_eq!(
        judge("a/Cargo.toml", "[lints.clippy]\npanic = \"deny\"\n")?,
        1,
        "only one crate may repeat them"
    );
    assert_eq!(judge(OWN_LINTS, "[lints.clippy]\npanic = \"deny\"\n")?, 0);
    assert_eq!(judge(OWN_LINTS, "[lints.clippy]\npanic = \"warn\"\n")?, 1);
    Ok(())
}

#[test]
fn planted_dependencies_are_judged() -> Result<()> {
    let text = "[dependencies]\na.workspace = true\nb = \"1\"\n[dev-dependencies]\nc = { workspace = true }\n\
                [target.'cfg(unix)'.dependencies]\nd = { path = \"../d\" }\n";
    let complaints = inherited(&Document::new("a/Cargo.toml", text.into())?);
    tree::caught(&complaints, &[("a/Cargo.toml", 3), ("a/Cargo.toml", 7)]);
    Ok(())
}

#[test]
fn planted_bans_are_judged() -> Result<()> {
    let root = Document::read("clippy.toml")?;
    let text = fs::read_to_string(tree::root().join("policy/clippy.toml"))?;
    let judge = |text: String| -> Result<usize> {
        Ok(bans(&root, &Document::new("policy/clippy.toml", text)?).len())
    };
    assert_eq!(judge(text.clone())?, 0);
    assert_eq!(judge(text.replace("std::time::Instant::now", "a::b"))?, 1);
    assert_eq!(judge(text.replace("std::collections::HashMap", "a::b"))?, 1);
    assert_eq!(judge(text.replace("allow-unwrap-in-tests = true", ""))?, 1);
    assert_eq!(judge(String::new())?, BANNED_METHODS.len() + BANNED_TYPES.len() + root.table.len());
    Ok(())
}
