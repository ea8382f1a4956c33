//! Engines that stay behind one crate each: the C library with the GPL, and those of later issues.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;
use serde::Deserialize;

use super::graph::{Graph, graph, planted};
use super::tree::{self, Complaint, line_where};

/// Crates behind one other crate each, and who may name them; deny.toml says the same. The fuzz targets compare our reading of
/// a WireGuard message with the engine's own.
const WRAPPED: [(&str, &[&str]); 6] = [
    ("nftnl", &["netfilter"]),
    ("nftnl-sys", &["netfilter", "nftnl"]),
    ("mnl", &["netfilter"]),
    ("mnl-sys", &["netfilter", "mnl", "nftnl-sys"]),
    ("boringtun", &["fuzz", "tunnel"]),
    ("quinn", &["transport"]),
];

/// Complains of a crate that uses an engine which belongs behind another crate.
fn wrapped(graph: &Graph) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (engine, wrappers) in WRAPPED {
        let users = [&graph.built, &graph.tested].into_iter().flatten();
        let users =
            users.filter(|(_, dependencies)| dependencies.contains(engine)).map(|(user, _)| user.as_str());
        for user in users.filter(|user| !wrappers.contains(user)) {
            let message = format!("`{user}` may not use `{engine}`; it stays behind {wrappers:?}");
            complaints.push(graph.complaint(user, engine, message));
        }
    }
    complaints
}

/// The part of deny.toml that repeats [`WRAPPED`].
#[derive(Debug, Deserialize)]
struct Deny {
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Debug, Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default)]
    wrappers: BTreeSet<String>,
}

/// Complains where deny.toml and [`WRAPPED`] disagree.
fn deny_agrees(text: &str) -> Result<Vec<Complaint>> {
    let deny: Deny = toml::from_str(text)?;
    let disagreement = |(engine, wrappers): &(&str, &[&str])| {
        let banned = deny.bans.deny.iter().find(|banned| banned.name == *engine);
        let agrees = banned.is_some_and(|b| b.wrappers.iter().map(String::as_str).eq(sorted(wrappers)));
        let line = line_where(text, |line| line.contains(&format!("\"{engine}\"")));
        let message = format!("`{engine}` must be banned but for {wrappers:?}, as in tidy/engines.rs");
        (!agrees).then(|| Complaint::new("deny.toml", line, message))
    };
    Ok(WRAPPED.iter().filter_map(disagreement).collect())
}

fn sorted<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}

#[test]
fn engines_stay_behind_their_crate() -> Result<()> {
    let graph = graph()?;
    assert!(
        graph.built.values().any(|to| to.contains("nftnl-sys")),
        "nothing uses nftnl-sys: the rule is blind"
    );
    tree::hold(&wrapped(&graph));
    Ok(())
}

#[test]
fn deny_file_says_the_same() -> Result<()> {
    tree::hold(&deny_agrees(&fs::read_to_string(tree::root().join("deny.toml"))?)?);
    Ok(())
}

#[test]
fn planted_engine_is_caught() {
    let good = [("netfilter", "nftnl"), ("netfilter", "nftnl-sys"), ("nftnl", "nftnl-sys")];
    tree::hold(&wrapped(&planted(&good, &[])));
    tree::caught(&wrapped(&planted(&[("gateway", "nftnl")], &[])), &[("gateway", 1)]);
    tree::caught(&wrapped(&planted(&[], &[("tests", "mnl-sys")])), &[("tests", 1)]);
}

#[test]
fn planted_deny_file_is_caught() -> Result<()> {
    let text = fs::read_to_string(tree::root().join("deny.toml"))?;
    let without =
        |what: &str, instead: &str| deny_agrees(&text.replace(what, instead)).map(|found| found.len());
    assert_eq!(without("crate = \"nftnl\",", "crate = \"other\",")?, 1);
    assert_eq!(without("wrappers = [\"netfilter\", \"nftnl\"]", "wrappers = [\"gateway\"]")?, 1);
    Ok(())
}
