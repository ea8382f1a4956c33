//! Both clocks, and whether the wall clock may be believed after a start.
//! It may when somebody with the right said so on this very boot and it has run on since as time does.

use std::time::{Duration, Instant};

use enforce::Now;
use gateway::store::{Store, TimeRecord};
use jiff::{SignedDuration, Timestamp};

/// How far the wall clock may be off the expected time and still be taken for the one that was trusted.
const DRIFT_MAX: SignedDuration = SignedDuration::from_secs(5);
/// How often the floor is recorded.
pub(crate) const RECORD_EVERY: Duration = Duration::from_secs(60);

/// A pair of clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    start: Instant,
}

impl Clocks {
    /// Starts counting.
    pub(crate) fn start() -> Self {
        Clocks { start: Instant::now() }
    }

    /// Reads both.
    pub(crate) fn now(self) -> Now {
        Now { wall: Timestamp::now(), elapsed: self.start.elapsed() }
    }

    /// The instant of an elapsed time.
    pub(crate) fn instant(self, elapsed: Duration) -> Instant {
        self.start + elapsed
    }
}

/// Whether the wall clock is still the one that was trusted before this start.
pub(crate) fn still_trusted(store: &Store, now: Timestamp) -> bool {
    let record = match store.time() {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!(%error, "the time is not trusted until somebody says it is good");
            None
        }
    };
    let Some((record, boot, uptime_s)) = record.and_then(|record| Some((record, boot()?, uptime_s()?)))
    else {
        return false;
    };
    let since = uptime_s.checked_sub(record.uptime_s).and_then(|seconds| i64::try_from(seconds).ok());
    let expected =
        since.and_then(|seconds| record.floor.checked_add(SignedDuration::from_secs(seconds)).ok());
    record.boot == boot && expected.is_some_and(|expected| now.duration_since(expected).abs() <= DRIFT_MAX)
}

/// Records that the time is good now.
pub(crate) fn record(store: &Store, effective: Timestamp) {
    let Some((boot, uptime_s)) = boot().zip(uptime_s()) else { return };
    if let Err(error) = store.record_time(&TimeRecord { floor: effective, boot, uptime_s }) {
        tracing::warn!(%error, "the time could not be recorded");
    }
}

fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Time since boot, sleep included.
fn uptime_s() -> Option<u64> {
    u64::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec).ok()
}
