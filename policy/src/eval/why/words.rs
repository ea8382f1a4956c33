//! The answers in Japanese and English.

use super::{Answer, Denial, FlowFacts, Nearest, Outcome, Way, Why, WhyError, Written};
use crate::diagnostic::Language;
use crate::eval::{DenyReason, Respect};

/// What else is known about a denial.
pub(super) struct Hints<'a> {
    pub(super) nearest: Option<&'a Nearest>,
    pub(super) promise: Option<&'a Written>,
    pub(super) discovery: Option<&'static str>,
}

/// The whole answer: packets of the same fate stand together.
pub(super) fn answer(why: &Why, language: Language) -> String {
    let mut groups: Vec<Vec<&Answer>> = Vec::new();
    for answer in &why.answers {
        let same = |group: &&mut Vec<&Answer>| {
            group.first().is_some_and(|first| first.outcome == answer.outcome && first.way == answer.way)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(answer),
            None => groups.push(vec![answer]),
        }
    }
    groups.iter().map(|group| block(group, language)).collect::<Vec<_>>().join("\n")
}

fn block(group: &[&Answer], language: Language) -> String {
    let header = |answer: &&Answer| {
        let word = match answer.outcome {
            Outcome::Allow { .. } | Outcome::Control { .. } => language.pick("ALLOWED", "許可"),
            Outcome::Deny(_) => language.pick("DENIED", "拒否"),
        };
        format!("{word}  {} -> {}  {}\n", answer.packet.source, answer.packet.destination, answer.service)
    };
    let headers: String = group.iter().map(header).collect();
    let facts = group.first().map(|answer| facts(answer, language)).unwrap_or_default();
    let lines: String = facts.iter().map(|(label, text)| format!("  {label}: {text}\n")).collect();
    headers + &lines
}

/// Labelled lines about one packet's fate.
fn facts(answer: &Answer, language: Language) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut fact =
        |en: &'static str, ja: &'static str, text: String| facts.push((language.pick(en, ja), text));
    if let Some(Way { from, to }) = &answer.way {
        fact("way", "経路", format!("{} -> {}", written(from), written(to)));
    }
    match &answer.outcome {
        Outcome::Allow { flow } => {
            fact("flow", "通信許可", named(flow));
            fact("purpose", "目的", flow.purpose.clone());
            fact("owner", "担当", flow.owner.clone());
        }
        Outcome::Control { name } => fact("built-in exchange", "組み込みの通信", (*name).to_owned()),
        Outcome::Deny(denial) => {
            let Denial { reason: _, reason_ja, reason_en, nearest, promise, discovery, next_ja, next_en } =
                &**denial;
            fact("reason", "理由", language.pick(reason_en, reason_ja).to_owned());
            if let Some(protocol) = discovery {
                fact("discovery protocol", "機器を探すための通信", (*protocol).to_owned());
            }
            if let Some(promise) = promise {
                fact("the clinic's promise", "医療機関の約束", written(promise));
            }
            if let Some(Nearest { flow, failing }) = nearest {
                fact("nearest flow", "最も近い通信許可", named(flow));
                if !failing.is_empty() {
                    fact("does not match", "合わない点", respects(failing, language));
                }
            }
            fact("what to do", "次にすること", language.pick(next_en, next_ja).to_owned());
        }
    }
    facts
}

fn written(thing: &Written) -> String {
    match &thing.place {
        Some(place) => format!("{} ({place})", thing.text),
        None => thing.text.clone(),
    }
}

fn named(flow: &FlowFacts) -> String {
    written(&Written { text: flow.name.clone(), place: flow.place.clone() })
}

fn respects(failing: &[Respect], language: Language) -> String {
    let word = |respect: &Respect| match respect {
        Respect::Source => language.pick("source", "送信元"),
        Respect::Destination => language.pick("destination", "宛先"),
        Respect::Service => language.pick("service", "サービス"),
    };
    failing.iter().map(word).collect::<Vec<_>>().join(language.pick(", ", "・"))
}

