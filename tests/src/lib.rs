//! The lab: a clinic, its gateway and the internet in network namespaces of their own.
//!
//! Contract: what a `Lab` made is gone when it is dropped or its owner has ended, of whatever cause; nothing
//! of it is ever in the machine's own network. Nothing here knows Sekisho.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use lab::{Capture, Direction, Lab, Prober};
//!
//! # fn main() -> Result<(), lab::LabError> {
//! let mut lab = Lab::clinic()?;
//! lab.start_servers()?;
//! let (ct, pacs) = (lab.host("ct")?, lab.host("pacs")?);
//! let mut capture = Capture::start(lab.leg("ehr")?)?;
//! let prober = Prober::udp(ct, pacs, (pacs.v4()?, 5000).into(), 100)?;
//! // The gateway does not forward until somebody lets it.
//! assert_eq!(prober.stop(Duration::from_secs(1))?.received, 0);
//! let forwarded = |frame: &lab::Frame| {
//!     frame.direction == Direction::Out && frame.bytes.starts_with(&pacs.leg().mac())
//! };
//! assert!(capture.drain_filtered(forwarded)?.is_empty());
//! # Ok(())
//! # }
//! ```
mod calls;
mod clinic;
mod confinement;
mod echo;
mod error;
pub mod launch;
mod namespace;
mod packet;
mod picture;
mod plan;
mod probe;
mod raise;
mod registry;
mod role;
mod server;
mod spec;
mod topology;
mod unit;
pub mod vm;
mod wire;

pub use calls::named_calls;
pub use clinic::{GATEWAY_WAN_V4, GATEWAY_WAN_V6};
pub use confinement::{Confinement, Refusal};
pub use error::LabError;
pub use namespace::Namespace;
pub use packet::{Capture, Direction, Frame, Injector};
pub use plan::{GATEWAY, mac_text};
pub use probe::{Prober, Report};
pub use registry::{PLAYGROUND, REGISTRY, Record, labs, reap};
pub use role::{Resident, Role, RoleRunner};
pub use server::{Server, ServerKind, ServerSpec};
pub use spec::{Addressing, HostSpec, RouteSpec, Spec, ZoneSpec};
pub use topology::{Host, Lab, LabBuilder, Leg};
pub use unit::{Directories, Unit};
