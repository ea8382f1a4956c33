//! The maintenance door on the wire: endpoints over QUIC and over TLS 1.3 on TCP with one identity for each side, channels
//! of many streams that look the same over both, and the protocol on them. It decides nothing: who may come in is the
//! caller's [`GuestList`], what is asked goes to the caller.
//!
//! - [`listen`], [`mod@dial`]: the gateway's and the vendor's side. [`channel`]: what both get.
//! - [`guests`], [`pin`]: who is believed. [`credentials`], [`invitation`], [`key`]: keys, certificates, one-time codes.
//! - [`frame`], [`protocol`], [`receipt`]: what is said. [`limits`]: every bound, and the counts at the door.

pub mod channel;
pub mod credentials;
pub mod dial;
pub mod frame;
pub mod guests;
pub mod invitation;
pub mod key;
pub mod limits;
pub mod listen;
mod mux;
pub mod pin;
pub mod protocol;
mod quic;
pub mod receipt;
mod sockets;
mod tls;
mod vouch;

pub use channel::{Carrier, Channel, ChannelError, Stream};
pub use credentials::{Credentials, CredentialsError, FreshKey};
pub use dial::{DialError, Dialled, Wish, dial};
pub use guests::{Engineer, GuestList, Guests, Quality};
pub use invitation::{AuthorityHash, Invitation, InvitationError};
pub use key::KeyId;
pub use limits::{Counters, Place};
pub use listen::{Arrival, Identity, ListenError, Listener};
pub use pin::Pin;
pub use tls::ALPN;
pub use vouch::Vouched;
