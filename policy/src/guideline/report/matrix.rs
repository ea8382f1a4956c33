//! Who may start a connection to whom: the matrix of zones, the flows behind it, and the exceptions.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::Page;
use crate::diagnostic::Language;
use crate::model::{Endpoint, Exception, Flow, Policy, Protocol, ZoneId};

/// One side of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Zone(ZoneId),
    Gateway,
}

/// Flows by pair; numbers are those of the table of flows, from 1.
type Pairs = BTreeMap<(Side, Side), BTreeSet<usize>>;

pub(super) fn section(page: Page<'_>) -> Markup {
    let policy = page.input.policy;
    let flows: Vec<&Flow> = policy.flows.iter().collect();
    let pairs = pairs(page, &flows);
    let sides: Vec<Side> = policy.zones().map(|(id, _)| Side::Zone(id)).chain([Side::Gateway]).collect();
    html! {
        section {
            h2 { (page.say("区画のあいだの通信", "Traffic between zones")) }
            p { (page.say(
                "行が接続を始める側、列が受ける側です。番号は下の通信許可の一覧の番号で、番号のない組はすべて遮断します。",
                "A row starts the connection, a column takes it. Numbers are those of the flows below; a pair without a number is denied.",
            )) }
            (matrix(page, &sides, &pairs))
            (listed(page, &flows))
            (exceptions(page))
        }
    }
}

fn pairs(page: Page<'_>, flows: &[&Flow]) -> Pairs {
    let policy = page.input.policy;
    let mut pairs = Pairs::new();
    for (number, flow) in (1..).zip(flows).filter(|(_, flow)| !is_over(page, flow)) {
        for from in flow.from.iter().filter_map(|end| side(policy, end)) {
            for to in flow.to.iter().filter_map(|end| side(policy, end)) {
                pairs.entry((from, to)).or_default().insert(number);
            }
        }
    }
    pairs
}

/// A name on the internet has no zone of its own: it allows nothing yet.
fn side(policy: &Policy, end: &Endpoint) -> Option<Side> {
    match end {
        Endpoint::Zone(id) | Endpoint::Networks(id, _) => Some(Side::Zone(*id)),
        Endpoint::Device(id) => Some(Side::Zone(policy.device(*id).zone)),
        Endpoint::Gateway => Some(Side::Gateway),
        Endpoint::Domain(_) => None,
    }
}

fn matrix(page: Page<'_>, sides: &[Side], pairs: &Pairs) -> Markup {
    let name = |side: &Side| match side {
        Side::Zone(id) => page.input.policy.zone(*id).name.as_str(),
        Side::Gateway => page.say("関所", "gateway"),
    };
    html! {
        table {
            caption { (page.say("区画表", "Zone matrix")) }
            thead { tr {
                th scope="col" { (page.say("始める側 ＼ 受ける側", "from \\ to")) }
                @for to in sides { th scope="col" { (name(to)) } }
            } }
            tbody {
                @for from in sides { tr {
                    th scope="row" { (name(from)) }
                    @for to in sides { td { (cell(page, *from, *to, pairs)) } }
                } }
            }
        }
    }
}

fn cell(page: Page<'_>, from: Side, to: Side, pairs: &Pairs) -> Markup {
    html! {
        @if let Some(flows) = pairs.get(&(from, to)) {
            @for number in flows { a href=(format!("#flow-{number}")) { (number) } " " }
        } @else if from == to {
            span.inside { (page.say("区画内", "inside")) }
        } @else {
            span.denied { (page.say("遮断", "denied")) }
        }
    }
}

fn listed(page: Page<'_>, flows: &[&Flow]) -> Markup {
    html! {
        table {
            caption { (page.say("通信許可の一覧(@で始まるものは関所自身が使います)", "Flows (those with @ are the gateway's own)")) }
            thead { tr {
                th scope="col" { "#" }
                th scope="col" { (page.say("名前", "Name")) }
                th scope="col" { (page.say("始める側", "From")) }
                th scope="col" { (page.say("受ける側", "To")) }
                th scope="col" { (page.say("サービス", "Services")) }
                th scope="col" { (page.say("目的", "Purpose")) }
                th scope="col" { (page.say("担当", "Owner")) }
                th scope="col" { (page.say("いつ", "When")) }
            } }
            tbody {
                @for (number, flow) in (1..).zip(flows) { (row(page, number, flow)) }
            }
        }
    }
}

