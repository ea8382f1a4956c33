//! Flows: who may start which connection to whom, why, on whose behalf, and when.

use std::collections::BTreeMap;

use super::context::Context;
use super::endpoints::{self, Names};
use super::names::{self, Seen};
use super::{PAIRS_MAX, services};
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Endpoint, Exception, Flow, FlowId, Place, Protocol, Timing};
use crate::raw::{self, At, File, Item, Spot};
use crate::time::{Schedule, ScheduleError};

pub(super) fn flows(context: &mut Context<'_>, file: &File, names: &Names<'_>) -> Vec<Flow> {
    let mut seen = Seen::default();
    let mut flows = Vec::with_capacity(file.flows.len());
    let mut pairs: usize = 0;
    for item in &file.flows {
        let spot = item.spot(&item.value.name);
        let place = context.place(spot);
        names::check(context, &item.value.name.value, spot);
        let new = seen.first(context, &item.value.name.value, place);
        let flow = flow(context, item, names, place);
        pairs = pairs.saturating_add(flow.from.len().saturating_mul(flow.to.len()));
        if new {
            flows.push(flow);
        }
    }
    if pairs > PAIRS_MAX {
        let found = Diagnostic::error(
            "too-many-pairs",
            format!("the flows name {pairs} pairs of a source and a destination; {PAIRS_MAX} are allowed"),
            format!("通信許可の送信元と宛先の組が{pairs}組あります (上限は{PAIRS_MAX}組です)"),
        );
        context.error(
            found.help("use zones in place of lists of devices", "機器の一覧の代わりに区画を使ってください"),
        );
    }
    flows
}

fn flow(context: &mut Context<'_>, item: &Item<raw::Flow>, names: &Names<'_>, place: Place) -> Flow {
    let raw::Flow { name, from, to, service, any, reason, purpose, owner, until, schedule, critical } =
        &item.value;
    let here = item.spot(name);
    let before = context.error_count();
    let from_ends = endpoints::list(context, item, from, names, here);
    let to_ends = endpoints::list(context, item, to, names, here);
    let any_reason = any_reason(context, item, any.as_ref(), reason.as_ref());
    let services = match (&any_reason, service) {
        (Some(_), None) => services::everything(),
        (Some(_), Some(_)) => {
            refuse(context, here, ANY_AND_SERVICE);
            Vec::new()
        }
        (None, Some(words)) => services::list(context, item, words, names.services, here),
        (None, None) => {
            refuse(context, here, SERVICE_MISSING);
            Vec::new()
        }
    };
    let timing = Timing {
        until: until.as_ref().and_then(|until| context.end(item, until)),
        schedule: schedule.as_ref().and_then(|schedule| self::schedule(context, item, schedule)),
    };
    let flow = Flow {
        name: name.value.clone(),
        purpose: context.text(item, purpose, "purpose"),
        owner: context.text(item, owner, "owner"),
        from: from_ends,
        to: to_ends,
        services,
        timing,
        critical: *critical,
        any_reason,
        place: Some(place),
    };
    // After an error in this flow ends may be missing, and what follows would mislead.
    if before == context.error_count() {
        judge(context, item, &flow, names);
    }
    flow
}

fn any_reason(
    context: &mut Context<'_>,
    item: &Item<raw::Flow>,
    any: Option<&At<bool>>,
    reason: Option<&At<String>>,
) -> Option<String> {
    match (any.filter(|any| any.value), reason) {
        (None, None) => None,
        (Some(_), Some(reason)) => Some(context.text(item, reason, "reason")),
        (Some(any), None) => {
            refuse(context, item.spot(any), ANY_WITHOUT_REASON);
            Some(String::new())
        }
        (None, Some(reason)) => {
            refuse(context, item.spot(reason), REASON_WITHOUT_ANY);
            None
        }
    }
}

