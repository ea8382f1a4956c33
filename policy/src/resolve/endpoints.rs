//! Ends of flows and tests: `zone:NAME`, `zone:*`, `device:NAME`, `gateway`, `domain:PATTERN`.

use std::collections::BTreeMap;

use thiserror::Error;

use super::ByName;
use super::context::Context;
use super::suggest::closest;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Device, DeviceId, Endpoint, Policy, Protocol, Target, Zone, ZoneId};
use crate::raw::{At, Item, Spot, Words};

/// Longest domain name in text form (RFC 1035 2.3.4), and longest label.
const DOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Why the text of an end is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// No known form.
    #[error("`{0}` is not an end: write `zone:NAME`, `device:NAME`, `gateway` or `domain:NAME`")]
    Form(String),
    /// A zone that nothing defines.
    #[error("there is no zone named `{0}`")]
    UnknownZone(String),
    /// A device that nothing defines.
    #[error("there is no device named `{0}`")]
    UnknownDevice(String),
    /// Not a domain name or pattern.
    #[error("`{0}` is not a domain name such as `emr.example.jp` or `*.emr.example.jp`")]
    Domain(String),
}

/// Everything that can be named, by name.
pub(super) struct Names<'a> {
    pub(super) zones: &'a [Zone],
    pub(super) devices: &'a [Device],
    pub(super) services: &'a ByName<Vec<Protocol>>,
    zone_ids: BTreeMap<&'a str, ZoneId>,
    device_ids: BTreeMap<&'a str, DeviceId>,
}

impl<'a> Names<'a> {
    pub(super) fn new(zones: &'a [Zone], devices: &'a [Device], services: &'a ByName<Vec<Protocol>>) -> Self {
        let zone_ids = zones.iter().enumerate().map(|(index, zone)| (zone.name.as_str(), ZoneId(index)));
        let device_ids =
            devices.iter().enumerate().map(|(index, device)| (device.name.as_str(), DeviceId(index)));
        Self { zones, devices, services, zone_ids: zone_ids.collect(), device_ids: device_ids.collect() }
    }

    pub(super) fn device(&self, name: &str) -> Option<DeviceId> {
        self.device_ids.get(name).copied()
    }

    pub(super) fn device_names(&self) -> impl Iterator<Item = &'a str> {
        self.device_ids.keys().copied()
    }

    /// The zone of an end, if it lies in one.
    pub(super) fn zone_of(&self, endpoint: &Endpoint) -> Option<ZoneId> {
        match endpoint {
            Endpoint::Zone(zone) | Endpoint::Networks(zone, _) => Some(*zone),
            Endpoint::Device(device) => self.devices.get(device.0).map(|device| device.zone),
            Endpoint::Gateway | Endpoint::Domain(_) => None,
        }
    }

    pub(super) fn parse(&self, text: &str) -> Result<Vec<Endpoint>, EndpointError> {
        if text == "gateway" {
            return Ok(vec![Endpoint::Gateway]);
        }
        let form = || EndpointError::Form(brief(text));
        let (kind, name) = text.split_once(':').ok_or_else(form)?;
        match kind {
            "zone" if name == "*" => Ok(self.every_zone()),
            "zone" => {
                let zone = self.zone_ids.get(name).ok_or_else(|| EndpointError::UnknownZone(brief(name)))?;
                Ok(vec![Endpoint::Zone(*zone)])
            }
            "device" => {
                let device = self.device(name).ok_or_else(|| EndpointError::UnknownDevice(brief(name)))?;
                Ok(vec![Endpoint::Device(device)])
            }
            "domain" if is_domain(name) => Ok(vec![Endpoint::Domain(name.to_ascii_lowercase())]),
            "domain" => Err(EndpointError::Domain(brief(name))),
            _ => Err(form()),
        }
    }

    /// `zone:*`: the zones with an interface, without the internet.
    fn every_zone(&self) -> Vec<Endpoint> {
        let each = self.zones.iter().enumerate();
        let inside = each.filter(|(_, zone)| zone.interface.is_some() && !zone.is_external());
        inside.map(|(index, _)| Endpoint::Zone(ZoneId(index))).collect()
    }
}

/// Reads an end as the policy writes it, for questions asked later; `zone:*` gives several.
///
/// # Errors
/// Says what is not understood.
pub fn parse_endpoint(policy: &Policy, text: &str) -> Result<Vec<Endpoint>, EndpointError> {
    Names::new(&policy.zones, &policy.devices, &policy.services).parse(text)
}

