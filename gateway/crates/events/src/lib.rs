//! What happens in the gateway, as one enum, and what follows from it, as two exhaustive projections without IO.
//! Every decision leaves one [`Event`]; audit log, metrics, controls, report and pages are all derived from it.
//!
//! - [`event`]: the enum, who may say what, and how much an entry matters. [`words`]: its vocabularies.
//! - [`audit`]: the entry of the transparency log.
//! - [`metrics`]: the closed list of metric families, and the counters that events move.

pub mod audit;
pub mod event;
pub mod metrics;
pub mod words;

pub use audit::Entry;
pub use event::{Event, Names};
pub use metrics::{Family, Sample, Tally};
pub use words::{
    Class, Deed, EngineerChange, Failure, Feed, FileChange, InspectVerdict, Origin, PersonChange, Role,
    ScrapeRefusal, SessionChange, Suspicion,
};
