//! The test of the metrics' door by the console itself, over the same wire as a reader and a stranger: with proof it must
//! let in, without proof and with an older TLS it must not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use policy::guideline::observation::{Door, MetricsDoor};
use policy::model::MetricsAuth;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::der::Decode;

use super::Console;
use super::keys::KeysError;
use super::tls::{self, TlsError};

/// How long one attempt may take.
const ATTEMPT_WAIT: Duration = Duration::from_secs(5);
/// Most of an answer that is read: its first line is what counts.
const ANSWER_BYTES_MAX: u64 = 64;
/// Records of TLS (RFC 8446, section 5.1).
const ALERT: u8 = 21;

/// Why the door could not be tested.
#[derive(Debug, Error)]
pub(crate) enum ProbeError {
    /// Nobody answers.
    #[error("the metrics' door does not answer: {0}")]
    Silent(#[from] io::Error),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The TLS engine.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It answers, but not with metrics.
    #[error("the metrics' door answered its own reader with `{0}`")]
    Unexpected(String),
    /// Its certificate cannot be read.
    #[error("the certificate of the metrics' door cannot be read")]
    Certificate,
}

/// Tests the door at an address.
///
/// # Errors
/// When it does not answer as a door.
pub(crate) async fn door(
    console: &Console,
    at: SocketAddr,
    auth: MetricsAuth,
) -> Result<MetricsDoor, ProbeError> {
    let keys = Keyring::of(console, auth)?;
    let knock = |keys: Arc<ClientConfig>, token: Option<String>| visit(console, at, keys, token);
    let (answer, agreed) = knock(keys.with, keys.token).await?;
    if !answer.starts_with("HTTP/1.1 200 ") {
        return Err(ProbeError::Unexpected(answer));
    }
    let is_refused = |answer: Result<(String, Agreed), ProbeError>| match (auth, answer) {
        // The refusal of a certificate is an alert, and nothing of HTTP.
        (MetricsAuth::MutualTls, Ok((answer, _))) => answer.is_empty(),
        (MetricsAuth::Token, Ok((answer, _))) => answer.starts_with("HTTP/1.1 401 "),
        (_, Err(error)) => matches!(error, ProbeError::Silent(_)),
    };
    let stranger = match knock(keys.without, None).await {
        // Nobody was refused who was not answered.
        Err(ProbeError::Silent(error)) if is_silence(&error) => return Err(error.into()),
        stranger => stranger,
    };
    let stranger_refused = is_refused(stranger);
    let tls13_only = speaks_no_tls12(console, at).await?;
    Ok(MetricsDoor::Open(Door {
        tls13_only,
        stranger_refused,
        client_certificate: auth == MetricsAuth::MutualTls,
        suite: agreed.suite,
        group: agreed.group,
        not_after: agreed.not_after.min(keys.authority_ends),
    }))
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::ConnectionRefused)
}

/// What the test knocks with.
struct Keyring {
    with: Arc<ClientConfig>,
    without: Arc<ClientConfig>,
    token: Option<String>,
    authority_ends: Timestamp,
}

impl Keyring {
    fn of(console: &Console, auth: MetricsAuth) -> Result<Self, ProbeError> {
        let keys = console.keys.borrow();
        let own = (auth == MetricsAuth::MutualTls).then(|| keys.own());
        Ok(Keyring {
            with: tls::reader(keys.authority()?, own)?,
            without: tls::reader(keys.authority()?, None)?,
            token: (auth == MetricsAuth::Token).then(|| keys.own_token().to_owned()),
            authority_ends: keys.authority_ends(),
        })
    }
}

/// What a handshake agreed on.
struct Agreed {
    suite: String,
    group: String,
    not_after: Timestamp,
}

/// One visit as any reader would make it; gives the first letters of the answer.
async fn visit(
    console: &Console,
    at: SocketAddr,
    keys: Arc<ClientConfig>,
    token: Option<String>,
) -> Result<(String, Agreed), ProbeError> {
    let stream = connect(console, at).await?;
    let attempt = async {
        let name = ServerName::IpAddress(at.ip().into());
        let mut stream = TlsConnector::from(keys).connect(name, stream).await?;
        let agreed = agreed(&stream)?;
        let answer = ask(&mut stream, at, token).await;
        Ok((answer, agreed))
    };
    timeout(ATTEMPT_WAIT, attempt).await.unwrap_or_else(|_| Err(slow()))
}

