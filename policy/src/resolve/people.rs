//! Persons, and whether a role is filled by somebody who may act.

use super::ByName;
use super::context::Context;
use super::names::{self, Seen};
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{IdentityCheck, Person, Place, SecondFactor};
use crate::raw::{self, At, File, Item, Named, Words};

pub(super) fn persons(context: &mut Context<'_>, file: &File) -> ByName<Person> {
    let mut seen = Seen::default();
    let mut persons = ByName::new();
    for named in &file.persons {
        let place = context.place(named.here());
        names::check(context, &named.name.value, named.here());
        if seen.first(context, &named.name.value, place) {
            persons.insert(named.name.value.clone(), person(context, named, place));
        }
    }
    persons
}

fn person(context: &mut Context<'_>, named: &Named<raw::Person>, place: Place) -> Person {
    let item = &named.item;
    let raw::Person { name, roles, contact, second_factor: factor, identity, until } = &item.value;
    let until_day = until.as_ref().and_then(|day| context.day(item, day));
    if until_day.is_some_and(|day| day < context.today()) {
        let shown = brief(&named.name.value);
        let found = Diagnostic::warning(
            "person-ended",
            format!("`{shown}` may no longer act: the last day has passed"),
            format!("`{shown}` の権限の最終日を過ぎています"),
        );
        let at = until.as_ref().map_or(place, |until| context.place(item.spot(until)));
        context.warn(found.label(at, "passed", "過ぎた日付").help(
            "confirm the person anew and move the day, or remove the person",
            "本人を確認し直して日付を延ばすか、この人を消してください",
        ));
    }
    Person {
        id: named.name.value.clone(),
        name: context.text(item, name, "name"),
        roles: texts(context, item, roles, "roles"),
        contact: context.optional_text(item, contact.as_ref(), "contact"),
        second_factor: factor.as_ref().map(|factor| second_factor(factor.value)),
        identity: identity.as_ref().and_then(|identity| identity_check(context, item, identity)),
        until: until_day,
        place,
    }
}

fn identity_check(
    context: &mut Context<'_>,
    item: &Item<raw::Person>,
    written: &At<raw::Identity>,
) -> Option<IdentityCheck> {
    let raw::Identity { confirmed, by, on } = &written.value;
    let confirmed = context.text(item, confirmed, "confirmed");
    let by = context.text(item, by, "by");
    Some(IdentityCheck { confirmed, by, on: context.day(item, on)? })
}

/// Roles that must approve: each must be filled by a living person with a second factor, or nothing could ever be
/// approved.
pub(super) fn approvals<T>(
    context: &mut Context<'_>,
    item: &Item<T>,
    words: &Words,
    persons: &ByName<Person>,
) -> Vec<String> {
    let today = context.today();
    let acts =
        |person: &&Person| person.second_factor.is_some() && person.until.is_none_or(|day| day >= today);
    for word in &words.0 {
        let role = word.value.as_str();
        if persons.values().filter(acts).any(|person| person.roles.iter().any(|has| has == role)) {
            continue;
        }
        let shown = brief(role);
        let mut found = Diagnostic::error(
            "approval-without-person",
            format!("nobody can approve as `{shown}`: no living person with a second factor has this role"),
            format!("`{shown}` として承認できる人がいません (期限内で、第二要素を登録した人が必要です)"),
        )
        .label(context.place(item.spot(word)), "nobody has this role", "この役割の人がいません");
        if let Some(person) = persons.values().find(|person| person.roles.iter().any(|has| has == role)) {
            found =
                found.label(person.place, "has the role, but cannot act", "役割はありますが、承認できません");
        }
        context.error(found.help(
            "give a person this role, a `second_factor`, and an `until` that has not passed",
            "この役割・`second_factor`・過ぎていない `until` を持つ人を登録してください",
        ));
    }
    words.0.iter().map(|word| word.value.clone()).collect()
}

/// Texts of a list.
pub(super) fn texts<T>(context: &mut Context<'_>, item: &Item<T>, words: &Words, key: &str) -> Vec<String> {
    words.0.iter().map(|word| context.text(item, word, key)).collect()
}

pub(super) fn second_factor(raw: raw::SecondFactor) -> SecondFactor {
    match raw {
        raw::SecondFactor::Totp => SecondFactor::Totp,
        raw::SecondFactor::Passkey => SecondFactor::Passkey,
    }
}
