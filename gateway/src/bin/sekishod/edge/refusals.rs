//! What a guest is told when it cannot be: a stable word, and a sentence in both languages that says what to do.

use transport::protocol::Refusal;

/// The session is another's, or none.
pub(super) fn no_session() -> Refusal {
    Refusal::new(
        "no-such-session",
        "there is no such session of yours; ask for one with `sekisho-vendor request`",
        "このセッションは存在しないか、別の方のものです。`sekisho-vendor request` で申請してください",
    )
}

/// The session carries nothing at this moment.
pub(super) fn not_open() -> Refusal {
    Refusal::new(
        "not-open",
        "the session is not open; see `sekisho-vendor status`",
        "セッションは開いていません。`sekisho-vendor status` で確認してください",
    )
}

/// Nothing may go unrecorded.
pub(super) fn recorder() -> Refusal {
    Refusal::new(
        "recorder-failed",
        "the clinic's record could not be written, so the session is over; call the clinic",
        "クリニック側で記録できないため、セッションを終了しました。クリニックに連絡してください",
    )
}

/// Core does not answer.
pub(super) fn busy() -> Refusal {
    Refusal::new(
        "busy",
        "the clinic's gateway cannot answer at the moment; try again in a minute",
        "クリニックのゲートウェイが応答できません。しばらくしてからやり直してください",
    )
}

/// The target does not answer.
pub(super) fn target(error: &std::io::Error) -> Refusal {
    let en = format!("the target does not answer ({}); is the device on?", error.kind());
    let ja = format!("対象の機器が応答しません（{}）。機器の電源を確認してください", error.kind());
    Refusal { word: "target-unreachable".to_owned(), en, ja }
}

/// An invitation is good for an enrolment only.
pub(super) fn invited() -> Refusal {
    Refusal::new(
        "not-enrolled",
        "an invitation is good for enrolling and nothing else; use the certificate that it gave",
        "招待コードは登録にのみ使えます。登録で得た証明書を使ってください",
    )
}

/// Who has a certificate needs no invitation.
pub(super) fn enrolled() -> Refusal {
    Refusal::new(
        "already-enrolled",
        "this key has a certificate; a new one needs a new invitation",
        "この鍵はすでに登録済みです。新しい証明書には新しい招待コードが必要です",
    )
}

/// The key or the invitation is not taken.
pub(super) fn enrolment() -> Refusal {
    Refusal::new(
        "enrolment-refused",
        "the invitation is used up or over, or the key is of a kind that is not taken; ask the clinic for a new one",
        "招待コードは使用済みか期限切れ、または鍵の種類が対応していません。クリニックに新しい招待コードを依頼してください",
    )
}

/// There is no receipt of what goes on.
pub(super) fn not_over() -> Refusal {
    Refusal::new(
        "not-over",
        "the session is not over; its receipt comes when it is",
        "セッションはまだ終了していません。受領書は終了後に発行されます",
    )
}

/// Another version of the protocol.
pub(super) fn version() -> Refusal {
    Refusal::new(
        "other-version",
        "this gateway speaks another version of the protocol: install the matching sekisho-vendor",
        "プロトコルの版が異なります。対応する sekisho-vendor を導入してください",
    )
}

/// Files do not pass at this moment.
pub(super) fn no_files() -> Refusal {
    Refusal::new(
        "files-closed",
        "the clinic takes no files at the moment; call the clinic",
        "クリニックは現在ファイルを受け取れません。クリニックに連絡してください",
    )
}
