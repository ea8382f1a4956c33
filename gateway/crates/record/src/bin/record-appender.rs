//! Appends to a log as a process of its own, for tests that kill it or fill its disk.
//!
//! `record-appender many DIR THREADS`: appends until it is killed, and prints the number of each entry that is durable.
//! `record-appender full DIR FILLER`: appends until there is no room, then what is critical, then removes FILLER and goes
//! on; prints what it was told.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use record::committer::Handle;
use record::{Budget, Class, Committer, Log, verify};

const SEAL_EVERY: Duration = Duration::from_millis(30);
/// How often an append is tried again after room was made.
const TRIES_MAX: u32 = 500;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["many", directory, threads] => many(Path::new(directory), threads.parse()?),
        ["full", directory, filler] => full(Path::new(directory), Path::new(filler)),
        _ => Err("record-appender many DIR THREADS | full DIR FILLER".into()),
    }
}

fn many(directory: &Path, threads: u32) -> Result<(), Failure> {
    let (log, _) = Log::open(directory, Budget::new(1 << 30))?;
    let committer = Committer::start(log, SEAL_EVERY)?;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let handle = committer.handle();
            scope.spawn(move || append_for_ever(&handle, thread));
        }
    });
    Ok(())
}

fn append_for_ever(handle: &Handle, thread: u32) {
    for number in 0_u64.. {
        let entry = format!("{} {thread} {number}", std::process::id());
        match handle.append(entry.clone().into_bytes(), Class::Ordinary) {
            Ok(index) => say(&format!("{index} {entry}")),
            Err(error) => return say(&format!("refused: {error}")),
        }
    }
}

fn full(directory: &Path, filler: &Path) -> Result<(), Failure> {
    let (log, _) = Log::open(directory, Budget::new(1 << 30))?;
    let key = log.key();
    let committer = Committer::start(log, SEAL_EVERY)?;
    let handle = committer.handle();
    let append = |class| handle.append(vec![b'x'; 50_000], class);
    let why = loop {
        if let Err(error) = append(Class::Ordinary) {
            break error;
        }
    };
    say(&format!("refused: {why}"));
    say(&format!("gate refused: {}", append(Class::Gate).is_err()));
    for _ in 0..5 {
        append(Class::Critical)?;
    }
    say("critical: 5 durable");
    std::fs::remove_file(filler)?;
    let mut tries = 0;
    while let Err(error) = append(Class::Ordinary) {
        tries += 1;
        if tries > TRIES_MAX {
            return Err(error.into());
        }
        std::thread::sleep(SEAL_EVERY);
    }
    drop(committer);
    say(&format!("again: good {}", verify(directory, &key, &[]).is_good()));
    Ok(())
}

/// One write, so that a line is whole or not there.
fn say(line: &str) {
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}
