//! Why something passes or not: the question in the policy's words, example packets, and the answer in a person's words.

mod asked;
mod words;

use serde::Serialize;
use thiserror::Error;

use super::{Clock, Context, DenyReason, Packet, Path, Respect, Transport, Verdict, evaluate, flows};
use crate::diagnostic::Language;
use crate::model::{FlowId, Policy, Protocol, ZoneId};
use crate::resolve::ServiceError;

/// The answer to one question: every example packet with its outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// Source, as asked.
    pub from: String,
    /// Destination, as asked.
    pub to: String,
    /// Service, as asked.
    pub service: String,
    /// Whether every example passes.
    pub allowed: bool,
    /// One answer for each family and protocol; a range of ports is tried at its two ends.
    pub answers: Vec<Answer>,
}

/// One example packet and what becomes of it.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The packet.
    pub packet: Packet,
    /// Its service, such as `tcp/443`.
    pub service: String,
    /// The places it would pass between, where it has a way at all.
    pub way: Option<Way>,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// The two places that a packet passes between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Where it comes from.
    pub from: Written,
    /// Where it goes.
    pub to: Written,
}

/// Something of the policy and where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Its name or text.
    pub text: String,
    /// `FILE:LINE`; the gateway has none.
    pub place: Option<String>,
}

/// What becomes of a packet, in words that stand alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Outcome {
    /// A flow lets it pass.
    Allow {
        /// The flow.
        flow: FlowFacts,
    },
    /// A built-in exchange lets it pass.
    Control {
        /// Its name.
        name: &'static str,
    },
    /// It does not pass.
    Deny(Box<Denial>),
}

/// Why a packet does not pass, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// Why.
    pub reason: DenyReason,
    /// Why, in Japanese.
    pub reason_ja: String,
    /// Why, in English.
    pub reason_en: String,
    /// The flow that comes closest, if any has something to do with it.
    pub nearest: Option<Nearest>,
    /// The clinic's own promise that it never passes, if there is one.
    pub promise: Option<Written>,
    /// The discovery protocol, if it is one: they never cross zones.
    pub discovery: Option<&'static str>,
    /// What to do next, in Japanese.
    pub next_ja: String,
    /// What to do next, in English.
    pub next_en: String,
}

/// What a person wants to know of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowFacts {
    /// Its name.
    pub name: String,
    /// `FILE:LINE`; built-in flows have none.
    pub place: Option<String>,
    /// Purpose.
    pub purpose: String,
    /// Owner.
    pub owner: String,
}

/// A flow that almost matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// The flow.
    pub flow: FlowFacts,
    /// In which respects it does not match; none when only the time is wrong.
    pub failing: Vec<Respect>,
}

/// Why a question cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WhyError {
    /// No zone, device or address.
    #[error("`{text}` is no zone, device or address of the policy{}", suggest(.suggestion))]
    UnknownEnd {
        /// As asked.
        text: String,
        /// A name that looks like it.
        suggestion: Option<String>,
    },
    /// A zone and a device have the same name.
    #[error("`{text}` is a zone and a device: say `zone:{text}` or `device:{text}`")]
    AmbiguousEnd {
        /// As asked.
        text: String,
    },
    /// More than one end, such as `zone:*`.
    #[error("`{text}` is more than one end: ask about one zone or device at a time")]
    SeveralEnds {
        /// As asked.
        text: String,
    },
    /// A domain name, which no packet carries.
    #[error("`{text}` is a name, and flows to names allow nothing yet: ask about an address")]
    DomainEnd {
        /// As asked.
        text: String,
    },
    /// Not a service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The zone has no interface, so no packet comes from it.
    #[error("`{text}` has no interface, so no packet of its own reaches the gateway")]
    NoInterface {
        /// As asked.
        text: String,
    },
    /// Both ends are the gateway.
    #[error("both ends are the gateway: what stays on it is no matter of the policy")]
    OnlyTheGateway,
    /// The two ends have no address family in common.
    #[error("`{from}` and `{to}` have no address family in common, so no packet can pass between them")]
    NoCommonFamily {
        /// Source, as asked.
        from: String,
        /// Destination, as asked.
        to: String,
    },
}

/// Asks the meaning about every kind of packet that the words stand for.
///
/// Ends are `zone:NAME`, `device:NAME`, `gateway`, an address, or a bare name; a service is what a flow may say.
///
/// # Errors
/// [`WhyError`] names the word that was not understood.
pub fn why(policy: &Policy, from: &str, to: &str, service: &str, clock: Clock) -> Result<Why, WhyError> {
    let protocols = asked::protocols(policy, service)?;
    let routes = asked::routes(policy, from, to)?;
    let examples =
        routes.iter().flat_map(|route| protocols.iter().flat_map(move |protocol| examples(route, *protocol)));
    let answers: Vec<Answer> =
        examples.map(|(packet, service)| answer(policy, packet, service, clock)).collect();
    let passes = |answer: &Answer| matches!(answer.outcome, Outcome::Allow { .. } | Outcome::Control { .. });
    Ok(Why {
        from: from.to_owned(),
        to: to.to_owned(),
        service: service.to_owned(),
        allowed: answers.iter().all(passes),
        answers,
    })
}

