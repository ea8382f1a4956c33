//! Who may depend on whom: the crates of the house in layers, and what a pure crate may not reach.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use super::tree::{self, Complaint, line_where};

/// The house, from the ground up: a crate may know those in the layers below its own, and nobody else.
/// Crates of later issues have their place already.
const LAYERS: [&[&str]; 5] = [
    &["policy"],
    &["events"],
    &["enforce", "session", "transfer", "inspect"],
    &["netfilter", "tunnel", "transport", "record"],
    &["gateway"],
];

/// The lab is a product of its own: its library knows nothing of ours, and only what proves or measures
/// things may know it.
const LAB: &str = "tests";
const BENCHES: &str = "benches";
/// Feeds every parser of bytes from outside, and is no part of the product.
const FUZZ: &str = "fuzz";

/// Makes files out of the pure crates' lists, and is no part of the product: it knows nothing else, and only the lab's
/// tests know it.
const DASHBOARD: &str = "dashboard";

/// The crates that compute and do nothing else.
pub(crate) const PURE: [&str; 6] = ["policy", "enforce", "events", "session", "transfer", "inspect"];

/// What a pure crate may not name: whatever touches the world.
const IMPURE: [&str; 10] =
    ["tokio", "mio", "async-std", "smol", "rustix", "libc", "nix", "socket2", "tempfile", "getrandom"];

/// What a pure crate may not even reach through another: a runtime.
const IMPURE_AT_ANY_DEPTH: [&str; 4] = ["tokio", "mio", "async-std", "smol"];

/// What each crate depends on, by name; two versions of one crate count as one.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// The crates of this workspace, each with its manifest as text.
    pub(crate) members: BTreeMap<String, Manifest>,
    /// Dependencies that end up in what is built: normal ones and those of build scripts.
    pub(crate) built: BTreeMap<String, BTreeSet<String>>,
    /// Dependencies of tests.
    pub(crate) tested: BTreeMap<String, BTreeSet<String>>,
}

/// Where a crate's dependencies are written.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    path: String,
    text: String,
}

impl Graph {
    fn built_by(&self, name: &str) -> impl Iterator<Item = &str> {
        self.built.get(name).into_iter().flatten().map(String::as_str)
    }

    fn tested_by(&self, name: &str) -> impl Iterator<Item = &str> {
        self.tested.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Everything that `name` reaches, itself not included.
    fn reached_by(&self, name: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&str> = self.built_by(name).collect();
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(self.built_by(next));
            }
        }
        reached
    }

    /// Complains at the line of the manifest of `from` that names `to`.
    pub(crate) fn complaint(&self, from: &str, to: &str, message: String) -> Complaint {
        let Some(manifest) = self.members.get(from) else { return Complaint::new(from, 1, message) };
        let names = |line: &str| line.strip_prefix(to).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
        Complaint::new(&manifest.path, line_where(&manifest.text, names), message)
    }
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Complains of a dependency that points upwards or sideways, and of a crate that has no place.
fn direction(graph: &Graph) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for from in graph.members.keys() {
        if layer(from).is_none() && ![LAB, BENCHES, DASHBOARD, FUZZ].contains(&from.as_str()) {
            let message =
                format!("`{from}` has no place in the house; give it one in LAYERS (tidy/graph.rs)");
            complaints.push(graph.complaint(from, "", message));
        }
        let of_members = |name: &&str| graph.members.contains_key(*name);
        let built = graph.built_by(from).filter(of_members).filter(|to| !may_know(from, to));
        let tested = graph.tested_by(from).filter(of_members).filter(|to| !may_test_with(from, to));
        for to in built.chain(tested) {
            let message =
                format!("`{from}` may not depend on `{to}`; turn it round, or move what both need down");
            complaints.push(graph.complaint(from, to, message));
        }
    }
    complaints
}

fn may_know(from: &str, to: &str) -> bool {
    match (layer(from), layer(to)) {
        (Some(from), Some(to)) => to < from,
        (Some(_), None) => false,
        (None, _) if from == DASHBOARD => PURE.contains(&to),
        (None, _) if from == FUZZ => layer(to).is_some(),
        (None, _) => from == BENCHES && ![BENCHES, DASHBOARD, FUZZ].contains(&to),
    }
}

/// Tests may look further, but not at the benches, and of our crates only the lab's may use the lab.
fn may_test_with(from: &str, to: &str) -> bool {
    match from {
        LAB => to != BENCHES,
        _ => may_know(from, to),
    }
}

