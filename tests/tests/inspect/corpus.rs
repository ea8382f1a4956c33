//! The labelled corpus beside the repository, judged in process; and the same program the clinic has, each file in its
//! sandbox. Nothing that must not be delivered is allowed; nearly nothing that may be is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use inspect::{Limits, Verdict, inspect};
use serde_json::Value;

/// Most files that may be delivered and are not.
const LOST_MAX: usize = 2;

/// A line of the labels.
struct Labelled {
    path: PathBuf,
    label: String,
    reason: String,
}

/// The corpus; none where there is none and nobody asked for it.
fn corpus() -> Option<(PathBuf, Vec<Labelled>)> {
    let asked = std::env::var_os("SEKISHO_CORPUS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let root = asked.or_else(|| beside.exists().then_some(beside))?;
    let labels = fs::read_to_string(root.join("labels.tsv")).unwrap();
    let mut lines = labels.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| header.iter().position(|known| *known == name).unwrap();
    let (path, label, reason) = (column("path"), column("label"), column("reason"));
    let read = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        Labelled {
            path: root.join(cells[path]),
            label: cells[label].to_owned(),
            reason: cells[reason].to_owned(),
        }
    };
    let files: Vec<_> = lines.map(read).collect();
    assert!(files.len() > 100, "only {} files", files.len());
    Some((root, files))
}

#[test]
fn nothing_bad_of_the_corpus_is_allowed_and_nearly_nothing_good_is_lost() {
    let Some((_, files)) = corpus() else {
        println!("no corpus beside the repository, and SEKISHO_CORPUS is not set");
        return;
    };
    let mut table: BTreeMap<(String, Verdict), usize> = BTreeMap::new();
    let (mut delivered, mut lost) = (Vec::new(), Vec::new());
    for Labelled { path, label, reason } in files {
        let bytes = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let report = inspect(&bytes, Some(&name), &Limits::default());
        *table.entry((label.clone(), report.verdict)).or_default() += 1;
        let told =
            format!("{label} ({reason}) {}: {:?} {:?}", path.display(), report.verdict, report.findings);
        match (label.as_str(), report.verdict) {
            ("allow", Verdict::Allow) => {}
            ("allow", _) => lost.push(told),
            (_, Verdict::Allow) => delivered.push(told),
            _ => {}
        }
    }
    for ((label, verdict), count) in &table {
        println!("{label} -> {verdict:?}: {count}");
    }
    println!("lost: {lost:#?}");
    assert!(delivered.is_empty(), "{delivered:#?}");
    assert!(lost.len() <= LOST_MAX, "{lost:#?}");
}

/// Has `sekisho` of this build inspect files.
fn sekisho(files: &[&Path]) -> Output {
    let own = std::env::current_exe().unwrap();
    let built = own.parent().and_then(Path::parent).unwrap();
    for name in ["sekishod", "sekisho"] {
        assert!(built.join(name).exists(), "{name} is not there: `cargo build -p gateway` makes it");
    }
    Command::new(built.join("sekisho")).args(["inspect", "--json"]).args(files).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_command_inspects_in_its_sandbox_and_ends_as_it_promises() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let (text, table) =
        (file("notes.txt", "体温 36.5\n".as_bytes()), file("cells.csv", b"a,b\n1,=cmd|'/c calc'!A1\n"));
    let program = file("tool.bin", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for (files, status, verdicts) in [
        (vec![&text], 0, vec!["allow"]),
        (vec![&text, &table], 10, vec!["allow", "disarm"]),
        (vec![&table, &program, &text], 20, vec!["disarm", "refuse", "allow"]),
    ] {
        let paths: Vec<&Path> = files.iter().map(|path| path.as_path()).collect();
        let output = sekisho(&paths);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let said = lines(&output);
        assert_eq!(said.iter().map(|line| line["verdict"].as_str().unwrap()).collect::<Vec<_>>(), verdicts);
        for (line, path) in said.iter().zip(paths) {
            assert_eq!(line["path"], path.to_str().unwrap());
            assert_eq!(line["sha256"].as_str().unwrap().len(), 64);
            assert!(line["types"].is_array() && line["ms"].is_u64() && line["findings"].is_array());
        }
    }
}

/// What ends the worker is a refusal, whatever it is: here the file cannot be read at all.
#[test]
fn an_inspection_that_fails_is_a_refusal() {
    let output = sekisho(&[Path::new("/proc/self")]);
    assert_eq!(output.status.code(), Some(20), "{output:?}");
    let said = lines(&output);
    assert_eq!(said[0]["findings"][0]["id"], "inspection-failed");
}
