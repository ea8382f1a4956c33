//! Every no of this crate, in words for the person who reads it: what happened, and what to do next.
//! `Display` speaks English; `text` speaks the language asked for.

use policy::diagnostic::Language;
use thiserror::Error;

/// Why a request is not even put before the clinic.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Nobody vouches for the time.
    #[error("the gateway does not know the time yet; ask again in a few minutes")]
    TimeUntrusted,
    /// No purpose is given.
    #[error("the purpose is missing; say what the work is for")]
    NoPurpose,
    /// A text is too long.
    #[error("a text is too long; say the purpose in at most {max_chars} characters")]
    TooWordy {
        /// The limit.
        max_chars: usize,
    },
    /// A text has characters that cannot be shown.
    #[error("a text has characters that cannot be shown; write it in one plain line")]
    Unprintable,
    /// The policy names no role.
    #[error("nobody may approve work of `{vendor}`; the clinic has to name roles in `approvals`")]
    NobodyApproves {
        /// The vendor.
        vendor: String,
    },
    /// Shorter than is worth an approval.
    #[error("the work is too short; ask for at least {min_s} s")]
    TooShort {
        /// The limit.
        min_s: u32,
    },
    /// Longer than the policy allows.
    #[error("the work is too long; ask for at most {max_s} s")]
    TooLong {
        /// The limit.
        max_s: u64,
    },
    /// A target without a port.
    #[error("`{target}` has no port; ask for one of the vendor's targets")]
    NoPort {
        /// The target.
        target: String,
    },
    /// The start is too far away.
    #[error("the start is too far ahead; ask at most {days} days before")]
    TooFarAhead {
        /// The limit.
        days: i64,
    },
    /// No window is in sight.
    #[error("no window for work is in sight; ask the clinic for its windows")]
    NoWindow,
    /// The contract is over, or is before the work could begin.
    #[error("the contract of `{vendor}` is over by then; the clinic has to renew `contract_until`")]
    ContractOver {
        /// The vendor.
        vendor: String,
    },
    /// The request cannot be written down.
    #[error("the request cannot be written down ({0}); ask again in other words")]
    Unsayable(String),
}

/// Why a yes does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApprovalError {
    /// The session waits for no approval.
    #[error("this session waits for no approval; see `sekisho session list`")]
    NotWaiting,
    /// Nobody vouches for the time.
    #[error("the gateway does not know the time yet; approve again in a few minutes")]
    TimeUntrusted,
    /// Another request was seen than the one that would be carried out.
    #[error("what was shown is not what would open; read `sekisho session show` again")]
    OtherRequest,
    /// The factor was checked for somebody or something else, or too long ago.
    #[error("the code does not count for this person and this request; enter a new one")]
    Factor,
    /// The person's time is over.
    #[error("`{person}` may no longer act; another person has to approve")]
    PersonOver {
        /// The person.
        person: String,
    },
    /// The person approved already.
    #[error("`{person}` approved already; each role needs another person")]
    Twice {
        /// The person.
        person: String,
    },
    /// The vendor's contract is over.
    #[error("the contract of `{vendor}` is over; deny the request or renew `contract_until`")]
    ContractOver {
        /// The vendor.
        vendor: String,
    },
    /// The person holds no role that is still missing.
    #[error("`{person}` stands for no role that is still missing ({}); ask somebody who does", missing.join(", "))]
    NoRole {
        /// The person.
        person: String,
        /// The roles.
        missing: Vec<String>,
    },
}

/// Why a no does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DenyError {
    /// The session is open or opening.
    #[error("this session is open; end it with `sekisho session kill`")]
    Open,
    /// The session is over.
    #[error("this session is over; there is nothing to deny")]
    Over,
}

/// Why no connection is made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// The clinic has not answered.
    #[error("the clinic has not approved this session yet; wait for its answer")]
    NotApproved,
    /// Its time has not come.
    #[error("the session is approved, but its window has not begun; wait for it")]
    NotYet,
    /// It is being made ready.
    #[error("the session is being opened; try again in a moment")]
    Opening,
    /// It is over.
    #[error("this session is over; ask for a new one")]
    Over,
}

