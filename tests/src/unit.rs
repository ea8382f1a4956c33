//! Reads what a systemd unit file says about the identity and the directories of its process
//! (systemd.exec(5), systemd.service(5)). What the lab cannot follow is an error or is listed, never guessed.
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use freedesktop_entry_parser::low_level::parse_entry_str;

use crate::{Confinement, LabError};

/// A unit file longer than this is not one of ours.
const UNIT_LIMIT_BYTES: usize = 64 << 10;
const DIRECTORY_MODE: u32 = 0o755;
const ROOT: &str = "root";

/// Is the part of a service unit that `RoleRunner` enacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The unit's name without `.service`.
    pub name: String,
    /// `User=`; root when absent, as systemd has it. For `DynamicUser=` the unit's own name, as systemd has it too; in
    /// the lab that user stays.
    pub user: String,
    /// `Group=`, or the user's own group.
    pub group: Option<String>,
    /// `SupplementaryGroups=`.
    pub supplementary_groups: Vec<String>,
    /// `AmbientCapabilities=`, as in `CAP_NET_ADMIN`.
    pub ambient: Vec<String>,
    /// `CapabilityBoundingSet=`; none when the unit does not limit it.
    pub bounding: Option<Vec<String>>,
    /// `NoNewPrivileges=`.
    pub no_new_privileges: bool,
    /// What it forbids by seccomp.
    pub confinement: Confinement,
    /// `ExecStart=`, program first.
    pub exec: Vec<String>,
    /// `RuntimeDirectory=` with `RuntimeDirectoryMode=`.
    pub runtime: Directories,
    /// `StateDirectory=` with `StateDirectoryMode=`.
    pub state: Directories,
    /// `Environment=`.
    pub environment: Vec<(String, String)>,
    /// Whether the service tells when it is ready (`Type=notify`).
    pub notifies: bool,
    /// Directives of `[Service]` that the lab leaves out, in the file's order.
    pub not_applied: Vec<String>,
}

/// Names directories that systemd makes before the service starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// Their names, relative to `/run` or `/var/lib`.
    pub names: Vec<PathBuf>,
    /// Their permission bits.
    pub mode: u32,
}

