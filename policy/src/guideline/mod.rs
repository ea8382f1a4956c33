//! The controls (管理策) of the MHLW guideline as far as a gateway can judge them: the catalogue as data, facts as
//! measured, and a pure judgement. A fact that is missing or old makes a control unknown, never ok.

pub mod assess;
pub mod catalogue;
pub mod measures;
pub mod observation;
pub mod posture;
pub mod report;
pub mod state;
pub mod suspect;

pub use assess::{Context, assess};
pub use catalogue::{Catalogue, Version};
pub use observation::{Observation, Observations, Observed};
pub use posture::posture;
pub use state::{Assessment, Change, ControlId, State, Timeline, Words};
