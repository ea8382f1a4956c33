//! What every step of resolving shares: places, findings, the clinic's day, and the plain readers of text and dates.

use std::cell::Cell;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use toml::value::{Date as TomlDate, Datetime};

use super::suggest::closest;
use crate::diagnostic::{Diagnostic, Findings, Report, brief};
use crate::model::Place;
use crate::raw::{At, File, Index, Item, Moment, Sources, Spot, TEXT_CHARS_MAX};

/// How many "did you mean" are looked for: the search is dear, and only the first findings are shown.
const SUGGESTIONS_MAX: usize = 64;

pub(super) struct Context<'a> {
    index: &'a Index,
    errors: Findings,
    warnings: Findings,
    suggestions_left: Cell<usize>,
    now: Timestamp,
    tz: TimeZone,
}

impl<'a> Context<'a> {
    pub(super) fn new(file: &'a File, now: Timestamp) -> Self {
        let mut warnings = Findings::default();
        file.warnings.iter().cloned().for_each(|found| warnings.push(found));
        let suggestions_left = Cell::new(SUGGESTIONS_MAX);
        Self {
            index: &file.index,
            errors: Findings::default(),
            warnings,
            suggestions_left,
            now,
            tz: TimeZone::UTC,
        }
    }

    /// Learns the clinic's time zone, in which days are meant.
    pub(super) fn set_timezone(&mut self, tz: TimeZone) {
        self.tz = tz;
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn place(&self, spot: Spot) -> Place {
        self.index.place(spot)
    }

    pub(super) fn error(&mut self, found: Diagnostic) {
        self.errors.push(found);
    }

    pub(super) fn warn(&mut self, found: Diagnostic) {
        self.warnings.push(found);
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// How many errors there are: tells whether a step added one.
    pub(super) fn error_count(&self) -> usize {
        self.errors.count()
    }

    pub(super) fn into_warnings(self) -> Vec<Diagnostic> {
        self.warnings.into_list()
    }

    pub(super) fn into_report(self, sources: &Sources) -> Report {
        self.errors.into_report(sources.names())
    }

    /// The known word most like a mistyped one.
    pub(super) fn suggest<'b>(&self, word: &str, known: impl Iterator<Item = &'b str>) -> Option<&'b str> {
        let left = self.suggestions_left.get().checked_sub(1)?;
        self.suggestions_left.set(left);
        closest(word, known)
    }

