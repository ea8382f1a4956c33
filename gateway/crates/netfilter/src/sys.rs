//! The only unsafe code of the crate: owned handles of libnftnl objects and the writing of one netlink message; and one
//! socket option that no safe library has.
//!
//! What must hold, once for all blocks below:
//! - A handle's pointer comes from the matching `nftnl_*_alloc`, is not null, is not shared, and is freed once by `Drop`
//!   unless ownership went to another handle (`std::mem::forget` right after the call that took it).
//! - libnftnl copies what setters get; it keeps no pointer to our memory.
//! - libnftnl copies data of a caller's length into fixed fields of 64 bytes (`union nftnl_data_reg`) without checks:
//!   [`Data`] never has more. Texts and other bytes are bounded here by [`TEXT_MAX_BYTES`].
//! - libmnl appends attributes without knowing the end of the buffer: [`Scratch`] is larger than the largest message
//!   that a handle can make: each handle counts what was put into it and fails beyond [`MESSAGE_MAX_BYTES`].

#![expect(unsafe_code, reason = "libnftnl and getsockopt(2) are C; this module is their only caller")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use nftnl::nftnl_sys as ffi;
use rustix::io::Errno;

use crate::object::Family;
use crate::value::Data;

/// The longest text or user data that a handle takes.
const TEXT_MAX_BYTES: usize = 255;
/// The most bytes of attributes of one message: nests have a length of 16 bits.
const MESSAGE_MAX_BYTES: usize = 60 * 1024;
/// The heads of the nests that an attribute can lie in, and its padding.
const ATTRIBUTE_OVERHEAD_BYTES: usize = 24;
/// Room for the longest message, counted with its overheads, and its head.
const SCRATCH_BYTES: usize = 64 * 1024;

const _: () = assert!(MESSAGE_MAX_BYTES + 1024 < SCRATCH_BYTES);

/// Why an object could not be put into libnftnl's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("out of memory")]
    Memory,
    #[error("it holds an instruction or a value that cannot be sent")]
    Unsayable,
    #[error("key, data or timeout do not fit the set")]
    Mismatch,
    #[error("it is longer than one message")]
    TooLong,
}

/// Adds to a handle the count of its size and the failure of its setters.
macro_rules! growing {
    ($name:ident) => {
        impl $name {
            fn grown(mut self, value_bytes: usize) -> Self {
                self.size_bytes += value_bytes + ATTRIBUTE_OVERHEAD_BYTES;
                if self.size_bytes > MESSAGE_MAX_BYTES { self.fail(Failure::TooLong) } else { self }
            }

            fn fail(mut self, failure: Failure) -> Self {
                self.failure = self.failure.or(Some(failure));
                self
            }

            /// The handle, or the first failure of its setters.
            pub(crate) fn checked(self) -> Result<Self, Failure> {
                self.failure.map_or(Ok(self), Err)
            }
        }
    };
}

/// Defines an owned handle and the setters it has.
macro_rules! handle {
    ($(#[$doc:meta])* $name:ident($raw:ident, $alloc:ident, $free:ident) {
        $($setter:ident($value:ty) = $function:ident;)*
    }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            pointer: NonNull<ffi::$raw>,
            /// An upper bound of the attributes' bytes in a message.
            size_bytes: usize,
            failure: Option<Failure>,
        }

        impl $name {
            pub(crate) fn new() -> Result<Self, Failure> {
                // SAFETY: the function takes nothing and returns an owned object or null.
                let pointer = NonNull::new(unsafe { ffi::$alloc() }).ok_or(Failure::Memory)?;
                Ok(Self { pointer, size_bytes: ATTRIBUTE_OVERHEAD_BYTES, failure: None })
            }

            $(
                pub(crate) fn $setter(self, attribute: u32, value: $value) -> Self {
                    // SAFETY: the pointer is valid (see above) and the value is passed by copy.
                    unsafe { ffi::$function(self.pointer.as_ptr(), attribute as u16, value) };
                    self.grown(size_of::<$value>())
                }
            )*
        }

        growing!($name);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the pointer is valid and owned; nothing uses it after this.
                unsafe { ffi::$free(self.pointer.as_ptr()) };
            }
        }
    };
}

