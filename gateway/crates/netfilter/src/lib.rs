//! nf_tables over netlink: a typed rule set out in one transaction, the kernel's rules back as the same types.
//! Writing goes through libnftnl, reading through a decoder of our own, so a fault of one cannot hide in the other.
//!
//! The layers, lowest first; each knows only those above it in this list:
//! - `value`, `attr`: names, registers, data; netlink attributes of untrusted length.
//! - [`expr`], [`object`]: what a rule and a table are made of. What they cannot say, this crate cannot send.
//! - [`Batch`] and [`Connection`]: one transaction out, one answer back, each failure with the caller's own tag.
//! - [`dump`]: the kernel's state, consistent with one generation.
//! - [`nflog`], [`conntrack`]: bind a log group, or the events of connections, and read them. [`probe`]: what the running
//!   kernel can do.
//! - [`lower`], [`delta`], [`Netfilter`], [`verify`]: the policy's neutral rule set into the kernel and back. Only these
//!   know the `policy` crate.
//!
//! All `unsafe` code is in the private module `sys`.

mod apply;
mod attr;
mod batch;
pub mod conntrack;
pub mod delta;
pub mod dump;
mod error;
pub mod expr;
pub mod grants;
mod kernel;
mod live;
pub mod lower;
pub mod nflog;
pub mod object;
pub mod probe;
mod socket;
mod sys;
mod value;
pub mod verify;

pub use apply::{Applied, ApplyError, GrantEnder, Netfilter, RefusedFlow};
pub use batch::{BATCH_MAX_BYTES, BATCH_MAX_MESSAGES, Batch, BatchError, Mode, Origin};
pub use error::{NetlinkError, Refusal};
pub use expr::Expr;
pub use grants::{Grant, GrantError, GrantProtocol, GrantSet};
pub use live::{LIFE_MAX, LiveSet, RETIME_MIN, Running};
pub use rustix::io::Errno;
pub use socket::{Committed, Connection};
pub use value::{
    DATA_MAX_BYTES, Data, DataError, IFNAME_BYTES, IfName, NAME_MAX_BYTES, Name, NameError, Register,
};
pub use verify::{Difference, Subject};
