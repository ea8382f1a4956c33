//! The written form of a schedule, read and printed: `Mon-Fri 19:00-22:00, Sat 09:00-12:00`.

use super::{
    DAY_MINUTES, SCHEDULE_BYTES_MAX, SCHEDULE_WINDOWS_MAX, Schedule, ScheduleError, Span, WEEK_MINUTES,
};
use crate::diagnostic::Language;

const DAYS: u16 = 7;
/// Names by day of the week: English short and long in lower case, Japanese.
const DAY_NAMES: [[&str; 4]; 7] = [
    ["mon", "monday", "月", "月曜"],
    ["tue", "tuesday", "火", "火曜"],
    ["wed", "wednesday", "水", "水曜"],
    ["thu", "thursday", "木", "木曜"],
    ["fri", "friday", "金", "金曜"],
    ["sat", "saturday", "土", "土曜"],
    ["sun", "sunday", "日", "日曜"],
];
const ENGLISH: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const JAPANESE: [&str; 7] = ["月", "火", "水", "木", "金", "土", "日"];

/// Days by index, Monday first.
type Days = [bool; 7];

pub(super) fn parse(text: &str) -> Result<Vec<Span>, ScheduleError> {
    if text.len() > SCHEDULE_BYTES_MAX {
        return Err(ScheduleError::TooLong);
    }
    let text = narrow(text);
    let mut reader = Reader::default();
    for item in text.split(',') {
        for word in item.split_whitespace() {
            reader.word(word)?;
        }
    }
    reader.finish()
}

pub(super) fn print(schedule: &Schedule, language: Language) -> String {
    let names = match language {
        Language::En => &ENGLISH,
        Language::Ja => &JAPANESE,
    };
    let windows = day_windows(schedule);
    let mut ranges: Vec<(u16, u16)> = windows.iter().map(|(_, start, end)| (*start, *end)).collect();
    ranges.sort_unstable();
    ranges.dedup();
    let mut parts = Vec::new();
    for (start, end) in ranges {
        let on = |day: u16| windows.contains(&(day, start, end));
        for (first, last) in day_runs(on) {
            let days = match (name(names, first), name(names, last)) {
                (one, same) if one == same => one.to_owned(),
                (one, other) => format!("{one}-{other}"),
            };
            parts.push(format!("{days} {}-{}", clock(start), clock(end)));
        }
    }
    parts.join(", ")
}

/// What was read so far: days wait for their times, and later times without days mean the same days again.
#[derive(Default)]
struct Reader {
    days: Days,
    days_text: String,
    times_seen: bool,
    windows: Vec<Span>,
    count: usize,
}

impl Reader {
    fn word(&mut self, word: &str) -> Result<(), ScheduleError> {
        if word.starts_with(|first: char| first.is_ascii_digit()) {
            return self.times(word);
        }
        if self.times_seen {
            self.days = Days::default();
            self.days_text.clear();
            self.times_seen = false;
        }
        word.clone_into(&mut self.days_text);
        for (known, day) in self.days.iter_mut().zip(parse_days(word)?) {
            *known |= day;
        }
        Ok(())
    }

    fn times(&mut self, word: &str) -> Result<(), ScheduleError> {
        if !self.days.contains(&true) {
            // A range with no day at all means every day.
            self.days = [true; 7];
        }
        self.times_seen = true;
        self.count += 1;
        if self.count > SCHEDULE_WINDOWS_MAX {
            return Err(ScheduleError::TooLong);
        }
        let (start, end) = parse_range(word)?;
        let starts = (0..DAYS).zip(self.days).filter(|(_, on)| *on).map(|(day, _)| day * DAY_MINUTES + start);
        let length = if end > start { end - start } else { end + DAY_MINUTES - start };
        self.windows.extend(starts.map(|start| Span { start, end: start + length }));
        Ok(())
    }

    fn finish(self) -> Result<Vec<Span>, ScheduleError> {
        if !self.days_text.is_empty() && !self.times_seen {
            return Err(ScheduleError::NoTimes(self.days_text));
        }
        if self.windows.is_empty() { Err(ScheduleError::Empty) } else { Ok(self.windows) }
    }
}