impl RequestError {
    /// The refusal in words.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        let ja = match self {
            RequestError::TimeUntrusted => {
                "ゲートウェイの時刻がまだ確認できていません。数分後に申請し直してください".to_owned()
            }
            RequestError::NoPurpose => "作業の目的がありません。何のための作業かを書いてください".to_owned(),
            RequestError::TooWordy { max_chars } => {
                format!("文が長すぎます。目的は {max_chars} 文字以内で書いてください")
            }
            RequestError::Unprintable => {
                "表示できない文字があります。ふつうの一行で書いてください".to_owned()
            }
            RequestError::NobodyApproves { vendor } => {
                format!(
                    "`{vendor}` の作業を承認できる役割がありません。医院が `approvals` に役割を書く必要があります"
                )
            }
            RequestError::TooShort { min_s } => {
                format!("作業時間が短すぎます。{min_s} 秒以上で申請してください")
            }
            RequestError::TooLong { max_s } => {
                format!("作業時間が長すぎます。{max_s} 秒以内で申請してください")
            }
            RequestError::NoPort { target } => {
                format!("`{target}` にはポートがありません。事業者に許された対象を申請してください")
            }
            RequestError::TooFarAhead { days } => {
                format!("開始が先すぎます。{days} 日前から申請できます")
            }
            RequestError::NoWindow => {
                "作業できる時間枠が見当たりません。医院に作業時間枠を確認してください".to_owned()
            }
            RequestError::ContractOver { vendor } => {
                format!(
                    "`{vendor}` の契約がその時までに終わります。医院が `contract_until` を更新する必要があります"
                )
            }
            RequestError::Unsayable(why) => {
                format!("申請を書き表せません ({why})。別の言葉で申請してください")
            }
        };
        either(language, self, ja)
    }
}

impl ApprovalError {
    /// The refusal in words.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        let ja = match self {
            ApprovalError::NotWaiting => {
                "この作業は承認を待っていません。`sekisho session list` で確かめてください".to_owned()
            }
            ApprovalError::TimeUntrusted => {
                "ゲートウェイの時刻がまだ確認できていません。数分後に承認し直してください".to_owned()
            }
            ApprovalError::OtherRequest => {
                "表示された内容と、開かれる内容が違います。`sekisho session show` を読み直してください"
                    .to_owned()
            }
            ApprovalError::Factor => {
                "この人のこの申請に使えるコードではありません。新しいコードを入れてください".to_owned()
            }
            ApprovalError::PersonOver { person } => {
                format!("`{person}` の権限は終わっています。ほかの人が承認してください")
            }
            ApprovalError::Twice { person } => {
                format!("`{person}` はすでに承認しています。役割ごとに別の人が要ります")
            }
            ApprovalError::ContractOver { vendor } => {
                format!("`{vendor}` の契約は終わっています。却下するか `contract_until` を更新してください")
            }
            ApprovalError::NoRole { person, missing } => {
                let missing = missing.join("、");
                format!(
                    "`{person}` は足りない役割 ({missing}) を持っていません。その役割の人に頼んでください"
                )
            }
        };
        either(language, self, ja)
    }
}

impl DenyError {
    /// The refusal in words.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        let ja = match self {
            DenyError::Open => "この作業は始まっています。`sekisho session kill` で終わらせてください",
            DenyError::Over => "この作業は終わっています。却下するものがありません",
        };
        either(language, self, ja.to_owned())
    }
}

impl ConnectError {
    /// The refusal in words.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        let ja = match self {
            ConnectError::NotApproved => "医院はまだ承認していません。返事をお待ちください",
            ConnectError::NotYet => "承認されましたが、作業時間枠がまだ始まっていません。お待ちください",
            ConnectError::Opening => "接続を準備しています。少し待ってやり直してください",
            ConnectError::Over => "この作業は終わっています。新しく申請してください",
        };
        either(language, self, ja.to_owned())
    }
}

fn either(language: Language, english: &impl std::error::Error, japanese: String) -> String {
    match language {
        Language::En => english.to_string(),
        Language::Ja => japanese,
    }
}
