//! What the policy in force lets a vendor ask for: one target, one address, one port; and on which terms. Asked when a
//! request comes, and again whenever another policy is in force.

use gateway::wire::doors::Refusal;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use policy::model::{self, Person, Policy};
use session::{Protocol, Target, Terms};

/// Finds the target among those that the vendor may ask for.
///
/// # Errors
/// The engineer reads why not; it says nothing of what else the clinic has.
pub(super) fn resolve(policy: &Policy, vendor: &str, target: &str) -> Result<(Target, Terms), Refusal> {
    let of = policy.vendors.get(vendor).ok_or_else(no_vendor)?;
    let maintenance = of.maintenance.as_ref().ok_or_else(no_vendor)?;
    let is_it =
        |known: &&model::Target| known.text == target || known.text.strip_prefix("device:") == Some(target);
    let known = maintenance.targets.iter().find(is_it).ok_or_else(no_target)?;
    let address = policy.device(known.device).addresses.first().copied();
    let (protocol, port) = path(&known.services).ok_or_else(no_port)?;
    let target = Target { name: known.text.clone(), address: address.ok_or_else(no_port)?, protocol, port };
    let timezone = policy.clinic.timezone.clone();
    let terms = Terms {
        approvals: maintenance.approvals.iter().cloned().collect(),
        max_duration_s: maintenance.max_duration_s,
        windows: maintenance.windows.clone(),
        contract_end: contract_end(policy, vendor),
        timezone,
        idle_limit: session::request::IDLE_LIMIT,
    };
    Ok((target, terms))
}

/// The first instant at which the vendor's contract no longer holds.
pub(in crate::core) fn contract_end(policy: &Policy, vendor: &str) -> Option<Timestamp> {
    let until = policy.vendors.get(vendor)?.contract_until?;
    day_end(until, &policy.clinic.timezone)
}

/// The first instant at which a person may no longer act.
pub(in crate::core) fn person_end(policy: &Policy, person: &Person) -> Option<Timestamp> {
    day_end(person.until?, &policy.clinic.timezone)
}

/// The first instant after a day, of which every instant belongs to it; a day beyond all calendars has none.
fn day_end(day: Date, timezone: &TimeZone) -> Option<Timestamp> {
    let next = day.tomorrow().ok()?.to_zoned(timezone.clone()).ok()?;
    Some(next.timestamp())
}

/// The one path that opens: the first single TCP port, else the first single UDP port.
fn path(services: &[model::Protocol]) -> Option<(Protocol, u16)> {
    let tcp = services.iter().find_map(|service| match service {
        model::Protocol::Tcp(first, last) if first == last => Some((Protocol::Tcp, *first)),
        _ => None,
    });
    let udp = || {
        services.iter().find_map(|service| match service {
            model::Protocol::Udp(first, last) if first == last => Some((Protocol::Udp, *first)),
            _ => None,
        })
    };
    tcp.or_else(udp)
}

fn no_vendor() -> Refusal {
    Refusal {
        word: "no-maintenance".to_owned(),
        en: "the clinic's policy allows your company no remote maintenance; ask the clinic".to_owned(),
        ja: "クリニックの方針では貴社の遠隔保守は許可されていません。クリニックに確認してください".to_owned(),
    }
}

fn no_target() -> Refusal {
    Refusal {
        word: "no-such-target".to_owned(),
        en: "the clinic's policy does not let your company ask for this target; ask the clinic for its name"
            .to_owned(),
        ja: "この対象は申請できません。対象の名前をクリニックに確認してください".to_owned(),
    }
}

fn no_port() -> Refusal {
    Refusal {
        word: "no-port".to_owned(),
        en: "this target has no single address and TCP or UDP port; the clinic has to write one service for it".to_owned(),
        ja: "この対象には開けるポートがありません。クリニックの方針でサービスを1つに決める必要があります".to_owned(),
    }
}