fn row(page: Page<'_>, number: usize, flow: &Flow) -> Markup {
    let Flow { name, from, to, services, purpose, owner, timing: _, critical, any_reason, place: _ } = flow;
    html! {
        tr id=(format!("flow-{number}")) {
            td { (number) }
            th scope="row" {
                (name)
                @if *critical { br; span.small { (page.say("緊急時も残す", "kept in an emergency")) } }
            }
            td { (ends(page, from)) }
            td { (ends(page, to)) }
            td {
                @if let Some(reason) = any_reason {
                    strong { (page.say("すべて", "every service")) } ": " (reason)
                } @else { (list(services.iter().map(service))) }
            }
            td { (purpose) }
            td { (owner) }
            td { (when(page, flow)) }
        }
    }
}

fn ends(page: Page<'_>, ends: &[Endpoint]) -> String {
    let policy = page.input.policy;
    list(ends.iter().map(|end| match end {
        Endpoint::Zone(id) => policy.zone(*id).name.clone(),
        Endpoint::Device(id) => {
            let device = policy.device(*id);
            format!("{} ({})", device.name, policy.zone(device.zone).name)
        }
        Endpoint::Networks(id, nets) => {
            format!("{} ({})", list(nets.iter().map(ToString::to_string)), policy.zone(*id).name)
        }
        Endpoint::Gateway => page.say("関所", "gateway").to_owned(),
        Endpoint::Domain(name) => name.clone(),
    }))
}

fn service(protocol: &Protocol) -> String {
    let ports = |low: u16, high: u16| if low == high { low.to_string() } else { format!("{low}-{high}") };
    match *protocol {
        Protocol::Tcp(low, high) => format!("tcp/{}", ports(low, high)),
        Protocol::Udp(low, high) => format!("udp/{}", ports(low, high)),
        Protocol::Echo => "icmp".to_owned(),
        Protocol::Ip(50) => "esp".to_owned(),
        Protocol::Ip(51) => "ah".to_owned(),
        Protocol::Ip(number) => format!("proto/{number}"),
    }
}

/// A flow that has ended allows nothing, though it is still written.
fn is_over(page: Page<'_>, flow: &Flow) -> bool {
    flow.timing.until.is_some_and(|until| until <= page.input.made_at)
}

fn when(page: Page<'_>, flow: &Flow) -> String {
    if is_over(page, flow) {
        return page.say("期限切れ(もう通しません)", "ended: allows nothing any more").to_owned();
    }
    let schedule = flow.timing.schedule.as_ref().map(|schedule| schedule.text(page.language));
    let until = flow.timing.until.map(|until| match page.language {
        Language::Ja => format!("{} まで", page.instant(until)),
        Language::En => format!("until {}", page.instant(until)),
    });
    let said = list(schedule.into_iter().chain(until));
    if said.is_empty() { page.say("いつでも", "always").to_owned() } else { said }
}

fn exceptions(page: Page<'_>) -> Markup {
    let policy = page.input.policy;
    html! {
        h3 { (page.say("例外", "Exceptions")) }
        @if policy.exceptions.is_empty() {
            p { (page.say("例外はありません。", "There are no exceptions.")) }
        } @else {
            table {
                caption { (page.say("認められた例外", "Accepted exceptions")) }
                thead { tr {
                    th scope="col" { (page.say("通信許可", "Flow")) }
                    th scope="col" { (page.say("原則", "Invariant")) }
                    th scope="col" { (page.say("認めた人", "Accepted by")) }
                    th scope="col" { (page.say("理由", "Why")) }
                    th scope="col" { (page.say("期限", "Until")) }
                } }
                tbody { @for exception in &policy.exceptions { (excepted(page, exception)) } }
            }
        }
    }
}

fn excepted(page: Page<'_>, exception: &Exception) -> Markup {
    let Exception { invariant, flow, who, why, until, place: _ } = exception;
    let is_over = *until <= page.input.made_at;
    html! {
        tr {
            th scope="row" { (page.input.policy.flow(*flow).name) }
            td { code { (invariant) } }
            td { (who) }
            td { (why) }
            td {
                (page.instant(*until))
                @if is_over { br; strong.failed { "✖ " (page.say("期限切れ", "ended")) } }
            }
        }
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
