//! What a unit forbids its process by seccomp (systemd.exec(5): `SystemCallFilter=`, `SystemCallErrorNumber=`,
//! `RestrictAddressFamilies=`), as programs for the kernel. Where systemd knows more forms, ours are refused as such.
use std::{collections::BTreeMap, env::consts::ARCH};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use syscalls::Sysno;

use crate::{LabError, calls::named_calls};

/// Socket families of linux/socket.h, those that units of ours name.
const FAMILIES: [(&str, u32); 5] =
    [("AF_UNIX", 1), ("AF_INET", 2), ("AF_INET6", 10), ("AF_NETLINK", 16), ("AF_PACKET", 17)];
/// Errors of asm-generic/errno-base.h and errno.h that a unit may answer a forbidden call with.
const ERRORS: [(&str, u32); 4] = [("EPERM", 1), ("EACCES", 13), ("EXDEV", 18), ("ENOSYS", 38)];
/// What systemd answers a `socket(2)` of a forbidden family with.
const EAFNOSUPPORT: u32 = 97;

/// Is the part of a unit that limits system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// `SystemCallFilter=`, an allow list: calls and groups in order, with `~` those taken away again. None when the
    /// unit limits nothing.
    pub system_calls: Option<Vec<String>>,
    /// `SystemCallErrorNumber=`.
    pub refusal: Refusal,
    /// `RestrictAddressFamilies=`; none when the unit does not limit them.
    pub address_families: Option<Vec<String>>,
    /// `SystemCallArchitectures=native`.
    pub native_only: bool,
}

/// Says what a forbidden call meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// The end of the process, which is systemd's default.
    #[default]
    Kill,
    /// This error number.
    Error(u32),
}

