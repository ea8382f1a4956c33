//! Every end of a transfer, in words for the people who read it: the sender, and the clinic.
//! `Display` speaks English; `text` speaks the language asked for.

use policy::diagnostic::Language;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::Hash;

/// Longest text of an outcome that somebody else wrote, in characters: an error's words quote what a sender sent.
pub const TEXT_MAX: usize = 300;
/// Most findings, and most kinds, that an outcome names.
pub const WORDS_MAX: usize = 16;
/// Longest of these words, in characters.
pub const WORD_MAX: usize = 64;

/// How a transfer ended. A file has exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// The clinic has the file, with this hash.
    Delivered {
        /// The hash of what was delivered.
        sha256: Hash,
    },
    /// A rule says no.
    Refused {
        /// Which.
        why: Refusal,
    },
    /// Something is not known, so the file goes nowhere.
    Quarantined {
        /// What.
        why: Unsure,
    },
}

/// Which rule refuses a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Refusal {
    /// The vendor may send nothing.
    #[error("the clinic accepts no files of this vendor")]
    NothingAccepted {},
    /// Larger than the policy allows.
    #[error("the file is too large; at most {max_bytes} bytes are accepted")]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// The sender's attestation is required.
    #[error("the sender's attestation is required; make it with `sekisho-vendor attest`")]
    AttestationMissing {},
    /// The sender's attestation does not count.
    #[error("{why}")]
    Attestation {
        /// Why.
        why: String,
    },
    /// Not the bytes that were announced.
    #[error("what arrived is not what was announced; send it again")]
    NotAsAnnounced {},
    /// The content could act.
    #[error("the file was inspected and refused: {}", .findings.join(", "))]
    Content {
        /// The words of what was found.
        findings: Vec<String>,
    },
    /// The content is of a kind that the clinic does not accept of this vendor.
    #[error("files of this kind ({}) are not accepted of this vendor", list(.kinds))]
    Kind {
        /// The kinds; none when no kind covers it.
        kinds: Vec<String>,
    },
}

/// What is not known about a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(tag = "unsure", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Unsure {
    /// The sender went away before the end.
    #[error("the sender went away before the file was whole")]
    SenderGone {},
    /// The sender was too slow.
    #[error("the file did not arrive in time")]
    TooSlow {},
    /// The gateway has no room for it.
    #[error("the gateway has no room for the file: {what}")]
    NoRoom {
        /// What is full.
        what: String,
    },
    /// The gateway could not keep it.
    #[error("the gateway could not keep the file: {what}")]
    Keeping {
        /// What went wrong.
        what: String,
    },
    /// The inspection did not come to an end.
    #[error("the inspection did not come to an end: {what}")]
    Inspection {
        /// What went wrong.
        what: String,
    },
    /// The release could not be recorded.
    #[error("the release could not be recorded: {what}")]
    Record {
        /// What went wrong.
        what: String,
    },
    /// The delivery failed, or something else was delivered and taken back.
    #[error("the file could not be delivered: {what}")]
    Delivery {
        /// What went wrong.
        what: String,
    },
    /// The role stopped meanwhile.
    #[error("the gateway's file role was restarted meanwhile")]
    Restarted {},
}

impl Outcome {
    /// The word of it, for logs and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Refused { .. } => "refused",
            Outcome::Quarantined { .. } => "quarantined",
        }
    }

    /// The same, with what others wrote in it cut and without control characters.
    pub(crate) fn bounded(self) -> Self {
        match self {
            Outcome::Delivered { sha256 } => Outcome::Delivered { sha256 },
            Outcome::Refused { why } => Outcome::Refused { why: why.bounded() },
            Outcome::Quarantined { why } => Outcome::Quarantined { why: why.bounded() },
        }
    }

    /// The outcome in words: what happened, why, what to do.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        match (self, language) {
            (Outcome::Delivered { sha256 }, Language::En) => format!("delivered, SHA-256 {sha256}"),
            (Outcome::Delivered { sha256 }, Language::Ja) => format!("払い出しました (SHA-256 {sha256})"),
            (Outcome::Refused { why }, Language::En) => why.to_string(),
            (Outcome::Refused { why }, Language::Ja) => why.ja(),
            (Outcome::Quarantined { why }, Language::En) => format!("quarantined: {why}; send it again"),
            (Outcome::Quarantined { why }, Language::Ja) => {
                format!("隔離しました。{}。もう一度送ってください", why.ja())
            }
        }
    }
}

