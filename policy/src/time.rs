//! Weekly schedules and ends of flows, in the clinic's time zone. Pure: the caller brings the zone and `now`.
//! A schedule is a set of minutes of the *local* week: an instant is inside when its local wall clock is, so a repeated
//! hour (the end of daylight saving time) counts twice and a skipped hour never.

use std::fmt;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::diagnostic::Language;
use crate::model::Timing;

mod text;

const DAY_MINUTES: u16 = 24 * 60;
const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;
/// How far ahead a schedule that never closes is promised to be open: the caller asks again before.
pub const OPEN_HORIZON_DAYS: i64 = 8;
/// How far ahead an opening is looked for: a window lost in a skipped hour comes back a week later.
const SEARCH_HORIZON_DAYS: i64 = 22;
/// Longest schedule text accepted, in bytes.
pub const SCHEDULE_BYTES_MAX: usize = 512;
/// Most windows in one schedule.
pub const SCHEDULE_WINDOWS_MAX: usize = 32;

/// Weekly windows, kept as merged minute ranges of the local week that begins on Monday at 00:00.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Schedule {
    /// INVARIANT: not empty, ordered, disjoint, not adjoining, each `start < end <= WEEK_MINUTES`.
    spans: Vec<Span>,
}

/// Minutes of the week from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    start: u16,
    end: u16,
}

/// Whether something is open at an instant, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Not open.
    Closed,
    /// Open with no end in sight.
    Forever,
    /// Open up to, not including, this instant; ask again then.
    Until(Timestamp),
}

/// Why a schedule text is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// Nothing is written.
    #[error("the schedule is empty")]
    Empty,
    /// Longer than [`SCHEDULE_BYTES_MAX`] or more than [`SCHEDULE_WINDOWS_MAX`] windows.
    #[error("the schedule is too long")]
    TooLong,
    /// A word that is not a weekday.
    #[error("`{0}` is not a weekday")]
    Weekday(String),
    /// A word that is not a time range.
    #[error("`{0}` is not a time range such as `19:00-22:00`")]
    Range(String),
    /// A window that begins and ends at the same minute.
    #[error("`{0}` begins and ends at the same time: write `00:00-24:00` for a whole day")]
    NoLength(String),
    /// Weekdays without times.
    #[error("`{0}` has no times")]
    NoTimes(String),
}

/// Why a duration text is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a duration such as `8h`, `30m` or `1h 30m`")]
pub struct DurationError(pub String);

/// Why a retention text is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a period such as `5y`, `6mo` or `90d`")]
pub struct RetentionError(pub String);

/// Why a size text is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a size such as `200 MB`")]
pub struct SizeError(pub String);

impl Schedule {
    /// Parses `Mon-Fri 19:00-22:00`, `Mon-Sun 20:00-06:00` (past midnight), `月-金 09:00-12:00, 14:00-18:00, 土 09:00-12:00`.
    ///
    /// # Errors
    /// Names the word that was not understood.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        text::parse(text).map(Self::from_windows)
    }

    /// Up to when the schedule stays open without a break; `None` when it is closed at `now`.
    /// Never further than [`OPEN_HORIZON_DAYS`]: a schedule that is always open says so again and again.
    #[must_use]
    pub fn open_until(&self, tz: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        if !self.contains(tz, now) {
            return None;
        }
        let horizon = later_by_days(now, OPEN_HORIZON_DAYS);
        Some(self.first_with(tz, now, horizon, false).unwrap_or(horizon))
    }

    /// The first instant not before `now` at which the schedule is open.
    #[must_use]
    pub fn next_open(&self, tz: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        if self.contains(tz, now) {
            return Some(now);
        }
        self.first_with(tz, now, later_by_days(now, SEARCH_HORIZON_DAYS), true)
    }

    /// The schedule in words that [`Schedule::parse`] reads back.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        text::print(self, language)
    }

    /// Whether every minute of `other` is a minute of this schedule.
    #[must_use]
    pub fn covers(&self, other: &Schedule) -> bool {
        other
            .spans
            .iter()
            .all(|inner| self.spans.iter().any(|outer| outer.start <= inner.start && inner.end <= outer.end))
    }

    /// Whether the local wall clock at `at` lies in a window.
    #[must_use]
    pub fn contains(&self, tz: &TimeZone, at: Timestamp) -> bool {
        let minute = week_second(tz, at) / 60;
        self.spans.iter().any(|span| i64::from(span.start) <= minute && minute < i64::from(span.end))
    }

    /// The first instant after `now`, and before `horizon`, at which being open equals `open`.
    fn first_with(&self, tz: &TimeZone, now: Timestamp, horizon: Timestamp, open: bool) -> Option<Timestamp> {
        let mut at = now;
        while at < horizon {
            at = self.next_candidate(tz, at);
            if at < horizon && self.contains(tz, at) == open {
                return Some(at);
            }
        }
        None
    }

    /// The next instant at which the answer may change: a window's edge under the present offset, or the zone's next
    /// change of offset, whichever is first.
    fn next_candidate(&self, tz: &TimeZone, at: Timestamp) -> Timestamp {
        let second = week_second(tz, at);
        let edge = self.seconds_to_edge(second);
        // Whole seconds: an edge never falls inside a second.
        let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
        let by_edge = later_by(whole, SignedDuration::from_secs(edge));
        let by_zone = tz.following(at).next().map(|transition| transition.timestamp());
        by_zone.map_or(by_edge, |transition| transition.min(by_edge))
    }

    /// Seconds from a second of the week to the next window's edge, 1 to one week.
    fn seconds_to_edge(&self, second: i64) -> i64 {
        let week = i64::from(WEEK_MINUTES) * 60;
        let edges = self.spans.iter().flat_map(|span| [span.start, span.end]);
        let ahead = edges.map(|minute| (i64::from(minute) * 60 - second - 1).rem_euclid(week) + 1);
        ahead.min().unwrap_or(week)
    }

    /// Sorts and merges windows; one that runs past the end of the week is cut in two.
    fn from_windows(windows: Vec<Span>) -> Self {
        let mut cut: Vec<Span> = windows
            .into_iter()
            .flat_map(|span| {
                let tail = span.end.saturating_sub(WEEK_MINUTES);
                [Span { end: span.end.min(WEEK_MINUTES), ..span }, Span { start: 0, end: tail }]
            })
            .filter(|span| span.start < span.end)
            .collect();
        cut.sort_unstable();
        let mut spans: Vec<Span> = Vec::with_capacity(cut.len());
        for span in cut {
            match spans.last_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => spans.push(span),
            }
        }
        Self { spans }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text(Language::En))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Schedule({self})")
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Timing {
    /// Whether the flow is open at `now`, and up to when without a break.
    #[must_use]
    pub fn open_until(&self, tz: &TimeZone, now: Timestamp) -> Liveness {
        if self.until.is_some_and(|until| until <= now) {
            return Liveness::Closed;
        }
        let window_end = match &self.schedule {
            None => None,
            Some(schedule) => match schedule.open_until(tz, now) {
                None => return Liveness::Closed,
                Some(end) => Some(end),
            },
        };
        match (window_end, self.until) {
            (None, None) => Liveness::Forever,
            (Some(end), None) | (None, Some(end)) => Liveness::Until(end),
            (Some(end), Some(until)) => Liveness::Until(end.min(until)),
        }
    }

    /// The next instant after `now` at which the answer of [`Timing::open_until`] may change; `None` when it never will.
    #[must_use]
    pub fn next_change(&self, tz: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        match self.open_until(tz, now) {
            Liveness::Forever => None,
            Liveness::Until(end) => Some(end),
            Liveness::Closed if self.until.is_some_and(|until| until <= now) => None,
            Liveness::Closed => {
                let opens = self.schedule.as_ref()?.next_open(tz, now)?;
                self.until.is_none_or(|until| opens < until).then_some(opens)
            }
        }
    }
}

