//! A disk without room, in a mount namespace of its own.

use std::process::Command;

use crate::common::scratch;

/// A small disk, most of it taken by somebody else.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs -o size=16m none "$1"
dd if=/dev/zero of="$1/filler" bs=1M count=6 status=none
exec "$2" full "$1/log" "$1/filler"
"#;

#[test]
fn a_full_disk_refuses_what_is_ordinary_keeps_what_is_critical_and_recovers() {
    let directory = scratch();
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", SCRIPT, "sh"])
        .arg(directory.path())
        .arg(env!("CARGO_BIN_EXE_record-appender"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("refused: not recorded: the disk is full"), "{said}");
    assert_eq!(lines[1..], ["gate refused: true", "critical: 5 durable", "again: good true"]);
}
