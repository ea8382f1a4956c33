//! A guest's visit: from the handshake to the end of the channel, stream by stream.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use transport::frame::{self, FrameError};
use transport::protocol::Opening;
use transport::{Arrival, Channel, KeyId, Quality, Stream};

use super::{Shared, Visit, control, forward, send};

/// How long somebody with an invitation may stay.
const INVITED_MAX: Duration = Duration::from_secs(60);

/// Who came in.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) key: KeyId,
    /// The public key that finished the handshake (SubjectPublicKeyInfo, DER).
    pub(super) spki: Vec<u8>,
    pub(super) quality: Quality,
}

/// Receives a guest until the channel ends.
pub(super) async fn receive(shared: Arc<Shared>, arrival: Arrival) {
    let Arrival { channel, identity, place } = arrival;
    // The list may have changed since the handshake.
    let admitted =
        shared.guests.current().admit(&identity.certificate, &identity.intermediates, Timestamp::now());
    let Ok(quality) = admitted else { return channel.close() };
    let (key, spki) = (identity.key_id.clone(), identity.spki.clone());
    tracing::info!(%key, carrier = channel.carrier().word(), "a guest came in");
    let is_invited = quality == Quality::Invited;
    let guest = Arc::new(Guest { key, spki, quality });
    if is_invited {
        // Whoever enrols is quick; an invitation holds no place for long. That it is used up, and so off the list, must not
        // end the channel before the certificate has gone out.
        drop(timeout(INVITED_MAX, take_streams(&shared, &guest, &channel)).await);
    } else {
        let number =
            shared.enter(Visit { identity, quality: guest.quality.clone(), channel: channel.clone() });
        let presence = shared.books.arrive(&guest.key);
        take_streams(&shared, &guest, &channel).await;
        drop(presence);
        shared.leave(number);
    }
    channel.close();
    tracing::info!(key = %guest.key, "a guest left");
    drop(place);
}

async fn take_streams(shared: &Arc<Shared>, guest: &Arc<Guest>, channel: &Channel) {
    while let Ok(stream) = channel.accept().await {
        let (shared, guest) = (Arc::clone(shared), Arc::clone(guest));
        tokio::spawn(async move {
            if let Err(error) = attend(&shared, &guest, stream).await {
                tracing::debug!(%error, key = %guest.key, "a stream came to nothing");
            }
        });
    }
}

async fn attend(shared: &Shared, guest: &Guest, mut stream: Stream) -> Result<(), FrameError> {
    match frame::read(&mut stream).await {
        Ok(Opening::Control { version }) => control::control(shared, guest, version, stream).await,
        Ok(Opening::Forward { session }) => {
            forward::forward(shared, &guest.key, session.as_str(), stream).await;
            Ok(())
        }
        Ok(Opening::Send(announcement)) => send::send(shared, guest, announcement, stream).await,
        Err(error) => {
            stream.reset();
            Err(error)
        }
    }
}
