//! Who may read the metrics: the authority, the door's own certificate, the readers' certificates by their hash, and the
//! hash of the token. What a reader holds in secret is given away once and not kept.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gateway::wire::console::{Bundle, READER_BYTES_MAX, Reader};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::authority::{Authority, AuthorityError, Identity, fingerprint};
use super::shelf::{Shelf, ShelfError};
use super::tls::{TlsError, random};

/// Readers with a certificate at once.
const READERS_MAX: usize = 16;
/// Bytes of a token, before they are written as letters.
const TOKEN_BYTES: usize = 32;
const AUTHORITY: &str = "authority";
const DOOR: &str = "door";
const READERS: &str = "readers";
const TOKEN: &str = "token";

/// Why keys cannot be kept or given.
#[derive(Debug, Error)]
pub(crate) enum KeysError {
    /// The directory.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// A certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The TLS engine.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A name that is none.
    #[error("`{0}` is not a reader's name: write 1 to {READER_BYTES_MAX} ASCII letters, digits and hyphens")]
    Name(String),
    /// Nobody of this name.
    #[error("no reader is called `{0}`: `sekisho metrics readers` lists them")]
    Unknown(String),
    /// Enough.
    #[error("there are {READERS_MAX} readers already: remove one first (sekisho metrics remove NAME)")]
    Full,
}

/// Who a visitor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visitor {
    /// The console itself, at its self-test.
    Own,
    /// A reader.
    Reader,
    /// Nobody who may read.
    Stranger,
}

/// A reader as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    sha256: String,
    made_at: Timestamp,
    not_after: Timestamp,
}

/// The hash of a token as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptToken {
    sha256: String,
}

/// A reader's certificate that was made and is accepted only once it is kept.
#[derive(Debug)]
pub(crate) struct NewReader {
    name: String,
    kept: Kept,
    bundle: Bundle,
}

impl NewReader {
    /// SHA-256 of the certificate, in hex.
    pub(crate) fn sha256(&self) -> &str {
        &self.kept.sha256
    }
}

/// The keys.
#[derive(Debug)]
pub(crate) struct Keys {
    shelf: Shelf,
    authority: Authority,
    door: Option<Identity>,
    readers: BTreeMap<String, Kept>,
    token: Option<KeptToken>,
    /// The console's own certificate as a reader, made anew at each start.
    own: Identity,
    own_sha256: String,
    /// The console's own token, made anew at each start.
    own_token: String,
}

impl Keys {
    /// Reads what is kept, and makes the authority when there is none.
    ///
    /// # Errors
    /// When the directory cannot be used or a key cannot be made.
    pub(crate) fn open(shelf: Shelf, now: Timestamp) -> Result<Self, KeysError> {
        let authority = match shelf.read::<Identity>(AUTHORITY)? {
            Some(identity) => Authority::kept(identity),
            None => {
                let authority = Authority::make(&format!("sekisho metrics {}", hex(&random::<4>()?)), now)?;
                shelf.write(AUTHORITY, authority.identity())?;
                tracing::info!("made the authority of the metrics' door");
                authority
            }
        };
        let own = authority.reader("sekisho self-test", now)?;
        Ok(Keys {
            door: shelf.read(DOOR)?,
            readers: shelf.read(READERS)?.unwrap_or_default(),
            token: shelf.read(TOKEN)?,
            own_sha256: hex(&fingerprint(&own.certificate()?)),
            own,
            own_token: hex(&random::<TOKEN_BYTES>()?),
            authority,
            shelf,
        })
    }

