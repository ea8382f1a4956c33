//! The report: what was measured, for people and for an inspection, as one HTML page that needs nothing else.
//! It states facts with their time; it is no certificate, and it says so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::catalogue::{Catalogue, Edition, Version};
use super::state::{Assessment, State, Timeline};
use crate::diagnostic::Language;
use crate::model::Policy;

mod controls;
mod matrix;
mod people;

/// The page's only style: no request leaves the reader's machine.
const STYLE: &str = include_str!("report/style.css");

/// What a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct ReportInput<'a> {
    /// The controls.
    pub catalogue: &'a Catalogue,
    /// The policy in force.
    pub policy: &'a Policy,
    /// Identity of its rule set.
    pub policy_id: &'a str,
    /// How the controls stand, in the catalogue's order.
    pub assessments: &'a [Assessment],
    /// Since when they stand so.
    pub timeline: &'a Timeline,
    /// The version of the guideline that the report speaks of.
    pub version: Version,
    /// The period it is about.
    pub period: Period,
    /// When it was made.
    pub made_at: Timestamp,
    /// The log it rests on, when there is one.
    pub checkpoint: Option<&'a Checkpoint>,
    /// Version of the product.
    pub product: &'a str,
}

/// The period of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its first instant.
    pub from: Timestamp,
    /// Its last.
    pub to: Timestamp,
}

/// The signed state of the log that a report rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Entries in the log.
    pub tree_size: u64,
    /// Root hash, as the signed checkpoint writes it (base64).
    pub root_hash: String,
    /// When it was signed.
    pub signed_at: Timestamp,
}

/// Writes the report in a language.
#[must_use]
pub fn html(input: &ReportInput<'_>, language: Language) -> String {
    Page { input, language }.whole().into_string()
}

/// One report in one language.
#[derive(Clone, Copy)]
struct Page<'a> {
    input: &'a ReportInput<'a>,
    language: Language,
}

impl<'a> Page<'a> {
    fn whole(self) -> Markup {
        let title =
            format!("{} {}", self.say("測定報告書", "Measurement report"), self.input.policy.clinic.name);
        html! {
            (DOCTYPE)
            html lang=(self.language.pick("en", "ja")) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="referrer" content="no-referrer";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        h1 { (title) }
                        (self.head())
                        (self.statement())
                        (self.summary())
                        (controls::section(self))
                        (matrix::section(self))
                        (people::section(self))
                        (self.log())
                    }
                }
            }
        }
    }

    fn head(self) -> Markup {
        let ReportInput { catalogue, policy, policy_id, version, period, made_at, product, .. } = self.input;
        let edition = match version {
            Version::V5_2 => Edition::V5_2,
            Version::V6_0 => Edition::V6_0,
            Version::V7_0Draft => Edition::V7_0Draft,
        };
        let known = catalogue.edition(edition).unwrap_or_default();
        html! {
            dl {
                dt { (self.say("医療機関", "Clinic")) }
                dd { (policy.clinic.name) " (" code { (policy.clinic.site) } ")" }
                dt { (self.say("対象期間", "Period")) }
                dd { (self.instant(period.from)) " – " (self.instant(period.to)) }
                dt { (self.say("作成日時", "Made")) }
                dd { (self.instant(*made_at)) }
                dt { (self.say("通信方針", "Policy")) }
                dd { code { (policy_id) } }
                dt { (self.say("ガイドライン", "Guideline")) }
                dd { (edition.name(self.language)) " (" (known) ")" }
                dt { (self.say("条文を読んだ日", "Clauses read")) }
                dd { (catalogue.compiled()) }
                dt { (self.say("作成した装置", "Made by")) }
                dd { "Sekisho " (product) }
            }
        }
    }

    fn statement(self) -> Markup {
        html! {
            p.notice { (self.say(
                "この報告書は、関所(Sekisho)が測定した事実とその時刻を示すものです。ガイドラインへの適合の証明や認証ではありません。\
                 測定していない項目、組織で対応する項目は、そのとおりに表示しています。条文の「案の段階」「記憶・未確認」などの表示は、\
                 公式の確定版で文言を確認できていないことを表します。",
                "This report shows facts that Sekisho measured, and when. It is not a certificate and does not attest that \
                 the guideline is met. What is not measured, and what the clinic does itself, is shown as such. Marks such \
                 as “draft” or “from memory, unverified” beside a clause mean that its wording was not read in the \
                 official final text.",
            )) }
        }
    }

    fn summary(self) -> Markup {
        let mut counts: BTreeMap<State, usize> = BTreeMap::new();
        for assessment in self.input.assessments {
            *counts.entry(assessment.state).or_default() += 1;
        }
        html! {
            section {
                h2 { (self.say("まとめ", "Summary")) }
                table {
                    caption { (self.say("状態ごとの管理策の数", "Controls by state")) }
                    thead { tr {
                        @for state in State::ALL { th scope="col" { (self.state(state)) } }
                    } }
                    tbody { tr {
                        @for state in State::ALL {
                            td { (counts.get(&state).copied().unwrap_or_default()) (self.say(" 件", "")) }
                        }
                    } }
                }
            }
        }
    }

    fn log(self) -> Markup {
        html! {
            section {
                h2 { (self.say("監査ログ", "Audit log")) }
                @if let Some(Checkpoint { origin, tree_size, root_hash, signed_at }) = self.input.checkpoint {
                    p { (self.say(
                        "この報告書の作成時点の署名付き要約です。手元に控えておくと、後からログが書き換えられていないことを確かめられます。",
                        "The signed checkpoint when this report was made. Keep a copy: with it anybody can show later that the log was not rewritten.",
                    )) }
                    dl {
                        dt { (self.say("ログの名前", "Log")) } dd { code { (origin) } }
                        dt { (self.say("件数", "Entries")) } dd { (tree_size) (self.say(" 件", "")) }
                        dt { (self.say("要約値", "Root hash")) } dd { code { (root_hash) } }
                        dt { (self.say("署名日時", "Signed")) } dd { (self.instant(*signed_at)) }
                    }
                } @else {
                    p { (self.say(
                        "署名付き要約がありません。この報告書の証拠の番号は、ログで確かめられません。",
                        "There is no checkpoint: the evidence numbers of this report cannot be checked in a log.",
                    )) }
                }
            }
        }
    }

    /// A state by colour, symbol and word together.
    fn state(self, state: State) -> Markup {
        html! {
            span class=(format!("state {}", state.slug())) { (state.symbol()) " " (state.word(self.language)) }
        }
    }

    /// An instant in the clinic's time zone with its weekday.
    fn instant(self, at: Timestamp) -> String {
        let local = at.to_zoned(self.input.policy.clinic.timezone.clone());
        let day = usize::try_from(local.weekday().to_monday_zero_offset()).unwrap_or_default();
        let names = match self.language {
            Language::Ja => ["月", "火", "水", "木", "金", "土", "日"],
            Language::En => ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
        };
        let weekday = names.get(day).copied().unwrap_or_default();
        local.strftime(&format!("%Y-%m-%d ({weekday}) %H:%M")).to_string()
    }

    fn say(self, ja: &'static str, en: &'static str) -> &'static str {
        self.language.pick(en, ja)
    }
}
