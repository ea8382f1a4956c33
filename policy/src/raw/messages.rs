//! Words for what is wrong with a file's form. Messages of the TOML and serde crates are recognised by their shape and
//! said again in both languages; one that is not recognised is passed on as it is.

use super::{INCLUDE_DEPTH_MAX, SCHEMA, SOURCE_BYTES_MAX, SOURCES_MAX, TOTAL_BYTES_MAX};
use crate::diagnostic::{Diagnostic, brief};
use crate::model::Place;
use crate::resolve::suggest::closest;

/// What the parser says about the text.
pub(super) fn of_syntax(message: &str, place: Place) -> Diagnostic {
    if message.starts_with("duplicate key") { duplicate_key(place) } else { syntax(message, place) }
}

/// What serde says about an entry.
pub(super) fn of_entry(message: &str, place: Place) -> Diagnostic {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut words = quoted(rest);
        let key = words.next().unwrap_or_default();
        return unknown_key(key, &words.collect::<Vec<_>>(), place);
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let mut words = quoted(rest);
        let word = words.next().unwrap_or_default();
        return unknown_word(word, &words.collect::<Vec<_>>(), place);
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return missing_key(quoted(rest).next().unwrap_or_default(), place);
    }
    if let Some((found, wanted)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "))
    {
        return wrong_type(found, wanted, place);
    }
    if message == "wanted string or table" {
        return wrong_type("another kind of value", "a string", place);
    }
    if message.starts_with("more than ") {
        return Diagnostic::error("list-too-long", message, "1つの一覧の項目が多すぎます")
            .label(place, "this list", "この一覧")
            .help("split the entry into several", "項目を分けて書いてください");
    }
    bad_value(message, place)
}

pub(super) fn unknown_key(key: &str, known: &[&str], place: Place) -> Diagnostic {
    let key = brief(key);
    let (help_en, help_ja) = choices(&key, known);
    Diagnostic::error(
        "unknown-key",
        format!("the key `{key}` is not known here"),
        format!("ここでは `{key}` という項目は使えません"),
    )
    .label(place, "unknown key", "使えない項目")
    .help(help_en, help_ja)
}

fn unknown_word(word: &str, known: &[&str], place: Place) -> Diagnostic {
    let word = brief(word);
    let (help_en, help_ja) = choices(&word, known);
    Diagnostic::error(
        "unknown-word",
        format!("`{word}` cannot be chosen here"),
        format!("ここでは `{word}` を選べません"),
    )
    .label(place, "not one of the choices", "選べない値")
    .help(help_en, help_ja)
}

fn choices(word: &str, known: &[&str]) -> (String, String) {
    let all = known.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
    match closest(word, known.iter().copied()) {
        Some(near) => (
            format!("did you mean `{near}`? known here: {all}"),
            format!("`{near}` のことでしょうか。使えるもの: {all}"),
        ),
        None => (format!("known here: {all}"), format!("使えるもの: {all}")),
    }
}

fn missing_key(key: &str, place: Place) -> Diagnostic {
    Diagnostic::error(
        "missing-key",
        format!("the key `{key}` is missing"),
        format!("`{key}` が書かれていません"),
    )
    .label(place, "in this entry", "この項目の中")
    .help(format!("add `{key} = ..` to the entry"), format!("この項目に `{key} = ..` を書き足してください"))
}

fn wrong_type(found: &str, wanted: &str, place: Place) -> Diagnostic {
    let found = brief(found);
    Diagnostic::error(
        "wrong-type",
        format!("{found} is written where {wanted} belongs"),
        format!("{}を書くところに、{}が書かれています", wanted_ja(wanted), found_ja(&found)),
    )
    .label(place, "wrong kind of value", "値の種類が違います")
    .help(
        format!("write {wanted}; text needs quotes, such as `\"tcp/443\"`"),
        format!("{}を書いてください。文字列は `\"tcp/443\"` のように引用符で囲みます", wanted_ja(wanted)),
    )
}

