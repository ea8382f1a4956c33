//! What must hold between a vendor's request and the end of his work, as a state machine without IO, clock or randomness.
//! A shell (core) carries out the [`Command`]s and brings back what really happened.
//!
//! The journey: requested -> approved by every role named, each by another person -> the recorder runs -> the kernel
//! grants -> open -> closed. A grant is never ordered before the recorder said that it runs; whatever ends a session
//! takes the grant away first. The clock counts the work, never the waiting for an answer or for a window.
//!
//! - [`ids`]: names of sessions, keys and requests. [`request`]: what is asked, and on which terms.
//! - [`approval`]: who says yes, and the second factor without which nobody can.
//! - [`machine`]: the states and the six verbs. [`refusal`]: every no, in words for people.

pub mod approval;
pub mod ids;
pub mod machine;
pub mod refusal;
pub mod request;

pub use approval::{Approval, Factor, Verifier};
pub use ids::{Digest, IdError, KeyId, SessionId};
pub use machine::{
    Command, End, EndReason, Event, Failure, Now, Order, RecorderFault, Revised, Session, Stand, State, Step,
};
pub use refusal::{ApprovalError, ConnectError, DenyError, RequestError};
pub use request::{Protocol, Request, Target, Terms};
