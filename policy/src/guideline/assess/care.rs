//! Devices and what they may do: who is on the wire, guests, things, closed sessions, clear text.

use super::Case;
use super::kernel::{self, Weight};
use crate::guideline::observation::{Accountability, Flows, Named, Neighbours, ZoneNeighbours, Zones};
use crate::guideline::posture::{is_care, is_thing};
use crate::guideline::suspect::Class;
use crate::model::ZoneKind;

pub(super) fn rogue_device_block(case: &mut Case<'_>) {
    let reaching: Vec<&str> = if kernel::holds(case)
        && let Some(zones) = case.fresh::<Zones>()
    {
        zones.zones.iter().filter(|zone| zone.anybody_reaches_care).map(|zone| zone.slug.as_str()).collect()
    } else {
        Vec::new()
    };
    let Some(Neighbours { zones, .. }) = case.fresh::<Neighbours>() else { return };
    for ZoneNeighbours { zone, kind, known: _, unknown, impostors } in zones {
        let near_care = is_care(*kind) || *kind == ZoneKind::Management || reaching.contains(&zone.as_str());
        let (ja, en) = (
            format!("台帳にない機器が区画 {zone} に {unknown} 台います"),
            format!("{unknown} devices in zone `{zone}` are not in the ledger"),
        );
        match (*unknown > 0, near_care) {
            (true, true) => case.fail(ja, en),
            (true, false) => case.warn(ja, en),
            (false, _) => {}
        }
        self::impostors(case, zone, *impostors);
    }
    let known: u32 = zones.iter().map(|zone| zone.known).sum();
    case.note(
        format!("台帳の機器が {known} 台、接続されています"),
        format!("{known} devices of the ledger are connected"),
    );
}

fn impostors(case: &mut Case<'_>, zone: &str, impostors: u32) {
    if impostors > 0 {
        case.fail(
            format!("区画 {zone} で、台帳の機器のアドレスを別の機器が {impostors} 件使っています"),
            format!("in zone `{zone}` other devices use {impostors} addresses of the ledger"),
        );
    }
}

pub(super) fn asset_ledger(case: &mut Case<'_>) {
    if let Some(Neighbours { zones, since, unseen }) = case.fresh::<Neighbours>() {
        for ZoneNeighbours { zone, kind, known: _, unknown, impostors } in zones {
            let (ja, en) = (
                format!("台帳にない機器が区画 {zone} に {unknown} 台います"),
                format!("{unknown} devices in zone `{zone}` are not in the ledger"),
            );
            match (*unknown > 0, is_care(*kind)) {
                (true, true) => case.fail(ja, en),
                (true, false) => case.warn(ja, en),
                (false, _) => {}
            }
            self::impostors(case, zone, *impostors);
        }
        let waited = case.age(*since) >= super::days(crate::guideline::measures::UNSEEN_DAYS);
        let (list, day) = (unseen.list(), case.day(*since));
        let (ja, en) = (
            format!("台帳の機器のうち {} 台を {day} から見ていません: {list}", unseen.count),
            format!("{} devices of the ledger were not seen since {day}: {list}", unseen.count),
        );
        match (unseen.is_empty(), waited) {
            (false, true) => case.warn(ja, en),
            (false, false) => case.note(ja, en),
            (true, _) => case.note("台帳の機器はすべて見ています", "every device of the ledger was seen"),
        }
    }
    if kernel::in_force(case)
        && let Some(Accountability { devices_past_support: aged, .. }) = case.fresh::<Accountability>()
        && !aged.is_empty()
    {
        let list = aged.list();
        case.warn(
            format!("メーカーのサポートが終わった機器が {} 台あります: {list}", aged.count),
            format!("{} devices are past their maker's support: {list}", aged.count),
        );
    }
}

pub(super) fn patient_facing_separation(case: &mut Case<'_>) {
    if !kernel::holds(case) {
        return;
    }
    let Some(zones) = case.fresh::<Zones>() else { return };
    let guests = zones.zones.iter().filter(|zone| zone.kind == ZoneKind::Guest).count();
    if guests == 0 {
        case.not_applicable("来客用の区画がありません", "there is no guest zone");
        return;
    }
    kernel::exceptions(case, &["guest-reaches-clinic"]);
    let Some(Flows { guest_inward, .. }) = case.fresh::<Flows>() else { return };
    fail_listed(
        case,
        guest_inward,
        "来客用の区画から院内へ入れる通信許可があります",
        "flows let guests into the clinic",
    );
    case.note(
        format!("来客用の区画は {guests} つで、インターネットにだけ出られます"),
        format!("there are {guests} guest zones, and they reach the internet only"),
    );
}

