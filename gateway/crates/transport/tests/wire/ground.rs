//! A clinic's authority, gateways and engineers for the tests, and an echo at the door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::{
    Carrier, Counters, Credentials, Engineer, FreshKey, GuestList, Guests, KeyId, Listener, Pin, Wish, dial,
};

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
    pem: String,
}

/// What a leaf says.
pub(crate) struct Leaf {
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) name: &'static str,
    pub(crate) years: (i32, i32),
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap();
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Authority { issuer: Issuer::new(params, key), certificate: der, pem }
    }

    /// One that this one signed, and that may sign others, or says that it may not.
    pub(crate) fn under(&self, name: &str, is_ca: IsCa) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = is_ca;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pem = format!("{}{}", certificate.pem(), self.pem);
        Authority { issuer: Issuer::new(params, key), certificate: certificate.der().clone(), pem }
    }

    /// Credentials of a fresh key, as the leaf says.
    pub(crate) fn sign(&self, leaf: &Leaf) -> Credentials {
        self.sign_key(FreshKey::make().unwrap(), leaf)
    }

    pub(crate) fn sign_key(&self, key: FreshKey, leaf: &Leaf) -> Credentials {
        let pair = KeyPair::from_pem(&key.pem()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, leaf.name);
        params.subject_alt_names = vec![SanType::DnsName(leaf.name.try_into().unwrap())];
        params.extended_key_usages = leaf.usages.clone();
        params.not_before = date_time_ymd(leaf.years.0, 1, 1);
        params.not_after = date_time_ymd(leaf.years.1, 1, 1);
        let certificate = params.signed_by(&pair, &self.issuer).unwrap();
        key.with_chain(&format!("{}{}", certificate.pem(), self.pem)).unwrap()
    }

    pub(crate) fn gateway(&self) -> Credentials {
        self.sign(&Leaf {
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
            name: "sekisho-gateway",
            years: (2020, 2090),
        })
    }

    pub(crate) fn engineer(&self) -> Credentials {
        self.sign(&engineer_leaf())
    }

    pub(crate) fn pin(&self) -> Pin {
        Pin::Authority(self.certificate.clone())
    }
}

pub(crate) fn engineer_leaf() -> Leaf {
    Leaf { usages: vec![ExtendedKeyUsagePurpose::ClientAuth], name: "engineer", years: (2020, 2090) }
}

pub(crate) fn key_id(credentials: &Credentials) -> KeyId {
    let chain = transport::credentials::read_chain(&format!(
        "{}{}",
        credentials.chain_pem(),
        // An invitation's chain is one certificate long.
        credentials.chain_pem()
    ))
    .unwrap();
    let leaf = webpki::EndEntityCert::try_from(&chain[0]).unwrap();
    KeyId::of_spki(&leaf.subject_public_key_info())
}

pub(crate) fn listed(vendor: &str) -> Engineer {
    Engineer {
        vendor: vendor.to_owned(),
        name: "Suzuki".to_owned(),
        not_after: "2089-01-01T00:00:00Z".parse().unwrap(),
    }
}

/// A door that echoes every stream of whoever comes in.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) counters: Arc<Counters>,
    pub(crate) guests: GuestList,
    _task: tokio::task::JoinHandle<()>,
}

pub(crate) fn echo(gateway: &Credentials, guests: Guests) -> Echo {
    let list = GuestList::default();
    list.replace(guests);
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), gateway, &list).unwrap();
    let (address, counters) = (listener.address(), listener.counters());
    let task = tokio::spawn(async move {
        while let Some(arrival) = listener.accept().await {
            tokio::spawn(async move {
                while let Ok(stream) = arrival.channel.accept().await {
                    tokio::spawn(async move {
                        let (mut read, mut write) = tokio::io::split(stream);
                        let _ = tokio::io::copy(&mut read, &mut write).await;
                        let _ = write.shutdown().await;
                    });
                }
                drop(arrival.place);
            });
        }
    });
    Echo { address, counters, guests: list, _task: task }
}

/// Whether somebody comes in, so far that a word comes back.
pub(crate) async fn comes_in(
    address: SocketAddr,
    who: &Credentials,
    pin: &Pin,
    carrier: Carrier,
) -> Result<(), String> {
    let whole = async {
        let dialled = dial(address, who, pin, Wish::Only(carrier)).await.map_err(|e| e.to_string())?;
        let mut stream = dialled.channel.open().await.map_err(|e| e.to_string())?;
        stream.write_all(b"word").await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.map_err(|e| e.to_string())?;
        if &back == b"word" { Ok(()) } else { Err("another word".to_owned()) }
    };
    tokio::time::timeout(Duration::from_secs(20), whole).await.unwrap_or(Err("no answer".to_owned()))
}
