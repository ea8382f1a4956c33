//! What is asked: places, services, and what the policy's file says of each probe between them.
use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::site::{POLICY, Site};

/// The name of the gateway's own place.
pub(crate) const GATEWAY: &str = "gateway";
/// Places in the order of the table.
pub(crate) const ZONES: [&str; 8] =
    ["ehr", "billing", "modality", "staff", "guest", "management", "wan", GATEWAY];
/// Programs run at once to ask the policy.
const ASKERS: usize = 4;
/// The first of the source ports that number the probes, below those that Linux gives by itself.
const FIRST_ID: u16 = 20_000;

/// Is somebody who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) zone: &'static str,
    /// The lab's name for the host.
    pub(crate) host: &'static str,
    /// The policy's name for it.
    policy: &'static str,
}

/// Everybody. Two of the hosts outside are known to the policy, as devices.
pub(crate) const PLACES: [Place; 10] = [
    place("ehr", "ehr-server", "device:ehr-server"),
    place("ehr", "pacs", "device:pacs"),
    place("billing", "receipt", "device:receipt"),
    place("modality", "ct", "device:ct"),
    place("staff", "reception", "device:reception"),
    place("guest", "phone", "device:phone"),
    place("management", "admin", "device:admin"),
    place("wan", "web", "device:backup-site"),
    place("wan", "vendor", "device:emr-maker"),
    place(GATEWAY, lab::GATEWAY, GATEWAY),
];

const fn place(zone: &'static str, host: &'static str, policy: &'static str) -> Place {
    Place { zone, host, policy }
}

/// Is what a probe speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Tcp(u16),
    Udp(u16),
    Ping,
}

/// What is tried between every two places.
pub(crate) const SERVICES: [Service; 11] = [
    Service::Tcp(22),
    Service::Tcp(80),
    Service::Tcp(104),
    Service::Tcp(443),
    Service::Tcp(1433),
    Service::Tcp(5432),
    Service::Tcp(8000),
    Service::Tcp(11112),
    Service::Udp(53),
    Service::Udp(123),
    Service::Ping,
];

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp/{port}"),
            Self::Udp(port) => write!(f, "udp/{port}"),
            Self::Ping => f.write_str("icmp"),
        }
    }
}

/// Is one packet to be sent, and what the policy says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Differs from probe to probe: its source port, or the number it carries.
    pub(crate) id: u16,
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) service: Service,
    pub(crate) destination: IpAddr,
    pub(crate) policy: Verdict,
}

/// What the policy says of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow { flow: String, place: String },
    Deny,
}

impl Probe {
    pub(crate) fn is_allowed(&self) -> bool {
        self.policy != Verdict::Deny
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.destination.is_ipv4()
    }

    pub(crate) fn text(&self) -> String {
        let (from, to) = (self.from.host, self.to.host);
        format!("{from} → {to} {} {}", self.destination, self.service)
    }
}

/// A question for `sekisho policy why`: every service from one place to another.
type Question = (Place, Place, Service);

/// Makes every probe between places of different zones, with the destinations and verdicts that
/// `sekisho policy why` tells from the file.
pub(crate) fn probes(site: &Site) -> Result<Vec<Probe>> {
    let questions: Vec<Question> = PLACES
        .iter()
        .flat_map(|from| PLACES.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from.zone != to.zone)
        .flat_map(|(from, to)| SERVICES.map(|service| (from, to, service)))
        .collect();
    let next = AtomicUsize::new(0);
    let ask = || -> Result<Vec<(usize, Value)>> {
        let mut answers = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(question) = questions.get(number) else { return Ok(answers) };
            answers.push((number, why(site, question)?));
        }
    };
    let mut answers = thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS).map(|_| scope.spawn(ask)).collect();
        let mut answers = Vec::new();
        for asker in askers {
            answers.extend(asker.join().map_err(|_| anyhow::anyhow!("a thread that asks panicked"))??);
        }
        anyhow::Ok(answers)
    })?;
    answers.sort_by_key(|(number, _)| *number);
    let mut probes = Vec::new();
    for (question, (_, answer)) in questions.iter().zip(&answers) {
        let wanted = answer.get("answers").and_then(Value::as_array).context("`why` gave no answers")?;
        for answer in wanted {
            let id = FIRST_ID + u16::try_from(probes.len())?;
            probes.push(probe(id, *question, answer)?);
        }
    }
    Ok(probes)
}

fn why(site: &Site, (from, to, service): &Question) -> Result<Value> {
    let service = service.to_string();
    let said =
        site.ask(&["--json", "policy", "why", from.policy, to.policy, &service, "--policy", POLICY])?;
    if !said.ended(0) && !said.ended(7) {
        bail!("`why {} {} {service}` failed: {}", from.policy, to.policy, said.text());
    }
    said.json()
}

fn probe(id: u16, (from, to, service): Question, answer: &Value) -> Result<Probe> {
    let text = |path: &str| answer.pointer(path).and_then(Value::as_str).map(ToOwned::to_owned);
    let destination = text("/packet/destination").context("`why` names no destination")?.parse()?;
    let policy = match text("/outcome/verdict").as_deref() {
        Some("allow") => Verdict::Allow {
            flow: text("/outcome/flow/name").context("`why` names no flow")?,
            place: text("/outcome/flow/place").unwrap_or_default(),
        },
        Some("deny") => Verdict::Deny,
        other => bail!("`why` says {other:?} of {} to {} {service}", from.policy, to.policy),
    };
    Ok(Probe { id, from, to, service, destination, policy })
}