    /// The authority's certificate.
    ///
    /// # Errors
    /// When what is kept is none.
    pub(crate) fn authority(&self) -> Result<CertificateDer<'static>, KeysError> {
        Ok(self.authority.identity().certificate()?)
    }

    /// The authority's certificate in PEM, for readers.
    pub(crate) fn authority_pem(&self) -> String {
        self.authority.identity().certificate.clone()
    }

    /// When the authority ends.
    pub(crate) fn authority_ends(&self) -> Timestamp {
        self.authority.identity().not_after
    }

    /// The console's own certificate as a reader.
    pub(crate) fn own(&self) -> &Identity {
        &self.own
    }

    /// The console's own token.
    pub(crate) fn own_token(&self) -> &str {
        &self.own_token
    }

    /// Whether the door's certificate is good for these addresses, and for some time.
    pub(crate) fn door_serves(&self, addresses: &[IpAddr], now: Timestamp) -> bool {
        self.door.as_ref().is_some_and(|door| door.serves(addresses, now))
    }

    /// The door's certificate, made anew when it ends soon or speaks for other addresses.
    ///
    /// # Errors
    /// When it cannot be made or kept.
    pub(crate) fn door(&mut self, addresses: &[IpAddr], now: Timestamp) -> Result<Identity, KeysError> {
        if let Some(door) = self.door.as_ref().filter(|door| door.serves(addresses, now)) {
            return Ok(door.clone());
        }
        let door = self.authority.door(addresses, now)?;
        self.shelf.write(DOOR, &door)?;
        tracing::info!(until = %door.not_after, "made a certificate for the metrics' door");
        self.door = Some(door.clone());
        Ok(door)
    }

    /// Who shows this certificate.
    pub(crate) fn visitor(&self, certificate: &CertificateDer<'_>) -> Visitor {
        let shown = hex(&fingerprint(certificate));
        if shown == self.own_sha256 {
            Visitor::Own
        } else if self.readers.values().any(|reader| reader.sha256 == shown) {
            Visitor::Reader
        } else {
            Visitor::Stranger
        }
    }

    /// Who shows this token. Hashes are compared, in constant time.
    pub(crate) fn visitor_by_token(&self, token: &[u8]) -> Visitor {
        let shown = hex(&Sha256::digest(token));
        let is = |kept: &str| bool::from(kept.as_bytes().ct_eq(shown.as_bytes()));
        if is(&hex(&Sha256::digest(self.own_token.as_bytes()))) {
            Visitor::Own
        } else if self.token.as_ref().is_some_and(|kept| is(&kept.sha256)) {
            Visitor::Reader
        } else {
            Visitor::Stranger
        }
    }

    /// The readers with a certificate.
    pub(crate) fn readers(&self) -> Vec<Reader> {
        let reader = |(name, Kept { sha256, made_at, not_after }): (&String, &Kept)| Reader {
            name: name.clone(),
            sha256: sha256.clone(),
            made_at: *made_at,
            not_after: *not_after,
        };
        self.readers.iter().map(reader).collect()
    }

    /// Makes a certificate for a reader, which [`Keys::keep_reader`] puts in place.
    ///
    /// # Errors
    /// When the name is none, there are too many, or it cannot be made.
    pub(crate) fn make_reader(&self, name: &str, now: Timestamp) -> Result<NewReader, KeysError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty() || name.len() > READER_BYTES_MAX || !name.bytes().all(is_plain) {
            return Err(KeysError::Name(name.chars().take(READER_BYTES_MAX).collect()));
        }
        if self.readers.len() >= READERS_MAX && !self.readers.contains_key(name) {
            return Err(KeysError::Full);
        }
        let Identity { certificate, key, not_after, .. } = self.authority.reader(name, now)?;
        let kept = Kept { sha256: hex(&fingerprint(&pem(&certificate)?)), made_at: now, not_after };
        let bundle = Bundle { authority: self.authority_pem(), certificate, key, not_after };
        Ok(NewReader { name: name.to_owned(), kept, bundle })
    }

    /// Accepts a reader's certificate, in place of the former one of the same name.
    ///
    /// # Errors
    /// When there are too many by now, or it cannot be kept.
    pub(crate) fn keep_reader(&mut self, new: NewReader) -> Result<Bundle, KeysError> {
        let NewReader { name, kept, bundle } = new;
        if self.readers.len() >= READERS_MAX && !self.readers.contains_key(&name) {
            return Err(KeysError::Full);
        }
        self.keep_readers(|readers| drop(readers.insert(name, kept)))?;
        Ok(bundle)
    }

    /// Ends a reader's certificate.
    ///
    /// # Errors
    /// When there is none, or that cannot be kept.
    pub(crate) fn remove_reader(&mut self, name: &str) -> Result<(), KeysError> {
        if !self.readers.contains_key(name) {
            return Err(KeysError::Unknown(name.chars().take(READER_BYTES_MAX).collect()));
        }
        self.keep_readers(|readers| drop(readers.remove(name)))
    }

    /// Makes a token, which [`Keys::keep_token`] puts in place.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(crate) fn make_token() -> Result<String, KeysError> {
        Ok(hex(&random::<TOKEN_BYTES>()?))
    }

    /// Accepts a token in place of the former one.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(crate) fn keep_token(&mut self, token: &str) -> Result<(), KeysError> {
        let kept = KeptToken { sha256: hex(&Sha256::digest(token.as_bytes())) };
        self.shelf.write(TOKEN, &kept)?;
        self.token = Some(kept);
        Ok(())
    }

    /// Changes the readers on disk first, then here.
    fn keep_readers(&mut self, change: impl FnOnce(&mut BTreeMap<String, Kept>)) -> Result<(), KeysError> {
        let mut readers = self.readers.clone();
        change(&mut readers);
        self.shelf.write(READERS, &readers)?;
        self.readers = readers;
        Ok(())
    }
}