/// What is well written but means too little.
fn judge(context: &mut Context<'_>, item: &Item<raw::Flow>, flow: &Flow, names: &Names<'_>) {
    let here = item.spot(&item.value.name);
    let first_to = item.value.to.0.first().map_or(here, |word| item.spot(word));
    let gateway = |ends: &[Endpoint]| ends.contains(&Endpoint::Gateway);
    if flow.from.iter().any(|end| matches!(end, Endpoint::Domain(_))) {
        refuse(context, item.value.from.0.first().map_or(here, |word| item.spot(word)), DOMAIN_AS_SOURCE);
    } else if gateway(&flow.from) && gateway(&flow.to) {
        refuse(context, first_to, GATEWAY_TO_ITSELF);
    } else if !matchable(flow, names) {
        unmatchable(context, flow, here);
    }
    if flow.to.iter().any(|end| matches!(end, Endpoint::Domain(_))) {
        warn(context, first_to, flow, DOMAIN_NOT_YET);
    }
    if inside_one_zone(flow, names) {
        warn(context, first_to, flow, INSIDE_ZONE);
    }
    let outside = |end: &Endpoint| {
        names.zone_of(end).and_then(|id| names.zones.get(id.0)).is_some_and(|zone| zone.is_external())
    };
    if gateway(&flow.to) && flow.from.iter().any(outside) {
        warn(context, first_to, flow, OUTSIDE_TO_GATEWAY);
    }
    if flow.any_reason.is_none() && flow.services.iter().any(is_wide) {
        warn(
            context,
            item.value
                .service
                .as_ref()
                .and_then(|words| words.0.first())
                .map_or(here, |word| item.spot(word)),
            flow,
            WIDE_SERVICE,
        );
    }
    if let Some(until) =
        item.value.until.as_ref().filter(|_| flow.timing.until.is_some_and(|until| until <= context.now()))
    {
        warn(context, item.spot(until), flow, EXPIRED);
    }
}

/// Almost every port under another name.
fn is_wide(protocol: &Protocol) -> bool {
    match protocol {
        Protocol::Tcp(first, last) | Protocol::Udp(first, last) => last - first > 32_768,
        Protocol::Echo | Protocol::Ip(_) => false,
    }
}

/// Whether some packet could match: an address family that both sides have.
fn matchable(flow: &Flow, names: &Names<'_>) -> bool {
    let side = |ends: &[Endpoint]| {
        ends.iter()
            .map(|end| families(end, names))
            .fold((false, false), |all, one| (all.0 || one.0, all.1 || one.1))
    };
    let (from, to) = (side(&flow.from), side(&flow.to));
    (from.0 && to.0) || (from.1 && to.1)
}

/// Whether an end has IPv4 and IPv6 addresses.
fn families(end: &Endpoint, names: &Names<'_>) -> (bool, bool) {
    let nets = |nets: &[ipnet::IpNet]| {
        (nets.iter().any(|net| net.addr().is_ipv4()), nets.iter().any(|net| net.addr().is_ipv6()))
    };
    match end {
        Endpoint::Zone(id) => names.zones.get(id.0).map_or((false, false), |zone| {
            if zone.is_external() { (true, true) } else { nets(&zone.networks) }
        }),
        Endpoint::Device(id) => names.devices.get(id.0).map_or((false, false), |device| {
            (device.addresses.iter().any(|at| at.is_ipv4()), device.addresses.iter().any(|at| at.is_ipv6()))
        }),
        Endpoint::Networks(_, list) => nets(list),
        // What a name stands for is known only when it is asked.
        Endpoint::Gateway | Endpoint::Domain(_) => (true, true),
    }
}

fn inside_one_zone(flow: &Flow, names: &Names<'_>) -> bool {
    let mut ends = flow.from.iter().chain(&flow.to).map(|end| names.zone_of(end));
    let Some(first) = ends.next().flatten() else { return false };
    ends.all(|zone| zone == Some(first))
}