impl Unit {
    /// Reads a unit file.
    /// # Errors
    /// Fails when the file cannot be read or says what the lab cannot follow.
    pub fn read(path: &Path) -> Result<Self, LabError> {
        let text = fs::read_to_string(path).map_err(LabError::io(format!("read {}", path.display())))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &text)
    }

    /// Reads a unit's text.
    /// # Errors
    /// Fails when the text says what the lab cannot follow.
    pub fn parse(name: &str, text: &str) -> Result<Self, LabError> {
        let name = name.trim_end_matches(".service");
        let wrong = |reason: String| LabError::Unit { unit: name.into(), reason };
        if text.len() > UNIT_LIMIT_BYTES {
            return Err(wrong(format!("longer than {UNIT_LIMIT_BYTES} bytes")));
        }
        let plain_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '@';
        if name.is_empty() || !name.chars().all(plain_name) {
            return Err(wrong("the name may hold letters, digits, `-`, `_` and `@` only".to_owned()));
        }
        let (mut unit, mut dynamic_user) = (Self::empty(name), false);
        for section in parse_entry_str(text.as_bytes()) {
            let section = section.map_err(|error| wrong(format!("not a unit file: {error}")))?;
            for line in section.attrs.iter().filter(|_| section.title == "Service") {
                match (line.name, line.value.trim()) {
                    ("DynamicUser", value) => dynamic_user = boolean(line.name, value).map_err(wrong)?,
                    (key, value) => unit.apply(key, value).map_err(wrong)?,
                }
            }
        }
        if unit.exec.is_empty() {
            return Err(wrong("no `ExecStart=` in `[Service]`".to_owned()));
        }
        if dynamic_user {
            unit.become_dynamic();
        }
        let confinable = unit.no_new_privileges && unit.confinement.native_only;
        if unit.confinement.filters() > 0 && !confinable {
            let asked = "filters ask for `NoNewPrivileges=yes` and `SystemCallArchitectures=native`";
            return Err(wrong(asked.to_owned()));
        }
        Ok(unit)
    }

    fn empty(name: &str) -> Self {
        let directories = Directories { names: Vec::new(), mode: DIRECTORY_MODE };
        Self {
            name: name.to_owned(),
            user: ROOT.to_owned(),
            group: None,
            supplementary_groups: Vec::new(),
            ambient: Vec::new(),
            bounding: None,
            no_new_privileges: false,
            confinement: Confinement::default(),
            exec: Vec::new(),
            runtime: directories.clone(),
            state: directories,
            environment: Vec::new(),
            notifies: false,
            not_applied: Vec::new(),
        }
    }

    /// `DynamicUser=yes` names the user, and rules out that the process gains anything (systemd.exec(5)).
    fn become_dynamic(&mut self) {
        if self.user == ROOT {
            self.user.clone_from(&self.name);
        }
        self.no_new_privileges = true;
    }

    fn apply(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "User" => self.user = plain(key, value)?,
            "Group" => self.group = Some(plain(key, value)?),
            "SupplementaryGroups" => extend(&mut self.supplementary_groups, words(key, value)?),
            "AmbientCapabilities" => extend(&mut self.ambient, capabilities(key, value)?),
            "CapabilityBoundingSet" => {
                extend(self.bounding.get_or_insert_default(), capabilities(key, value)?);
            }
            "NoNewPrivileges" => self.no_new_privileges = boolean(key, value)?,
            "ExecStart" if self.exec.is_empty() => self.exec = command_line(key, value)?,
            "RuntimeDirectory" => extend(&mut self.runtime.names, directories(key, value)?),
            "RuntimeDirectoryMode" => self.runtime.mode = mode(key, value)?,
            "StateDirectory" => extend(&mut self.state.names, directories(key, value)?),
            "StateDirectoryMode" => self.state.mode = mode(key, value)?,
            "Environment" => extend(&mut self.environment, assignments(key, value)?),
            "Type" => self.notifies = value.starts_with("notify"),
            "ExecStart" | "PermissionsStartOnly" | "RootDirectory" => {
                return Err(format!("the lab cannot follow `{key}={value}`; extend tests/src/unit.rs"));
            }
            other => {
                if !self.confinement.apply(other, value)? {
                    self.not_applied.push(other.to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Appends to a list directive; an empty assignment resets it (systemd.exec(5)).
fn extend<T>(list: &mut Vec<T>, more: Vec<T>) {
    if more.is_empty() {
        list.clear();
    }
    list.extend(more);
}

fn plain(key: &str, value: &str) -> Result<String, String> {
    match words(key, value)?.as_slice() {
        [word] => Ok(word.clone()),
        _ => Err(format!("`{key}={value}` is not one word")),
    }
}

/// Splits at blanks; quotes, specifiers and variables are refused instead of being taken literally.
fn words(key: &str, value: &str) -> Result<Vec<String>, String> {
    if value.contains(['"', '\'', '\\', '%', '$']) {
        return Err(format!("the lab does not understand quotes, `\\`, `%` and `$` in `{key}={value}`"));
    }
    Ok(value.split_whitespace().map(str::to_owned).collect())
}

fn command_line(key: &str, value: &str) -> Result<Vec<String>, String> {
    if !value.starts_with('/') {
        return Err(format!("`{key}={value}` does not start with an absolute path"));
    }
    words(key, value)
}

fn capabilities(key: &str, value: &str) -> Result<Vec<String>, String> {
    let names = words(key, value)?;
    let known = |name: &String| {
        let rest = name.strip_prefix("CAP_").unwrap_or_default();
        !rest.is_empty() && rest.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    };
    match names.iter().find(|name| !known(name)) {
        Some(name) => {
            Err(format!("`{name}` in `{key}=` is not a capability; inverted sets are not understood"))
        }
        None => Ok(names),
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(format!("`{key}={value}` is neither yes nor no")),
    }
}

fn mode(key: &str, value: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("`{key}={value}` is not an octal mode"))
}

fn directories(key: &str, value: &str) -> Result<Vec<PathBuf>, String> {
    let paths: Vec<_> = words(key, value)?.into_iter().map(PathBuf::from).collect();
    let inside = |path: &PathBuf| path.components().all(|part| matches!(part, Component::Normal(_)));
    if paths.iter().all(inside) { Ok(paths) } else { Err(format!("`{key}={value}` leaves its parent")) }
}

fn assignments(key: &str, value: &str) -> Result<Vec<(String, String)>, String> {
    let split = |word: &String| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let pairs: Option<Vec<_>> = words(key, value)?.iter().map(split).collect();
    pairs.ok_or_else(|| format!("`{key}={value}` is not a list of NAME=VALUE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "[Unit]\nUser=nobody\n\n[Service]\n# why\nType=notify\nUser=sekisho-core\n\
        SupplementaryGroups=a b\nSupplementaryGroups=c\nAmbientCapabilities=CAP_NET_ADMIN\n\
        CapabilityBoundingSet=CAP_NET_ADMIN \\\n  CAP_SYS_TIME\nNoNewPrivileges=yes\n\
        ExecStart=/usr/sbin/sekishod core --log json\nRuntimeDirectory=sekisho\nRuntimeDirectoryMode=0750\n\
        ProtectSystem=strict\nSystemCallArchitectures=native\nSystemCallFilter=@system-service\n";

    #[test]
    fn a_unit_is_read_as_systemd_reads_it() {
        let unit = Unit::parse("sekisho-core.service", SAMPLE).unwrap();
        assert_eq!(unit.name, "sekisho-core");
        assert_eq!(unit.user, "sekisho-core");
        assert_eq!(unit.supplementary_groups, ["a", "b", "c"]);
        assert_eq!(unit.ambient, ["CAP_NET_ADMIN"]);
        assert_eq!(unit.bounding.as_deref().unwrap(), ["CAP_NET_ADMIN", "CAP_SYS_TIME"]);
        assert_eq!(unit.exec, ["/usr/sbin/sekishod", "core", "--log", "json"]);
        assert_eq!(unit.runtime, Directories { names: vec!["sekisho".into()], mode: 0o750 });
        assert_eq!(unit.not_applied, ["ProtectSystem"]);
        assert_eq!(unit.confinement.system_calls.as_deref().unwrap(), ["@system-service"]);
        assert!(unit.no_new_privileges && unit.notifies);
    }

    #[test]
    fn an_empty_assignment_resets_and_an_absent_one_does_not_limit() {
        let bounding = |lines: &str| {
            Unit::parse("x", &format!("[Service]\nExecStart=/bin/true\n{lines}")).unwrap().bounding
        };
        assert_eq!(bounding(""), None);
        assert_eq!(bounding("CapabilityBoundingSet=\n"), Some(vec![]));
        assert_eq!(bounding("CapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=\n"), Some(vec![]));
    }

    #[test]
    fn a_dynamic_user_has_the_units_name_and_gains_nothing() {
        let unit = Unit::parse("x", "[Service]\nExecStart=/bin/true\nDynamicUser=yes\nGroup=g\n").unwrap();
        assert_eq!((unit.user.as_str(), unit.group.as_deref()), ("x", Some("g")));
        assert!(unit.no_new_privileges);
        let named = Unit::parse("x", "[Service]\nExecStart=/bin/true\nDynamicUser=yes\nUser=y\n").unwrap();
        assert_eq!(named.user, "y");
    }

    #[test]
    fn what_the_lab_cannot_follow_is_refused() {
        for line in [
            "DynamicUser=maybe",
            "SystemCallFilter=@system-service",
            "NoNewPrivileges=yes\nSystemCallFilter=@system-service",
            "SystemCallArchitectures=native\nRestrictAddressFamilies=AF_UNIX",
            "CapabilityBoundingSet=~CAP_CHOWN",
            "RuntimeDirectory=../etc",
            "User=%i",
            "NoNewPrivileges=maybe",
            "StateDirectoryMode=99",
            "ExecStart=/bin/true",
        ] {
            let text = format!("[Service]\nExecStart=/bin/true\n{line}\n");
            let error = Unit::parse("x", &text).unwrap_err().to_string();
            assert!(error.starts_with("unit x: "), "{line}: {error}");
        }
        assert!(Unit::parse("x", "[Service]\nUser=a\n").is_err());
    }
}