impl Confinement {
    /// Takes a directive of `[Service]`; tells whether it is one of these.
    pub(crate) fn apply(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "SystemCallFilter" => self.add_calls(value)?,
            "SystemCallErrorNumber" => self.refusal = refusal(value)?,
            "RestrictAddressFamilies" => self.add_families(value)?,
            "SystemCallArchitectures" => match value {
                "native" => self.native_only = true,
                _ => return Err(format!("`{key}={value}`: the lab knows `native` only")),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Tells how many seccomp filters this makes.
    #[must_use]
    pub fn filters(&self) -> usize {
        usize::from(self.system_calls.is_some()) + usize::from(self.address_families.is_some())
    }

    /// Compiles the filters in the order in which they are put in force: the last may forbid to add another.
    pub(crate) fn programs(&self) -> Result<Vec<BpfProgram>, LabError> {
        let families = self.address_families.as_deref().map(only_families);
        let calls = self.system_calls.as_deref().map(|words| only_calls(words, self.refusal));
        families.into_iter().chain(calls).collect()
    }

    fn add_calls(&mut self, value: &str) -> Result<(), String> {
        let (taken, rest) = value.strip_prefix('~').map_or((false, value), |rest| (true, rest));
        if rest.is_empty() {
            self.system_calls = None;
            return Ok(());
        }
        if self.system_calls.is_none() && taken {
            return Err(format!(
                "`SystemCallFilter={value}`: the lab knows lists that begin with what is allowed"
            ));
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "@_-".contains(c);
        let list = self.system_calls.get_or_insert_default();
        for word in rest.split_whitespace() {
            if !word.chars().all(plain) {
                return Err(format!("`SystemCallFilter={value}`: the lab does not understand `{word}`"));
            }
            list.push(if taken { format!("~{word}") } else { word.to_owned() });
        }
        Ok(())
    }

    fn add_families(&mut self, value: &str) -> Result<(), String> {
        let list = self.address_families.get_or_insert_default();
        match value {
            "" => self.address_families = None,
            "none" => list.clear(),
            names => {
                for name in names.split_whitespace() {
                    family(name).ok_or_else(|| {
                        format!("`RestrictAddressFamilies={value}`: the lab does not know `{name}`")
                    })?;
                    list.push(name.to_owned());
                }
            }
        }
        Ok(())
    }
}

fn refusal(value: &str) -> Result<Refusal, String> {
    let number = ERRORS.iter().find(|(name, _)| *name == value).map(|(_, number)| Refusal::Error(*number));
    let kill = (value == "kill").then_some(Refusal::Kill);
    number
        .or(kill)
        .ok_or_else(|| format!("`SystemCallErrorNumber={value}`: the lab does not know this error"))
}

fn family(name: &str) -> Option<u32> {
    FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn only_calls(words: &[String], refusal: Refusal) -> Result<BpfProgram, LabError> {
    let rules = named_calls(words)?.into_iter().map(|call| (call, Vec::new())).collect();
    let otherwise = match refusal {
        Refusal::Kill => SeccompAction::KillProcess,
        Refusal::Error(number) => SeccompAction::Errno(number),
    };
    compile(rules, otherwise, SeccompAction::Allow)
}

fn only_families(names: &[String]) -> Result<BpfProgram, LabError> {
    let other_than = |name: &String| {
        let number = u64::from(family(name).unwrap_or_default());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, number)
    };
    let conditions = names.iter().map(other_than).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    // No condition at all holds always: not one family is left.
    let rules = match conditions.is_empty() {
        true => Vec::new(),
        false => vec![SeccompRule::new(conditions).map_err(wrong)?],
    };
    let rules = BTreeMap::from([(i64::from(Sysno::socket.id()), rules)]);
    compile(rules, SeccompAction::Allow, SeccompAction::Errno(EAFNOSUPPORT))
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, LabError> {
    let arch = TargetArch::try_from(ARCH).map_err(wrong)?;
    SeccompFilter::new(rules, otherwise, matched, arch).and_then(BpfProgram::try_from).map_err(wrong)
}

fn wrong(error: seccompiler::BackendError) -> LabError {
    LabError::Impossible(format!("the unit's filter cannot be compiled: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&str, &str)]) -> Result<Confinement, String> {
        let mut confinement = Confinement::default();
        for (key, value) in lines {
            assert!(confinement.apply(key, value)?, "{key}");
        }
        Ok(confinement)
    }

    #[test]
    fn lines_add_up_and_an_empty_one_resets() {
        let filter = "SystemCallFilter";
        let lines = [(filter, "@system-service @clock"), (filter, "~@mount @debug"), (filter, "chown")];
        let words = of(&lines).unwrap().system_calls.unwrap();
        assert_eq!(words, ["@system-service", "@clock", "~@mount", "~@debug", "chown"]);
        assert_eq!(of(&[lines[0], (filter, "")]).unwrap(), Confinement::default());
        let families = "RestrictAddressFamilies";
        let both = of(&[(families, "AF_UNIX"), (families, "AF_INET")]).unwrap();
        assert_eq!(both.address_families.as_deref().unwrap(), ["AF_UNIX", "AF_INET"]);
        assert_eq!(of(&[(families, "none")]).unwrap().address_families, Some(Vec::new()));
        assert_eq!(of(&[(families, "AF_UNIX"), (families, "")]).unwrap().filters(), 0);
        assert_eq!(of(&[lines[0], (families, "AF_UNIX")]).unwrap().filters(), 2);
        assert_eq!(of(&[("SystemCallErrorNumber", "EPERM")]).unwrap().refusal, Refusal::Error(1));
    }

    #[test]
    fn what_the_lab_cannot_follow_is_refused() {
        for (key, value) in [
            ("SystemCallFilter", "~@mount"),
            ("SystemCallFilter", "mount:ENOSYS"),
            ("SystemCallErrorNumber", "EWHATEVER"),
            ("SystemCallArchitectures", "x86"),
            ("RestrictAddressFamilies", "~AF_PACKET"),
            ("RestrictAddressFamilies", "AF_CAN"),
        ] {
            let error = of(&[(key, value)]).unwrap_err();
            assert!(error.contains(&format!("`{key}={value}`")), "{error}");
        }
        assert!(!Confinement::default().apply("ProtectSystem", "strict").unwrap());
    }

    #[test]
    fn families_compile_with_and_without_exceptions() {
        for names in [&[][..], &["AF_UNIX"], &["AF_UNIX", "AF_INET6"]] {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            assert!(!only_families(&names).unwrap().is_empty());
        }
    }
}
