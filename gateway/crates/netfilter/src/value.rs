//! The small values every layer shares: names, registers and register data, each valid by construction.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest name of a table, chain, set or object that is sent (the kernel's NFT_NAME_MAXLEN is 256).
pub const NAME_MAX_BYTES: usize = 128;
/// The longest datum of a register comparison or set key (NFT_DATA_VALUE_MAXLEN).
pub const DATA_MAX_BYTES: usize = 64;
/// The size of an interface name in a register (IFNAMSIZ).
pub const IFNAME_BYTES: usize = 16;
/// The number of 32-bit registers (NFT_REG32_COUNT).
const REGISTER_WORDS: u8 = 16;

/// The name of a table, chain, set, map or object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text cannot be the name of an nf_tables object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty or longer than [`NAME_MAX_BYTES`].
    #[error("a name must have 1 to {NAME_MAX_BYTES} bytes, `{text}` has {length}")]
    Length {
        /// The refused text, cut to a printable length.
        text: String,
        /// The length of the text in bytes.
        length: usize,
    },
    /// The text holds a character outside of `A-Z a-z 0-9 . _ - /`.
    #[error("a name may hold letters, digits and `._-/` only, `{text}` holds `{character}`")]
    Character {
        /// The refused text.
        text: String,
        /// The first refused character.
        character: char,
    },
}