fn wanted_ja(wanted: &str) -> String {
    let japanese = match wanted {
        "a string" => "文字列",
        "a boolean" => "true か false",
        "i64" | "u64" | "an integer" => "整数",
        "a sequence" => "一覧 [..]",
        "a string or a list of strings" => "文字列、または文字列の一覧",
        "a TOML datetime" | "a datetime" => "日付",
        other if other.starts_with("struct ") || other == "a map" => "表 {..}",
        other => other,
    };
    japanese.to_owned()
}

fn found_ja(found: &str) -> String {
    let pairs = [
        ("another kind of value", "別の種類の値"),
        ("string", "文字列"),
        ("integer", "整数"),
        ("floating point", "小数"),
        ("boolean", "真偽値"),
        ("sequence", "一覧"),
        ("map", "表"),
        ("datetime", "日付"),
    ];
    let pair = pairs.iter().find(|(english, _)| found.starts_with(english));
    pair.map_or_else(|| found.to_owned(), |(english, japanese)| found.replacen(english, japanese, 1))
}

fn duplicate_key(place: Place) -> Diagnostic {
    Diagnostic::error("duplicate-key", "the same key is written twice", "同じ項目が2回書かれています")
        .label(place, "written again here", "ここで再び書かれています")
        .help(
            "keep one of the two, or give them different names",
            "どちらか一方を残すか、別の名前にしてください",
        )
}

fn bad_value(message: &str, place: Place) -> Diagnostic {
    let message = brief(message);
    Diagnostic::error(
        "bad-value",
        format!("this value cannot be used: {message}"),
        format!("この値は使えません ({message})"),
    )
    .label(place, "not usable", "使えない値")
    .help("compare it with the example policy", "例の通信方針と見比べてください")
}

fn syntax(message: &str, place: Place) -> Diagnostic {
    let message = brief(message);
    Diagnostic::error(
        "syntax",
        format!("the file cannot be read as TOML: {message}"),
        format!("TOMLの書式として読めません ({message})"),
    )
    .label(place, "reading stopped here", "ここで読めなくなりました")
    .help(
        "look for a missing quote, bracket or `=` here or just before",
        "この場所か直前に、引用符・括弧・`=` の抜けがないか確かめてください",
    )
}

pub(super) fn schema_missing(place: Place) -> Diagnostic {
    Diagnostic::error(
        "schema-missing",
        "the policy does not say which version of the language it is written in",
        "通信方針の書式の版が書かれていません",
    )
    .label(place, "at the top of the file", "ファイルの先頭")
    .help(
        format!("write `schema = {SCHEMA}` as the first line"),
        format!("最初の行に `schema = {SCHEMA}` と書いてください"),
    )
}

pub(super) fn schema_version(found: i64, place: Place) -> Diagnostic {
    Diagnostic::error(
        "schema-version",
        format!("version {found} of the language is not known to this program"),
        format!("書式の版 {found} には対応していません"),
    )
    .label(place, "unknown version", "対応していない版")
    .help(
        format!("write `schema = {SCHEMA}`, or install a newer Sekisho"),
        format!("`schema = {SCHEMA}` と書くか、新しい Sekisho を入れてください"),
    )
}

pub(super) fn missing_clinic(place: Place) -> Diagnostic {
    Diagnostic::error(
        "missing-clinic",
        "the policy does not say whose it is",
        "どの医院の通信方針かが書かれていません",
    )
    .label(place, "in this file", "このファイル")
    .help(
        "add `[clinic]` with `name`, `site` and `timezone`",
        "`[clinic]` に `name`、`site`、`timezone` を書いてください",
    )
}

pub(super) fn duplicate_section(place: Place) -> Diagnostic {
    Diagnostic::error(
        "duplicate-section",
        "this section is already written in another file",
        "この節は別のファイルにも書かれています",
    )
    .label(place, "second time", "2回目")
    .help("keep it in one file only", "どれか1つのファイルだけに書いてください")
}

pub(super) fn not_a_list(place: Place) -> Diagnostic {
    Diagnostic::error("not-a-list", "this section is a list of entries", "この節は項目の一覧として書きます")
        .label(place, "not a list", "一覧ではありません")
        .help(
            "write it with double brackets, such as `[[flow]]`",
            "`[[flow]]` のように二重の角括弧で書いてください",
        )
}

