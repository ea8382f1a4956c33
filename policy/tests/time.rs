//! Schedules against a walk over the minutes, in zones with and without daylight saving time.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

use jiff::civil::Weekday;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use policy::diagnostic::Language;
use policy::model::Timing;
use policy::time::{
    Liveness, OPEN_HORIZON_DAYS, Schedule, ScheduleError, parse_duration_s, parse_retention_s,
    parse_size_bytes,
};
use proptest::prelude::*;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Zones with odd habits: half-hour summer time, southern summers, a lost day, none at all.
const ZONES: [&str; 7] = [
    "Asia/Tokyo",
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Asia/Beirut",
];

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(text: &str) -> Schedule {
    Schedule::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn open_until(text: &str, now: &str) -> Option<Timestamp> {
    schedule(text).open_until(&zone("Asia/Tokyo"), at(now))
}

#[test]
fn an_evening_window_ends_the_same_day() {
    let end = at("2026-11-20T22:00:00+09:00"); // a Friday
    assert_eq!(open_until("Mon-Fri 19:00-22:00", "2026-11-20T19:00:00+09:00"), Some(end));
    assert_eq!(open_until("Mon-Fri 19:00-22:00", "2026-11-20T21:59:59.999+09:00"), Some(end));
    assert_eq!(open_until("Mon-Fri 19:00-22:00", "2026-11-20T22:00:00+09:00"), None);
    assert_eq!(open_until("Mon-Fri 19:00-22:00", "2026-11-20T18:59:59.999+09:00"), None);
    assert_eq!(open_until("Mon-Fri 19:00-22:00", "2026-11-21T19:30:00+09:00"), None);
}

#[test]
fn a_window_past_midnight_belongs_to_the_day_it_begins() {
    let end = at("2026-11-21T06:00:00+09:00");
    assert_eq!(open_until("Fri 20:00-06:00", "2026-11-20T23:00:00+09:00"), Some(end));
    assert_eq!(open_until("Fri 20:00-06:00", "2026-11-21T05:59:00+09:00"), Some(end));
    assert_eq!(open_until("Fri 20:00-06:00", "2026-11-20T05:00:00+09:00"), None);
    // Sunday night runs into Monday, over the end of the schedule's week.
    assert_eq!(
        open_until("Sun 20:00-06:00", "2026-11-22T21:00:00+09:00"),
        Some(at("2026-11-23T06:00:00+09:00"))
    );
}

#[test]
fn adjoining_windows_are_one_stretch() {
    let end = Some(at("2026-11-20T18:00:00+09:00"));
    assert_eq!(open_until("Fri 09:00-12:00, 12:00-15:00, 14:00-18:00", "2026-11-20T09:30:00+09:00"), end);
}

#[test]
fn month_ends_and_leap_days_are_days_like_others() {
    let daily = "Mon-Sun 22:00-02:00";
    assert_eq!(open_until(daily, "2026-12-31T23:00:00+09:00"), Some(at("2027-01-01T02:00:00+09:00")));
    assert_eq!(open_until(daily, "2028-02-28T23:00:00+09:00"), Some(at("2028-02-29T02:00:00+09:00")));
    assert_eq!(open_until(daily, "2028-02-29T23:00:00+09:00"), Some(at("2028-03-01T02:00:00+09:00")));
}

#[test]
fn a_schedule_that_never_closes_is_bounded() {
    let now = at("2026-11-20T10:00:00+09:00");
    let end = now + SignedDuration::from_hours(OPEN_HORIZON_DAYS * 24);
    assert_eq!(open_until("daily 00:00-24:00", "2026-11-20T10:00:00+09:00"), Some(end));
    assert_eq!(schedule("毎日 00:00-12:00, 12:00-24:00"), schedule("daily 00:00-24:00"));
}

#[test]
fn a_skipped_hour_opens_nothing_and_a_repeated_one_opens_twice() {
    let tz = zone("America/New_York");
    let night = schedule("Sun 01:30-02:30");
    // 2026-03-08: clocks go from 02:00 to 03:00.
    assert_eq!(night.open_until(&tz, at("2026-03-08T06:45:00Z")), Some(at("2026-03-08T07:00:00Z")));
    // 2026-11-01: 01:00 to 02:00 comes twice; the window closes while 01:00 to 01:30 is repeated.
    assert_eq!(night.open_until(&tz, at("2026-11-01T05:45:00Z")), Some(at("2026-11-01T06:00:00Z")));
    assert_eq!(night.next_open(&tz, at("2026-11-01T06:00:00Z")), Some(at("2026-11-01T06:30:00Z")));
    assert_eq!(night.open_until(&tz, at("2026-11-01T06:45:00Z")), Some(at("2026-11-01T07:30:00Z")));
    // A window that lies wholly in the skipped hour comes a week later.
    let lost = schedule("Sun 02:10-02:50");
    assert_eq!(lost.next_open(&tz, at("2026-03-08T00:00:00Z")), Some(at("2026-03-15T06:10:00Z")));
}

#[test]
fn japanese_and_wide_text_mean_the_same() {
    let plain = schedule("Mon-Fri 09:00-12:00, 14:00-18:00, Sat 09:00-12:00");
    assert_eq!(schedule("月-金 9:00-12:00, 14:00-18:00, 土 9:00-12:00"), plain);
    assert_eq!(
        schedule(
            "月曜日\u{FF5E}金曜日 \u{FF10}9\u{FF1A}00\u{301C}12\u{FF1A}00\u{3001}14:00-18:00\u{FF0C}土曜 9:00-12:00"
        ),
        plain
    );
    assert_eq!(plain.text(Language::Ja), "月-土 09:00-12:00, 月-金 14:00-18:00");
    assert_eq!(plain.to_string(), "Mon-Sat 09:00-12:00, Mon-Fri 14:00-18:00");
    assert_eq!(
        schedule("月-金 9:00-12:00、毎日 20:00〜22:00"),
        schedule("Mon-Fri 09:00-12:00, daily 20:00-22:00")
    );
    assert_eq!(schedule("Fri-Mon 10:00-11:00"), schedule("Fri, Sat, Sun, Mon 10:00-11:00"));
}

#[test]
fn bad_schedules_name_the_word() {
    use ScheduleError::{Empty, NoLength, NoTimes, Range, Weekday};
    let bad = [
        ("", Empty),
        (" , ", Empty),
        ("Mon", NoTimes("Mon".into())),
        ("Mon 09:00-12:00, Tue", NoTimes("Tue".into())),
        ("Fry 09:00-12:00", Weekday("Fry".into())),
        ("Mon-Fry 09:00-12:00", Weekday("Mon-Fry".into())),
        ("Mon 9-12", Range("9-12".into())),
        ("Mon 09:00", Range("09:00".into())),
        ("Mon 24:00-25:00", Range("24:00-25:00".into())),
        ("Mon 09:60-10:00", Range("09:60-10:00".into())),
        ("Mon 24:00-01:00", Range("24:00-01:00".into())),
        ("Mon 10:00-10:00", NoLength("10:00-10:00".into())),
    ];
    for (text, error) in bad {
        assert_eq!(Schedule::parse(text), Err(error), "{text}");
    }
    assert_eq!(Schedule::parse(&"Mon 10:00-11:00,".repeat(33)), Err(ScheduleError::TooLong));
}

#[test]
fn durations_and_sizes() {
    let durations = [("8h", 28_800), ("30m", 1_800), ("1h 30m", 5_400), ("90s", 90), ("2 hours", 7_200)];
    for (text, seconds) in durations {
        assert_eq!(parse_duration_s(text), Ok(seconds), "{text}");
    }
    for text in ["", "8", "-8h", "8 months", "1.5ms", "x"] {
        assert!(parse_duration_s(text).is_err(), "{text}");
    }
    assert_eq!(parse_size_bytes("200 MB"), Ok(200_000_000));
    assert_eq!(parse_size_bytes("64 MiB"), Ok(64 << 20));
    for text in ["", "MB", "-1 MB", "a lot"] {
        assert!(parse_size_bytes(text).is_err(), "{text}");
    }
}

#[test]
fn a_retention_is_never_shorter_than_its_words() {
    let day = 86_400;
    let periods = [("5y", 5 * 366), ("90d", 90), ("2w", 14), ("6mo", 186), ("1 year 2 days", 368), ("0d", 0)];
    for (text, days) in periods {
        assert_eq!(parse_retention_s(text), Ok(days * day), "{text}");
    }
    for text in ["", "5", "-5y", "5y ago", "1.5y", "24h", "1d 1s", "5年", "99999y", "x"] {
        assert!(parse_retention_s(text).is_err(), "{text}");
    }
    assert!(parse_retention_s(&"1d ".repeat(1_000)).is_err());
}

#[test]
fn an_end_closes_whatever_the_schedule_says() {
    let tz = zone("Asia/Tokyo");
    let until = at("2026-11-20T20:00:00+09:00");
    let both = Timing { until: Some(until), schedule: Some(schedule("Fri 19:00-22:00")) };
    assert_eq!(both.open_until(&tz, at("2026-11-20T19:30:00+09:00")), Liveness::Until(until));
    assert_eq!(both.open_until(&tz, until), Liveness::Closed);
    assert_eq!(both.next_change(&tz, at("2026-11-20T10:00:00+09:00")), Some(at("2026-11-20T19:00:00+09:00")));
    assert_eq!(both.next_change(&tz, until), None);
    let until_only = Timing { until: Some(until), schedule: None };
    assert_eq!(until_only.open_until(&tz, at("2020-01-01T00:00:00Z")), Liveness::Until(until));
    assert_eq!(Timing::default().open_until(&tz, until), Liveness::Forever);
    assert_eq!(Timing::default().next_change(&tz, until), None);
}

#[test]
fn the_end_of_time_is_no_panic() {
    let tz = zone("America/New_York");
    for text in ["daily 00:00-24:00", "Mon 10:00-11:00"] {
        for now in [Timestamp::MAX, Timestamp::MIN] {
            let _ = schedule(text).open_until(&tz, now);
            let _ = schedule(text).next_open(&tz, now);
        }
    }
}

/// A window as a test means it: days, and minutes of the day it begins and ends.
type Window = (Vec<bool>, u16, u16);

fn text_of(windows: &[Window]) -> String {
    let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    let one = |(days, start, end): &Window| {
        let days: Vec<&str> = DAYS.iter().zip(days).filter(|(_, on)| **on).map(|(name, _)| *name).collect();
        format!("{} {}-{}", days.join(" "), clock(*start), clock(*end))
    };
    windows.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The meaning in its plainest form: the wall clock, and the day on which a window began.
fn is_open(windows: &[Window], tz: &TimeZone, now: Timestamp) -> bool {
    let local = tz.to_datetime(now);
    let minute = local.hour() as u16 * 60 + local.minute() as u16;
    let today = local.weekday().since(Weekday::Monday) as usize;
    let yesterday = (today + 6) % 7;
    windows.iter().any(|(days, start, end)| {
        if start < end {
            days[today] && *start <= minute && minute < *end
        } else {
            (days[today] && minute >= *start) || (days[yesterday] && minute < *end)
        }
    })
}

fn window() -> impl Strategy<Value = Window> {
    let days = prop::collection::vec(any::<bool>(), 7).prop_filter("a day", |days| days.contains(&true));
    (days, 0u16..1440, 0u16..=1440).prop_filter("a length", |(_, start, end)| start != end)
}

/// Instants of 2005 to 2035, half of them within two days of a change of the clock.
fn instant(zone_name: &'static str) -> impl Strategy<Value = Timestamp> {
    let tz = zone(zone_name);
    (1_104_537_600i64..2_051_222_400, -172_800i64..172_800, any::<bool>(), 0i32..1_000_000_000).prop_map(
        move |(second, off, near, nanosecond)| {
            let free = Timestamp::new(second, nanosecond).unwrap();
            let change = tz.following(free).next().map(|transition| transition.timestamp().as_second() + off);
            near.then_some(change)
                .flatten()
                .map_or(free, |second| Timestamp::new(second, nanosecond).unwrap())
        },
    )
}

fn zoned_instant() -> impl Strategy<Value = (&'static str, Timestamp)> {
    prop::sample::select(&ZONES[..]).prop_flat_map(|name| (Just(name), instant(name)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn open_until_agrees_with_a_walk_over_the_minutes(
        windows in prop::collection::vec(window(), 1..4),
        (name, now) in zoned_instant(),
    ) {
        let tz = zone(name);
        let schedule = schedule(&text_of(&windows));
        let horizon = now + SignedDuration::from_hours(OPEN_HORIZON_DAYS * 24);
        let next_minute = Timestamp::from_second((now.as_second().div_euclid(60) + 1) * 60).unwrap();
        let minutes = (0..OPEN_HORIZON_DAYS * 1440).map(|minute| next_minute + SignedDuration::from_mins(minute));
        let mut minutes = minutes.take_while(|minute| *minute < horizon);
        if is_open(&windows, &tz, now) {
            let end = minutes.find(|minute| !is_open(&windows, &tz, *minute)).unwrap_or(horizon);
            prop_assert_eq!(schedule.open_until(&tz, now), Some(end));
            prop_assert_eq!(schedule.next_open(&tz, now), Some(now));
        } else {
            prop_assert_eq!(schedule.open_until(&tz, now), None);
            if let Some(opens) = minutes.find(|minute| is_open(&windows, &tz, *minute)) {
                prop_assert_eq!(schedule.next_open(&tz, now), Some(opens));
            }
        }
    }

    #[test]
    fn a_printed_schedule_reads_back(windows in prop::collection::vec(window(), 1..6)) {
        let schedule = schedule(&text_of(&windows));
        for language in [Language::En, Language::Ja] {
            let text = schedule.text(language);
            if text.len() <= policy::time::SCHEDULE_BYTES_MAX {
                prop_assert_eq!(&Schedule::parse(&text).unwrap(), &schedule, "{}", text);
            }
        }
        prop_assert!(schedule.covers(&schedule));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,80}", words in "[Mon\\-Fri 0-9:,~月金]{0,40}") {
        let _ = Schedule::parse(&text);
        let _ = Schedule::parse(&words);
        let _ = parse_duration_s(&text);
        let _ = parse_retention_s(&text);
        let _ = parse_size_bytes(&text);
    }
}