impl Name {
    /// Checks a text that is to be sent to the kernel.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > NAME_MAX_BYTES {
            let shown = text.chars().take(32).collect();
            return Err(NameError::Length { text: shown, length: text.len() });
        }
        match text.chars().find(|&character| !is_name_character(character)) {
            Some(character) => Err(NameError::Character { text: text.to_owned(), character }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Takes a name as the kernel reports it. Bytes that [`Name::new`] refuses are escaped, so a foreign name can be
    /// printed and can never equal one of ours.
    pub(crate) fn from_kernel(bytes: &[u8]) -> Self {
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        let mut name = String::with_capacity(text.len());
        for &byte in text {
            if is_name_character(char::from(byte)) {
                name.push(char::from(byte));
            } else {
                name.push_str(&format!("\\x{byte:02x}"));
            }
        }
        Self(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | '/')
}

/// One of the sixteen 32-bit registers of the rule machine; a wider value takes the following ones too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register(u8);

impl Register {
    /// The first register (NFT_REG32_00, which is NFT_REG_1).
    pub const FIRST: Self = Self(0);
    /// The first register of the second half (NFT_REG32_08, which is NFT_REG_3), free beside a key of 32 bytes.
    pub const MIDDLE: Self = Self(8);

    /// The register with a number, none above 15.
    pub fn new(word: u8) -> Option<Self> {
        (word < REGISTER_WORDS).then_some(Self(word))
    }

    /// The register that follows a value of so many bytes stored in this one, none when the registers end before it.
    pub fn after(self, value_bytes: usize) -> Option<Self> {
        let words = u8::try_from(value_bytes.div_ceil(4)).ok()?;
        self.0.checked_add(words).and_then(Self::new)
    }

    /// Whether a value of so many bytes fits between this register and the last one.
    pub fn holds(self, value_bytes: usize) -> bool {
        usize::from(self.0) * 4 + value_bytes <= usize::from(REGISTER_WORDS) * 4
    }

    pub(crate) fn to_kernel(self) -> u32 {
        u32::from(self.0) + crate::kernel::NFT_REG32_00
    }

    /// Reads a register number: the kernel reports every fourth one by its older 16-byte name (1 to 4).
    pub(crate) fn from_kernel(number: u32) -> Option<Self> {
        match number {
            1..=4 => u8::try_from((number - 1) * 4).ok().map(Self),
            _ => number
                .checked_sub(crate::kernel::NFT_REG32_00)
                .and_then(|word| u8::try_from(word).ok())
                .and_then(Self::new),
        }
    }
}

/// Bytes as they lie in registers and set keys: 1 to 64 of them, in the byte order of their field.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Data(Vec<u8>);

/// The bytes are none or more than [`DATA_MAX_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("register data must have 1 to {DATA_MAX_BYTES} bytes, not {length_bytes}")]
pub struct DataError {
    /// The refused length.
    pub length_bytes: usize,
}

impl Data {
    /// Takes raw bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, DataError> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > DATA_MAX_BYTES {
            return Err(DataError { length_bytes: bytes.len() });
        }
        Ok(Self(bytes))
    }

    /// One byte, as for protocols, types and directions.
    pub fn byte(value: u8) -> Self {
        Self(vec![value])
    }

    /// A port or another 16-bit value in network order.
    pub fn be16(value: u16) -> Self {
        Self(value.to_be_bytes().to_vec())
    }

    /// A 16-bit value in the order of the machine, as the route's MSS.
    pub fn host16(value: u16) -> Self {
        Self(value.to_ne_bytes().to_vec())
    }

    /// A mark, a state mask or an interface index: 32 bits in the order of the machine.
    pub fn host32(value: u32) -> Self {
        Self(value.to_ne_bytes().to_vec())
    }

    /// A 32-bit value in network order.
    pub fn be32(value: u32) -> Self {
        Self(value.to_be_bytes().to_vec())
    }

    /// An IPv4 address.
    pub fn ipv4(address: Ipv4Addr) -> Self {
        Self(address.octets().to_vec())
    }

    /// An IPv6 address.
    pub fn ipv6(address: Ipv6Addr) -> Self {
        Self(address.octets().to_vec())
    }

    /// An interface name, padded to sixteen bytes.
    pub fn ifname(name: &IfName) -> Self {
        Self(name.0.to_vec())
    }

    /// Fields one after the other, each padded to whole registers, as the key of a concatenation.
    pub fn concat<'a>(fields: impl IntoIterator<Item = &'a Data>) -> Result<Self, DataError> {
        let mut bytes = Vec::with_capacity(DATA_MAX_BYTES);
        for field in fields {
            bytes.extend_from_slice(&field.0);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        Self::new(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value as a mark, when it has its four bytes.
    pub fn to_host32(&self) -> Option<u32> {
        self.0.as_slice().try_into().ok().map(u32::from_ne_bytes)
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "0x{}", hex(&self.0))
    }
}

impl fmt::Display for Data {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

/// The name of a network interface: 1 to 15 bytes, no slash, no white space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName([u8; IFNAME_BYTES]);

impl IfName {
    /// Checks a name the way the kernel's `dev_valid_name` does, and refuses what is not printable ASCII too.
    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() < IFNAME_BYTES && text != "." && text != "..";
        let valid = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        if !fits || !valid {
            return None;
        }
        let mut padded = [0; IFNAME_BYTES];
        padded.iter_mut().zip(text.bytes()).for_each(|(slot, byte)| *slot = byte);
        Some(Self(padded))
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String =
            self.0.iter().take_while(|&&byte| byte != 0).map(|&byte| char::from(byte)).collect();
        write!(out, "{text:?}")
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_name_is_escaped_and_never_equals_a_valid_one() {
        let foreign = Name::from_kernel(b"a\xff\"b\0rest");
        assert_eq!(foreign.as_str(), "a\\xff\\x22b");
        assert!(Name::new(foreign.as_str()).is_err());
        assert_eq!(Name::from_kernel(b"p_ab4\0"), Name::new("p_ab4").unwrap());
    }

    #[test]
    fn names_of_no_or_too_many_bytes_are_refused() {
        assert!(matches!(Name::new(""), Err(NameError::Length { length: 0, .. })));
        assert!(Name::new(&"x".repeat(NAME_MAX_BYTES)).is_ok());
        assert!(Name::new(&"x".repeat(NAME_MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn registers_have_one_number_whichever_name_the_kernel_uses() {
        assert_eq!(Register::from_kernel(1), Some(Register::FIRST));
        assert_eq!(Register::from_kernel(8), Some(Register::FIRST));
        assert_eq!(Register::from_kernel(3), Some(Register::MIDDLE));
        assert_eq!(Register::from_kernel(0), None);
        assert_eq!(Register::from_kernel(7), None);
        assert_eq!(Register::from_kernel(24), None);
        assert_eq!(Register::FIRST.after(5), Register::new(2));
        assert!(Register::MIDDLE.holds(32) && !Register::MIDDLE.holds(33));
    }

    #[test]
    fn concatenated_fields_start_at_whole_registers() {
        let key = Data::concat([&Data::byte(6), &Data::be16(443)]).unwrap();
        assert_eq!(key.as_bytes(), [6, 0, 0, 0, 1, 187, 0, 0]);
        let address = Data::ipv6(Ipv6Addr::LOCALHOST);
        assert!(Data::concat([&address; 5]).is_err());
    }

    #[test]
    fn interface_names_follow_the_kernel() {
        assert!(IfName::new("eth0.100").is_some());
        for refused in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-bytes-xx", "エ"] {
            assert!(IfName::new(refused).is_none(), "{refused}");
        }
    }
}
