//! The channel to the clinic's gateway, and questions on it.

use std::net::SocketAddr;

use tokio::net::lookup_host;
use transport::frame::{self, FrameError};
use transport::protocol::{Ask, Opening, Reply, SessionId, Standing, VERSION};
use transport::receipt::{Receipt, SignedReceipt};
use transport::{Carrier, Channel, Credentials, Dialled, Pin, Stream, Wish, dial};

use crate::args::Transport;
use crate::error::VendorError;
use crate::home::Home;

/// Addresses of the gateway's name that are tried.
const ADDRESSES_MAX: usize = 4;

/// A channel with its control stream.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) channel: Channel,
    control: Stream,
}

impl Client {
    /// Connects as the engineer of this home.
    pub(crate) async fn connect(home: &Home, transport: Transport) -> Result<Self, VendorError> {
        let (gateway, credentials, pin) = home.credentials()?;
        let dialled = reach(&gateway, &credentials, &pin, transport).await?;
        Client::begin(dialled.channel).await
    }

    /// Opens the control stream.
    pub(crate) async fn begin(channel: Channel) -> Result<Self, VendorError> {
        // The gateway judges our certificate after our side of the handshake is done: its no comes here.
        let not_admitted = |why: String| VendorError::NotAdmitted(why);
        let mut control = channel.open().await.map_err(|error| not_admitted(error.to_string()))?;
        let hello = async {
            frame::write(&mut control, &Opening::Control { version: VERSION }).await?;
            frame::read::<Reply>(&mut control).await
        };
        match hello.await {
            Ok(Reply::Welcome { version: VERSION }) => Ok(Client { channel, control }),
            Ok(Reply::Refused(refusal)) => Err(VendorError::Refused(refusal)),
            Ok(_) => Err(VendorError::Confused),
            Err(error @ (FrameError::Io(_) | FrameError::Ended)) => Err(not_admitted(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// One question.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<Reply, VendorError> {
        frame::write(&mut self.control, ask).await?;
        match frame::read(&mut self.control).await? {
            Reply::Refused(refusal) => Err(VendorError::Refused(refusal)),
            reply => Ok(reply),
        }
    }

    /// How a session stands, once its revision is above `seen`, or after a few seconds.
    pub(crate) async fn follow(&mut self, session: &SessionId, seen: u32) -> Result<Standing, VendorError> {
        match self.ask(&Ask::Follow { session: session.clone(), seen }).await? {
            Reply::Standing(standing) => Ok(standing),
            _ => Err(VendorError::Confused),
        }
    }

    /// Ends a session.
    pub(crate) async fn end(&mut self, session: &SessionId) -> Result<(), VendorError> {
        match self.ask(&Ask::End { session: session.clone() }).await? {
            Reply::Ended {} => Ok(()),
            _ => Err(VendorError::Confused),
        }
    }

    /// The receipt of a session, checked.
    pub(crate) async fn receipt(
        &mut self,
        home: &Home,
        session: &SessionId,
    ) -> Result<(SignedReceipt, Receipt), VendorError> {
        match self.ask(&Ask::Receipt { session: session.clone() }).await? {
            Reply::Receipt(signed) => {
                let receipt = signed.verify(&home.authority()?)?;
                Ok((*signed, receipt))
            }
            _ => Err(VendorError::Confused),
        }
    }
}

/// A channel to the gateway of this name.
pub(crate) async fn reach(
    gateway: &str,
    credentials: &Credentials,
    pin: &Pin,
    transport: Transport,
) -> Result<Dialled, VendorError> {
    let wish = match transport {
        Transport::Auto => Wish::Auto,
        Transport::Quic => Wish::Only(Carrier::Quic),
        Transport::Tcp => Wish::Only(Carrier::Tcp),
    };
    let name = |source| VendorError::Name { gateway: gateway.to_owned(), source };
    let addresses: Vec<SocketAddr> = lookup_host(gateway).await.map_err(name)?.take(ADDRESSES_MAX).collect();
    let mut outcome = Err(VendorError::NoAddress(gateway.to_owned()));
    for address in addresses {
        outcome = dial(address, credentials, pin, wish).await.map_err(VendorError::from);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
