//! Nonces that were used: each attestation counts once. What expired is forgotten, for it does not count anyway.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::AttestationError;
use crate::ids::Hash;

/// Most nonces that are remembered; more than that in a day is refused, never forgotten.
pub const SPENT_MAX: usize = 4096;

/// Nonces that were used, with the key and the end of each. The caller keeps it where it survives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    used: BTreeMap<Hash, Timestamp>,
}

impl Spent {
    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    pub(super) fn spend(
        &mut self,
        key: Hash,
        nonce: [u8; 16],
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), AttestationError> {
        self.used.retain(|_, end| *end > now);
        let name = Hash::of(&[key.to_string().as_bytes(), &nonce].concat());
        if self.used.contains_key(&name) {
            return Err(AttestationError::Replayed);
        }
        if self.used.len() >= SPENT_MAX {
            return Err(AttestationError::Full);
        }
        self.used.insert(name, until);
        Ok(())
    }
}
