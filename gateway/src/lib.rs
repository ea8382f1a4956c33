//! What the roles and the command line share: the socket's language, the client, the state directory, policy sources.
//! Nothing here speaks to the kernel's packet filter: a program that links only this library does not link libnftnl.

pub mod accounts;
pub mod backup;
pub mod client;
pub mod recorder;
pub mod service_paths;
pub mod sources;
pub mod store;
pub mod wire;