/// Adds a setter for texts to a handle.
macro_rules! text_setter {
    ($name:ident, $function:ident) => {
        impl $name {
            pub(crate) fn text(self, attribute: u32, text: &str) -> Self {
                let Ok(text) = CString::new(text) else { return self.fail(Failure::Unsayable) };
                if text.as_bytes().len() > TEXT_MAX_BYTES {
                    return self.fail(Failure::TooLong);
                }
                let pointer = self.pointer.as_ptr();
                // SAFETY: the pointer is valid; the text is NUL-terminated, outlives the call and is copied.
                let result = unsafe { ffi::$function(pointer, attribute as u16, text.as_ptr()) };
                let length = text.as_bytes().len();
                if result.is_failure() { self.fail(Failure::Memory) } else { self.grown(length) }
            }
        }
    };
}

/// Adds a setter for bytes to a handle.
macro_rules! bytes_setter {
    ($name:ident, $visibility:vis $setter:ident, $function:ident) => {
        impl $name {
            $visibility fn $setter(self, attribute: u32, bytes: &[u8]) -> Self {
                let length = match u32::try_from(bytes.len()) {
                    Ok(length) if bytes.len() <= TEXT_MAX_BYTES => length,
                    _ => return self.fail(Failure::TooLong),
                };
                // SAFETY: the pointer is valid; the bytes outlive the call, have that length and are copied.
                let result = unsafe {
                    ffi::$function(self.pointer.as_ptr(), attribute as u16, bytes.as_ptr().cast(), length)
                };
                if result.is_failure() { self.fail(Failure::Memory) } else { self.grown(bytes.len()) }
            }
        }
    };
}

/// The setters of libnftnl return nothing or a negative number when they fail.
trait SetterResult {
    fn is_failure(&self) -> bool;
}

impl SetterResult for () {
    fn is_failure(&self) -> bool {
        false
    }
}

impl SetterResult for i32 {
    fn is_failure(&self) -> bool {
        *self < 0
    }
}

handle! {
    /// A chain.
    ChainHandle(nftnl_chain, nftnl_chain_alloc, nftnl_chain_free) {
        u32(u32) = nftnl_chain_set_u32;
        i32(i32) = nftnl_chain_set_s32;
    }
}
text_setter!(ChainHandle, nftnl_chain_set_str);

handle! {
    /// A table.
    TableHandle(nftnl_table, nftnl_table_alloc, nftnl_table_free) {}
}
text_setter!(TableHandle, nftnl_table_set_str);

handle! {
    /// A named object.
    ObjectHandle(nftnl_obj, nftnl_obj_alloc, nftnl_obj_free) {
        u32(u32) = nftnl_obj_set_u32;
        u64(u64) = nftnl_obj_set_u64;
    }
}
text_setter!(ObjectHandle, nftnl_obj_set_str);

handle! {
    /// A set, with or without elements.
    SetHandle(nftnl_set, nftnl_set_alloc, nftnl_set_free) {
        u32(u32) = nftnl_set_set_u32;
        u64(u64) = nftnl_set_set_u64;
    }
}
text_setter!(SetHandle, nftnl_set_set_str);
bytes_setter!(SetHandle, any_bytes, nftnl_set_set_data);

handle! {
    /// One element of a set.
    ElementHandle(nftnl_set_elem, nftnl_set_elem_alloc, nftnl_set_elem_free) {
        u32(u32) = nftnl_set_elem_set_u32;
        u64(u64) = nftnl_set_elem_set_u64;
    }
}
text_setter!(ElementHandle, nftnl_set_elem_set_str);
bytes_setter!(ElementHandle, any_bytes, nftnl_set_elem_set);

