//! Vendors: contract, maintenance and file rules, parsed and resolved; their doors come with the session roles.

use std::collections::BTreeMap;

use super::ByName;
use super::authority::{authority, refuse_shared};
use super::context::Context;
use super::endpoints::{self, Names};
use super::people;
use super::vpn::duration_s;
use crate::diagnostic::{Diagnostic, brief};
use crate::model::{FileRule, Maintenance, Person, Vendor};
use crate::raw::{self, At, Attestation, Beside, File, Item, Named, Spot, Words};
use crate::time::parse_size_bytes;

/// Longest maintenance session.
const MAINTENANCE_S_MAX: u64 = 24 * 3_600;
/// Largest file that a rule may let through: 64 GiB.
const FILE_BYTES_MAX: u64 = 64 << 30;
/// Longest name of a drop's directory.
const DIRECTORY_BYTES_MAX: usize = 64;

pub(super) fn vendors(
    context: &mut Context<'_>,
    file: &File,
    names: &Names<'_>,
    persons: &ByName<Person>,
    beside: &BTreeMap<String, Beside>,
) -> BTreeMap<String, Vendor> {
    let mut vendors = BTreeMap::new();
    for named in &file.vendors {
        let vendor = vendor(context, named, names, persons, beside);
        vendors.entry(named.name.value.clone()).or_insert(vendor);
    }
    refuse_shared(context, &vendors);
    vendors
}

fn vendor(
    context: &mut Context<'_>,
    named: &Named<raw::Vendor>,
    names: &Names<'_>,
    persons: &ByName<Person>,
    beside: &BTreeMap<String, Beside>,
) -> Vendor {
    let item = &named.item;
    let raw::Vendor { ca, keys, contract_until, responsibility, maintenance, files } = &item.value;
    let contract_until_day = contract_until.as_ref().and_then(|day| context.day(item, day));
    contract(context, named, contract_until_day);
    identity(context, named);
    let ca = ca.as_ref().filter(|ca| file_name(context, item, ca));
    Vendor {
        name: named.name.value.clone(),
        ca: ca.map(|ca| authority(context, item, ca, beside)),
        keys: people::texts(context, item, keys, "keys"),
        contract_until: contract_until_day,
        responsibility: context.optional_text(item, responsibility.as_ref(), "responsibility"),
        maintenance: maintenance.as_ref().and_then(|at| self::maintenance(context, item, at, names, persons)),
        files: file_rules(context, item, files, persons),
        place: context.place(named.here()),
    }
}

fn contract(context: &mut Context<'_>, named: &Named<raw::Vendor>, until: Option<jiff::civil::Date>) {
    let name = brief(&named.name.value);
    let found = match (&named.item.value.contract_until, until) {
        (None, _) => Diagnostic::warning(
            "vendor-without-contract",
            format!("the vendor `{name}` has no `contract_until`"),
            format!("保守事業者 `{name}` の契約期限 (`contract_until`) がありません"),
        )
        .label(context.place(named.here()), "no contract", "契約がありません"),
        (Some(at), Some(day)) if day < context.today() => Diagnostic::warning(
            "contract-ended",
            format!("the contract with the vendor `{name}` ended on {day}"),
            format!("保守事業者 `{name}` の契約は{day}で終わっています"),
        )
        .label(context.place(named.item.spot(at)), "ended", "終了済み"),
        _ => return,
    };
    context.warn(found.help(
        "write the last day of the contract; without one no maintenance should be approved",
        "契約の最終日を書いてください。契約がない間は保守作業を承認しないでください",
    ));
}

/// One way to know the vendor's engineers besides the clinic's own invitations.
fn identity(context: &mut Context<'_>, named: &Named<raw::Vendor>) {
    let raw::Vendor { ca, keys, .. } = &named.item.value;
    if ca.is_none() || keys.0.is_empty() {
        return;
    }
    let name = brief(&named.name.value);
    let found = Diagnostic::error(
        "ca-and-keys",
        format!("the vendor `{name}` has both `ca` and `keys`"),
        format!("保守事業者 `{name}` に `ca` と `keys` が両方書かれています"),
    );
    let place = context.place(named.here());
    context.error(
        found
            .label(place, "two ways to know its engineers", "担当者の確認方法が2つあります")
            .help("keep one of the two", "どちらか一方にしてください"),
    );
}

fn maintenance(
    context: &mut Context<'_>,
    item: &Item<raw::Vendor>,
    at: &At<raw::Maintenance>,
    names: &Names<'_>,
    persons: &ByName<Person>,
) -> Option<Maintenance> {
    let raw::Maintenance { targets, windows, max_duration, approvals } = &at.value;
    if approvals.0.is_empty() {
        approvals_missing(context, item.spot(at));
    }
    let targets = endpoints::targets(context, item, targets, names);
    let windows = windows.as_ref().and_then(|windows| super::flows::schedule(context, item, windows));
    let approvals = people::approvals(context, item, approvals, persons);
    let max_duration_s = duration_s(context, item, max_duration, MAINTENANCE_S_MAX)?;
    Some(Maintenance { targets, windows, max_duration_s, approvals })
}