/// Parses a duration such as `8h`, `30m`, `1h 30m` or `90s` (jiff's "friendly" format), to whole seconds.
///
/// # Errors
/// Says what a duration looks like.
pub fn parse_duration_s(text: &str) -> Result<u64, DurationError> {
    static PARSER: jiff::fmt::friendly::SpanParser = jiff::fmt::friendly::SpanParser::new();
    let refused = || DurationError(text.to_owned());
    if text.len() > SCHEDULE_BYTES_MAX {
        return Err(DurationError("…".to_owned()));
    }
    let parsed: Duration = PARSER.parse_unsigned_duration(text).map_err(|_| refused())?;
    if parsed.subsec_nanos() == 0 { Ok(parsed.as_secs()) } else { Err(refused()) }
}

/// Parses how long something is kept, such as `5y`, `6mo`, `2w` or `90d`, to seconds. A year counts 366 days and a month
/// 31, so that nothing is forgotten before its day.
///
/// # Errors
/// Says what a period looks like.
pub fn parse_retention_s(text: &str) -> Result<u64, RetentionError> {
    static PARSER: jiff::fmt::friendly::SpanParser = jiff::fmt::friendly::SpanParser::new();
    if text.len() > SCHEDULE_BYTES_MAX {
        return Err(RetentionError("…".to_owned()));
    }
    let refused = || RetentionError(text.to_owned());
    let span = PARSER.parse_span(text).map_err(|_| refused())?;
    let hours = [i64::from(span.get_hours()), span.get_minutes(), span.get_seconds()];
    let below = [span.get_milliseconds(), span.get_microseconds(), span.get_nanoseconds()];
    if hours.iter().chain(&below).any(|part| *part != 0) {
        return Err(refused());
    }
    let years = i64::from(span.get_years()) * 366;
    let months = i64::from(span.get_months()) * 31;
    let weeks = i64::from(span.get_weeks()) * 7;
    let days = years + months + weeks + i64::from(span.get_days());
    u64::try_from(days * 86_400).map_err(|_| refused())
}

/// Parses a size such as `200 MB` (decimal) or `64 MiB` (binary), to bytes.
///
/// # Errors
/// Says what a size looks like.
pub fn parse_size_bytes(text: &str) -> Result<u64, SizeError> {
    if text.len() > SCHEDULE_BYTES_MAX {
        return Err(SizeError("…".to_owned()));
    }
    text.parse::<bytesize::ByteSize>().map(|size| size.as_u64()).map_err(|_| SizeError(text.to_owned()))
}

/// Seconds of the local week that begins on Monday at 00:00.
fn week_second(tz: &TimeZone, at: Timestamp) -> i64 {
    let local = tz.to_datetime(at);
    let day = i64::from(local.weekday().to_monday_zero_offset());
    let hours = day * 24 + i64::from(local.hour());
    (hours * 60 + i64::from(local.minute())) * 60 + i64::from(local.second())
}

fn later_by_days(at: Timestamp, days: i64) -> Timestamp {
    later_by(at, SignedDuration::from_hours(days * 24))
}

/// Saturates at the end of time instead of failing.
fn later_by(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