impl Refusal {
    fn bounded(self) -> Self {
        match self {
            Refusal::Attestation { why } => Refusal::Attestation { why: cut(&why, TEXT_MAX) },
            Refusal::Content { findings } => Refusal::Content { findings: words(&findings) },
            Refusal::Kind { kinds } => Refusal::Kind { kinds: words(&kinds) },
            ours @ (Refusal::NothingAccepted {}
            | Refusal::TooLarge { .. }
            | Refusal::AttestationMissing {}
            | Refusal::NotAsAnnounced {}) => ours,
        }
    }

    fn ja(&self) -> String {
        match self {
            Refusal::NothingAccepted {} => "医院はこの事業者のファイルを受け入れていません".to_owned(),
            Refusal::TooLarge { max_bytes } => {
                format!("ファイルが大きすぎます。{max_bytes} バイトまで受け入れます")
            }
            Refusal::AttestationMissing {} => {
                "送信側の無害化証明が必要です。`sekisho-vendor attest` で作ってください".to_owned()
            }
            Refusal::Attestation { why } => format!("無害化証明が有効ではありません ({why})"),
            Refusal::NotAsAnnounced {} => "届いた内容が申告と違います。もう一度送ってください".to_owned(),
            Refusal::Content { findings } => {
                format!("検査の結果、受け入れられません (検出事項: {})", findings.join("、"))
            }
            Refusal::Kind { kinds } => {
                format!("この種類のファイル ({}) は、この事業者からは受け入れていません", list(kinds))
            }
        }
    }
}

impl Unsure {
    fn bounded(self) -> Self {
        match self {
            Unsure::NoRoom { what } => Unsure::NoRoom { what: cut(&what, TEXT_MAX) },
            Unsure::Keeping { what } => Unsure::Keeping { what: cut(&what, TEXT_MAX) },
            Unsure::Inspection { what } => Unsure::Inspection { what: cut(&what, TEXT_MAX) },
            Unsure::Record { what } => Unsure::Record { what: cut(&what, TEXT_MAX) },
            Unsure::Delivery { what } => Unsure::Delivery { what: cut(&what, TEXT_MAX) },
            ours @ (Unsure::SenderGone {} | Unsure::TooSlow {} | Unsure::Restarted {}) => ours,
        }
    }

    fn ja(&self) -> String {
        match self {
            Unsure::SenderGone {} => "送信が途中で終わりました".to_owned(),
            Unsure::TooSlow {} => "時間内に届きませんでした".to_owned(),
            Unsure::NoRoom { what } => format!("ゲートウェイに空きがありません ({what})"),
            Unsure::Keeping { what } => format!("ゲートウェイで保管できませんでした ({what})"),
            Unsure::Inspection { what } => format!("検査が終わりませんでした ({what})"),
            Unsure::Record { what } => format!("払い出しを記録できませんでした ({what})"),
            Unsure::Delivery { what } => format!("払い出せませんでした ({what})"),
            Unsure::Restarted {} => "途中で再起動がありました".to_owned(),
        }
    }
}

fn words(list: &[String]) -> Vec<String> {
    list.iter().take(WORDS_MAX).map(|word| cut(word, WORD_MAX)).collect()
}

/// At most so many characters, without control characters.
fn cut(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

fn list(kinds: &[String]) -> String {
    if kinds.is_empty() { "unknown".to_owned() } else { kinds.join(", ") }
}
