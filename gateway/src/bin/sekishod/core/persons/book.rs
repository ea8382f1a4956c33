//! Persons and their second factors: a book without IO. Clock and randomness are given; who calls makes it durable
//! before what it says counts. TOTP is RFC 6238 with SHA-1, six digits and steps of 30 s, as authenticators expect it.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use gateway::wire::persons::{Code, PersonRow};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use totp_rs::{Builder, Secret, Totp};

/// Bytes of a secret: what RFC 4226, section 4 recommends.
pub(crate) const SECRET_BYTES: usize = 20;
/// Recovery codes made at each enrolment, and random bytes in each.
pub(crate) const RECOVERY_CODES: usize = 10;
pub(crate) const RECOVERY_BYTES: usize = 10;
/// Wrong codes until no code is taken for a while.
pub(crate) const WRONG_MAX: u32 = 5;
/// How long that is at first; it doubles each time, up to the longest.
const LOCK_MINS: i64 = 15;
pub(crate) const LOCK: SignedDuration = SignedDuration::from_mins(LOCK_MINS);
const LOCK_DOUBLINGS_MAX: u32 = 7;
const LOCK_LONGEST: SignedDuration = SignedDuration::from_mins(LOCK_MINS << LOCK_DOUBLINGS_MAX);
/// How long an offered factor waits for its confirmation.
const OFFER_WAIT: SignedDuration = SignedDuration::from_mins(15);
/// Most offers that wait at once.
const OFFERS_MAX: usize = 32;

/// Why a person's word is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum PersonError {
    /// Nobody enrolled.
    #[error(
        "`{0}` has no enrolled second factor; enrol one: sekisho person enrol (`sekisho person list` shows all)"
    )]
    NotEnrolled(String),
    /// Too many wrong codes.
    #[error("`{person}` is locked until {until:.0} after {WRONG_MAX} wrong codes")]
    Locked { person: String, until: Timestamp },
    /// Not the code of now.
    #[error(
        "the code is wrong: type the one that the authenticator shows now, and see that both clocks are right"
    )]
    Wrong,
    /// A code counts once.
    #[error("this code was used already: wait for the next one, at most 30 s")]
    Used,
    /// Nothing waits for a confirmation.
    #[error("no new factor of `{0}` waits for its first code: begin again with sekisho person enrol")]
    NothingOffered(String),
    /// Too many at once.
    #[error("{OFFERS_MAX} enrolments wait for their first code: finish one, or try again in 15 min")]
    TooMany,
}

/// A secret, kept out of logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Base32(String);

impl fmt::Debug for Base32 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Base32(..)")
    }
}

impl Base32 {
    fn of(secret: &[u8; SECRET_BYTES]) -> Self {
        Base32(BASE32_NOPAD.encode(secret))
    }

    /// The step of the code, if it is one of now or of the step before or after (RFC 6238, section 5.2).
    fn step_of(&self, code: &str, now: Timestamp) -> Option<u64> {
        let bytes = BASE32_NOPAD.decode(self.0.as_bytes()).ok()?;
        let secret = Secret::new_stack(<[u8; SECRET_BYTES]>::try_from(bytes).ok()?);
        let totp: Totp = Builder::new().with_secret(secret).build().ok()?;
        totp.check(code, u64::try_from(now.as_second()).ok()?)
    }
}

/// A factor that counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    secret: Base32,
    enrolled_at: Timestamp,
    /// The last step whose code was taken: that code and all before it count no more.
    last_step: u64,
    /// SHA-256 of the recovery codes that are left: they are random enough to need no salt.
    recovery: Vec<String>,
    /// Wrong codes since the last right one.
    wrong: u32,
    locked_until: Option<Timestamp>,
    /// How often it was locked since the last right code.
    locks: u32,
}

/// A new factor that waits for its first code. It is lost when core restarts.
#[derive(Clone, Debug)]
struct Offer {
    secret: Base32,
    until: Timestamp,
    wrong: u32,
    by: Option<String>,
    kind: OfferKind,
}

/// How a new factor came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfferKind {
    /// An admin, or root for the first, enrols.
    Enrol,
    /// The person used a recovery code.
    Recover,
}

