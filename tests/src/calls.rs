//! The system calls that systemd's names stand for, groups such as `@system-service` included (systemd.exec(5),
//! `SystemCallFilter=`): the installed systemd is asked what its groups hold, nothing is copied here.
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    str::FromStr,
    sync::OnceLock,
};

use syscalls::Sysno;

use crate::{LabError, namespace::finished};

/// What systemd puts into every allow list.
const ALWAYS_ALLOWED: &str = "@default";
/// How deep groups may hold groups; systemd's go three deep.
const DEPTH_LIMIT: usize = 8;

/// Names a group's members, which may be groups themselves.
type Groups = BTreeMap<String, Vec<String>>;

/// Gives the numbers of the system calls that the words of an allow list leave, in order: a call or a group adds,
/// with `~` before it it takes away.
/// # Errors
/// Fails when there is no `systemd-analyze`, or for a word that means nothing on this architecture.
pub fn named_calls(words: &[String]) -> Result<BTreeSet<i64>, LabError> {
    resolve(groups()?, words).map_err(LabError::Impossible)
}

fn resolve(groups: &Groups, words: &[String]) -> Result<BTreeSet<i64>, String> {
    let mut calls = members(groups, ALWAYS_ALLOWED, DEPTH_LIMIT)?;
    for word in words {
        match word.strip_prefix('~') {
            Some(taken) => {
                let taken = members(groups, taken, DEPTH_LIMIT)?;
                calls.retain(|call| !taken.contains(call));
            }
            None => calls.extend(members(groups, word, DEPTH_LIMIT)?),
        }
    }
    Ok(calls)
}

fn members(groups: &Groups, name: &str, depth: usize) -> Result<BTreeSet<i64>, String> {
    if !name.starts_with('@') {
        let known = number(name).ok_or_else(|| format!("`{name}` is no system call of this architecture"))?;
        return Ok(BTreeSet::from([known]));
    }
    let group = groups.get(name).filter(|_| depth > 0);
    let group = group
        .ok_or_else(|| format!("systemd has no group `{name}`; see `systemd-analyze syscall-filter`"))?;
    let mut calls = BTreeSet::new();
    for member in group {
        if member.starts_with('@') {
            calls.extend(members(groups, member, depth - 1)?);
        } else {
            // systemd, too, passes over the calls that only other architectures have.
            calls.extend(number(member));
        }
    }
    Ok(calls)
}

fn number(name: &str) -> Option<i64> {
    Sysno::from_str(name).ok().map(|call| i64::from(call.id()))
}

/// Asks systemd once for each process.
fn groups() -> Result<&'static Groups, LabError> {
    static GROUPS: OnceLock<Groups> = OnceLock::new();
    if let Some(groups) = GROUPS.get() {
        return Ok(groups);
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["syscall-filter", "--no-pager"]).env("LC_ALL", "C");
    let said = finished(command)?;
    Ok(GROUPS.get_or_init(|| parse(&said)))
}

/// Reads `systemd-analyze syscall-filter`: a group at the margin, its members indented, comments with `#`.
fn parse(text: &str) -> Groups {
    let mut groups = Groups::new();
    let mut group: Option<&mut Vec<String>> = None;
    for line in text.lines() {
        let word = line.trim();
        if word.is_empty() || word.starts_with('#') {
            continue;
        }
        if !line.starts_with(' ') {
            group = Some(groups.entry(word.to_owned()).or_default());
        } else if let Some(group) = &mut group {
            group.push(word.to_owned());
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "@default\n    # always\n    read\n    exit\n\n@outer\n    # both\n    @inner\n    write\n\
        \n@inner\n    # one\n    mount\n    s390_sthyi\n# Ungrouped:\n#   seccomp\n";

    fn calls(words: &str) -> Result<Vec<i64>, String> {
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        resolve(&parse(SAMPLE), &words).map(|calls| calls.into_iter().collect())
    }

    fn numbers(names: &[&str]) -> Vec<i64> {
        names.iter().map(|name| number(name).unwrap()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    #[test]
    fn words_add_and_take_away_in_their_order() {
        assert_eq!(calls("").unwrap(), numbers(&["read", "exit"]));
        assert_eq!(calls("@outer").unwrap(), numbers(&["read", "exit", "write", "mount"]));
        assert_eq!(calls("@outer ~@inner seccomp").unwrap(), numbers(&["read", "exit", "write", "seccomp"]));
        assert_eq!(calls("mount ~@inner").unwrap(), numbers(&["read", "exit"]));
        assert_eq!(calls("~@inner mount").unwrap(), numbers(&["read", "exit", "mount"]));
        assert_eq!(calls("~read").unwrap(), numbers(&["exit"]));
    }

    #[test]
    fn a_word_that_means_nothing_is_refused() {
        assert!(calls("@nothing").unwrap_err().contains("no group `@nothing`"));
        assert!(calls("redd").unwrap_err().contains("`redd` is no system call"));
        let endless = parse("@default\n    @default\n");
        assert!(resolve(&endless, &[]).is_err());
    }
}