/// Reads a list of ends, reporting every one that is not understood; without repetition, in the order written.
pub(super) fn list<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    words: &Words,
    names: &Names<'_>,
    empty: Spot,
) -> Vec<Endpoint> {
    if words.0.is_empty() {
        let found = Diagnostic::error("no-endpoint", "one side of the flow is empty", "通信の片側が空です");
        context.error(found.label(context.place(empty), "in this flow", "この通信許可の中").help(
            "name at least one zone, device or `gateway` in `from` and in `to`",
            "`from` と `to` に、区画・機器・`gateway` を1つ以上書いてください",
        ));
    }
    let mut ends = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for word in &words.0 {
        match names.parse(&word.value) {
            Ok(found) => ends.extend(found.into_iter().filter(|end| seen.insert(end.clone()))),
            Err(error) => refuse(context, &error, item.spot(word), names),
        }
    }
    ends
}

/// Reports an end that is not understood.
pub(super) fn refuse(context: &mut Context<'_>, error: &EndpointError, spot: Spot, names: &Names<'_>) {
    match error {
        EndpointError::UnknownZone(name) => {
            let known = names.zone_ids.keys().copied();
            context.unknown("unknown-zone", ("zone", "区画"), name, spot, known);
        }
        EndpointError::UnknownDevice(name) => {
            context.unknown("unknown-device", ("device", "機器"), name, spot, names.device_names());
        }
        EndpointError::Domain(name) => {
            let found = Diagnostic::error(
                "bad-domain",
                format!("`{name}` is not a domain name"),
                format!("`{name}` はドメイン名ではありません"),
            );
            context.error(found.label(context.place(spot), "not a name", "ドメイン名ではありません").help(
                "write a name such as `emr.example.jp`, or `*.emr.example.jp` for all names below it",
                "`emr.example.jp` か、その下のすべてを表す `*.emr.example.jp` のように書いてください",
            ));
        }
        EndpointError::Form(text) => {
            let (help_en, help_ja) = form_help(text, names);
            let found = Diagnostic::error(
                "bad-endpoint",
                format!("`{text}` is not an end of a flow"),
                format!("`{text}` は通信の端として読めません"),
            );
            context.error(
                found.label(context.place(spot), "not an end", "端として読めません").help(help_en, help_ja),
            );
        }
    }
}

/// A bare name is most often a zone or device whose kind was left out.
fn form_help(text: &str, names: &Names<'_>) -> (String, String) {
    let kind = if names.zone_ids.contains_key(text) {
        Some(("zone", text))
    } else if names.device_ids.contains_key(text) {
        Some(("device", text))
    } else {
        let words = ["zone", "device", "domain", "gateway"];
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        closest(kind, words.into_iter()).map(|kind| (kind, rest))
    };
    match kind {
        Some((kind, "")) => (format!("did you mean `{kind}`?"), format!("`{kind}` のことでしょうか")),
        Some((kind, rest)) => {
            (format!("did you mean `{kind}:{rest}`?"), format!("`{kind}:{rest}` のことでしょうか"))
        }
        None => (
            "write `zone:NAME`, `zone:*`, `device:NAME`, `gateway` or `domain:NAME`".to_owned(),
            "`zone:名前`、`zone:*`、`device:名前`、`gateway`、`domain:名前` のいずれかで書いてください"
                .to_owned(),
        ),
    }
}

/// Reads `device:NAME:SERVICE` targets of a peer or vendor.
pub(super) fn targets<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    words: &Words,
    names: &Names<'_>,
) -> Vec<Target> {
    words.0.iter().filter_map(|word| target(context, item, word, names)).collect()
}

fn target<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    word: &At<String>,
    names: &Names<'_>,
) -> Option<Target> {
    let spot = item.spot(word);
    let Some((device, service)) = word.value.strip_prefix("device:").and_then(|rest| rest.split_once(':'))
    else {
        let shown = brief(&word.value);
        let found = Diagnostic::error(
            "bad-target",
            format!("`{shown}` is not a device and its service"),
            format!("`{shown}` は機器とサービスの組として読めません"),
        );
        context.error(found.label(context.place(spot), "not a target", "対象として読めません").help(
            "write it such as `device:ehr-server:ssh`",
            "`device:ehr-server:ssh` のように書いてください",
        ));
        return None;
    };
    let services = match super::services::parse_service(service, names.services) {
        Ok(services) => Some(services),
        Err(error) => {
            super::services::refuse(context, &error, spot, names.services);
            None
        }
    };
    let Some(device) = names.device(device) else {
        refuse(context, &EndpointError::UnknownDevice(brief(device)), spot, names);
        return None;
    };
    Some(Target { device, services: services?, text: word.value.clone() })
}

/// A host name or `*.` and a host name, of letters in any script, digits, `-` and `_`.
fn is_domain(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let letter = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.chars().all(letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= DOMAIN_BYTES_MAX && name.split('.').all(label) && name.contains('.')
}
