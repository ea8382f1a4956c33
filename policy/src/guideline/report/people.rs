//! Who answers for what (責任者一覧, 責任分界).

use maud::{Markup, html};

use super::Page;
use crate::model::Vendor;

pub(super) fn section(page: Page<'_>) -> Markup {
    let policy = page.input.policy;
    html! {
        section {
            h2 { (page.say("責任者と責任分界", "Responsibility")) }
            @if policy.responsible.is_empty() {
                p { (page.say("責任者が書かれていません。", "No responsible person is written.")) }
            } @else {
                table {
                    caption { (page.say("責任者一覧", "Responsible persons")) }
                    thead { tr {
                        th scope="col" { (page.say("役割", "Role")) }
                        th scope="col" { (page.say("氏名", "Name")) }
                        th scope="col" { (page.say("連絡先", "Contact")) }
                    } }
                    tbody { @for person in &policy.responsible { tr {
                        th scope="row" { (person.role) }
                        td { (person.name) }
                        td { (person.contact) }
                    } } }
                }
            }
            @if !policy.vendors.is_empty() {
                table {
                    caption { (page.say("保守事業者", "Vendors")) }
                    thead { tr {
                        th scope="col" { (page.say("保守事業者", "Vendor")) }
                        th scope="col" { (page.say("契約期限", "Contract until")) }
                        th scope="col" { (page.say("責任分界", "Demarcation")) }
                        th scope="col" { (page.say("保守の対象", "May maintain")) }
                    } }
                    tbody { @for vendor in policy.vendors.values() { (row(page, vendor)) } }
                }
            }
        }
    }
}

fn row(page: Page<'_>, vendor: &Vendor) -> Markup {
    let unknown = page.say("記載なし", "not written");
    let targets = vendor
        .maintenance
        .as_ref()
        .map(|work| work.targets.iter().map(|target| target.text.as_str()).collect::<Vec<_>>().join(", "));
    html! {
        tr {
            th scope="row" { (vendor.name) }
            td { @if let Some(day) = vendor.contract_until { (day) } @else { (unknown) } }
            td { (vendor.responsibility.as_deref().unwrap_or(unknown)) }
            td { (targets.as_deref().unwrap_or_else(|| page.say("なし", "nothing"))) }
        }
    }
}
