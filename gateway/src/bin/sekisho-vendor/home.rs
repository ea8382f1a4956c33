//! What the vendor keeps of one clinic: its own key (mode 0600, never sent), the certificate, the gateway's name, the clinic's
//! authority where the certificate is of the vendor's own, and the receipts.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use transport::credentials::read_certificate;
use transport::protocol::SessionId;
use transport::receipt::SignedReceipt;
use transport::{Credentials, FreshKey, KeyId, Pin};
use zeroize::Zeroizing;

use crate::error::{VendorError, file};

const KEY: &str = "key.pem";
const CHAIN: &str = "chain.pem";
/// The clinic's authority, where it is not the one that signed the chain.
const CLINIC: &str = "clinic.pem";
/// Longest file that is taken up.
const FILE_BYTES_MAX: u64 = 64 << 10;
const GATEWAY: &str = "gateway";
const SESSION: &str = "session";
const RECEIPTS: &str = "receipts";

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    directory: PathBuf,
}

impl Home {
    /// The directory asked for, or the usual one.
    pub(crate) fn new(asked: Option<PathBuf>) -> Result<Self, VendorError> {
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let usual = || of("XDG_CONFIG_HOME").or_else(|| of("HOME").map(|home| home.join(".config")));
        let directory = asked.or_else(|| usual().map(|config| config.join("sekisho-vendor")));
        Ok(Home { directory: directory.ok_or(VendorError::NoHome)? })
    }

    /// Whether a certificate is kept.
    pub(crate) fn is_enrolled(&self) -> bool {
        self.directory.join(CHAIN).exists()
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// The key kept from an enrolment that was not finished, or a new one, kept before it is used.
    pub(crate) fn key(&self) -> Result<FreshKey, VendorError> {
        let path = self.directory.join(KEY);
        match fs::read_to_string(&path) {
            Ok(pem) => return Ok(FreshKey::from_pem(&pem)?),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(file("read", &path)(error)),
        }
        let key = FreshKey::make()?;
        self.write(KEY, &key.pem())?;
        Ok(key)
    }

    /// Keeps what an enrolment gave. The certificate comes last: with it, all is there.
    pub(crate) fn enrolled(&self, gateway: &str, chain_pem: &str) -> Result<(), VendorError> {
        self.write(GATEWAY, gateway)?;
        self.write(CHAIN, chain_pem)
    }

    /// Takes up a key and a chain of the vendor's own authority, and the clinic's. Gives the key's id.
    pub(crate) fn adopt(
        &self,
        gateway: &str,
        (key, chain): (&Path, &Path),
        clinic: &Path,
    ) -> Result<KeyId, VendorError> {
        let (key, chain, clinic) = (bounded(key)?, bounded(chain)?, bounded(clinic)?);
        read_certificate(&clinic)?;
        let fresh = FreshKey::from_pem(&key)?;
        let id = fresh.key_id();
        let chain = fresh.with_chain(&chain)?.chain_pem();
        self.write(KEY, &key)?;
        self.write(CLINIC, &clinic)?;
        self.enrolled(gateway, &chain)?;
        Ok(id)
    }

    /// The gateway, the credentials for it, and by what it is known.
    pub(crate) fn credentials(&self) -> Result<(String, Credentials, Pin), VendorError> {
        if !self.is_enrolled() {
            return Err(VendorError::NotEnrolled(self.directory.clone()));
        }
        let credentials = self.key()?.with_chain(&self.read(CHAIN)?)?;
        let authority = if self.directory.join(CLINIC).exists() {
            read_certificate(&self.read(CLINIC)?)?
        } else {
            credentials.authority().cloned().ok_or(VendorError::Confused)?
        };
        Ok((self.read(GATEWAY)?.trim().to_owned(), credentials, Pin::Authority(authority)))
    }

    /// The clinic's authority.
    pub(crate) fn authority(&self) -> Result<CertificateDer<'static>, VendorError> {
        match self.credentials()?.2 {
            Pin::Authority(authority) => Ok(authority),
            Pin::Hash(_) => Err(VendorError::Confused),
        }
    }

    /// Remembers the session asked for last.
    pub(crate) fn remember(&self, session: &SessionId) -> Result<(), VendorError> {
        self.write(SESSION, session.as_str())
    }

    /// The session named, or the one asked for last.
    pub(crate) fn session(&self, named: Option<String>) -> Result<SessionId, VendorError> {
        let text = match named {
            Some(named) => named,
            None => self.read(SESSION).map_err(|_| VendorError::NoSession)?,
        };
        Ok(SessionId::try_from(text.trim().to_owned())?)
    }

    /// Keeps a receipt; gives where.
    pub(crate) fn keep(&self, session: &SessionId, receipt: &SignedReceipt) -> Result<PathBuf, VendorError> {
        let name = format!("{RECEIPTS}/{session}.json");
        self.write(&name, &serde_json::to_string_pretty(receipt)?)?;
        Ok(self.directory.join(name))
    }

    fn read(&self, name: &str) -> Result<String, VendorError> {
        let path = self.directory.join(name);
        fs::read_to_string(&path).map_err(file("read", &path))
    }

    /// Writes whole beside its place, then puts it there.
    fn write(&self, name: &str, text: &str) -> Result<(), VendorError> {
        let path = self.directory.join(name);
        let beside = path.with_extension("new");
        let put = || {
            if let Some(parent) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        put().map_err(file("write", &path))
    }
}

/// A file that somebody names; a key among them is wiped from memory.
fn bounded(path: &Path) -> Result<Zeroizing<String>, VendorError> {
    let mut text = Zeroizing::new(String::new());
    let opened = fs::File::open(path).map_err(file("read", path))?;
    opened.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(file("read", path))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_made_once_and_is_ours_alone() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(Some(directory.path().join("clinic"))).unwrap();
        assert!(matches!(home.credentials(), Err(VendorError::NotEnrolled(_))));
        let id = home.key().unwrap().key_id();
        assert_eq!(home.key().unwrap().key_id(), id);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(home.path()), mode(&home.path().join(KEY))), (0o700, 0o600));
    }

    #[test]
    fn a_session_is_named_or_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(Some(directory.path().to_owned())).unwrap();
        assert!(matches!(home.session(None), Err(VendorError::NoSession)));
        let session = SessionId::try_from("s-abcdefghijkl".to_owned()).unwrap();
        home.remember(&session).unwrap();
        assert_eq!(home.session(None).unwrap(), session);
        assert!(home.session(Some("../x".to_owned())).is_err());
    }
}
