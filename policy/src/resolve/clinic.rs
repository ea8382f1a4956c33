//! The clinic's identity and its responsible persons.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::context::Context;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{Clinic, Responsible};
use crate::raw::{self, At, File, Item};

/// The guideline version spoken of when none is written.
const GUIDELINE: &str = "6.0";
const SITE_BYTES_MAX: usize = 32;

pub(super) fn clinic(context: &mut Context<'_>, file: &File) -> Option<Clinic> {
    let item = file.clinic.as_ref()?;
    let raw::Clinic { name, site, timezone, guideline } = &item.value;
    let tz = zone(context, item, timezone);
    context.set_timezone(tz.clone());
    let guideline = context.optional_text(item, guideline.as_ref(), "guideline");
    Some(Clinic {
        name: context.text(item, name, "name"),
        site: site_id(context, item, site),
        timezone: tz,
        guideline: guideline.unwrap_or_else(|| GUIDELINE.to_owned()),
    })
}

pub(super) fn responsible(context: &mut Context<'_>, file: &File) -> Vec<Responsible> {
    let row = |item: &Item<raw::Responsible>| {
        let raw::Responsible { role, name, contact } = &item.value;
        Responsible {
            role: context.text(item, role, "role"),
            name: context.text(item, name, "name"),
            contact: context.text(item, contact, "contact"),
        }
    };
    file.responsible.iter().map(row).collect()
}

/// Looks the zone up in the tables built into the program: the same policy means the same on every machine.
fn zone(context: &mut Context<'_>, item: &Item<raw::Clinic>, name: &At<String>) -> TimeZone {
    if let Ok(tz) = TimeZoneDatabase::bundled().get(&name.value) {
        return tz;
    }
    let shown = brief(&name.value);
    let found = Diagnostic::error(
        "unknown-timezone",
        format!("there is no time zone `{shown}`"),
        format!("`{shown}` という時間帯はありません"),
    );
    let place = context.place(item.spot(name));
    context.error(
        found
            .label(place, "unknown time zone", "不明な時間帯")
            .help("write an IANA name such as `Asia/Tokyo`", "`Asia/Tokyo` のような名前を書いてください"),
    );
    TimeZone::UTC
}

fn site_id(context: &mut Context<'_>, item: &Item<raw::Clinic>, site: &At<String>) -> String {
    let ok = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let text = &site.value;
    if text.is_empty() || text.len() > SITE_BYTES_MAX || !text.bytes().all(ok) {
        let found = Diagnostic::error("bad-site", "this cannot be the site's id", "拠点のIDとして使えません");
        let place = context.place(item.spot(site));
        context.error(found.label(place, "not usable", "使えないID").help(
            "use 1 to 32 lower-case letters, digits and `-`; it appears in metrics, so do not name the clinic",
            "英小文字・数字・`-` で1〜32文字にしてください。統計に表示されるため、医院名は避けてください",
        ));
    }
    text.clone()
}
