//! A box that is lost comes back from its backup, and a restore that is killed leaves the old policy or the new one.
use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lab::RoleRunner;
use serde_json::Value;

use crate::{
    daemon::{Said, Site},
    site::{Random, clinic, flow, policy},
};

/// Made by age-keygen for these tests.
const IDENTITY: &str = "AGE-SECRET-KEY-1PE0KYN6XKUNKXYASUQE95HFPA4EVVQ3WHP0DH7QM2MRXN990FHJSAQD3AL";
const RECIPIENT: &str = "age1wyje83ll49l27r4e83u8py2jyrpc2vtalcrphqn4akam4tqy4ycsnn9ss2";
const KILLS: usize = 24;

trait Refused {
    /// Fails unless the program ended with this status and said these words as JSON.
    fn refused(&self, code: i32, words: &str);
}

impl Refused for Said {
    fn refused(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.json()["message"].as_str().unwrap().contains(words), "{self:?}");
    }
}

/// A site whose roles with state run, and the files of its admin.
struct Kept {
    site: Site,
    root: String,
    identity: String,
}

impl Kept {
    fn start() -> Self {
        let mut site = Site::new(clinic(false));
        // First, so that its user exists when core looks it up, as on an installed box.
        site.start_role("sekisho-console");
        site.start_core();
        let root = RoleRunner::state_root(site.lab()).to_str().unwrap().to_owned();
        let identity = site.write("identity.txt", &format!("# of the tests\n{IDENTITY}\n"));
        Self { site, root, identity }
    }

    fn stop(&mut self) {
        self.site.kill_core();
        self.site.kill_role("sekisho-record");
        self.site.kill_role("sekisho-console");
    }

    fn start_again(&mut self) {
        self.site.start_core();
        self.site.start_role("sekisho-console");
    }

    fn backup(&self, name: &str) -> (String, Value) {
        let file = self.site.files().join(name).to_str().unwrap().to_owned();
        let said = self.site.run(&[
            "--json",
            "backup",
            "-o",
            &file,
            "--recipient",
            RECIPIENT,
            "--state-root",
            &self.root,
        ]);
        (file, said.succeeded().json())
    }

    fn restore_command(&self, file: &str, more: &[&str]) -> Command {
        let fixed = ["--json", "restore", file, "--identity", &self.identity, "--state-root", &self.root];
        self.site.sekisho(&[&fixed, more].concat())
    }

    fn restore(&self, file: &str, more: &[&str]) -> Said {
        Said::of(self.restore_command(file, more).output().unwrap())
    }