/// What a confirmed offer becomes.
#[derive(Clone, Debug)]
pub(crate) struct Confirmed {
    /// Recovery codes, told once.
    pub(crate) recovery_codes: Vec<String>,
    /// The admin who began it.
    pub(crate) by: Option<String>,
    /// How it came about.
    pub(crate) kind: OfferKind,
}

/// Everybody's factors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Book {
    persons: BTreeMap<String, Entry>,
    #[serde(skip)]
    offers: BTreeMap<String, Offer>,
}

impl Book {
    /// Whether this person has a factor that counts.
    pub(crate) fn is_enrolled(&self, person: &str) -> bool {
        self.persons.contains_key(person)
    }

    /// Whether no code of this person's is taken now.
    pub(crate) fn is_locked(&self, person: &str, now: Timestamp) -> bool {
        self.persons.get(person).is_some_and(|entry| entry.lock(now).is_some())
    }

    /// Keys of all who are enrolled.
    pub(crate) fn enrolled(&self) -> impl Iterator<Item = &str> {
        self.persons.keys().map(String::as_str)
    }

    /// Takes a code of this person: right, not used, not locked. What it changed must be durable before the code counts,
    /// whatever the answer.
    ///
    /// # Errors
    /// When the code does not count.
    pub(crate) fn take_code(&mut self, person: &str, code: &Code, now: Timestamp) -> Result<(), PersonError> {
        let entry = self.open(person, now)?;
        match entry.secret.step_of(code.as_str(), now) {
            Some(step) if step > entry.last_step => {
                entry.last_step = step;
                entry.is_right();
                Ok(())
            }
            // An old code is no guess: it does not lock the person who types it twice.
            Some(_) => Err(PersonError::Used),
            None => Err(entry.is_wrong(now)),
        }
    }

    /// Makes a new factor, which counts once [`Book::confirm`] saw a code of it. Gives the secret, base32.
    ///
    /// # Errors
    /// When too many wait.
    pub(crate) fn offer(
        &mut self,
        person: &str,
        by: Option<String>,
        secret: &[u8; SECRET_BYTES],
        now: Timestamp,
    ) -> Result<String, PersonError> {
        self.offer_as(person, by, OfferKind::Enrol, secret, now)
    }

    /// Uses up a recovery code, and makes a new factor that counts once it is confirmed.
    ///
    /// # Errors
    /// When the code does not count.
    pub(crate) fn recover(
        &mut self,
        person: &str,
        code: &Code,
        secret: &[u8; SECRET_BYTES],
        now: Timestamp,
    ) -> Result<String, PersonError> {
        let entry = self.open(person, now)?;
        let hash = recovery_hash(code.as_str());
        let found = entry.recovery.iter().position(|kept| bool::from(kept.as_bytes().ct_eq(hash.as_bytes())));
        match found {
            Some(index) => {
                entry.recovery.remove(index);
                entry.is_right();
            }
            None => return Err(entry.is_wrong(now)),
        }
        self.offer_as(person, None, OfferKind::Recover, secret, now)
    }

    /// Takes the first code of an offered factor, which from now on is the person's, in place of any other.
    ///
    /// # Errors
    /// When nothing was offered or the code is wrong.
    pub(crate) fn confirm(
        &mut self,
        person: &str,
        code: &Code,
        random: &[[u8; RECOVERY_BYTES]; RECOVERY_CODES],
        now: Timestamp,
    ) -> Result<Confirmed, PersonError> {
        self.offers.retain(|_, offer| now < offer.until);
        let nothing = || PersonError::NothingOffered(person.to_owned());
        let offer = self.offers.get_mut(person).ok_or_else(nothing)?;
        let Some(last_step) = offer.secret.step_of(code.as_str(), now) else {
            offer.wrong += 1;
            if offer.wrong >= WRONG_MAX {
                self.offers.remove(person);
            }
            return Err(PersonError::Wrong);
        };
        let Offer { secret, by, kind, .. } = self.offers.remove(person).ok_or_else(nothing)?;
        let recovery_codes: Vec<String> = random.iter().map(recovery_code).collect();
        let recovery = recovery_codes.iter().map(|code| recovery_hash(code)).collect();
        let entry =
            Entry { secret, enrolled_at: now, last_step, recovery, wrong: 0, locked_until: None, locks: 0 };
        self.persons.insert(person.to_owned(), entry);
        Ok(Confirmed { recovery_codes, by, kind })
    }