#[cfg(test)]
impl Keys {
    pub(crate) fn add_reader(&mut self, name: &str, now: Timestamp) -> Result<Bundle, KeysError> {
        let new = self.make_reader(name, now)?;
        self.keep_reader(new)
    }

    pub(crate) fn new_token(&mut self) -> Result<String, KeysError> {
        let token = Keys::make_token()?;
        self.keep_token(&token).map(|()| token)
    }
}

fn pem(certificate: &str) -> Result<CertificateDer<'static>, AuthorityError> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(|error| AuthorityError::Kept(error.to_string()))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn readers_and_token_survive_a_restart_and_end_when_told() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Keys::open(Shelf::new(directory.path()), now()).unwrap();
        let mut keys = open();
        let bundle = keys.add_reader("prometheus", now()).unwrap();
        let token = keys.new_token().unwrap();
        let certificate = pem(&bundle.certificate).unwrap();
        let mut keys = open();
        assert_eq!(keys.visitor(&certificate), Visitor::Reader);
        assert_eq!(keys.visitor(&keys.own().certificate().unwrap()), Visitor::Own);
        assert_eq!(keys.visitor(&keys.authority().unwrap()), Visitor::Stranger);
        assert_eq!(keys.visitor_by_token(token.as_bytes()), Visitor::Reader);
        assert_eq!(keys.visitor_by_token(keys.own_token().as_bytes()), Visitor::Own);
        assert_eq!(keys.visitor_by_token(b""), Visitor::Stranger);
        // Another of the same name ends the first.
        keys.add_reader("prometheus", now()).unwrap();
        assert_eq!(keys.visitor(&certificate), Visitor::Stranger);
        keys.remove_reader("prometheus").unwrap();
        assert!(open().readers().is_empty());
        keys.new_token().unwrap();
        assert_eq!(open().visitor_by_token(token.as_bytes()), Visitor::Stranger);
    }

    #[test]
    fn nothing_secret_of_a_reader_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(Shelf::new(directory.path()), now()).unwrap();
        let (bundle, token) = (keys.add_reader("a", now()).unwrap(), keys.new_token().unwrap());
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!text.contains(&token) && !text.contains(bundle.key.lines().nth(1).unwrap()));
        }
        assert!(!format!("{bundle:?} {keys:?}").contains("PRIVATE"));
    }

    #[test]
    fn odd_names_and_too_many_readers_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(Shelf::new(directory.path()), now()).unwrap();
        for name in ["", "a b", "../a", "監視", &"a".repeat(READER_BYTES_MAX + 1)] {
            assert!(matches!(keys.add_reader(name, now()), Err(KeysError::Name(_))), "{name}");
        }
        for number in 0..READERS_MAX {
            keys.add_reader(&format!("reader-{number}"), now()).unwrap();
        }
        assert!(matches!(keys.add_reader("more", now()), Err(KeysError::Full)));
        assert!(keys.add_reader("reader-0", now()).is_ok());
        assert!(matches!(keys.remove_reader("nobody"), Err(KeysError::Unknown(_))));
    }
}
