//! What every judgement about rules rests on: that the kernel holds the policy, that exceptions are still accepted, and
//! that nobody saw otherwise.

use jiff::{SignedDuration, Timestamp};

use super::Case;
use crate::guideline::measures::{REPAIR_FAILED_M, SIGHTING_FAILED_H};
use crate::guideline::observation::{
    Enforcement, Exceptions, KernelSettings, OUTSIDE, ReadBack, SettingsFact, Sighting, Sightings, Standing,
    Zones,
};
use crate::guideline::suspect::Class;
use crate::model::ZoneKind;

/// Whether a policy is in force, so that what it says can be judged at all. When nothing passes there is no policy to
/// judge; the clinic is safe, cut off, and somebody has to look.
pub(super) fn in_force(case: &mut Case<'_>) -> bool {
    let Some(Enforcement { standing, .. }) = case.fresh::<Enforcement>() else { return false };
    match standing {
        Standing::Applied => true,
        Standing::Closed => {
            case.warn(
                "通信方針が適用されておらず、すべての通信を止めています",
                "no policy is in force: nothing passes",
            );
            false
        }
        Standing::Unsettled => {
            case.fail(
                "通信方針の切り替え中か、切り替えに失敗しています。何が通るか確定していません",
                "a change of the policy is under way or has failed: what passes is not settled",
            );
            false
        }
    }
}

/// Whether the policy in force is to be judged, after saying how far the kernel holds it.
pub(super) fn holds(case: &mut Case<'_>) -> bool {
    let judged = in_force(case);
    let Some(ReadBack { differences, repaired_at, foreign }) = case.fresh::<ReadBack>() else {
        return judged;
    };
    if *differences > 0 {
        case.fail(
            format!("実際の動作が通信方針と {differences} か所違います"),
            format!("the rules differ from the policy in {differences} places"),
        );
    }
    if let Some(at) = repaired_at {
        let day = case.instant(*at);
        let ja = format!("{day} に規則が外から書き換えられ、元に戻しました");
        repaired(case, *at, ja, format!("the rules were changed from outside and put back at {day}"));
    }
    if !foreign.is_empty() {
        let list = foreign.list();
        case.warn(
            format!("関所以外の規則の表が {} 個あります: {list}", foreign.count),
            format!("there are {} tables of rules by others: {list}", foreign.count),
        );
    }
    if *differences == 0 && judged {
        case.note("実際の規則は通信方針と一致しています", "the rules in the kernel equal the policy");
    }
    judged
}

/// What somebody else changed and core put back: a failure that fades to a warning, until somebody has looked.
fn repaired(case: &mut Case<'_>, at: Timestamp, ja: String, en: String) {
    if case.is_reviewed_since(at) {
        return;
    }
    if case.age(at) <= SignedDuration::from_mins(REPAIR_FAILED_M) {
        case.fail(ja, en);
    } else {
        case.warn(ja, en);
    }
}

/// Settings of the kernel that a control relies on.
pub(super) fn settings(case: &mut Case<'_>, of: fn(&KernelSettings) -> &SettingsFact) {
    let Some(SettingsFact { wrong, repaired_at, repaired: names }) = case.fresh::<KernelSettings>().map(of)
    else {
        return;
    };
    if !wrong.is_empty() {
        let list = wrong.list();
        case.fail(
            format!("カーネルの設定が正しくありません: {list}"),
            format!("settings of the kernel are wrong: {list}"),
        );
    }
    if let Some(at) = repaired_at {
        let (day, list) = (case.instant(*at), names.list());
        let ja = format!("{day} にカーネルの設定が外から書き換えられ、元に戻しました: {list}");
        let en = format!("settings of the kernel were changed from outside and put back at {day}: {list}");
        repaired(case, *at, ja, en);
    }
}

/// Accepted exceptions to an invariant: a warning while they are accepted, a failure after.
pub(super) fn exceptions(case: &mut Case<'_>, invariants: &[&str]) {
    let Some(Exceptions { exceptions }) = case.fresh::<Exceptions>() else { return };
    for exception in exceptions.iter().filter(|exception| invariants.contains(&exception.invariant.as_str()))
    {
        let (flow, who, day) = (&exception.flow, &exception.who, case.instant(exception.until));
        if exception.until <= case.now() {
            case.fail(
                format!("通信許可「{flow}」の例外は {day} で期限切れですが、まだ通しています"),
                format!("the exception for flow `{flow}` ended at {day}, and the flow still passes"),
            );
        } else {
            case.warn(
                format!("通信許可「{flow}」は例外として {who} が {day} まで認めています"),
                format!("flow `{flow}` is an exception that {who} accepted until {day}"),
            );
        }
    }
}

/// What to do with a sighting that a control asks about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Fails,
    Warns,
    Ignored,
}

/// Weighs what was seen of some classes and nobody looked at yet: a failure fades to a warning after a day.
pub(super) fn sightings(case: &mut Case<'_>, classes: &[Class], weigh: impl Fn(&Sighting) -> Weight) {
    let Some(Sightings { sightings, .. }) = case.fresh::<Sightings>() else { return };
    let meant = |sighting: &&Sighting| classes.contains(&sighting.suspect.class());
    for sighting in sightings.iter().filter(meant) {
        if !is_open(case, sighting) {
            continue;
        }
        let weight = weigh(sighting);
        let (ja, en) = seen(case, sighting);
        let is_recent = case.age(sighting.last_at) <= SignedDuration::from_hours(SIGHTING_FAILED_H);
        match weight {
            Weight::Fails if is_recent => case.fail(ja, en),
            Weight::Fails | Weight::Warns => case.warn(ja, en),
            Weight::Ignored => {}
        }
    }
}

/// Whether somebody still has to look at a sighting. Strangers knock at a line all day: what begins outside and is
/// denied says nothing about the clinic.
pub(super) fn is_open(case: &Case<'_>, sighting: &Sighting) -> bool {
    let is_noise = !sighting.passed && begins_outside(case, &sighting.from);
    !is_noise && !case.is_reviewed_since(sighting.last_at)
}

/// The kinds of the zones are asked whatever their age: they change with the policy only.
fn begins_outside(case: &Case<'_>, slug: &str) -> bool {
    let zones = case.observations.held::<Zones>().map_or(&[][..], |(_, zones)| &zones.zones);
    match zones.iter().find(|zone| zone.slug == slug) {
        Some(zone) => zone.kind == ZoneKind::External,
        None => slug == OUTSIDE,
    }
}

fn seen(case: &Case<'_>, sighting: &Sighting) -> (String, String) {
    let Sighting { suspect, from, to, crosses_border: _, passed, count, last_at } = sighting;
    let (name, day) = (suspect.name(), case.instant(*last_at));
    let (to_ja, to_en) = match to {
        Some(to) => (format!("区画 {to} 宛て"), format!("to zone `{to}`")),
        None => ("区画内・関所宛て".to_owned(), "within the zone or to the gateway".to_owned()),
    };
    let (end_ja, end_en) = if *passed { ("通過", "passed") } else { ("遮断", "denied") };
    (
        format!("区画 {from} から{to_ja}の {name} を {count} 件観測({end_ja}、最後は {day})"),
        format!("{name} from zone `{from}` {to_en}: seen {count} times, {end_en}, last at {day}"),
    )
}