handle! {
    /// A rule with its instructions.
    RuleHandle(nftnl_rule, nftnl_rule_alloc, nftnl_rule_free) {
        u64(u64) = nftnl_rule_set_u64;
    }
}
text_setter!(RuleHandle, nftnl_rule_set_str);
bytes_setter!(RuleHandle, pub(crate) bytes, nftnl_rule_set_data);

impl SetHandle {
    /// Sets user data (copied to the heap) or field lengths (a fixed field of sixteen bytes).
    pub(crate) fn bytes(self, attribute: u32, bytes: &[u8]) -> Self {
        if attribute == ffi::NFTNL_SET_DESC_CONCAT && bytes.len() >= 16 {
            return self.fail(Failure::TooLong);
        }
        self.any_bytes(attribute, bytes)
    }

    /// Appends an element, or gives it back when the message is full.
    pub(crate) fn push(&mut self, element: ElementHandle) -> Result<(), ElementHandle> {
        let size_bytes = self.size_bytes + element.size_bytes;
        if size_bytes > MESSAGE_MAX_BYTES {
            return Err(element);
        }
        self.size_bytes = size_bytes;
        // SAFETY: both pointers are valid; the set owns the element from here on.
        unsafe { ffi::nftnl_set_elem_add(self.pointer.as_ptr(), element.pointer.as_ptr()) };
        std::mem::forget(element);
        Ok(())
    }
}

impl ElementHandle {
    /// Sets a key or datum, which [`Data`] bounds to libnftnl's field.
    pub(crate) fn data(self, attribute: u32, data: &Data) -> Self {
        self.any_bytes(attribute, data.as_bytes())
    }
}

impl RuleHandle {
    /// Appends an instruction.
    pub(crate) fn push(&mut self, expression: Expression) -> Result<(), Failure> {
        self.size_bytes += expression.size_bytes;
        if self.size_bytes > MESSAGE_MAX_BYTES {
            return Err(Failure::TooLong);
        }
        // SAFETY: both pointers are valid; the rule owns the expression from here on.
        unsafe { ffi::nftnl_rule_add_expr(self.pointer.as_ptr(), expression.pointer.as_ptr()) };
        std::mem::forget(expression);
        Ok(())
    }
}

/// One instruction of a rule.
#[derive(Debug)]
pub(crate) struct Expression {
    pointer: NonNull<ffi::nftnl_expr>,
    size_bytes: usize,
    failure: Option<Failure>,
}

impl Expression {
    pub(crate) fn new(name: &CStr) -> Result<Self, Failure> {
        // SAFETY: the name is NUL-terminated and outlives the call, which returns an owned object or null.
        let pointer = NonNull::new(unsafe { ffi::nftnl_expr_alloc(name.as_ptr()) }).ok_or(Failure::Memory)?;
        Ok(Self { pointer, size_bytes: 2 * ATTRIBUTE_OVERHEAD_BYTES, failure: None })
    }

    pub(crate) fn u8(self, attribute: u32, value: u8) -> Self {
        // SAFETY: the pointer is valid and the value is passed by copy.
        unsafe { ffi::nftnl_expr_set_u8(self.pointer.as_ptr(), attribute as u16, value) };
        self.grown(size_of_val(&value))
    }

    pub(crate) fn u16(self, attribute: u32, value: u16) -> Self {
        // SAFETY: the pointer is valid and the value is passed by copy.
        unsafe { ffi::nftnl_expr_set_u16(self.pointer.as_ptr(), attribute as u16, value) };
        self.grown(size_of_val(&value))
    }

    pub(crate) fn u32(self, attribute: u32, value: u32) -> Self {
        // SAFETY: the pointer is valid and the value is passed by copy.
        unsafe { ffi::nftnl_expr_set_u32(self.pointer.as_ptr(), attribute as u16, value) };
        self.grown(size_of_val(&value))
    }

