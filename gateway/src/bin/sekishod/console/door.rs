//! The metrics' door: listens where the settings say, speaks TLS 1.3, lets readers in and nobody else.
//! A stranger learns nothing but the TLS alert; every refusal is counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use events::ScrapeRefusal;
use jiff::Timestamp;
use policy::model::MetricsAuth;
use policy::services::ConsoleMetrics;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Console;
use super::keys::{KeysError, Visitor};
use super::tls::{self, TlsError};
use super::visit;

/// Visitors at once, at all addresses together.
const VISITORS_MAX: usize = 8;
/// How long a handshake may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be taken, for want of descriptors most likely.
const ACCEPT_WAIT: Duration = Duration::from_millis(200);

/// Why the door does not open.
#[derive(Debug, Error)]
pub(crate) enum DoorError {
    /// By its keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// By the TLS engine.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The door as it stands.
#[derive(Debug)]
pub(crate) struct Door {
    listening: BTreeMap<SocketAddr, Listening>,
    /// Places of visitors, shared by all addresses.
    places: Arc<Semaphore>,
    /// What was last told of an address that cannot be listened on.
    told: BTreeMap<SocketAddr, String>,
}

impl Default for Door {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(VISITORS_MAX));
        Door { listening: BTreeMap::new(), places, told: BTreeMap::new() }
    }
}

#[derive(Debug)]
struct Listening {
    task: JoinHandle<()>,
    auth: MetricsAuth,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Door {
    /// Where it is open, and how readers prove who they are.
    pub(crate) fn open_at(&self) -> Option<(SocketAddr, MetricsAuth)> {
        self.listening.iter().map(|(address, listening)| (*address, listening.auth)).next()
    }

    /// Opens and closes so that it listens where the settings say; an address that is not there yet is tried again.
    ///
    /// # Errors
    /// When its certificate cannot be made: it is then closed.
    pub(crate) async fn settle(
        &mut self,
        console: &Rc<Console>,
        wanted: Option<&ConsoleMetrics>,
    ) -> Result<(), DoorError> {
        let Some(ConsoleMetrics { listen, auth }) = wanted else {
            self.listening.clear();
            return Ok(());
        };
        let addresses: Vec<IpAddr> = listen.iter().map(SocketAddr::ip).collect();
        let is_good = console.keys.borrow().door_serves(&addresses, Timestamp::now());
        self.listening.retain(|address, open| {
            is_good && listen.contains(address) && open.auth == *auth && !open.task.is_finished()
        });
        let closed: Vec<_> = listen.iter().filter(|address| !self.listening.contains_key(address)).collect();
        if closed.is_empty() {
            return Ok(());
        }
        let acceptor = acceptor(console, &addresses, *auth)?;
        for address in closed {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    tracing::info!(%address, "the metrics' door is open");
                    self.told.remove(address);
                    let task = listen_on(Rc::clone(console), listener, acceptor.clone(), *auth, &self.places);
                    self.listening.insert(*address, Listening { task, auth: *auth });
                }
                Err(error) => self.tell(*address, &error),
            }
        }
        Ok(())
    }

    fn tell(&mut self, address: SocketAddr, error: &std::io::Error) {
        let text = error.to_string();
        if self.told.insert(address, text.clone()).as_ref() != Some(&text) {
            tracing::warn!(%address, error = text, "the metrics' door cannot open yet; it is tried again");
        }
    }
}

/// The TLS side, with a certificate that is good for some time.
fn acceptor(console: &Console, addresses: &[IpAddr], auth: MetricsAuth) -> Result<TlsAcceptor, DoorError> {
    let mut keys = console.keys.borrow_mut();
    let own = keys.door(addresses, Timestamp::now())?;
    let readers = match auth {
        MetricsAuth::MutualTls => Some(keys.authority()?),
        MetricsAuth::Token => None,
    };
    Ok(TlsAcceptor::from(tls::door(&own, readers)?))
}

fn listen_on(
    console: Rc<Console>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    auth: MetricsAuth,
    places: &Arc<Semaphore>,
) -> JoinHandle<()> {
    let places = Arc::clone(places);
    spawn_local(async move {
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(ACCEPT_WAIT).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                console.refuse(from, ScrapeRefusal::Busy);
                continue;
            };
            let (console, acceptor) = (Rc::clone(&console), acceptor.clone());
            spawn_local(async move {
                receive(&console, stream, from, &acceptor, auth).await;
                drop(place);
            });
        }
    })
}

async fn receive(
    console: &Rc<Console>,
    stream: TcpStream,
    from: SocketAddr,
    acceptor: &TlsAcceptor,
    auth: MetricsAuth,
) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE_WAIT, acceptor.accept(stream)).await else {
        return console.refuse(from, ScrapeRefusal::Handshake);
    };
    match auth {
        // The engine has checked who signed the certificate; whether it still counts is known here.
        MetricsAuth::MutualTls if shown(console, &stream) == Visitor::Stranger => {
            console.refuse(from, ScrapeRefusal::Handshake);
        }
        MetricsAuth::MutualTls | MetricsAuth::Token => visit::serve(console, stream, from, auth).await,
    }
}

/// Who the visitor is by its certificate.
fn shown(console: &Console, stream: &TlsStream<TcpStream>) -> Visitor {
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    certificate.map_or(Visitor::Stranger, |certificate| console.keys.borrow().visitor(certificate))
}
