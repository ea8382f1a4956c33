//! Who may read the metrics, as admins change it: what is given away is in the log before it is given, what ends ends at
//! once and is in the log before anybody is told.

use events::{Deed, Event};
use gateway::recorder::RecordError;
use gateway::wire::console::ConsoleAnswer;
use jiff::Timestamp;
use thiserror::Error;

use super::Console;
use super::keys::{Keys, KeysError};

/// Why a reader was not added or removed.
#[derive(Debug, Error)]
pub(super) enum ReadersError {
    /// A key.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The record role did not take it down.
    #[error("nothing was changed, for it could not be recorded: {0}")]
    Unrecorded(#[source] RecordError),
    /// It ended, and the record role did not take it down.
    #[error("this reader can no longer read, but the record of it could not be written yet: {0}")]
    Late(#[source] RecordError),
}

impl Console {
    /// Gives a reader a certificate.
    pub(super) async fn add_reader(&self, by: u32, name: String) -> Result<ConsoleAnswer, ReadersError> {
        let new = self.keys.borrow().make_reader(&name, Timestamp::now())?;
        let deed = Deed::ReaderAdded { reader: name, sha256: new.sha256().to_owned() };
        self.record(by, deed).await.map_err(ReadersError::Unrecorded)?;
        Ok(ConsoleAnswer::Bundle(self.keys.borrow_mut().keep_reader(new)?))
    }

    /// Ends a reader's certificate. What closes does not wait for anybody.
    pub(super) async fn remove_reader(&self, by: u32, name: String) -> Result<ConsoleAnswer, ReadersError> {
        self.keys.borrow_mut().remove_reader(&name)?;
        let deed = Deed::ReaderRemoved { reader: name };
        if let Err(error) = self.record(by, deed.clone()).await {
            self.recorder.note(Event::Done { by, deed });
            return Err(ReadersError::Late(error));
        }
        Ok(ConsoleAnswer::Removed {})
    }

    /// Makes a token in place of the former one.
    pub(super) async fn new_token(&self, by: u32) -> Result<ConsoleAnswer, ReadersError> {
        let token = Keys::make_token()?;
        self.record(by, Deed::TokenMade {}).await.map_err(ReadersError::Unrecorded)?;
        let mut keys = self.keys.borrow_mut();
        keys.keep_token(&token)?;
        Ok(ConsoleAnswer::Token { token, authority: keys.authority_pem() })
    }

    /// Counts a deed and makes it durable in the log.
    async fn record(&self, by: u32, deed: Deed) -> Result<(), RecordError> {
        let event = Event::Done { by, deed };
        self.witness(&event);
        self.recorder.record(event).await.map(drop)
    }
}
