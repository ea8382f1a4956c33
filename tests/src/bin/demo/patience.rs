//! Waiting for what has to show by itself, and how long it took.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

/// How long anything may take to show.
pub(crate) const SHOWN_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(250);

/// Asks again and again until there is an answer; there is none when the time is up.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Result<Option<T>>) -> Result<Option<(T, Duration)>> {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask()? {
            return Ok(Some((found, begun.elapsed())));
        }
        if begun.elapsed() >= SHOWN_LIMIT {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}
