//! Who may read the metrics is in the log: before it is given, and when it ends.
use serde_json::Value;

use crate::clinic::Clinic;

const FAILED: i32 = 1;

#[test]
fn every_key_of_the_metrics_is_in_the_log_before_it_is_given() {
    let mut clinic = Clinic::fresh();
    let file = |clinic: &Clinic, name: &str| clinic.site.files().join(name).to_str().unwrap().to_owned();
    let (second, token) = (file(&clinic, "second"), file(&clinic, "token"));
    clinic.site.run(&["metrics", "add", "second", "-o", &second]).succeeded();
    let readers = clinic.site.run(&["--json", "metrics", "readers"]).succeeded().json();
    clinic.site.run(&["metrics", "token", "-o", &token]).succeeded();
    clinic.site.run(&["metrics", "remove", "second"]).succeeded();
    let done = deeds(&clinic);
    let [first, added, made, removed] = &done[..] else { panic!("{done:#?}") };
    assert_eq!((&first["deed"], &first["reader"]), (&"reader-added".into(), &"reader".into()));
    assert_eq!((&added["deed"], &added["reader"]), (&"reader-added".into(), &"second".into()));
    let kept = readers.as_array().unwrap().iter().find(|reader| reader["name"] == "second").unwrap();
    assert_eq!(added["sha256"], kept["sha256"]);
    assert_eq!((&made["deed"], &removed["deed"]), (&"token-made".into(), &"reader-removed".into()));

    // What cannot be recorded is not given; what ends ends all the same, and is recorded when that can be.
    clinic.site.kill_role("sekisho-record");
    let third = file(&clinic, "third");
    let said = clinic.site.run(&["metrics", "add", "third", "-o", &third]);
    said.failed(FAILED, &["it could not be recorded"]);
    let said = clinic.site.run(&["metrics", "remove", "reader"]);
    said.failed(FAILED, &["can no longer read"]);
    let left = clinic.site.run(&["--json", "metrics", "readers"]).succeeded().json();
    assert_eq!(left, Value::Array(Vec::new()), "nobody is left, and nobody came");
    clinic.site.start_role("sekisho-record");
    clinic.wait_deed("reader-removed", 2);
}

/// What the console says was done, the first first, each with who asked.
fn deeds(clinic: &Clinic) -> Vec<Value> {
    let said = clinic.site.run(&["--json", "audit", "list", "--kind", "done"]).succeeded().json();
    let mut entries = said["entries"].as_array().unwrap().clone();
    entries.sort_by_key(|row| row["index"].as_u64());
    let by_console = entries.iter().filter(|row| row["entry"]["writer"]["role"] == "console");
    by_console
        .map(|row| {
            let event = &row["entry"]["event"];
            assert_eq!(event["by"], rustix::process::geteuid().as_raw());
            event["deed"].clone()
        })
        .collect()
}

impl Clinic {
    /// Waits until so many of the console's deeds of a kind are in the log.
    fn wait_deed(&self, kind: &str, count: usize) {
        let begun = std::time::Instant::now();
        let found = || deeds(self).iter().filter(|deed| deed["deed"] == kind).count();
        while found() < count {
            assert!(begun.elapsed() < crate::clinic::SHOWN_LIMIT, "{kind}: {:#?}", deeds(self));
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
}
