//! Every kept seed, whole and damaged, and what chance makes, through every target.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Damages of each seed. A fuzzer does millions; these keep the targets alive and what was once found fixed.
const DAMAGES: u32 = 64;
/// Longer files are tried whole, and not damaged: they would take the whole run.
const DAMAGED_BYTES_MAX: usize = 64 * 1024;

fn seeds(target: &str) -> std::io::Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let found =
        std::fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    Ok(found)
}

#[test]
fn every_seed_passes_whole_and_damaged() {
    for (name, target) in fuzz::TARGETS {
        let seeds = seeds(name).unwrap();
        assert!(!seeds.is_empty(), "{name} has no seed");
        for path in seeds {
            println!("{}", path.display());
            let bytes = std::fs::read(&path).unwrap();
            target(&bytes);
            if bytes.len() > DAMAGED_BYTES_MAX {
                continue;
            }
            let mut runner =
                TestRunner::new(Config { cases: DAMAGES, failure_persistence: None, ..Config::default() });
            let damage = (any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>());
            runner
                .run(&damage, |(at, byte, end)| {
                    let mut bytes = bytes.clone();
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] = byte;
                        bytes.truncate(bytes.len().min(at + 1 + end.index(bytes.len())));
                    }
                    target(&bytes);
                    Ok(())
                })
                .unwrap();
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_pass(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for (_, target) in fuzz::TARGETS {
            target(&bytes);
        }
    }
}

/// The fuzzer's programs are written out by hand, as cargo-fuzz wants them: none is missing.
#[test]
fn every_target_has_its_program() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/libfuzzer/Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    for (name, _) in fuzz::TARGETS {
        let path = format!("targets/{name}.rs");
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{name}");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer").join(path);
        assert!(std::fs::read_to_string(program).unwrap().contains(&format!("fuzz::run(\"{name}\", input)")));
    }
}