    fn begin_restore(&self, file: &str) -> Child {
        let mut command = self.restore_command(file, &[]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Kinds of deed in the log, the latest last.
    fn deeds(&self) -> Vec<String> {
        let entries = self.site.run(&["--json", "audit", "list", "--kind", "done"]).succeeded().json();
        let mut deeds = Vec::new();
        collect_deeds(&entries, &mut deeds);
        deeds
    }

    fn policy(&self) -> Value {
        self.site.status()["policy"].clone()
    }
}

fn collect_deeds(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("deed").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect_deeds(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_deeds(value, found)),
        _ => {}
    }
}

#[test]
fn a_lost_box_comes_back_from_its_backup() {
    let mut kept = Kept::start();
    kept.site.apply(&policy(&[flow("staff-web", "zone:staff", "zone:wan", "https")]));
    let before = kept.policy();
    let (file, said) = kept.backup("clinic.age");
    assert_eq!(said["policy"], before["id"]);
    assert!(said["entry"].is_u64(), "{said}");
    let checked = kept.restore(&file, &["--check"]).succeeded().json();
    assert_eq!((&checked["restored"], &checked["outcome"]["log"]), (&false.into(), &"same".into()));
    assert!(checked["entry"].is_u64(), "{checked}");
    assert_eq!(kept.deeds(), ["backup", "restore-check"]);
    kept.restore(&file, &[]).refused(1, "sekisho-core is running");
    kept.stop();
    for role in ["sekisho", "sekisho-record", "sekisho-console"] {
        fs::remove_dir_all(format!("{}/{role}", kept.root)).unwrap();
    }
    let flushed = kept.site.lab().gateway().command("nft").args(["flush", "ruleset"]).status().unwrap();
    assert!(flushed.success());
    let restored = kept.restore(&file, &[]).succeeded().json();
    assert_eq!(restored["outcome"]["marks_kept"], true);
    assert_eq!(restored["outcome"]["log"], "new");
    assert!(restored["entry"].is_null() && restored["unrecorded"].is_string(), "{restored}");
    kept.start_again();
    assert_eq!(kept.policy()["id"], before["id"]);
    assert_eq!(kept.policy()["applied_at"], before["applied_at"]);
    kept.site.assert_verified();
    // What could not be told is told with the next deed, before it.
    kept.backup("later.age");
    assert_eq!(kept.deeds(), ["restore", "backup"]);
}

#[test]
fn a_backup_that_does_not_belong_here_changes_nothing() {
    let mut kept = Kept::start();
    kept.site.apply(&policy(&[flow("staff-web", "zone:staff", "zone:wan", "https")]));
    let (file, _) = kept.backup("clinic.age");
    let words = kept.site.write("words.txt", "these are not the words\n");
    let said = kept.site.run(&["restore", &file, "--passphrase-file", &words, "--state-root", &kept.root]);
    said.failed(3, &["sealed to a key"]);
    let mut bytes = fs::read(&file).unwrap();
    bytes.truncate(bytes.len() - 1);
    let cut = kept.site.files().join("cut.age");
    fs::write(&cut, bytes).unwrap();
    kept.restore(cut.to_str().unwrap(), &["--check"]).refused(3, "its end is missing");
    let elsewhere =
        policy(&[flow("guest-web", "zone:guest", "zone:wan", "https")]).replace("behaviour-01", "elsewhere");
    kept.site.apply(&elsewhere);
    let before = kept.policy();
    kept.restore(&file, &["--check"]).refused(3, "behaviour-01");
    kept.stop();
    kept.restore(&file, &[]).refused(3, "--adopt-site");
    kept.start_again();
    assert_eq!(kept.policy()["id"], before["id"]);
    kept.site.assert_verified();
}

#[test]
fn a_killed_restore_leaves_the_old_policy_or_the_new() {
    let mut kept = Kept::start();
    let texts =
        ["staff", "guest"].map(|zone| policy(&[flow("web", &format!("zone:{zone}"), "zone:wan", "https")]));
    kept.site.apply(&texts[0]);
    let (file, _) = kept.backup("clinic.age");
    kept.site.apply(&texts[1]);
    let (mut random, mut seen) = (Random::new("restores"), [0, 0]);
    kept.stop();
    let begin = Instant::now();
    kept.restore(&file, &[]).succeeded();
    let whole_ms = usize::try_from(begin.elapsed().as_millis()).unwrap();
    for attempt in 0..KILLS {
        kept.start_again();
        kept.site.apply(&texts[1]);
        kept.stop();
        let mut restore = kept.begin_restore(&file);
        thread::sleep(Duration::from_millis(random.below(whole_ms + whole_ms / 4) as u64));
        // One that has ended already is a restore that was not killed.
        let _ = restore.kill();
        restore.wait().unwrap();
        kept.start_again();
        let staff = kept.site.run(&["policy", "why", "zone:staff", "zone:wan", "https"]).code == Some(0);
        let guest = kept.site.run(&["policy", "why", "zone:guest", "zone:wan", "https"]).code == Some(0);
        assert!(staff != guest, "attempt {attempt}");
        seen[usize::from(staff)] += 1;
        kept.site.assert_verified();
        kept.stop();
    }
    println!("killed {KILLS} times within {whole_ms} ms: {} old, {} new", seen[0], seen[1]);
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