pub(super) fn not_a_table(place: Place) -> Diagnostic {
    Diagnostic::error(
        "not-a-table",
        "the entries of this section have names",
        "この節の項目には名前が必要です",
    )
    .label(place, "no names", "名前がありません")
    .help("write it with a name, such as `[zone.staff]`", "`[zone.staff]` のように名前を付けて書いてください")
}

pub(super) fn too_many(count: usize, limit: usize, place: Place) -> Diagnostic {
    Diagnostic::error(
        "too-many",
        format!("{count} entries of one kind are more than the {limit} that are allowed"),
        format!("同じ種類の項目が{count}件あります (上限は{limit}件です)"),
    )
    .label(place, "this section", "この節")
    .help(
        "use zones and lists in place of single entries",
        "個別の項目の代わりに、区画や一覧を使ってください",
    )
}

pub(super) fn no_source(name: &str) -> Diagnostic {
    let name = brief(name);
    Diagnostic::error(
        "no-source",
        format!("there is no text of `{name}`"),
        format!("`{name}` の内容がありません"),
    )
    .help("check the file's name", "ファイル名を確かめてください")
}

pub(super) fn too_many_sources() -> Diagnostic {
    Diagnostic::error(
        "too-many-sources",
        format!("the policy has more than {SOURCES_MAX} files"),
        format!("ファイルが{SOURCES_MAX}個を超えています"),
    )
    .help("join some of the files", "ファイルをまとめてください")
}

pub(super) fn source_too_large(name: &str) -> Diagnostic {
    let (name, one, all) = (brief(name), SOURCE_BYTES_MAX >> 20, TOTAL_BYTES_MAX >> 20);
    Diagnostic::error(
        "source-too-large",
        format!("`{name}` is too large: one file may have {one} MiB, all together {all} MiB"),
        format!("`{name}` が大きすぎます (1ファイル{one} MiB、合計{all} MiBまで)"),
    )
    .help("check that it is a policy file", "通信方針のファイルかどうか確かめてください")
}

pub(super) fn bad_include(name: &str) -> Diagnostic {
    let name = brief(name);
    Diagnostic::error(
        "bad-include",
        format!("`{name}` cannot be included"),
        format!("`{name}` は読み込めません"),
    )
    .help(
        "write a path below the main file's directory, without `..`, `\\` and `:`",
        "主ファイルのフォルダより下の場所を、`..`・`\\`・`:` を使わずに書いてください",
    )
}

pub(super) fn include_cycle(name: &str, stack: &[&str]) -> Diagnostic {
    let name = brief(name);
    let path = brief(&stack.join(" -> "));
    Diagnostic::error(
        "include-cycle",
        format!("`{name}` includes itself ({path} -> {name})"),
        format!("`{name}` が自分自身を読み込んでいます ({path} -> {name})"),
    )
    .help("remove one of the includes", "どれか1つの include を消してください")
}

pub(super) fn include_too_deep(name: &str) -> Diagnostic {
    let name = brief(name);
    Diagnostic::error(
        "include-too-deep",
        format!("`{name}` is included more than {INCLUDE_DEPTH_MAX} files deep"),
        format!("`{name}` までの include が{INCLUDE_DEPTH_MAX}段を超えています"),
    )
    .help("include it from the main file", "主ファイルから読み込んでください")
}

pub(super) fn include_missing(name: &str) -> Diagnostic {
    let name = brief(name);
    Diagnostic::error(
        "include-missing",
        format!("the file `{name}` is not found"),
        format!("ファイル `{name}` が見つかりません"),
    )
    .help(
        "check the name; it is looked up beside the main file",
        "名前を確かめてください。主ファイルと同じ場所から探します",
    )
}

pub(super) fn unused_source(name: &str, place: Place) -> Diagnostic {
    let name = brief(name);
    Diagnostic::warning(
        "unused-source",
        format!("the file `{name}` is given but not included"),
        format!("ファイル `{name}` はどこからも読み込まれていません"),
    )
    .label(place, "not read", "読まれないファイル")
    .help("include it from the main file, or leave it out", "主ファイルから include するか、外してください")
}

/// The words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
