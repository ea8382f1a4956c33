//! Making packages and fresh roots by the scripts that people use, and what is in a package.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The version of the package that an upgrade is tried with.
pub(crate) const UPGRADE: &str = "9.9.9+upgrade";

pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Runs a command to its end and returns what it printed; its failure is the test's.
pub(crate) fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}{complaint}", output.status);
    said.into_owned()
}

/// The programs of this very build: what is packed, installed and booted is what the other tests judged.
fn binaries() -> PathBuf {
    if let Some(directory) = std::env::var_os("SEKISHO_PACKAGE_BINARIES") {
        return directory.into();
    }
    let own = std::env::current_exe().unwrap();
    let built = own.ancestors().nth(2).unwrap();
    for name in ["sekishod", "sekisho", "sekisho-vendor"] {
        assert!(built.join(name).exists(), "{name} is not there: `cargo build -p gateway` makes it");
    }
    built.into()
}

/// Makes the package in a directory.
pub(crate) fn package(out: &Path, version: Option<&str>) -> PathBuf {
    let mut command = Command::new(workspace().join("scripts/package"));
    // Whoever unpacks it is emulated, or a test that waits.
    command.env("LEVEL", "none").arg("--binaries").arg(binaries()).arg("--out").arg(out);
    if let Some(version) = version {
        command.args(["--version", version]);
    }
    let said = printed(&mut command);
    let place = said.lines().filter_map(|line| line.strip_prefix("package: ")).find(|place| {
        Path::new(place).file_name().is_some_and(|name| name.to_string_lossy().starts_with("sekisho_"))
    });
    PathBuf::from(place.unwrap_or_else(|| panic!("no package in `{said}`")))
}

/// The archive of a fresh Debian.
pub(crate) fn debian() -> PathBuf {
    printed(&mut Command::new(workspace().join("scripts/debian-root"))).trim().into()
}

/// The files of a package, as paths below the root.
fn files(package: &Path) -> BTreeSet<String> {
    let listed = printed(Command::new("dpkg-deb").arg("--contents").arg(package));
    let paths = listed.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.filter(|path| !path.ends_with('/')).map(|path| path.trim_start_matches("./").to_owned()).collect()
}

#[test]
fn the_same_programs_make_the_same_package() {
    let [first, second] = [(), ()].map(|()| tempfile::tempdir().unwrap());
    let packages = [package(first.path(), None), package(second.path(), None)];
    let [one, two] = packages.map(|path| fs::read(path).unwrap());
    assert!(one == two, "two packages of the same programs differ");
}

#[test]
fn the_package_holds_every_part() {
    let out = tempfile::tempdir().unwrap();
    let package = package(out.path(), None);
    let files = files(&package);
    let mut wanted: BTreeSet<String> = [
        "usr/bin/sekishod",
        "usr/bin/sekisho",
        "usr/sbin/sekisho-setup",
        "usr/lib/sysusers.d/sekisho.conf",
        "usr/lib/tmpfiles.d/sekisho.conf",
        "usr/lib/modules-load.d/sekisho.conf",
        "usr/share/sekisho/closed.nft",
        "usr/share/sekisho/prometheus/alerts.yml",
        "usr/share/sekisho/grafana/ja/overview.json",
        "usr/share/sekisho/runbooks/ja/README.md",
        "usr/share/doc/sekisho/examples/clinic.toml",
        "usr/share/doc/sekisho/changelog.gz",
        "usr/share/doc/sekisho/copyright",
        "usr/share/man/man1/sekisho.1.gz",
        "usr/share/man/man8/sekisho-setup.8.gz",
        "usr/share/bash-completion/completions/sekisho",
        "usr/share/zsh/vendor-completions/_sekisho",
        "usr/share/fish/vendor_completions.d/sekisho.fish",
    ]
    .map(str::to_owned)
    .into();
    for unit in fs::read_dir(workspace().join("firmware/units")).unwrap() {
        wanted.insert(format!("usr/lib/systemd/system/{}", unit.unwrap().file_name().display()));
    }
    let missing: Vec<_> = wanted.difference(&files).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Nothing under /etc: what a package puts there, an upgrade asks about. Nothing outside /usr at all.
    let strange: Vec<_> = files.iter().filter(|path| !path.starts_with("usr/")).collect();
    assert!(strange.is_empty(), "{strange:?}");
    let depends = printed(Command::new("dpkg-deb").arg("--field").arg(&package).arg("Depends"));
    for name in ["libnftnl11", "libc6", "nftables", "chrony", "dnsmasq-base", "dhcpcd-base"] {
        assert!(depends.split([',', ' ']).any(|word| word == name), "{name} is not in `{depends}`");
    }
}

/// The early rules are core's own closed state, so that core takes over a table that it knows.
#[test]
fn the_early_rules_are_the_closed_rule_set() {
    let text = fs::read_to_string(workspace().join("firmware/nft/closed.nft")).unwrap();
    let rules: Vec<&str> = text.lines().skip_while(|line| line.starts_with('#')).collect();
    let closed = policy::render::render(&policy::compile::closed());
    let wanted: Vec<&str> = std::iter::once("create table inet sekisho").chain(closed.lines()).collect();
    assert_eq!(rules, wanted);
}

/// One version for what cargo builds and what dpkg installs.
#[test]
fn the_changelog_has_the_version_of_the_programs() {
    let changelog = fs::read_to_string(workspace().join("firmware/debian/changelog")).unwrap();
    assert!(changelog.starts_with(&format!("sekisho ({})", env!("CARGO_PKG_VERSION"))), "{changelog}");
}
