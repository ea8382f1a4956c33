//! Lines of configuration files made of atoms that cannot hold a separator, a comment or a line break.

use std::fmt::{self, Display, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::ServicesError;

/// Longest name and longest path taken.
const NAME_BYTES_MAX: usize = 128;
const PATH_BYTES_MAX: usize = 255;

/// What may be written: its text has no blank, comma, quote, `#`, `=` or line break beyond what this module puts there.
pub(super) trait Atom: Display {}
impl Atom for &'static str {}
impl Atom for u32 {}
impl Atom for Ipv4Addr {}
impl Atom for Ipv6Addr {}
impl Atom for IpAddr {}
impl Atom for IpNet {}
impl Atom for Name {}
impl Atom for Mac {}
impl Atom for FilePath {}
impl Atom for Bracketed {}
impl Atom for Tagged<'_> {}

/// An ASCII name: letters and digits, inside also `.`, `-` and `_`.
#[derive(Clone, Debug)]
pub(super) struct Name(String);

/// A hardware address.
#[derive(Clone, Debug)]
pub(super) struct Mac([u8; 6]);

/// An IPv6 address in brackets, as dnsmasq's options want it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bracketed(pub(super) Ipv6Addr);

/// `set:NAME` or `tag:NAME`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tagged<'a>(pub(super) &'static str, pub(super) &'a Name);

/// An absolute path that every configuration file can carry as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(String);

impl FilePath {
    /// Takes an absolute path of ASCII letters, digits, `/`, `.`, `-` and `_`.
    ///
    /// # Errors
    /// [`ServicesError::Path`] for any other text.
    pub fn new(path: &str) -> Result<Self, ServicesError> {
        let plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte));
        if plain && path.starts_with('/') && path.len() <= PATH_BYTES_MAX {
            Ok(FilePath(path.to_owned()))
        } else {
            Err(ServicesError::Path { value: path.to_owned() })
        }
    }
}

impl Name {
    pub(super) fn new(name: &str) -> Result<Self, ServicesError> {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let begins_well = name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
        if plain && begins_well && name.len() <= NAME_BYTES_MAX {
            Ok(Name(name.to_owned()))
        } else {
            Err(ServicesError::Name { value: name.to_owned() })
        }
    }
}

impl Mac {
    pub(super) fn new(text: &str) -> Result<Self, ServicesError> {
        let refused = || ServicesError::Mac { value: text.to_owned() };
        let hex = |part: &str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        let octet = |part: &str| u8::from_str_radix(part, 16).ok().filter(|_| hex(part));
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        octets.and_then(|octets| octets.try_into().ok()).map(Mac).ok_or_else(refused)
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Display for Bracketed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0)
    }
}

impl Display for Tagged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

/// A configuration file in the making.
#[derive(Debug)]
pub(super) struct Conf {
    text: String,
    /// Between the option's name and its values, and between the values.
    separators: (&'static str, &'static str),
}

impl Conf {
    pub(super) fn new(separators: (&'static str, &'static str)) -> Self {
        Conf {
            text: "# Written by Sekisho from the clinic's policy; changes made here are lost.\n".to_owned(),
            separators,
        }
    }

    /// A comment line.
    pub(super) fn comment(&mut self, words: &'static str) {
        self.text.push_str("\n# ");
        self.text.push_str(words);
        self.text.push('\n');
    }

    /// An option with its values, if any.
    pub(super) fn line(&mut self, option: &'static str, values: &[&dyn Atom]) {
        self.text.push_str(option);
        let (first, further) = self.separators;
        for (position, value) in values.iter().enumerate() {
            let separator = if position == 0 { first } else { further };
            // Writing to a String cannot fail.
            let _ = write!(self.text, "{separator}{value}");
        }
        self.text.push('\n');
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}
