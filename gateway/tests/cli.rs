//! The command line as a program meets it: exit statuses, JSON, languages. No daemon, no kernel.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn sekisho(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekisho"));
    command.env_remove("LC_ALL").env_remove("LC_MESSAGES").env("LANG", "C").args(arguments).output().unwrap()
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/examples/clinic.toml")
}

fn status(output: &Output) -> Option<i32> {
    output.status.code()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_example_is_good() {
    let output = sekisho(&["--json", "policy", "check", example().to_str().unwrap()]);
    assert_eq!(status(&output), Some(0), "{}", stderr(&output));
    let value = json(&output);
    assert_eq!(value["ok"], true);
    assert_eq!(value["ruleset"].as_str().unwrap().len(), 64);
    assert!(value["diagnostics"].is_array());
}

#[test]
fn an_answer_that_is_not_taken_is_an_error_and_a_reader_that_left_is_none() {
    let schema = |to: std::fs::File| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekisho"));
        command.env("LANG", "C").args(["policy", "schema"]).stdout(to).output().unwrap()
    };
    let full = schema(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert_eq!(status(&full), Some(1));
    assert!(stderr(&full).contains("No space left on device"), "{}", stderr(&full));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let left = schema(std::os::fd::OwnedFd::from(writer).into());
    assert_eq!((status(&left), stderr(&left).as_str()), (Some(0), ""));
}

#[test]
fn a_refused_policy_has_a_status_of_its_own_and_names_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.toml");
    let text = fs::read_to_string(example()).unwrap().replace("device:pacs", "device:pasc");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let output = sekisho(&["policy", "check", path]);
    assert_eq!(status(&output), Some(3));
    assert!(stderr(&output).contains("bad.toml:"), "{}", stderr(&output));
    assert!(stderr(&output).contains("pasc"), "{}", stderr(&output));
    let output = sekisho(&["--json", "policy", "check", path]);
    assert_eq!(status(&output), Some(3));
    let value = json(&output);
    assert_eq!(value["error"], "refused");
    assert!(value["diagnostics"][0]["labels"][0]["line"].as_u64().unwrap() > 1);
    assert!(value["diagnostics"][0]["message"]["ja"].as_str().unwrap().chars().any(|c| c > '\u{3000}'));
}

#[test]
fn render_writes_rules_and_services() {
    let path = example();
    let path = path.to_str().unwrap();
    let rules = sekisho(&["policy", "render", path]);
    assert_eq!(status(&rules), Some(0));
    assert!(String::from_utf8_lossy(&rules.stdout).contains("table inet sekisho"));
    for (service, word) in [("names", "bogus-priv"), ("leases", "dhcp-range"), ("chrony", "allow ")] {
        let output = sekisho(&["policy", "render", path, "--services", service]);
        assert_eq!(status(&output), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains(word), "{service}");
    }
}

#[test]
fn why_says_yes_and_no_by_status() {
    let path = example();
    let why = |from: &str, to: &str, service: &str| {
        sekisho(&["--json", "policy", "why", from, to, service, "--policy", path.to_str().unwrap()])
    };
    let allowed = why("device:ct", "device:pacs", "tcp/104");
    assert_eq!((status(&allowed), &json(&allowed)["allowed"]), (Some(0), &Value::Bool(true)));
    let denied = why("zone:guest", "device:pacs", "tcp/104");
    assert_eq!((status(&denied), &json(&denied)["allowed"]), (Some(7), &Value::Bool(false)));
    let nonsense = why("zone:nowhere", "device:pacs", "tcp/104");
    assert_eq!((status(&nonsense), &json(&nonsense)["error"]), (Some(2), &Value::from("usage")));
}

#[test]
fn the_language_follows_the_locale_and_the_option_wins() {
    let path = example();
    let path = path.to_str().unwrap();
    let check = |locale: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekisho"));
        command.env_remove("LC_ALL").env_remove("LC_MESSAGES").env("LANG", locale);
        let output = command.args(["policy", "check", path]).args(more).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(check("ja_JP.UTF-8", &[]).contains("通信方針"));
    assert!(check("C", &[]).contains("good"));
    assert!(check("ja_JP.UTF-8", &["--lang", "en"]).contains("good"));
}

#[test]
fn without_a_daemon_the_status_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("core.sock");
    let socket = socket.to_str().unwrap();
    for command in [["status"].as_slice(), &["flows"], &["verify"], &["time", "trusted"], &["services"]] {
        let output = sekisho(&[&["--json", "--socket", socket], command].concat());
        assert_eq!(status(&output), Some(4), "{command:?}");
        assert_eq!(json(&output)["error"], "unreachable");
    }
    let output = sekisho(&["--socket", socket, "apply", example().to_str().unwrap()]);
    assert_eq!(status(&output), Some(4));
    let output = sekisho(&["--socket", socket, "--watch-socket", socket, "flows", "--denied"]);
    assert_eq!(status(&output), Some(4));
}

#[test]
fn wrong_usage_and_missing_files_are_told_apart() {
    assert_eq!(status(&sekisho(&["policy"])), Some(2));
    assert_eq!(status(&sekisho(&["--no-such-option"])), Some(2));
    assert_eq!(status(&sekisho(&["policy", "check", "/nonexistent/policy.toml"])), Some(1));
    assert_eq!(status(&sekisho(&["--help"])), Some(0));
}

#[test]
fn help_schema_completions_and_manuals_are_generated() {
    let help = sekisho(&["--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit status"));
    let schema = json(&sekisho(&["policy", "schema"]));
    assert!(schema["properties"]["flow"].is_object(), "{schema:#}");
    let completions = sekisho(&["completions", "bash"]);
    assert!(String::from_utf8_lossy(&completions.stdout).contains("sekisho"));
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(status(&sekisho(&["man", directory.path().to_str().unwrap()])), Some(0));
    assert!(directory.path().join("sekisho-policy-check.1").exists());
}

/// libnftnl is GPL: the command line must not link it (see NOTICE).
#[test]
fn the_command_line_does_not_link_libnftnl() {
    let needed = |program: &str| {
        let output = Command::new("ldd").arg(program).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(!needed(env!("CARGO_BIN_EXE_sekisho")).contains("nftnl"));
    assert!(needed(env!("CARGO_BIN_EXE_sekishod")).contains("nftnl"), "the test can tell");
}

/// What the policy lets be written, the tunnel carries.
#[test]
fn the_policy_takes_as_many_peers_as_the_tunnel() {
    assert_eq!(policy::raw::LIMITS.peers, tunnel::MAX_PEERS);
}