fn unmatchable(context: &mut Context<'_>, flow: &Flow, here: Spot) {
    let name = brief(&flow.name);
    let found = Diagnostic::error(
        "unmatchable",
        format!("no packet can match the flow `{name}`: its two sides share no address family"),
        format!("通信許可 `{name}` に一致するパケットがありません (両端に共通のIPv4・IPv6がありません)"),
    );
    context.error(found.label(context.place(here), "never matches", "一致しません").help(
        "give both sides an IPv4 or both an IPv6 address, or remove the flow",
        "両端にIPv4どうし、またはIPv6どうしのアドレスを持たせるか、この通信許可を消してください",
    ));
}

pub(super) fn schedule<T>(context: &mut Context<'_>, item: &Item<T>, text: &At<String>) -> Option<Schedule> {
    match Schedule::parse(&text.value) {
        Ok(schedule) => Some(schedule),
        Err(error) => {
            let found = Diagnostic::error("bad-schedule", error.to_string(), schedule_ja(&error));
            context.error(found.label(context.place(item.spot(text)), "not a schedule", "時間枠として読めません").help(
                "write it such as `Mon-Fri 19:00-22:00` or `Mon-Fri 09:00-12:00, 14:00-18:00, Sat 09:00-12:00`",
                "`月-金 19:00-22:00` や `月-金 09:00-12:00, 14:00-18:00, 土 09:00-12:00` のように書いてください",
            ));
            None
        }
    }
}

fn schedule_ja(error: &ScheduleError) -> String {
    match error {
        ScheduleError::Empty => "時間枠が空です".to_owned(),
        ScheduleError::TooLong => "時間枠が長すぎます".to_owned(),
        ScheduleError::Weekday(word) => format!("`{}` は曜日として読めません", brief(word)),
        ScheduleError::Range(word) => {
            format!("`{}` は `19:00-22:00` のような時刻の範囲として読めません", brief(word))
        }
        ScheduleError::NoLength(word) => {
            format!(
                "`{}` は始まりと終わりが同じ時刻です。一日中なら `00:00-24:00` と書いてください",
                brief(word)
            )
        }
        ScheduleError::NoTimes(word) => format!("`{}` に時刻がありません", brief(word)),
    }
}

/// Accepted exceptions: each names a flow that exists and a day that ends it.
pub(super) fn exceptions(context: &mut Context<'_>, file: &File, flows: &[Flow]) -> Vec<Exception> {
    let by_name: BTreeMap<&str, FlowId> =
        flows.iter().enumerate().map(|(index, flow)| (flow.name.as_str(), FlowId(index))).collect();
    let mut exceptions = Vec::new();
    for item in &file.exceptions {
        let raw::Exception { invariant, flow, who, why, until } = &item.value;
        let place = context.place(item.spot(invariant));
        let id = by_name.get(flow.value.as_str()).copied();
        if id.is_none() {
            context.unknown(
                "unknown-flow",
                ("flow", "通信許可"),
                &flow.value,
                item.spot(flow),
                by_name.keys().copied(),
            );
        }
        let invariant = context.text(item, invariant, "invariant");
        let (who, why) = (context.text(item, who, "who"), context.text(item, why, "why"));
        let end = context.end(item, until);
        if end.is_some_and(|end| end <= context.now()) {
            let found = Diagnostic::warning(
                "exception-ended",
                "the accepted exception has ended",
                "例外の期限が過ぎています",
            );
            context.warn(found.label(context.place(item.spot(until)), "passed", "過ぎた日付").help(
                "decide anew whether the risk is accepted, or remove the flow and the exception",
                "リスクを受け入れるか改めて決めるか、通信許可と例外を消してください",
            ));
        }
        if let Some((flow, until)) = id.zip(end) {
            exceptions.push(Exception { invariant, flow, who, why, until, place });
        }
    }
    exceptions
}

