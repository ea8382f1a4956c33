//! A session held: its state is shown, and once it is open, a local address leads to its target. A line that breaks is
//! taken up again; the end of the session ends everything.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use transport::protocol::{Opening, Reply, SessionId, Standing, State};
use transport::{Channel, frame};

use crate::args::Transport;
use crate::client::Client;
use crate::error::VendorError;
use crate::home::Home;
use crate::say::Say;

/// Bytes on their way in each direction.
const BUFFER_BYTES: usize = 64 << 10;
/// How long a broken line is taken up again, and how long to wait between tries.
const TRIES_MAX: u32 = 20;
const TRY_EVERY: Duration = Duration::from_secs(2);

/// A session that is held.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) home: &'a Home,
    pub(crate) say: Say,
    pub(crate) transport: Transport,
    pub(crate) session: SessionId,
}

/// The local address, bound before anything is asked for.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, VendorError> {
    if !address.ip().is_loopback() {
        return Err(VendorError::NotLoopback(address.ip()));
    }
    TcpListener::bind(address).await.map_err(|source| VendorError::Listen { address, source })
}

impl Held<'_> {
    /// Holds the session until it is over; gives how it ended.
    pub(crate) async fn until_over(
        &self,
        mut client: Client,
        listener: &TcpListener,
    ) -> Result<(Client, Standing), VendorError> {
        let mut last: Option<Standing> = None;
        loop {
            match self.with(&mut client, listener, &mut last).await {
                Ok(over) => return Ok((client, over)),
                Err(VendorError::Refused(refusal)) => return Err(VendorError::Refused(refusal)),
                Err(error) => client = self.again(error).await?,
            }
        }
    }

    /// Holds it on one channel: shows what changes, forwards while it is open.
    async fn with(
        &self,
        client: &mut Client,
        listener: &TcpListener,
        last: &mut Option<Standing>,
    ) -> Result<Standing, VendorError> {
        loop {
            let channel = client.channel.clone();
            let seen = last.as_ref().map_or(0, |standing| standing.revision);
            let is_open = last.as_ref().is_some_and(|standing| standing.state == State::Open);
            let follow = client.follow(&self.session, seen);
            let standing = tokio::select! {
                standing = follow => standing?,
                never = self.forward_all(&channel, listener), if is_open => match never {},
            };
            if last.as_ref() != Some(&standing) {
                self.say.standing(&standing);
            }
            if standing.state.is_over() {
                return Ok(standing);
            }
            *last = Some(standing);
        }
    }

    async fn forward_all(&self, channel: &Channel, listener: &TcpListener) -> std::convert::Infallible {
        loop {
            match listener.accept().await {
                Ok((local, _)) => {
                    let (channel, session, say) = (channel.clone(), self.session.clone(), self.say);
                    tokio::spawn(async move {
                        if let Err(error) = forward(&channel, session, local).await {
                            say.error(&error);
                        }
                    });
                }
                // Out of descriptors, most likely.
                Err(_) => sleep(TRY_EVERY).await,
            }
        }
    }

    /// Takes a broken line up again.
    async fn again(&self, first: VendorError) -> Result<Client, VendorError> {
        let mut error = first;
        for _ in 0..TRIES_MAX {
            self.say.error(&error);
            sleep(TRY_EVERY).await;
            match Client::connect(self.home, self.transport).await {
                Ok(client) => return Ok(client),
                Err(again @ (VendorError::NotAdmitted(_) | VendorError::Refused(_))) => return Err(again),
                Err(again) => error = again,
            }
        }
        Err(error)
    }
}

/// One connection.
async fn forward(channel: &Channel, session: SessionId, mut local: TcpStream) -> Result<(), VendorError> {
    let mut stream = channel.open().await?;
    frame::write(&mut stream, &Opening::Forward { session }).await?;
    match frame::read(&mut stream).await? {
        Reply::Forwarding {} => {}
        Reply::Refused(refusal) => return Err(VendorError::Refused(refusal)),
        _ => return Err(VendorError::Confused),
    }
    // A broken connection is the program's to report, which sees it break.
    drop(local.set_nodelay(true));
    drop(copy_bidirectional_with_sizes(&mut local, &mut stream, BUFFER_BYTES, BUFFER_BYTES).await);
    Ok(())
}
