//! How long what happened is kept, and how much disk it may take.

use std::ops::RangeInclusive;

use super::context::Context;
use crate::diagnostic::Diagnostic;
use crate::model::Evidence;
use crate::raw::{self, At, File, Item};
use crate::time::{parse_retention_s, parse_size_bytes};

const DAY_S: u64 = 86_400;
const YEAR_S: u64 = 366 * DAY_S;
const MB: u64 = 1_000_000;
const TB: u64 = 1_000_000 * MB;

/// What one key may be, in numbers and in words.
struct Bounds {
    key: &'static str,
    range: RangeInclusive<u64>,
    en: &'static str,
    ja: &'static str,
}

const LOG_RETENTION: Bounds = Bounds {
    key: "log_retention",
    range: 365 * DAY_S..=30 * YEAR_S,
    en: "1 year to 30 years, such as `5y`",
    ja: "1年から30年までを `5y`",
};
const LOG_BUDGET: Bounds = Bounds {
    key: "log_budget",
    range: 64 * MB..=TB,
    en: "64 MB to 1 TB, such as `4 GB`",
    ja: "64 MBから1 TBまでを `4 GB`",
};
const FLOWS_RETENTION: Bounds = Bounds {
    key: "flows_retention",
    range: DAY_S..=10 * YEAR_S,
    en: "1 day to 10 years, such as `90d`",
    ja: "1日から10年までを `90d`",
};
const FLOWS_BUDGET: Bounds = Bounds {
    key: "flows_budget",
    range: 16 * MB..=TB,
    en: "16 MB to 1 TB, such as `1 GB`",
    ja: "16 MBから1 TBまでを `1 GB`",
};

pub(super) fn evidence(context: &mut Context<'_>, file: &File) -> Evidence {
    let unsaid = Evidence::default();
    let Some(item) = &file.evidence else { return unsaid };
    let raw::Evidence { log_retention, log_budget, flows_retention, flows_budget } = &item.value;
    let mut period = |text: &Option<At<String>>, bounds: &Bounds, unsaid: u64| {
        text.as_ref().map_or(unsaid, |text| retention_s(context, item, text, bounds).unwrap_or(unsaid))
    };
    let log_retention_s = period(log_retention, &LOG_RETENTION, unsaid.log_retention_s);
    let flows_retention_s = period(flows_retention, &FLOWS_RETENTION, unsaid.flows_retention_s);
    let mut size = |text: &Option<At<String>>, bounds: &Bounds, unsaid: u64| {
        text.as_ref().map_or(unsaid, |text| budget_bytes(context, item, text, bounds).unwrap_or(unsaid))
    };
    let log_budget_bytes = size(log_budget, &LOG_BUDGET, unsaid.log_budget_bytes);
    let flows_budget_bytes = size(flows_budget, &FLOWS_BUDGET, unsaid.flows_budget_bytes);
    Evidence { log_retention_s, log_budget_bytes, flows_retention_s, flows_budget_bytes }
}

fn retention_s(
    context: &mut Context<'_>,
    item: &Item<raw::Evidence>,
    text: &At<String>,
    bounds: &Bounds,
) -> Option<u64> {
    let seconds = parse_retention_s(&text.value).ok().filter(|seconds| bounds.range.contains(seconds));
    if seconds.is_none() {
        let Bounds { key, en, ja, .. } = bounds;
        let found = Diagnostic::error(
            "bad-retention",
            format!("this is not a period that `{key}` can be"),
            format!("`{key}` の保存期間として使えません"),
        );
        context.error(found.label(context.place(item.spot(text)), "not usable", "使えません").help(
            format!("write {en}, in years (`y`), months (`mo`), weeks (`w`) or days (`d`)"),
            format!("{ja} のように、年 (`y`)・月 (`mo`)・週 (`w`)・日 (`d`) で書いてください"),
        ));
    }
    seconds
}

fn budget_bytes(
    context: &mut Context<'_>,
    item: &Item<raw::Evidence>,
    text: &At<String>,
    bounds: &Bounds,
) -> Option<u64> {
    let bytes = parse_size_bytes(&text.value).ok().filter(|bytes| bounds.range.contains(bytes));
    if bytes.is_none() {
        let Bounds { key, en, ja, .. } = bounds;
        let found = Diagnostic::error(
            "bad-budget",
            format!("this is not a size that `{key}` can be"),
            format!("`{key}` の容量として使えません"),
        );
        context.error(
            found
                .label(context.place(item.spot(text)), "not usable", "使えません")
                .help(format!("write {en}"), format!("{ja} のように書いてください")),
        );
    }
    bytes
}