/// Code, English, Japanese, English help, Japanese help.
type Words = (&'static str, &'static str, &'static str, &'static str, &'static str);

const SERVICE_MISSING: Words = (
    "service-missing",
    "the flow does not say which service it allows",
    "どのサービスを許可するかが書かれていません",
    "add `service = \"https\"`; every service needs `any = true` and a `reason`",
    "`service = \"https\"` のように書き足してください。すべて許可する場合は `any = true` と `reason` が必要です",
);
const ANY_AND_SERVICE: Words = (
    "any-and-service",
    "the flow has both `any = true` and `service`",
    "`any = true` と `service` が両方書かれています",
    "keep `service`; remove `any` and `reason`",
    "`service` を残し、`any` と `reason` を消してください",
);
const ANY_WITHOUT_REASON: Words = (
    "any-without-reason",
    "`any = true` has no `reason`",
    "`any = true` の理由が書かれていません",
    "say in `reason` why every service is needed, or name the services",
    "すべてのサービスが必要な理由を `reason` に書くか、サービスを指定してください",
);
const REASON_WITHOUT_ANY: Words = (
    "reason-without-any",
    "`reason` belongs to `any = true`",
    "`reason` は `any = true` と一緒に書くものです",
    "write it as `purpose`, or remove it",
    "`purpose` に書くか、消してください",
);
const DOMAIN_AS_SOURCE: Words = (
    "domain-as-source",
    "a domain cannot be where a connection comes from",
    "ドメインを送信元にすることはできません",
    "name a zone or a device in `from`",
    "`from` には区画か機器を書いてください",
);
const GATEWAY_TO_ITSELF: Words = (
    "gateway-to-itself",
    "both sides name the gateway",
    "両端がゲートウェイです",
    "traffic of the gateway with itself needs no flow: remove one of the two",
    "ゲートウェイ内部の通信に許可は不要です。どちらかを消してください",
);
const DOMAIN_NOT_YET: Words = (
    "domain-not-yet",
    "allows nothing towards a domain until the names role exists",
    "のドメイン宛ての通信は、名前解決の機能が備わるまで許可されません",
    "until then name a zone, or a device of the external zone with its addresses",
    "それまでは区画か、外部の区画に置いた機器をアドレスで指定してください",
);
const INSIDE_ZONE: Words = (
    "inside-zone",
    "stays inside one zone: such traffic does not pass the gateway",
    "は1つの区画の中の通信です。ゲートウェイを通りません",
    "put the devices into different zones if this must be controlled",
    "制御が必要な場合は、機器を別の区画に分けてください",
);
const OUTSIDE_TO_GATEWAY: Words = (
    "outside-to-gateway",
    "lets the internet reach the gateway itself",
    "はインターネットからゲートウェイ自身への接続を許します",
    "prefer the VPN; if it must be, name the device outside with its addresses",
    "VPNの利用を検討してください。必要な場合は、外部の機器をアドレスで指定してください",
);
const WIDE_SERVICE: Words = (
    "wide-service",
    "allows more than half of all ports",
    "は全ポートの半分以上を許可しています",
    "name the ports that are needed, or say `any = true` with a reason",
    "必要なポートを指定するか、`any = true` と理由を書いてください",
);
const EXPIRED: Words = (
    "expired-flow",
    "has ended and no longer opens",
    "は期限が過ぎており、もう開きません",
    "remove it, or move `until` if it is still needed",
    "不要なら消し、必要なら `until` を延ばしてください",
);

fn refuse(context: &mut Context<'_>, spot: Spot, (code, en, ja, help_en, help_ja): Words) {
    let found = Diagnostic::error(code, en, ja).label(context.place(spot), "here", "ここ");
    context.error(found.help(help_en, help_ja));
}

fn warn(context: &mut Context<'_>, spot: Spot, flow: &Flow, (code, en, ja, help_en, help_ja): Words) {
    let name = brief(&flow.name);
    let found =
        Diagnostic::warning(code, format!("the flow `{name}` {en}"), format!("通信許可 `{name}` {ja}"));
    context.warn(found.label(context.place(spot), "here", "ここ").help(help_en, help_ja));
}