pub(super) fn iot_communication_control(case: &mut Case<'_>) {
    if !kernel::holds(case) {
        return;
    }
    let Some(zones) = case.fresh::<Zones>() else { return };
    let things = zones.zones.iter().filter(|zone| is_thing(zone.kind)).count();
    if things == 0 {
        case.not_applicable(
            "医療機器・IoT機器の区画がありません",
            "there is no zone of medical devices or things",
        );
        return;
    }
    if let Some(Flows { things_to_anywhere, thing_to_anywhere, .. }) = case.fresh::<Flows>() {
        fail_listed(
            case,
            things_to_anywhere,
            "医療機器・IoT機器の区画全体が、外部のどこへでも通信できます",
            "every device of a zone of things reaches everything outside",
        );
        warn_listed(
            case,
            thing_to_anywhere,
            "医療機器・IoT機器が、外部のどこへでも通信できます",
            "a medical device or thing reaches everything outside",
        );
    }
    let Some(Neighbours { zones, .. }) = case.fresh::<Neighbours>() else { return };
    for ZoneNeighbours { zone, unknown, .. } in zones.iter().filter(|zone| is_thing(zone.kind)) {
        if *unknown > 0 {
            case.warn(
                format!("台帳にない機器が区画 {zone} に {unknown} 台います"),
                format!("{unknown} devices in zone `{zone}` are not in the ledger"),
            );
        }
    }
    case.note(
        format!("医療機器・IoT機器の区画は {things} つで、許した相手とだけ通信します"),
        format!("there are {things} zones of medical devices and things, limited to their listed peers"),
    );
}

pub(super) fn anti_loop_around(case: &mut Case<'_>) {
    if !kernel::holds(case) {
        return;
    }
    let Some(Flows { closed, around_closed, beside_closed, .. }) = case.fresh::<Flows>() else { return };
    if *closed == 0 {
        case.not_applicable(
            "閉域網・IPsecへの通信許可がありません",
            "no flow leads into a closed network or IPsec",
        );
        return;
    }
    fail_listed(
        case,
        around_closed,
        "閉域網・IPsecにつながる機器が、外部のどこへでも通信できます",
        "a host of a closed session reaches everything outside as well",
    );
    warn_listed(
        case,
        beside_closed,
        "閉域網・IPsecにつながる機器が、外部の別の相手とも通信できます",
        "a host of a closed session reaches another host outside as well",
    );
    case.note(
        format!("閉域網・IPsecへの通信許可は {closed} 件です"),
        format!("{closed} flows lead into a closed network or IPsec"),
    );
}

pub(super) fn transit_protection(case: &mut Case<'_>) {
    if kernel::holds(case)
        && let Some(Flows { count, clear_care, clear_other, .. }) = case.fresh::<Flows>()
    {
        fail_listed(
            case,
            clear_care,
            "暗号化されない医療・ログインの通信を、外部との間で許しています",
            "medical data or logins may cross the border unencrypted",
        );
        warn_listed(
            case,
            clear_other,
            "診療の区画から外部への、暗号化されないウェブ通信を許しています",
            "web pages may cross the border unencrypted from zones of care",
        );
        case.note(format!("通信許可 {count} 件を調べました"), format!("{count} flows were looked at"));
    }
    kernel::sightings(case, &[Class::ClearCare], |sighting| {
        match (sighting.crosses_border, sighting.passed) {
            (true, true) => Weight::Fails,
            (true, false) => Weight::Warns,
            (false, _) => Weight::Ignored,
        }
    });
}

pub(super) fn fail_listed(case: &mut Case<'_>, named: &Named, ja: &str, en: &str) {
    if !named.is_empty() {
        let list = named.list();
        case.fail(format!("{ja}: {list}"), format!("{en}: {list}"));
    }
}

pub(super) fn warn_listed(case: &mut Case<'_>, named: &Named, ja: &str, en: &str) {
    if !named.is_empty() {
        let list = named.list();
        case.warn(format!("{ja}: {list}"), format!("{en}: {list}"));
    }
}
