//! Debian 12's own kernel, booted in QEMU, passes what the host's kernel may be too bare for: every integration test of
//! the netfilter crate, VLAN sub-interfaces, flowtable and WireGuard. It needs no root, and some minutes of CPU.
//!
//! `SEKISHO_SKIP_QEMU=1` leaves it out and says so; without that, a missing QEMU or kernel is a failure.

#![expect(
    clippy::panic,
    reason = "a test that cannot go on says so; clippy exempts only functions marked as tests"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::vm::{Kernel, Vm, VmReport, test_executables};

/// The whole guest: the machine may be shared, and everything in it is emulated.
const GUEST_LIMIT: Duration = Duration::from_mins(45);
/// One program in the guest.
const PROGRAM_LIMIT: Duration = Duration::from_mins(15);

const VLAN: &str = include_str!("qemu/vlan.sh");
/// This kernel empties a deleted map under packets that are among its rules (adr/0001): the test that would see it.
const FLOOD: &str = "test flood::a_packet_held_among_old_rules_still_finds_their_set ... ok";
/// Prints what could be taken for results, and fails.
const FORGER: &str = "#!/bin/sh\necho program forged 0 0\necho 'done 1'\nexit 7\n";

#[test]
fn debians_own_kernel_conforms() {
    if std::env::var_os("SEKISHO_SKIP_QEMU").is_some_and(|value| value == "1") {
        eprintln!("SKIPPED: SEKISHO_SKIP_QEMU=1 is set, so nothing was tried on Debian's kernel");
        return;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let executables = test_executables(workspace, "netfilter").unwrap_or_else(|error| panic!("{error}"));
    assert!(!executables.is_empty(), "the netfilter crate has no integration tests to run in the guest");
    let conformance = conformance(workspace);

    let kernel = Kernel::fetched(workspace).unwrap_or_else(|error| panic!("{error}"));
    let report =
        guest(kernel, &executables, &conformance).run(GUEST_LIMIT).unwrap_or_else(|error| panic!("{error}"));
    for result in &report.results {
        println!("{:4} {}", result.exit_code, result.name);
    }
    let failures: Vec<String> = failures(&report, &executables).collect();
    assert!(failures.is_empty(), "{}\nconsole:\n{}", failures.join("\n\n"), report.console);
    println!("{}", report.result("vlan").unwrap().output);
}

/// The kernel's own WireGuard, which few machines that run these tests have: the same tests as for our own data path.
#[test]
fn the_kernels_wireguard_does_what_our_own_does() {
    if std::env::var_os("SEKISHO_SKIP_QEMU").is_some_and(|value| value == "1") {
        eprintln!("SKIPPED: SEKISHO_SKIP_QEMU=1 is set, so the kernel's WireGuard was not tried");
        return;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let executables = test_executables(workspace, "tunnel").unwrap_or_else(|error| panic!("{error}"));
    let (_, backends) = executables.iter().find(|(name, _)| name == "backends").unwrap();
    let kernel = Kernel::fetched(workspace).unwrap_or_else(|error| panic!("{error}"));
    let argv = ["/vm/backends", "--nocapture", "--test-threads=2"];
    let vm = Vm::new(kernel).tool("wg", "wireguard-tools").file(backends, argv[0]);
    let vm = vm.program_within(PROGRAM_LIMIT, "backends", &argv);
    let report = vm.run(GUEST_LIMIT).unwrap_or_else(|error| panic!("{error}"));
    let verdicts = [
        expect(&report, "backends", 0, "test result: ok."),
        expect(&report, "backends", 0, "the kernel's WireGuard does the same"),
        ran_something(&report, "backends"),
    ];
    let failures: Vec<String> = verdicts.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{}\nconsole:\n{}", failures.join("\n\n"), report.console);
    let output = &report.result("backends").unwrap().output;
    assert!(!output.contains("SKIPPED"), "a test did not try the kernel's:\n{output}");
    println!("{output}");
}

fn guest(kernel: Kernel, executables: &[(String, PathBuf)], conformance: &Path) -> Vm {
    let mut vm = Vm::new(kernel)
        .tool("unshare", "util-linux")
        .tool("conntrack", "conntrack")
        .script(FORGER, "/vm/forger")
        .program("forger", &["/vm/forger"])
        .program_within(Duration::from_secs(2), "hanging", &["sleep", "1000"])
        .script(VLAN, "/vm/vlan.sh")
        .program_within(PROGRAM_LIMIT, "vlan", &["/vm/vlan.sh", "straight"])
        .program_within(PROGRAM_LIMIT, "vlan-swapped", &["/vm/vlan.sh", "swap"]);
    // The example policy on this kernel: for every flow a packet that must pass and packets that must not.
    vm = vm.file(conformance, "/vm/conformance").program_within(
        PROGRAM_LIMIT,
        "conformance",
        &["/vm/conformance", "per_flow", "link", "--test-threads=1"],
    );
    for (name, path) in executables {
        let guest_path = format!("/vm/tests/{name}");
        let argv = [guest_path.as_str(), "--test-threads=2"];
        vm = vm.file(path, &guest_path).program_within(PROGRAM_LIMIT, &program_name(name), &argv);
    }
    vm
}

fn conformance(workspace: &Path) -> PathBuf {
    let executables = test_executables(workspace, "tests").unwrap_or_else(|error| panic!("{error}"));
    let found = executables.into_iter().find(|(name, _)| name == "conformance");
    found.unwrap_or_else(|| panic!("the tests crate has no test named conformance")).1
}

fn program_name(executable: &str) -> String {
    format!("netfilter-{executable}")
}

/// Everything that did not go as it must, each with what the guest printed about it.
fn failures(report: &VmReport, executables: &[(String, PathBuf)]) -> impl Iterator<Item = String> {
    let kernel = report.release.starts_with("6.1.").then_some(()).ok_or(format!("kernel {}", report.release));
    let mut verdicts = vec![kernel];
    // A failure in the guest must be seen here: a forged result, a program that hangs, rules for the wrong interfaces.
    verdicts.push(expect(report, "forger", 7, "program forged 0 0\ndone 1\n"));
    verdicts.push(expect(report, "hanging", 128 + 9, ""));
    verdicts.push(expect(report, "vlan-swapped", 1, "not ok ehr to 10.20.0.2: wanted `pass`, found `drop`"));
    verdicts.push(expect(report, "vlan", 0, "\n0 failed\n"));
    verdicts.push(expect(report, "conformance", 0, "test result: ok."));
    verdicts.push(ran_something(report, "conformance"));
    verdicts.push(expect(report, &program_name("kernel"), 0, FLOOD));
    for (name, _) in executables {
        verdicts.push(expect(report, &program_name(name), 0, "test result: ok."));
        verdicts.push(ran_something(report, &program_name(name)));
    }
    verdicts.into_iter().filter_map(Result::err)
}

fn expect(report: &VmReport, name: &str, exit_code: u8, words: &str) -> Result<(), String> {
    match report.result(name) {
        Some(result) if result.exit_code == exit_code && result.output.contains(words) => Ok(()),
        Some(result) => Err(format!(
            "`{name}` ended with {} instead of {exit_code}, or did not say `{words}`:\n{}",
            result.exit_code, result.output
        )),
        None => Err(format!("`{name}` did not run")),
    }
}

/// An executable whose tests were all filtered out or ignored proves nothing.
fn ran_something(report: &VmReport, name: &str) -> Result<(), String> {
    let output = report.result(name).map_or("", |result| &result.output);
    if output.contains(" 0 passed") { Err(format!("`{name}` ran no test:\n{output}")) } else { Ok(()) }
}
