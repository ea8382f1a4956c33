//! How much memory this process holds.

use events::{Family, Role, Sample};

/// Resident memory in bytes, as proc_pid_status(5) says it; nothing where it cannot be read.
pub(crate) fn sample(role: Role) -> Option<Sample> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u32 = line.split_whitespace().next()?.parse().ok()?;
    Some(Sample::new(Family::RoleResident, &[role.word()], f64::from(kibibytes) * 1024.0))
}