impl Why {
    /// The answer as lines for a person.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        words::answer(self, language)
    }
}

impl WhyError {
    /// The error in the person's language.
    #[must_use]
    pub fn describe(&self, language: Language) -> String {
        match language {
            Language::En => self.to_string(),
            Language::Ja => words::error_ja(self),
        }
    }
}

/// The first packets that a protocol stands for: a range of ports at its two ends.
fn examples(route: &asked::Route, protocol: Protocol) -> Vec<(Packet, String)> {
    const SOURCE_PORT: u16 = 49_152;
    let tcp = |destination_port| Transport::Tcp { source_port: SOURCE_PORT, destination_port, syn: true };
    let udp = |destination_port| Transport::Udp { source_port: SOURCE_PORT, destination_port };
    let ends = |low: u16, high: u16| if low == high { vec![low] } else { vec![low, high] };
    let transports: Vec<(Transport, String)> = match protocol {
        Protocol::Tcp(low, high) => {
            ends(low, high).into_iter().map(|port| (tcp(port), format!("tcp/{port}"))).collect()
        }
        Protocol::Udp(low, high) => {
            ends(low, high).into_iter().map(|port| (udp(port), format!("udp/{port}"))).collect()
        }
        Protocol::Echo if route.source.is_ipv4() => {
            vec![(Transport::Icmp { kind: 8, code: 0 }, "icmp".to_owned())]
        }
        Protocol::Echo => vec![(Transport::Icmp6 { kind: 128, code: 0 }, "icmp".to_owned())],
        Protocol::Ip(number) => vec![(Transport::Other(number), format!("proto/{number}"))],
    };
    let packet = |transport| Packet {
        arrival: route.arrival.clone(),
        source: route.source,
        destination: route.destination,
        transport,
    };
    transports.into_iter().map(|(transport, service)| (packet(transport), service)).collect()
}

fn answer(policy: &Policy, packet: Packet, service: String, clock: Clock) -> Answer {
    let (path, outcome) = match evaluate(policy, &packet, Context::New, clock) {
        Verdict::Allow { flow, path } => (Some(path), Outcome::Allow { flow: facts(policy, flow) }),
        Verdict::Control { name, path } => (Some(path), Outcome::Control { name }),
        Verdict::Deny { reason, path, nearest } => {
            (path, Outcome::Deny(Box::new(denial(policy, &packet, reason, path, nearest))))
        }
    };
    Answer { way: path.map(|path| way(policy, path)), packet, service, outcome }
}

fn denial(
    policy: &Policy,
    packet: &Packet,
    reason: DenyReason,
    path: Option<Path>,
    nearest: Option<FlowId>,
) -> Denial {
    let nearest = nearest.map(|flow| Nearest {
        flow: facts(policy, flow),
        failing: path.map(|path| flows::failing(policy, path, packet, flow)).unwrap_or_default(),
    });
    let promise = path.and_then(|path| flows::forbidden_by(policy, path, packet));
    let promise = promise.map(|promise| Written {
        text: format!("deny {}", promise.text),
        place: Some(policy.locate(promise.place)),
    });
    let discovery = discovery(packet);
    let hints = words::Hints { nearest: nearest.as_ref(), promise: promise.as_ref(), discovery };
    let next_ja = words::next(&reason, &hints, Language::Ja);
    let next_en = words::next(&reason, &hints, Language::En);
    let reason_ja = reason.describe(policy, Language::Ja);
    let reason_en = reason.describe(policy, Language::En);
    Denial { reason, reason_ja, reason_en, nearest, promise, discovery, next_ja, next_en }
}

fn way(policy: &Policy, path: Path) -> Way {
    let zone = |id: ZoneId| {
        let zone = policy.zone(id);
        Written { text: zone.name.clone(), place: Some(policy.locate(zone.place)) }
    };
    let gateway = || Written { text: "gateway".to_owned(), place: None };
    match path {
        Path::Forward { from, to } => Way { from: zone(from), to: zone(to) },
        Path::Input { from } => Way { from: zone(from), to: gateway() },
        Path::Output { to } => Way { from: gateway(), to: zone(to) },
    }
}

fn facts(policy: &Policy, id: FlowId) -> FlowFacts {
    let flow = policy.flow(id);
    FlowFacts {
        name: flow.name.clone(),
        place: flow.place.map(|place| policy.locate(place)),
        purpose: flow.purpose.clone(),
        owner: flow.owner.clone(),
    }
}

/// Protocols by which devices look for one another; they are meant for one link and never cross zones.
fn discovery(packet: &Packet) -> Option<&'static str> {
    match packet.transport {
        Transport::Udp { destination_port, .. } => match destination_port {
            137 | 138 => Some("NetBIOS"),
            1900 => Some("SSDP (UPnP)"),
            3702 => Some("WS-Discovery"),
            5353 => Some("mDNS (Bonjour)"),
            5355 => Some("LLMNR"),
            _ => None,
        },
        Transport::Tcp { destination_port: 139, .. } => Some("NetBIOS"),
        Transport::Tcp { .. } | Transport::Icmp { .. } | Transport::Icmp6 { .. } | Transport::Other(_) => {
            None
        }
    }
}

fn suggest(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