/// Asks for the head of the page; a refusal is an empty answer.
async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    at: SocketAddr,
    token: Option<String>,
) -> String {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("HEAD /metrics HTTP/1.1\r\nHost: {at}\r\n{token}Connection: close\r\n\r\n");
    let mut bytes = Vec::new();
    if stream.write_all(request.as_bytes()).await.is_ok() {
        // The door's alert comes as an error of reading; what came before it is what was answered.
        let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned()
}

fn agreed(stream: &TlsStream<TcpStream>) -> Result<Agreed, ProbeError> {
    let (_, connection) = stream.get_ref();
    let suite = connection.negotiated_cipher_suite().ok_or(ProbeError::Certificate)?;
    let group = connection.negotiated_key_exchange_group().ok_or(ProbeError::Certificate)?;
    let certificate = connection.peer_certificates().and_then(<[_]>::first).ok_or(ProbeError::Certificate)?;
    Ok(Agreed {
        suite: format!("{:?}", suite.suite()),
        group: format!("{:?}", group.name()),
        not_after: not_after(certificate).ok_or(ProbeError::Certificate)?,
    })
}

/// When a certificate ends, as it says itself.
fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let since_epoch = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Timestamp::from_second(i64::try_from(since_epoch.as_secs()).ok()?).ok()
}

/// Greets with TLS 1.2 and nothing newer; the door must answer with an alert, or not at all.
pub(crate) async fn speaks_no_tls12(console: &Console, at: SocketAddr) -> Result<bool, ProbeError> {
    let mut stream = connect(console, at).await?;
    let attempt = async {
        stream.write_all(&hello_of_tls12(&tls::random()?)).await?;
        let mut answer = Vec::new();
        // A reset after the alert takes nothing from what was read.
        let _ = (&mut stream).take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
        Ok(answer.first().is_none_or(|kind| *kind == ALERT))
    };
    timeout(ATTEMPT_WAIT, attempt).await.unwrap_or_else(|_| Err(slow()))
}

/// A ClientHello as TLS 1.2 has it (RFC 5246, section 7.4.1.2): suites and curves that any server of TLS 1.2 would take,
/// and no word of newer versions.
fn hello_of_tls12(random: &[u8; 32]) -> Vec<u8> {
    const SUITES: [u16; 4] = [0xc02b, 0xc02f, 0xc02c, 0xc030];
    let groups: [u8; 10] = [0x00, 0x0a, 0x00, 0x06, 0x00, 0x04, 0x00, 0x1d, 0x00, 0x17];
    let points: [u8; 6] = [0x00, 0x0b, 0x00, 0x02, 0x01, 0x00];
    let signatures: [u8; 12] = [0x00, 0x0d, 0x00, 0x08, 0x00, 0x06, 0x04, 0x03, 0x08, 0x04, 0x04, 0x01];
    let extensions = [&groups[..], &points, &signatures].concat();
    let suites: Vec<u8> = SUITES.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let version = [0x03, 0x03];
    let body = [
        &version[..],
        random,
        &[0],
        &length(suites.len()),
        &suites,
        &[1, 0],
        &length(extensions.len()),
        &extensions,
    ]
    .concat();
    let hello = [&[0x01, 0x00][..], &length(body.len()), &body].concat();
    [&[0x16][..], &version, &length(hello.len()), &hello].concat()
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

fn slow() -> ProbeError {
    ProbeError::Silent(std::io::ErrorKind::TimedOut.into())
}

/// A connection that the door knows as the console's own: the test counts as no visit.
async fn connect(console: &Console, at: SocketAddr) -> Result<TcpStream, ProbeError> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Bound before it connects, so that the door cannot see it before it is known.
    socket.bind(SocketAddr::new(at.ip(), 0))?;
    console.expect_own(socket.local_addr()?);
    let connected = timeout(ATTEMPT_WAIT, socket.connect(at)).await;
    Ok(connected.map_err(|_| slow())??)
}