/// Japanese keyboards give wide punctuation and digits: they mean the same.
fn narrow(text: &str) -> String {
    let one = |wide: char| match wide {
        '\u{3001}' | '\u{FF0C}' | '\u{30FB}' | '/' => ',',
        '\u{301C}' | '\u{FF5E}' | '\u{2013}' | '\u{2212}' | '\u{FF0D}' | '~' => '-',
        '\u{FF1A}' => ':',
        '\u{FF10}'..='\u{FF19}' => {
            u8::try_from(u32::from(wide) - 0xFF10).map_or(wide, |digit| char::from(b'0' + digit))
        }
        other => other,
    };
    text.chars().map(one).collect()
}

fn parse_days(word: &str) -> Result<Days, ScheduleError> {
    let lower = word.to_lowercase();
    if lower == "daily" || lower == "毎日" {
        return Ok([true; 7]);
    }
    let unknown = || ScheduleError::Weekday(word.to_owned());
    let (first, last) = lower.split_once('-').unwrap_or((&lower, &lower));
    let first = parse_day(first).ok_or_else(unknown)?;
    let last = parse_day(last).ok_or_else(unknown)?;
    let mut days = Days::default();
    for (day, on) in (0..DAYS).zip(days.iter_mut()) {
        *on = if first <= last { first <= day && day <= last } else { day >= first || day <= last };
    }
    Ok(days)
}

fn parse_day(word: &str) -> Option<u16> {
    let word = word.strip_suffix("曜日").unwrap_or(word);
    let found = (0..DAYS).zip(DAY_NAMES).find(|(_, names)| names.contains(&word));
    found.map(|(day, _)| day)
}

fn parse_range(word: &str) -> Result<(u16, u16), ScheduleError> {
    let refused = || ScheduleError::Range(word.to_owned());
    let (start, end) = word.split_once('-').ok_or_else(refused)?;
    let start = parse_clock(start).filter(|start| *start < DAY_MINUTES).ok_or_else(refused)?;
    let end = parse_clock(end).ok_or_else(refused)?;
    if start == end { Err(ScheduleError::NoLength(word.to_owned())) } else { Ok((start, end)) }
}

/// Minutes of a `H:MM` or `HH:MM` clock, 0 to 24:00.
fn parse_clock(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(hour.len(), 1 | 2) || minute.len() != 2 || !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= DAY_MINUTES).then_some(total)
}

/// Windows as `(day, start, end)` with clock minutes: a stretch shorter than a day stays whole across midnight, a longer
/// one is told day by day.
fn day_windows(schedule: &Schedule) -> Vec<(u16, u16, u16)> {
    let mut windows = Vec::new();
    for span in joined(&schedule.spans) {
        let day = span.start / DAY_MINUTES;
        let start = span.start % DAY_MINUTES;
        let length = span.end - span.start;
        if length < DAY_MINUTES {
            let end = start + length;
            windows.push((day, start, if end > DAY_MINUTES { end - DAY_MINUTES } else { end }));
            continue;
        }
        let mut from = span.start;
        while from < span.end {
            let midnight = (from / DAY_MINUTES + 1) * DAY_MINUTES;
            let to = midnight.min(span.end);
            windows.push((from / DAY_MINUTES % DAYS, from % DAY_MINUTES, to - (midnight - DAY_MINUTES)));
            from = to;
        }
    }
    windows
}

/// Joins the stretch at the end of the week with the one at its beginning.
fn joined(spans: &[Span]) -> Vec<Span> {
    let mut spans = spans.to_vec();
    let wraps = spans.len() > 1
        && spans.first().is_some_and(|first| first.start == 0)
        && spans.last().is_some_and(|last| last.end == WEEK_MINUTES);
    if wraps {
        let head = spans.remove(0);
        if let Some(last) = spans.last_mut() {
            last.end += head.end;
        }
    }
    spans
}

/// Runs of neighbouring days, first and last.
fn day_runs(on: impl Fn(u16) -> bool) -> Vec<(u16, u16)> {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for day in (0..DAYS).filter(|day| on(*day)) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == day => *last = day,
            _ => runs.push((day, day)),
        }
    }
    runs
}

fn name(names: &[&'static str; 7], day: u16) -> &'static str {
    names.get(usize::from(day)).copied().unwrap_or_default()
}

fn clock(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}