    /// An error about a word that names nothing, with the nearest word that does.
    pub(super) fn unknown<'b>(
        &mut self,
        code: &'static str,
        (what_en, what_ja): (&str, &str),
        word: &str,
        spot: Spot,
        known: impl Iterator<Item = &'b str>,
    ) {
        let (help_en, help_ja) = match self.suggest(word, known) {
            Some(near) => (format!("did you mean `{near}`?"), format!("`{near}` のことでしょうか")),
            None => (
                format!("define the {what_en} in the policy, or check the spelling"),
                format!("通信方針に{what_ja}を書き足すか、綴りを確かめてください"),
            ),
        };
        let word = brief(word);
        let found = Diagnostic::error(
            code,
            format!("there is no {what_en} named `{word}`"),
            format!("`{word}` という{what_ja}はありません"),
        );
        self.error(found.label(self.place(spot), "not defined", "定義されていません").help(help_en, help_ja));
    }

    /// An error that two places claim the same thing.
    pub(super) fn twice(
        &mut self,
        code: &'static str,
        (en, ja): (String, String),
        first: Place,
        second: Place,
    ) {
        let found = Diagnostic::error(code, en, ja)
            .label(second, "again here", "ここで再び使われています")
            .label(first, "first here", "最初はここです")
            .help("give each its own, or remove one", "それぞれ別のものにするか、どちらかを消してください");
        self.error(found);
    }

    /// A text for people: not empty, not endless, without control characters.
    pub(super) fn text<T>(&mut self, item: &Item<T>, text: &At<String>, key: &str) -> String {
        let spot = item.spot(text);
        let place = self.place(spot);
        let trimmed = text.value.trim();
        if trimmed.is_empty() {
            let found =
                Diagnostic::error("empty-text", format!("`{key}` is empty"), format!("`{key}` が空です"));
            self.error(found.label(place, "empty", "空です").help(
                "write it out: it is shown in reports and alerts",
                "報告書や警報に表示されるので、書いてください",
            ));
        } else if text.value.len() > TEXT_CHARS_MAX * 4 || text.value.chars().count() > TEXT_CHARS_MAX {
            let found = Diagnostic::error(
                "text-too-long",
                format!("`{key}` is longer than {TEXT_CHARS_MAX} characters"),
                format!("`{key}` が{TEXT_CHARS_MAX}文字を超えています"),
            );
            self.error(found.label(place, "too long", "長すぎます").help("shorten it", "短くしてください"));
        } else if crate::diagnostic::visible(trimmed) != trimmed {
            let found = Diagnostic::error(
                "control-character",
                format!("`{key}` contains a control or direction character"),
                format!("`{key}` に制御文字が含まれています"),
            );
            self.error(found.label(place, "in this text", "この文字列の中").help(
                "type the text anew: such characters can make it look like something else",
                "別の文字列に見せかけることができるため、入力し直してください",
            ));
        }
        trimmed.to_owned()
    }

    /// A text that may be left out.
    pub(super) fn optional_text<T>(
        &mut self,
        item: &Item<T>,
        text: Option<&At<String>>,
        key: &str,
    ) -> Option<String> {
        text.map(|text| self.text(item, text, key))
    }

    /// A day without a time.
    pub(super) fn day<T>(&mut self, item: &Item<T>, moment: &At<Moment>) -> Option<Date> {
        let day = match moment.value.0 {
            Datetime { date: Some(date), time: None, offset: None } => civil(date),
            _ => None,
        };
        if day.is_none() {
            self.bad_date(item.spot(moment), "a day such as `2027-03-31`", "`2027-03-31` のような日付");
        }
        day
    }

    /// The instant at which something ends: a date and time with offset, or the end of a day.
    pub(super) fn end<T>(&mut self, item: &Item<T>, moment: &At<Moment>) -> Option<Timestamp> {
        let end = match moment.value.0 {
            Datetime { date: Some(date), time: None, offset: None } => {
                civil(date).and_then(|day| super::end_of_day(day, &self.tz))
            }
            at @ Datetime { date: Some(_), time: Some(_), offset: Some(_) } => at.to_string().parse().ok(),
            _ => None,
        };
        if end.is_none() {
            let en = "a day such as `2026-12-31`, or a time with offset such as `2026-12-31T18:00:00+09:00`";
            let ja = "`2026-12-31` のような日付か、`2026-12-31T18:00:00+09:00` のような時差付きの日時";
            self.bad_date(item.spot(moment), en, ja);
        }
        end
    }

    /// The first instant after a day in the clinic.
    pub(super) fn end_of_day(&self, day: Date) -> Option<Timestamp> {
        super::end_of_day(day, &self.tz)
    }

    /// Today in the clinic.
    pub(super) fn today(&self) -> Date {
        self.tz.to_datetime(self.now).date()
    }

    fn bad_date(&mut self, spot: Spot, en: &str, ja: &str) {
        let found = Diagnostic::error(
            "bad-date",
            "this is not a date that can be used here",
            "ここで使える日付ではありません",
        )
        .label(self.place(spot), "not usable", "使えない日付")
        .help(format!("write {en}"), format!("{ja}を書いてください"));
        self.error(found);
    }
}

fn civil(date: TomlDate) -> Option<Date> {
    let year = i16::try_from(date.year).ok()?;
    Date::new(year, i8::try_from(date.month).ok()?, i8::try_from(date.day).ok()?).ok()
}
