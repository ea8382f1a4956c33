//! The maintenance door: open while the policy in force has one, shown with a certificate that core signed, for those
//! whom core names. Whoever is no longer named is out at once.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gateway::wire::doors::{DoorsAnswer, DoorsAsk, Engineers, PublicKey};
use policy::services::EdgeMaintenance;
use tokio::sync::watch;
use tokio::time::Instant;
use transport::credentials::read_certificate;
use transport::{Credentials, Engineer, FreshKey, Guests, KeyId, Listener};

use super::{Shared, visit};
use crate::console::shelf::Shelf;
use crate::notify::every;

/// How often core is asked who may come in.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the list holds when core does not answer.
const LIST_HOLDS: Duration = Duration::from_secs(30);
/// How often the door's certificate is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(12 * 3600);
/// The door's key in the state directory.
const KEY_FILE: &str = "door-key.json";

/// The door's key, made at the first start. It never leaves this directory.
pub(super) fn key(shelf: &Shelf) -> anyhow::Result<String> {
    if let Some(kept) = shelf.read::<String>(KEY_FILE)? {
        FreshKey::from_pem(&kept)?;
        return Ok(kept);
    }
    let made = FreshKey::make()?.pem().to_string();
    shelf.write(KEY_FILE, &made)?;
    Ok(made)
}

/// The door's state.
struct Door {
    shared: Arc<Shared>,
    key_pem: String,
    settings: watch::Receiver<Option<EdgeMaintenance>>,
    listener: Option<(u16, Listener)>,
    certified_at: Option<Instant>,
    heard_at: Instant,
    was_told: bool,
}

/// Keeps the door as the settings say, for ever.
pub(super) async fn keep(
    shared: Arc<Shared>,
    key_pem: String,
    settings: watch::Receiver<Option<EdgeMaintenance>>,
) {
    let list = Arc::clone(&shared);
    let mut door = Door {
        shared,
        key_pem,
        settings,
        listener: None,
        certified_at: None,
        heard_at: Instant::now(),
        was_told: false,
    };
    let mut look = every(LOOK_EVERY);
    loop {
        tokio::select! {
            arrival = next(&mut door.listener) => match arrival {
                Some(arrival) => drop(tokio::spawn(visit::receive(Arc::clone(&door.shared), arrival))),
                None => door.listener = None,
            },
            _ = look.tick() => door.look().await,
            () = list.list_wanted.notified() => door.look().await,
        }
    }
}

async fn next(listener: &mut Option<(u16, Listener)>) -> Option<transport::Arrival> {
    match listener {
        Some((_, listener)) => listener.accept().await,
        None => std::future::pending().await,
    }
}

impl Door {
    async fn look(&mut self) {
        let wanted = self.settings.borrow().clone();
        let Some(wanted) = wanted else {
            if self.listener.take().is_some() {
                tracing::info!("the policy has no maintenance door any more");
            }
            self.shared.guests.replace(Guests::default());
            self.shared.expel();
            return;
        };
        match self.refresh(&wanted).await {
            Ok(()) => {
                self.heard_at = Instant::now();
                self.was_told = false;
            }
            Err(error) => {
                if !self.was_told {
                    tracing::warn!(error = format!("{error:#}"), "the maintenance door is not up to date");
                    self.was_told = true;
                }
                if self.heard_at.elapsed() > LIST_HOLDS {
                    self.shared.guests.replace(Guests::default());
                }
            }
        }
        self.shared.expel();
    }

    /// Brings certificate, list and listener up to date.
    async fn refresh(&mut self, wanted: &EdgeMaintenance) -> anyhow::Result<()> {
        if self.certified_at.is_none_or(|at| at.elapsed() > RENEW_EVERY) {
            let credentials = Arc::new(self.certify().await?);
            if let Some((_, listener)) = &self.listener {
                listener.renew(&credentials)?;
            }
            self.shared.show(credentials);
            self.certified_at = Some(Instant::now());
        }
        let engineers = match self.shared.doors.ask(DoorsAsk::Engineers {}).await? {
            DoorsAnswer::Engineers(engineers) => engineers,
            _ => anyhow::bail!("core does not say who may come in"),
        };
        let guests = guests(&engineers, wanted)?;
        if *self.shared.guests.current() != guests {
            self.shared.guests.replace(guests);
        }
        self.listen(wanted.port)
    }

    async fn certify(&self) -> anyhow::Result<Credentials> {
        let key = FreshKey::from_pem(&self.key_pem)?;
        let ask = DoorsAsk::Certify { key: PublicKey::try_from(key.spki().to_vec())? };
        match self.shared.doors.ask(ask).await? {
            DoorsAnswer::Certificate { chain_pem } => Ok(key.with_chain(&chain_pem)?),
            DoorsAnswer::Failed(fault) => anyhow::bail!("core signs no certificate: {}", fault.message),
            _ => anyhow::bail!("core signs no certificate"),
        }
    }

    fn listen(&mut self, port: u16) -> anyhow::Result<()> {
        if self.listener.as_ref().is_some_and(|(at, _)| *at == port) {
            return Ok(());
        }
        let credentials = self.shared.credentials();
        let credentials = credentials.ok_or_else(|| anyhow::anyhow!("the door has no certificate yet"))?;
        // The former one first: it may be in the way.
        self.listener = None;
        let bind = |address| Listener::bind(address, &credentials, &self.shared.guests);
        let listener = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
            // A kernel without IPv6.
            .or_else(|_| bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))?;
        tracing::info!(port, "the maintenance door is open");
        self.shared.count_at(&listener);
        self.listener = Some((port, listener));
        Ok(())
    }
}

/// The list as core and the policy say it.
fn guests(said: &Engineers, wanted: &EdgeMaintenance) -> anyhow::Result<Guests> {
    let key = |key: &gateway::wire::doors::KeyId| KeyId::try_from(key.to_string());
    let mut guests = Guests { authority: Some(read_certificate(&said.authority_pem)?), ..Guests::default() };
    for vendor in &wanted.vendors {
        let Some(pem) = &vendor.ca_pem else { continue };
        match read_certificate(pem) {
            Ok(authority) => drop(guests.vendors.insert(vendor.name.clone(), authority)),
            // One that cannot be read vouches for nobody, and keeps nobody else out.
            Err(error) => tracing::warn!(%error, "a vendor's certificate authority cannot be read"),
        }
    }
    for engineer in &said.enrolled {
        let listed = Engineer {
            vendor: engineer.vendor.clone(),
            name: engineer.name.clone(),
            not_after: engineer.not_after,
        };
        guests.engineers.insert(key(&engineer.key)?, listed);
    }
    for barred in &said.barred {
        guests.barred.insert(key(barred)?);
    }
    for invitation in &said.invitations {
        guests.invitations.insert(key(&invitation.key)?);
    }
    Ok(guests)
}
