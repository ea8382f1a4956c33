//! Peers in the text of a policy file: everything else in it, comments included, stays as it is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use thiserror::Error;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use crate::exit::CliError;

/// Why a file is not changed.
#[derive(Debug, Error)]
pub(super) enum EditError {
    /// Not TOML.
    #[error("the policy file is not understood: {0}")]
    Toml(#[from] toml_edit::TomlError),
    /// No VPN in it.
    #[error("the policy file has no [vpn]: write `listen` and `address` there first")]
    NoVpn,
    /// Peers are written as an inline array.
    #[error("the peers are written in one line: write each as a [[vpn.peer]] of its own first")]
    Inline,
    /// The name is taken.
    #[error("the policy file has a peer `{0}` already")]
    Taken(String),
    /// The name is nobody's.
    #[error("the policy file has no peer `{0}`; if it is in an included file, change that one")]
    Unknown(String),
}

/// A peer to be added.
#[derive(Debug)]
pub(super) struct NewPeer<'a> {
    pub(super) name: &'a str,
    pub(super) person: &'a str,
    pub(super) reach: &'a [String],
    pub(super) public_key: &'a str,
}

/// The text with one more peer.
pub(super) fn add(text: &str, peer: &NewPeer<'_>) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse()?;
    let peers = peers(&mut document)?;
    if peers.iter().any(|table| is_named(table, peer.name)) {
        return Err(EditError::Taken(peer.name.to_owned()));
    }
    let mut table = Table::new();
    table.insert("name", value(peer.name));
    table.insert("person", value(peer.person));
    table.insert("public_key", value(peer.public_key));
    table.insert("reach", value(peer.reach.iter().map(String::as_str).collect::<Array>()));
    peers.push(table);
    Ok(document.to_string())
}

/// The text without a peer.
pub(super) fn remove(text: &str, name: &str) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse()?;
    let peers = peers(&mut document)?;
    let before = peers.len();
    peers.retain(|table| !is_named(table, name));
    if peers.len() == before {
        return Err(EditError::Unknown(name.to_owned()));
    }
    Ok(document.to_string())
}

fn peers(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, EditError> {
    let vpn = document.get_mut("vpn").and_then(Item::as_table_mut).ok_or(EditError::NoVpn)?;
    let peers = vpn.entry("peer").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    peers.as_array_of_tables_mut().ok_or(EditError::Inline)
}

fn is_named(table: &Table, name: &str) -> bool {
    table.get("name").and_then(Item::as_str) == Some(name)
}

/// Puts the text in the file's place, whole or not at all, with the file's mode.
pub(super) fn write(file: &Path, text: &str) -> Result<(), CliError> {
    let failed = |source: io::Error| CliError::Write { path: file.to_owned(), source };
    let real = file.canonicalize().map_err(failed)?;
    let mode = fs::metadata(&real).map_err(failed)?.permissions().mode();
    let beside = real.with_extension("toml.new");
    let written = || {
        let mut options = OpenOptions::new();
        let mut out = options.create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        out.set_permissions(fs::Permissions::from_mode(mode))?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&beside, &real)
    };
    written().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# the clinic
[vpn] # the door
listen = \"udp/51820\"
address = [\"10.90.0.1/24\"]

# the doctor
[[vpn.peer]]
name = \"a\" # her notebook
person = \"p\"

[vendor.acme] # after it
";

    fn peer<'a>(name: &'a str, reach: &'a [String]) -> NewPeer<'a> {
        NewPeer { name, person: "佐倉 花子", reach, public_key: "KEY=" }
    }

    #[test]
    fn a_peer_comes_and_goes_and_everything_else_stays() {
        let reach = ["device:x:ssh".to_owned(), "device:y:https".to_owned()];
        let more = add(TEXT, &peer("b", &reach)).unwrap();
        assert!(more.contains("[[vpn.peer]]\nname = \"b\"\nperson = \"佐倉 花子\"\npublic_key = \"KEY=\"\nreach = [\"device:x:ssh\", \"device:y:https\"]\n"), "{more}");
        for comment in ["# the clinic", "# the door", "# the doctor", "# her notebook", "# after it"] {
            assert!(more.contains(comment), "{more}");
        }
        assert_eq!(remove(&more, "b").unwrap(), TEXT);
        let fewer = remove(&more, "a").unwrap();
        assert!(
            !fewer.contains("her notebook") && fewer.contains("name = \"b\"") && fewer.contains("# after it")
        );
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        assert!(matches!(add(TEXT, &peer("a", &[])), Err(EditError::Taken(_))));
        assert!(matches!(remove(TEXT, "c"), Err(EditError::Unknown(_))));
        assert!(matches!(add("[clinic]\n", &peer("a", &[])), Err(EditError::NoVpn)));
        assert!(matches!(add("[vpn]\npeer = [{ name = \"x\" }]\n", &peer("a", &[])), Err(EditError::Inline)));
        assert!(matches!(add("[vpn", &peer("a", &[])), Err(EditError::Toml(_))));
        let first = add("[vpn]\nlisten = \"udp/1\"\n", &peer("a", &[])).unwrap();
        assert!(first.contains("[[vpn.peer]]\nname = \"a\""), "{first}");
    }

    #[test]
    fn a_name_with_quotes_is_still_one_name() {
        let text = add(TEXT, &peer("b\"]\n[x", &[])).unwrap();
        let document: DocumentMut = text.parse().unwrap();
        assert!(document.get("x").is_none());
        assert!(matches!(add(&text, &peer("b\"]\n[x", &[])), Err(EditError::Taken(_))));
    }
}
