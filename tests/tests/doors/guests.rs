//! Those at the maintenance door who may not come in, and those who may and ask for what is not theirs.
use std::{fs, net::SocketAddr, path::Path, time::Duration};

use gateway::wire::doors::SessionId as CoreSessionId;
use lab::Host;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, date_time_ymd,
};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use transport::{
    Carrier, Channel, Credentials, Dialled, FreshKey, Invitation, Pin, Wish, dial, frame,
    protocol::{Announcement, Ask, Opening, Reply, SessionId, VERSION},
};

const LIMIT: Duration = Duration::from_secs(20);
const TRIES: usize = 20;

/// Whose certificates are believed, or not.
pub(crate) struct Authority {
    name: String,
    key: String,
    certificate: String,
}

impl Authority {
    /// One that the clinic never heard of.
    pub(crate) fn foreign() -> Self {
        let (name, key) = ("another clinic".to_owned(), KeyPair::generate_for(&PKCS_ED25519).unwrap());
        let certificate = params(&name).self_signed(&key).unwrap().pem();
        Self { name, key: key.serialize_pem(), certificate }
    }

    /// The clinic's own, as whoever stole core's state directory has it.
    pub(crate) fn stolen(state: &Path) -> Self {
        let kept: Value = serde_json::from_slice(&fs::read(state.join("authority")).unwrap()).unwrap();
        let text = |field: &str| kept[field].as_str().unwrap().to_owned();
        Self { name: text("name"), key: text("key"), certificate: text("certificate") }
    }

    /// A certificate for a key, good in these years.
    pub(crate) fn sign(&self, key: FreshKey, years: (i32, i32)) -> Credentials {
        let pair = KeyPair::from_pem(&key.pem()).unwrap();
        let issuer = Issuer::new(params(&self.name), KeyPair::from_pem(&self.key).unwrap());
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name.push(DnType::CommonName, "engineer");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf.not_before = date_time_ymd(years.0, 1, 1);
        leaf.not_after = date_time_ymd(years.1, 1, 1);
        let certificate = leaf.signed_by(&pair, &issuer).unwrap();
        key.with_chain(&format!("{}{}", certificate.pem(), self.certificate)).unwrap()
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
}

/// What an engineer's program keeps.
pub(crate) fn of_home(home: &Path) -> (Credentials, Pin) {
    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
    let credentials = key_of(home).with_chain(&read("chain.pem")).unwrap();
    let pin = Pin::Authority(credentials.authority().unwrap().clone());
    (credentials, pin)
}

/// An engineer's key, which the clinic has on its list.
pub(crate) fn key_of(home: &Path) -> FreshKey {
    FreshKey::from_pem(&fs::read_to_string(home.join("key.pem")).unwrap()).unwrap()
}

/// A key that certifies itself, as that of an invitation that nobody gave.
pub(crate) fn uninvited() -> Credentials {
    Credentials::invited(&Invitation::new([7; 16], b"no authority")).unwrap()
}

/// Whether somebody gets as far as a word of the gateway's.
pub(crate) fn is_welcome(
    host: &Host,
    door: SocketAddr,
    who: &Credentials,
    pin: &Pin,
    carrier: Carrier,
) -> bool {
    block_on(host, async {
        let whole = async {
            let dialled = dial(door, who, pin, Wish::Only(carrier)).await.ok()?;
            control(&dialled.channel).await
        };
        tokio::time::timeout(LIMIT, whole).await.ok().flatten().is_some()
    })
}

/// Comes in, if need be later: an address that came too often waits.
async fn come_in(door: SocketAddr, who: &Credentials, pin: &Pin, carrier: Carrier) -> Dialled {
    for _ in 0..TRIES {
        if let Ok(dialled) = dial(door, who, pin, Wish::Only(carrier)).await {
            return dialled;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{door} does not let an engineer in");
}

async fn control(channel: &Channel) -> Option<transport::Stream> {
    let mut stream = channel.open().await.ok()?;
    frame::write(&mut stream, &Opening::Control { version: VERSION }).await.ok()?;
    matches!(frame::read::<Reply>(&mut stream).await, Ok(Reply::Welcome { .. })).then_some(stream)
}

/// Asks, on one channel, over and over for ways into sessions that are not open, or not his; gives how often. Each has to
/// be refused with this word.
pub(crate) fn lies(
    host: &Host,
    door: SocketAddr,
    (who, pin): (&Credentials, &Pin),
    carrier: Carrier,
    sessions: &[(CoreSessionId, &str)],
    rounds: usize,
) -> usize {
    let mut count = 0;
    block_on(host, async {
        let dialled = come_in(door, who, pin, carrier).await;
        let mut control = control(&dialled.channel).await.unwrap();
        for _ in 0..rounds {
            for (session, word) in sessions {
                let session = SessionId::try_from(session.to_string()).unwrap();
                for opening in
                    [Opening::Forward { session: session.clone() }, Opening::Send(announced(&session))]
                {
                    let mut stream = dialled.channel.open().await.unwrap();
                    frame::write(&mut stream, &opening).await.unwrap();
                    assert_refused(&frame::read(&mut stream).await.unwrap(), word);
                    count += 1;
                }
                if *word == "no-such-session" {
                    frame::write(&mut control, &Ask::Follow { session, seen: 0 }).await.unwrap();
                    assert_refused(&frame::read(&mut control).await.unwrap(), word);
                    count += 1;
                }
            }
        }
        dialled.channel.finish().await;
    });
    count
}

/// What became of something said.
#[derive(Debug)]
pub(crate) enum Told {
    /// The stream ended without a word.
    Nothing,
    /// The last word.
    Word(String),
}

/// Opens a stream with exactly this frame, and sends bytes where the gateway wants some; gives its last word.
pub(crate) fn raw(
    host: &Host,
    door: SocketAddr,
    (who, pin): (&Credentials, &Pin),
    carrier: Carrier,
    opening: &str,
    bytes: &[u8],
) -> Told {
    let length = u32::try_from(opening.len()).unwrap().to_be_bytes();
    block_on(host, async {
        let dialled = come_in(door, who, pin, carrier).await;
        let mut stream = dialled.channel.open().await.unwrap();
        stream.write_all(&[&length, opening.as_bytes()].concat()).await.unwrap();
        stream.flush().await.unwrap();
        let mut told = Told::Nothing;
        let mut is_sent = false;
        while let Ok(Ok(reply)) = tokio::time::timeout(LIMIT, frame::read::<Reply>(&mut stream)).await {
            if matches!(reply, Reply::Sending {}) && !is_sent {
                is_sent = true;
                // The gateway may have heard enough before the last byte.
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
                continue;
            }
            told = Told::Word(format!("{reply:?}").to_lowercase());
            break;
        }
        dialled.channel.finish().await;
        told
    })
}

fn assert_refused(reply: &Reply, wanted: &str) {
    assert!(matches!(reply, Reply::Refused(refusal) if refusal.word == wanted), "{wanted}: {reply:?}");
}

fn announced(session: &SessionId) -> Announcement {
    Announcement {
        session: session.clone(),
        name: "a.txt".to_owned().try_into().unwrap(),
        size: 5,
        sha256: "0".repeat(64).try_into().unwrap(),
        attestation: None,
    }
}

fn block_on<T: Send>(host: &Host, work: impl Future<Output = T> + Send) -> T {
    host.run_in(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    })
    .unwrap()
}
