//! Where the kept daemons (dnsmasq, chronyd, dhcpcd) keep their files: what their units in firmware/units/ grant them.

use policy::services::{FilePath, ServicePaths, ServicesError};

/// The installed places.
///
/// # Errors
/// Never on an installed system: the paths are plain.
pub fn installed() -> Result<ServicePaths, ServicesError> {
    Ok(ServicePaths {
        leases: FilePath::new("/var/lib/sekisho-leases/dnsmasq.leases")?,
        leases_pid: FilePath::new("/run/sekisho-leases/dnsmasq.pid")?,
        names_pid: FilePath::new("/run/sekisho-names/dnsmasq.pid")?,
        drift: FilePath::new("/var/lib/sekisho-chrony/drift")?,
        chrony_socket: FilePath::new("/run/sekisho-chrony/chronyd.sock")?,
        chrony_pid: FilePath::new("/run/sekisho-chrony/chronyd.pid")?,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_installed_places_are_plain() {
        assert!(super::installed().is_ok());
    }
}
