//! What must hold between the admin's wish and the kernel's rules, as a state machine without IO, clock or randomness.
//! A shell carries out the [`Command`]s, one at a time, and brings back what really happened.
//!
//! The journey of a policy: asked for -> durable candidate -> in the kernel -> *read back equal* -> durable as the last
//! applied -> acknowledged. Whatever fails on the way leads back to the last applied policy, and when that fails too, to
//! the closed state. Nothing is called applied that was not read back equal.
//!
//! - [`clock`]: an effective time that never runs backwards on its own, and whether it is trusted.
//! - [`live`]: which marks carry packets now, with ends that never move later because a clock was set back.
//! - [`machine`]: the states and the six verbs.

pub mod clock;
pub mod live;
pub mod machine;

pub use clock::{Clock, Jump, Now};
pub use live::{Desired, LiveSet};
pub use machine::{Command, Enforcer, Event, Failure, Order, Outcome, RequestError, Standing, Step, Ticket};
