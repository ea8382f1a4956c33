//! How a command ends, and why it did not work. The numbers are a promise: the help lists them.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use transport::frame::FrameError;
use transport::protocol::{Refusal, WordError};
use transport::receipt::ReceiptError;
use transport::{ChannelError, CredentialsError, DialError, InvitationError};

/// Exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage (clap says this itself).
    Usage = 2,
    /// The clinic or its gateway says no.
    Refused = 3,
    /// The gateway cannot be reached.
    Unreachable = 4,
    /// This key is not let in, or the gateway is another one.
    NotAdmitted = 5,
    /// The session is over.
    Over = 6,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum VendorError {
    /// There is no key yet.
    #[error("`{}` holds no certificate: enrol first, with the code that the clinic gives (sekisho-vendor enrol)", .0.display())]
    NotEnrolled(PathBuf),
    /// There is a key already.
    #[error("`{}` holds the certificate of a clinic already: give another --home for another clinic, or remove it", .0.display())]
    EnrolledAlready(PathBuf),
    /// No session was named, and none is remembered.
    #[error("no session is remembered here: name one")]
    NoSession,
    /// The home is nowhere.
    #[error("no home directory is known: give --home")]
    NoHome,
    /// A file of ours.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    File {
        /// What.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The gateway's name means nothing.
    #[error("cannot find `{gateway}`: {source}")]
    Name {
        /// The name.
        gateway: String,
        /// Why.
        source: io::Error,
    },
    /// The name has no address.
    #[error("`{0}` has no address")]
    NoAddress(String),
    /// The local address cannot be had.
    #[error("cannot listen on `{address}`: {source}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Only this machine's own programs may use the way to the clinic.
    #[error(
        "`{0}` is no address of this machine's own: others could use the way to the clinic; take 127.0.0.1"
    )]
    NotLoopback(std::net::IpAddr),
    /// No channel.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The gateway closed the door after the handshake: it refused the certificate.
    #[error("the gateway does not let this key in: {0}")]
    NotAdmitted(String),
    /// The channel broke.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A frame broke.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The gateway says no.
    #[error("{}", .0.en)]
    Refused(Refusal),
    /// The gateway answers something else.
    #[error("the gateway answered another question: install the matching sekisho-vendor")]
    Confused,
    /// A word is none.
    #[error(transparent)]
    Word(#[from] WordError),
    /// The code is none.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// A key or certificate.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// JSON.
    #[error("cannot read or write JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The session is over.
    #[error("the session is over: {0}")]
    Over(String),
    /// A file that changes while it is sent.
    #[error("`{}` changed while it was sent", .0.display())]
    Changed(PathBuf),
    /// An attestation cannot be made.
    #[error("the file cannot be attested: {0}")]
    Attestation(String),
    /// The runtime.
    #[error("cannot start: {0}")]
    Start(io::Error),
}

impl VendorError {
    /// The exit status.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            VendorError::NoSession
            | VendorError::NotLoopback(_)
            | VendorError::Word(_)
            | VendorError::Invitation(_) => Exit::Usage,
            VendorError::Refused(_) => Exit::Refused,
            VendorError::Name { .. }
            | VendorError::NoAddress(_)
            | VendorError::Dial(DialError::Silent { .. } | DialError::Unreachable { .. }) => {
                Exit::Unreachable
            }
            VendorError::NotEnrolled(_)
            | VendorError::NotAdmitted(_)
            | VendorError::Dial(DialError::Handshake { .. }) => Exit::NotAdmitted,
            VendorError::Over(_) => Exit::Over,
            VendorError::EnrolledAlready(_)
            | VendorError::NoHome
            | VendorError::File { .. }
            | VendorError::Listen { .. }
            | VendorError::Dial(DialError::Tls(_))
            | VendorError::Channel(_)
            | VendorError::Frame(_)
            | VendorError::Confused
            | VendorError::Credentials(_)
            | VendorError::Receipt(_)
            | VendorError::Json(_)
            | VendorError::Changed(_)
            | VendorError::Attestation(_)
            | VendorError::Start(_) => Exit::Failed,
        }
    }

    /// What helps, in Japanese; the English text says it itself.
    pub(crate) fn ja(&self) -> Option<String> {
        let text = match self {
            VendorError::Refused(refusal) => return Some(refusal.ja.clone()),
            VendorError::Over(why) => return Some(format!("セッションは終了しました: {why}")),
            VendorError::NotEnrolled(_) => {
                "まだ登録されていません。クリニックの招待コードで登録してください (sekisho-vendor enrol)"
            }
            VendorError::EnrolledAlready(_) => {
                "このディレクトリには登録済みの証明書があります。別のクリニックには別の --home を指定してください"
            }
            VendorError::NoSession => "セッションを指定してください",
            VendorError::Name { .. } | VendorError::NoAddress(_) => "ゲートウェイの名前が見つかりません",
            VendorError::NotLoopback(_) => "この PC 自身のアドレス (127.0.0.1) を指定してください",
            VendorError::Dial(DialError::Silent { .. } | DialError::Unreachable { .. }) => {
                "ゲートウェイに接続できません。アドレスと、UDP・TCP の通信が許可されているかを確認してください"
            }
            VendorError::Dial(DialError::Handshake { .. }) => {
                "ゲートウェイを確認できないか、この鍵が拒否されました"
            }
            VendorError::NotAdmitted(_) => {
                "この鍵では入れません。登録が期限切れか取り消された可能性があります。クリニックに確認してください"
            }
            VendorError::Invitation(_) => {
                "招待コードが正しくありません。SKV1- から始まる全体を入力してください"
            }
            VendorError::Receipt(_) => "受領書を検証できません",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Makes an error about a file of ours.
pub(crate) fn file(doing: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> VendorError {
    let path = path.to_owned();
    move |source| VendorError::File { doing, path, source }
}