    /// Takes a factor away.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn remove(&mut self, person: &str) -> Result<(), PersonError> {
        self.offers.remove(person);
        let removed = self.persons.remove(person);
        removed.map(drop).ok_or_else(|| PersonError::NotEnrolled(person.to_owned()))
    }

    /// Fills in what the book knows of a person.
    pub(crate) fn fill(&self, row: PersonRow, now: Timestamp) -> PersonRow {
        let Some(entry) = self.persons.get(&row.person) else { return row };
        PersonRow {
            enrolled_at: Some(entry.enrolled_at),
            locked_until: entry.lock(now),
            recovery_codes_left: u32::try_from(entry.recovery.len()).unwrap_or(u32::MAX),
            ..row
        }
    }

    /// The entry of somebody who may try.
    fn open(&mut self, person: &str, now: Timestamp) -> Result<&mut Entry, PersonError> {
        let entry = self.persons.get_mut(person);
        let entry = entry.ok_or_else(|| PersonError::NotEnrolled(person.to_owned()))?;
        if let Some(until) = entry.lock(now) {
            return Err(PersonError::Locked { person: person.to_owned(), until });
        }
        // Forgotten, so that one of a wrong clock's does not come back when its time is near.
        entry.locked_until = None;
        Ok(entry)
    }

    fn offer_as(
        &mut self,
        person: &str,
        by: Option<String>,
        kind: OfferKind,
        secret: &[u8; SECRET_BYTES],
        now: Timestamp,
    ) -> Result<String, PersonError> {
        self.offers.retain(|_, offer| now < offer.until);
        if self.offers.len() >= OFFERS_MAX && !self.offers.contains_key(person) {
            return Err(PersonError::TooMany);
        }
        let secret = Base32::of(secret);
        let until = now.checked_add(OFFER_WAIT).unwrap_or(now);
        let text = secret.0.clone();
        self.offers.insert(person.to_owned(), Offer { secret, until, wrong: 0, by, kind });
        Ok(text)
    }
}

impl Entry {
    /// Until when no code is taken. A lock that lies further ahead than the longest lasts was set by a clock that was wrong.
    fn lock(&self, now: Timestamp) -> Option<Timestamp> {
        self.locked_until.filter(|until| now < *until && until.duration_since(now) <= LOCK_LONGEST)
    }

    fn is_right(&mut self) {
        (self.wrong, self.locks, self.locked_until) = (0, 0, None);
    }

    fn is_wrong(&mut self, now: Timestamp) -> PersonError {
        self.wrong += 1;
        if self.wrong >= WRONG_MAX {
            let length = LOCK * (1 << self.locks.min(LOCK_DOUBLINGS_MAX));
            self.wrong = 0;
            self.locks = self.locks.saturating_add(1);
            self.locked_until = now.checked_add(length).ok();
        }
        PersonError::Wrong
    }
}

/// The URI by which authenticators take a factor up (Google Authenticator's key URI format, which all of them read).
pub(crate) fn otpauth_uri(site: &str, person: &str, secret: &str) -> String {
    let label = format!("{}:{}", percent(&format!("Sekisho {site}")), percent(person));
    format!("otpauth://totp/{label}?secret={secret}&issuer={}", percent(&format!("Sekisho {site}")))
}

/// Percent-encoding of everything that RFC 3986 does not call unreserved.
fn percent(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn recovery_code(random: &[u8; RECOVERY_BYTES]) -> String {
    let letters = BASE32_NOPAD.encode(random).to_ascii_lowercase();
    let groups: Vec<String> =
        letters.as_bytes().chunks(4).map(|g| String::from_utf8_lossy(g).into_owned()).collect();
    groups.join("-")
}

fn recovery_hash(code: &str) -> String {
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    HEXLOWER.encode(&Sha256::digest(plain.to_ascii_lowercase()))
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