/// What the person can do about a denial.
pub(super) fn next(reason: &DenyReason, hints: &Hints<'_>, language: Language) -> String {
    if hints.discovery.is_some() {
        return language
            .pick(
                "discovery stays within a zone: give the device a fixed address and write a flow for the service itself",
                "機器を探す通信は区画を越えません。機器に固定のアドレスを付け、使いたいサービスの通信許可を書いてください",
            )
            .to_owned();
    }
    let (en, ja) = match reason {
        DenyReason::NoFlow => return missing(hints, language),
        DenyReason::Closed { opens: Some(_), .. } => (
            "wait until it opens, or change the flow's schedule",
            "開く時刻まで待つか、通信許可の時間帯を直してください",
        ),
        DenyReason::Closed { opens: None, .. } => (
            "if it is still needed, give the flow a new end",
            "まだ必要な場合は、通信許可に新しい期限を書いてください",
        ),
        DenyReason::TimeUntrusted { .. } => (
            "wait until the gateway has the time, or look whether its time servers answer",
            "関所の時刻が合うまで待つか、時刻サーバーにつながるか確かめてください",
        ),
        DenyReason::SpoofedSource { .. }
        | DenyReason::UnknownInterface
        | DenyReason::ForeignSource { .. } => (
            "look at the device's address and at the port it is plugged into",
            "機器のアドレスと、つないでいるポートを確かめてください",
        ),
        DenyReason::FamilyOff { .. } => (
            "give the zone a network of this family, or use the other one",
            "区画にこの種類のネットワークを書くか、もう一方の種類のアドレスを使ってください",
        ),
        DenyReason::GatewayElsewhere { .. } => {
            ("use the gateway's address in the zone itself", "同じ区画にある関所のアドレスを使ってください")
        }
        DenyReason::NotUnicast => ("use the address of one device", "ひとつの機器のアドレスを使ってください"),
        DenyReason::NoRoute => (
            "look at the destination address, or write the zone it lies in",
            "宛先のアドレスを確かめるか、その区画を書いてください",
        ),
        DenyReason::Loopback
        | DenyReason::Malformed
        | DenyReason::NotASyn
        | DenyReason::IcmpAlone
        | DenyReason::NotTheReply
        | DenyReason::NotRelated => {
            ("nothing: it is part of no connection", "対応は不要です。どの接続にも属さないパケットです")
        }
    };
    language.pick(en, ja).to_owned()
}

fn missing(hints: &Hints<'_>, language: Language) -> String {
    if let Some(promise) = hints.promise {
        let promise = written(promise);
        return match language {
            Language::En => {
                format!("nothing, if the clinic means its promise {promise}; else change the promise first")
            }
            Language::Ja => format!(
                "約束 {promise} どおりなら対応は不要です。通す必要がある場合は、まず約束を見直してください"
            ),
        };
    }
    match (language, hints.nearest.map(|nearest| named(&nearest.flow))) {
        (Language::En, Some(flow)) => {
            format!("if it is needed, write a flow for it with purpose and owner, or change flow {flow}")
        }
        (Language::En, None) => "if it is needed, write a flow for it with purpose and owner".to_owned(),
        (Language::Ja, Some(flow)) => {
            format!("必要な通信なら、目的と担当を添えて通信許可を書くか、通信許可 {flow} を直してください")
        }
        (Language::Ja, None) => "必要な通信なら、目的と担当を添えて通信許可を書いてください".to_owned(),
    }
}

pub(super) fn error_ja(error: &WhyError) -> String {
    match error {
        WhyError::UnknownEnd { text, suggestion } => {
            let suggestion =
                suggestion.as_ref().map(|name| format!(" `{name}` のことでしょうか。")).unwrap_or_default();
            format!("`{text}` という区画・機器・アドレスは通信方針にありません。{suggestion}")
        }
        WhyError::AmbiguousEnd { text } => {
            format!(
                "`{text}` は区画の名前でも機器の名前でもあります。`zone:{text}` か `device:{text}` と書いてください。"
            )
        }
        WhyError::SeveralEnds { text } => {
            format!("`{text}` は複数の相手を指します。区画か機器をひとつだけ書いてください。")
        }
        WhyError::DomainEnd { text } => {
            format!("`{text}` は名前です。名前あての通信許可はまだ何も通しません。アドレスで尋ねてください。")
        }
        WhyError::Service(error) => error.japanese(),
        WhyError::NoInterface { text } => {
            format!("`{text}` にはインターフェースがないため、そこからパケットは届きません。")
        }
        WhyError::OnlyTheGateway => {
            "両端とも関所自身です。関所の中だけの通信は通信方針の対象ではありません。".to_owned()
        }
        WhyError::NoCommonFamily { from, to } => {
            format!("`{from}` と `{to}` には同じ種類のIPアドレス(IPv4/IPv6)がないため、通信できません。")
        }
    }
}