    pub(crate) fn u64(self, attribute: u32, value: u64) -> Self {
        // SAFETY: the pointer is valid and the value is passed by copy.
        unsafe { ffi::nftnl_expr_set_u64(self.pointer.as_ptr(), attribute as u16, value) };
        self.grown(size_of_val(&value))
    }

    pub(crate) fn data(self, attribute: u32, data: &Data) -> Self {
        self.any_bytes(attribute, data.as_bytes())
    }
}

growing!(Expression);
text_setter!(Expression, nftnl_expr_set_str);
bytes_setter!(Expression, any_bytes, nftnl_expr_set);

impl Drop for Expression {
    fn drop(&mut self) {
        // SAFETY: the pointer is valid and owned; nothing uses it after this.
        unsafe { ffi::nftnl_expr_free(self.pointer.as_ptr()) };
    }
}

/// What a message carries.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Table(&'a TableHandle),
    Chain(&'a ChainHandle),
    Rule(&'a RuleHandle),
    Set(&'a SetHandle),
    Elements(&'a SetHandle),
    Object(&'a ObjectHandle),
}

/// The head of a message to nf_tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    /// NFT_MSG_*.
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) family: Family,
    pub(crate) sequence: u32,
}

/// A buffer that holds any one message.
pub(crate) struct Scratch(Box<[u64]>);

impl std::fmt::Debug for Scratch {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Scratch")
    }
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(vec![0; SCRATCH_BYTES / size_of::<u64>()].into_boxed_slice())
    }

    /// Writes one message and appends it to a batch.
    pub(crate) fn append(
        &mut self,
        header: Header,
        payload: &Payload<'_>,
        batch: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let family = u16::try_from(header.family.to_kernel()).map_err(|_| Failure::Unsayable)?;
        let start: *mut c_char = self.0.as_mut_ptr().cast();
        // SAFETY: the buffer is aligned, writable, and larger than the largest message (see the head of this file); the
        // handles are valid and only read. The rule and set builders take `*mut` and do not change the object.
        let length = unsafe {
            let message =
                ffi::nftnl_nlmsg_build_hdr(start, header.kind, family, header.flags, header.sequence);
            match payload {
                Payload::Table(table) => {
                    ffi::nftnl_table_nlmsg_build_payload(message, table.pointer.as_ptr())
                }
                Payload::Chain(chain) => {
                    ffi::nftnl_chain_nlmsg_build_payload(message, chain.pointer.as_ptr())
                }
                Payload::Rule(rule) => ffi::nftnl_rule_nlmsg_build_payload(message, rule.pointer.as_ptr()),
                Payload::Set(set) => ffi::nftnl_set_nlmsg_build_payload(message, set.pointer.as_ptr()),
                Payload::Elements(set) => {
                    ffi::nftnl_set_elems_nlmsg_build_payload(message, set.pointer.as_ptr())
                }
                Payload::Object(object) => {
                    ffi::nftnl_obj_nlmsg_build_payload(message, object.pointer.as_ptr())
                }
            }
            (*message).nlmsg_len
        };
        let length = usize::try_from(length).map_err(|_| Failure::TooLong)?;
        let written = self.0.iter().flat_map(|word| word.to_ne_bytes()).take(length);
        batch.extend(written);
        batch.resize(batch.len().next_multiple_of(4), 0);
        Ok(())
    }
}

/// How many messages the kernel had no room for on a socket (SO_MEMINFO of linux/socket.h, SK_MEMINFO_DROPS of
/// linux/sock_diag.h). rustix has no such option.
pub(crate) fn socket_drops(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    const SO_MEMINFO: c_int = 55;
    const DROPS: usize = 8;
    let mut numbers = [0_u32; DROPS + 1];
    let mut length = libc::socklen_t::try_from(size_of_val(&numbers)).unwrap_or_default();
    // SAFETY: the descriptor is open while it is borrowed; the buffer is writable and as long as the length says, and
    // the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let [.., drops] = numbers;
    if result == 0 {
        Ok(drops)
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}
