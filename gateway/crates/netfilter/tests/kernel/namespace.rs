//! A network namespace of its own for each test, on the running kernel.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs a test on a thread in a fresh network namespace, which ends with the thread.
pub(crate) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter_fresh_namespace();
            test()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter_fresh_namespace() {
    let ours = std::fs::read_link("/proc/thread-self/ns/net").expect("own namespace");
    let mut holder =
        Command::new("unshare").args(["--net", "sleep", "60"]).spawn().expect("unshare (util-linux)");
    let path = format!("/proc/{}/ns/net", holder.id());
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::fs::read_link(&path).expect("namespace of the child") == ours {
        assert!(Instant::now() < deadline, "no new namespace: these tests need root");
        std::thread::sleep(Duration::from_millis(2));
    }
    let namespace = File::open(&path).expect("namespace");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
    holder.kill().expect("kill");
    holder.wait().expect("wait");
}

/// Runs a program in the thread's namespace and returns what it printed.
pub(crate) fn run(program: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), input.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("output");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// What `nft` reads of the whole rule set.
pub(crate) fn nft_list() -> String {
    run("nft", &["list", "ruleset"], "")
}