/// An empty list would mean that nobody needs to agree.
fn approvals_missing(context: &mut Context<'_>, spot: Spot) {
    let found = Diagnostic::error("approvals-missing", "no role has to approve", "承認する役割がありません");
    context.error(found.label(context.place(spot), "nobody approves", "承認者がいません").help(
        "write at least one role, such as `approvals = [\"clinic\"]`",
        "`approvals = [\"clinic\"]` のように、役割を1つ以上書いてください",
    ));
}

fn file_rules(
    context: &mut Context<'_>,
    item: &Item<raw::Vendor>,
    files: &raw::FileRules,
    persons: &ByName<Person>,
) -> BTreeMap<String, FileRule> {
    let raw::FileRules { to_clinic, update, from_clinic } = files;
    let written = [("to_clinic", to_clinic), ("update", update), ("from_clinic", from_clinic)];
    let mut rules = BTreeMap::new();
    for (direction, rule) in
        written.into_iter().filter_map(|(direction, rule)| rule.as_ref().map(|rule| (direction, rule)))
    {
        let rule_here = file_rule(context, item, rule, persons);
        if let Some(drop) = rule.value.drop.as_ref().filter(|_| direction != "to_clinic") {
            drop_elsewhere(context, item, drop);
        }
        rules.insert(direction.to_owned(), rule_here);
    }
    if let Some(update) = update.as_ref().filter(|update| update.value.signers.0.is_empty()) {
        let found = Diagnostic::error(
            "signers-missing",
            "updates may pass without a signature",
            "署名のない更新ファイルが通ってしまいます",
        );
        context.error(
            found.label(context.place(item.spot(update)), "no `signers`", "`signers` がありません").help(
                "write the certificate file of the maker's signer in `signers`",
                "メーカーの署名者の証明書ファイルを `signers` に書いてください",
            ),
        );
    }
    rules
}

fn file_rule(
    context: &mut Context<'_>,
    item: &Item<raw::Vendor>,
    rule: &At<raw::FileRule>,
    persons: &ByName<Person>,
) -> FileRule {
    let raw::FileRule { accept, attestation, max_size, drop, signers, approvals } = &rule.value;
    for signer in &signers.0 {
        file_name(context, item, signer);
    }
    FileRule {
        accept: people::texts(context, item, accept, "accept"),
        attestation_required: attestation.as_ref().is_some_and(|word| word.value == Attestation::Required),
        max_size_bytes: max_size.as_ref().and_then(|size| size_bytes(context, item, size)),
        drop: drop.as_ref().and_then(|drop| directory(context, item, drop)),
        signers: words(signers),
        approvals: people::approvals(context, item, approvals, persons),
    }
}

fn size_bytes(context: &mut Context<'_>, item: &Item<raw::Vendor>, size: &At<String>) -> Option<u64> {
    let bytes = parse_size_bytes(&size.value).ok().filter(|bytes| (1..=FILE_BYTES_MAX).contains(bytes));
    if bytes.is_none() {
        let found =
            Diagnostic::error("bad-size", "this is not a file size", "ファイルの大きさとして読めません");
        context.error(found.label(context.place(item.spot(size)), "not usable", "使えません").help(
            "write it such as `200 MB`; 64 GiB is the most",
            "`200 MB` のように書いてください (64 GiBまで)",
        ));
    }
    bytes
}

/// Only files for the clinic are put anywhere.
fn drop_elsewhere(context: &mut Context<'_>, item: &Item<raw::Vendor>, drop: &At<String>) {
    let found = Diagnostic::error(
        "drop-elsewhere",
        "only `to_clinic` has a `drop`",
        "`drop` を書けるのは `to_clinic` だけです",
    );
    context.error(
        found
            .label(context.place(item.spot(drop)), "not here", "ここでは使えません")
            .help("remove it", "消してください"),
    );
}

/// One plain name below the vendor's own directory: nothing that leads out of it, or hides.
fn directory(context: &mut Context<'_>, item: &Item<raw::Vendor>, name: &At<String>) -> Option<String> {
    let text = name.value.as_str();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if (1..=DIRECTORY_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
        return Some(text.to_owned());
    }
    let shown = brief(text);
    let found = Diagnostic::error(
        "bad-drop",
        format!("`{shown}` is not a name for a directory of released files"),
        format!("`{shown}` は受け渡し用フォルダの名前にできません"),
    );
    context.error(found.label(context.place(item.spot(name)), "not usable", "使えません").help(
        "write 1 to 64 lower-case letters, digits, `-` and `_`, such as `inbox`",
        "小文字の英数字と `-`・`_` で64文字まで、`inbox` のように書いてください",
    ));
    None
}

/// The caller reads these files below the policy's directory; whether it can.
fn file_name(context: &mut Context<'_>, item: &Item<raw::Vendor>, name: &At<String>) -> bool {
    if raw::is_relative_name(&name.value) {
        return true;
    }
    let shown = brief(&name.value);
    let found = Diagnostic::error(
        "bad-file-name",
        format!("`{shown}` is not a file beside the policy"),
        format!("`{shown}` は通信方針と同じ場所のファイルではありません"),
    );
    context.error(found.label(context.place(item.spot(name)), "not usable", "使えません").help(
        "write a path below the policy's directory, such as `vendors/acme-emr.pem`",
        "`vendors/acme-emr.pem` のように、通信方針のフォルダより下の場所を書いてください",
    ));
    false
}

fn words(words: &Words) -> Vec<String> {
    words.0.iter().map(|word| word.value.clone()).collect()
}