/// Complains of a pure crate that names or reaches something that touches the world.
fn purity(graph: &Graph) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for pure in PURE.into_iter().filter(|pure| graph.members.contains_key(*pure)) {
        let named: BTreeSet<&str> = graph.built_by(pure).filter(|name| IMPURE.contains(name)).collect();
        for name in &named {
            let message =
                format!("`{pure}` is pure and may not depend on `{name}`; take the value as an argument");
            complaints.push(graph.complaint(pure, name, message));
        }
        let reached = graph.reached_by(pure);
        for name in
            IMPURE_AT_ANY_DEPTH.into_iter().filter(|name| reached.contains(name) && !named.contains(name))
        {
            let message = format!(
                "`{pure}` is pure and reaches `{name}`; see `cargo tree -e normal -p {pure} -i {name}`"
            );
            complaints.push(graph.complaint(pure, name, message));
        }
    }
    complaints
}

/// Asks cargo. Only what is built on this machine is looked at, so that nothing must be fetched.
pub(crate) fn metadata() -> Result<Metadata> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let options = ["--locked", "--offline", "--filter-platform", &host].map(String::from);
    let mut command = MetadataCommand::new();
    command.manifest_path(tree::root().join("Cargo.toml")).other_options(options);
    command.exec().context("`cargo metadata` failed; build the workspace first (`make test` does)")
}

pub(crate) fn graph() -> Result<Graph> {
    let metadata = metadata()?;
    let names: BTreeMap<_, _> = metadata.packages.iter().map(|p| (&p.id, p.name.to_string())).collect();
    let name = |id| names.get(id).cloned().context("cargo metadata names a package that it does not list");
    let mut graph = Graph::default();
    for package in metadata.workspace_packages() {
        let text = std::fs::read_to_string(&package.manifest_path)?;
        let path = package.manifest_path.strip_prefix(&metadata.workspace_root)?.to_string();
        graph.members.insert(package.name.to_string(), Manifest { path, text });
    }
    let nodes = metadata.resolve.as_ref().context("cargo metadata resolved nothing")?;
    for node in &nodes.nodes {
        for dependency in &node.deps {
            let is_tested_only =
                dependency.dep_kinds.iter().all(|kind| kind.kind == DependencyKind::Development);
            let edges = if is_tested_only { &mut graph.tested } else { &mut graph.built };
            edges.entry(name(&node.id)?).or_default().insert(name(&dependency.pkg)?);
        }
    }
    ensure!(graph.members.len() >= 6 && graph.built.len() > 50, "cargo metadata lists too little: {graph:?}");
    Ok(graph)
}

#[test]
fn dependencies_point_down() -> Result<()> {
    tree::hold(&direction(&graph()?));
    Ok(())
}

#[test]
fn pure_crates_reach_nothing_impure() -> Result<()> {
    tree::hold(&purity(&graph()?));
    Ok(())
}

/// Makes the sample graphs of the tests.
pub(crate) fn planted(built: &[(&str, &str)], tested: &[(&str, &str)]) -> Graph {
    let mut graph = Graph::default();
    for member in ["policy", "enforce", "session", "netfilter", "gateway", "tests", "benches", "dashboard"] {
        let text = "[dependencies]\nserde = \"1\"\n\n\ntokio = \"1\"\n";
        graph.members.insert(member.into(), Manifest { path: member.into(), text: text.into() });
    }
    for (edges, planted) in [(&mut graph.built, built), (&mut graph.tested, tested)] {
        for (from, to) in planted {
            edges.entry(String::from(*from)).or_default().insert(String::from(*to));
        }
    }
    graph
}

#[test]
fn planted_directions_are_judged() {
    let good = [
        ("enforce", "policy"),
        ("netfilter", "enforce"),
        ("gateway", "netfilter"),
        ("benches", "tests"),
        ("benches", "netfilter"),
        ("dashboard", "policy"),
    ];
    tree::hold(&direction(&planted(&good, &[("tests", "gateway"), ("gateway", "policy")])));
    let bad = [
        ("policy", "enforce"),
        ("session", "enforce"),
        ("gateway", "tests"),
        ("tests", "policy"),
        ("tests", "benches"),
        ("dashboard", "gateway"),
        ("benches", "dashboard"),
        ("gateway", "dashboard"),
    ];
    for edge in bad {
        tree::caught(&direction(&planted(&[edge], &[])), &[(edge.0, 1)]);
    }
    tree::caught(&direction(&planted(&[], &[("gateway", "tests")])), &[("gateway", 1)]);
    let mut graph = planted(&[], &[]);
    graph.members.insert("attic".into(), Manifest { path: "attic/Cargo.toml".into(), text: String::new() });
    tree::caught(&direction(&graph), &[("attic/Cargo.toml", 1)]);
}

#[test]
fn planted_impurity_is_caught() {
    let direct = planted(&[("policy", "tokio"), ("gateway", "tokio"), ("netfilter", "libc")], &[]);
    tree::caught(&purity(&direct), &[("policy", 5)]);
    let far = planted(&[("enforce", "a"), ("a", "b"), ("b", "a"), ("b", "mio"), ("a", "libc")], &[]);
    tree::caught(&purity(&far), &[("enforce", 1)]);
    tree::hold(&purity(&planted(&[("gateway", "tokio")], &[("policy", "tempfile")])));
}
