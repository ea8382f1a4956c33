//! The Debian package: what is in it, that it installs in a fresh Debian and leaves nothing when purged, that no
//! installation, upgrade or first activation locks anybody out, and in which order a box boots. Needs root.
//!
//! `SEKISHO_PACKAGE_BINARIES=DIR` packs the programs of that directory instead of this build's;
//! `SEKISHO_SKIP_QEMU=1` leaves the boot out and says so.
#[cfg(test)]
mod boot;
#[cfg(test)]
mod build;
#[cfg(test)]
mod install;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod tunnel;
