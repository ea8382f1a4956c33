//! Remote maintenance over the wire: the real edge role, the real record role and the real `sekisho-vendor`, both
//! transports. Core needs the kernel's packet filter and has its own tests; here its answers at `doors.sock` are given by
//! the test, so that every state of a session can be held as long as is looked at.

#[cfg(test)]
mod journey;
#[cfg(test)]
mod site;
