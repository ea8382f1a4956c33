//! Controls in groups that a reader can hold in mind; the catalogue has none.

use policy::guideline::Catalogue;
use policy::guideline::catalogue::Control;

use crate::DashboardError;
use crate::words::{Said, said};

/// Some controls that belong together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// Its name in paths.
    pub(crate) slug: &'static str,
    /// Its title.
    pub(crate) title: Said,
    /// Its controls.
    ids: &'static [&'static str],
}

/// Every group, in the order of the pages.
pub(crate) const GROUPS: [Group; 8] = [
    Group {
        slug: "controls-network",
        title: said("区画と通信", "Zones and traffic"),
        ids: &[
            "net-separation",
            "least-communication",
            "inbound-exposure",
            "external-connection-inventory",
            "source-restriction",
            "anti-spoofing",
            "no-site-transit",
            "trusted-router",
            "network-monitoring",
            "ids-ips",
            "wifi",
            "zero-trust",
        ],
    },
    Group {
        slug: "controls-devices",
        title: said("機器と端末", "Devices"),
        ids: &[
            "rogue-device-block",
            "patient-facing-separation",
            "iot-communication-control",
            "anti-loop-around",
            "asset-ledger",
            "byod",
            "mds-sds",
            "malware-edr",
            "vpn-device-vulnerability",
        ],
    },
    Group {
        slug: "controls-encryption",
        title: said("暗号とVPN", "Encryption and VPN"),
        ids: &[
            "vpn-equivalence",
            "tls13-client-cert",
            "tls-high-security",
            "ssl-vpn-restriction",
            "mutual-authentication",
            "transit-protection",
        ],
    },
    Group {
        slug: "controls-maintenance",
        title: said("遠隔保守と事業者", "Remote maintenance and vendors"),
        ids: &[
            "rm-inventory",
            "rm-preapproval",
            "rm-login-restriction",
            "rm-access-log",
            "rm-plan-reconciliation",
            "rm-review",
            "rm-dedicated-account",
            "rm-account-lifecycle",
            "rm-record-access",
            "rm-sanitization",
            "rm-no-takeout",
            "rm-vendor-duties",
            "rm-operation-log",
            "maintenance-outsourced-clinic",
            "file-sanitization",
        ],
    },
    Group {
        slug: "controls-access",
        title: said("人と権限", "Persons and rights"),
        ids: &[
            "mgmt-interface",
            "password-policy",
            "two-factor",
            "access-rights-review",
            "emergency-account",
            "identity-proofing",
            "offsite-access",
        ],
    },
    Group {
        slug: "controls-evidence",
        title: said("記録と時刻", "Records and time"),
        ids: &["access-log", "log-review", "log-integrity", "time-sync", "log-retention"],
    },
    Group {
        slug: "controls-continuity",
        title: said("備えと復旧", "Incidents and recovery"),
        ids: &["incident-isolation", "incident-reporting", "backup", "bcp-training", "disposal-and-recovery"],
    },
    Group {
        slug: "controls-organisation",
        title: said("体制と文書", "Responsibilities and documents"),
        ids: &[
            "configuration-diagram",
            "responsible-list",
            "responsibility-demarcation",
            "management-report",
            "risk-assessment",
            "cloud-provider-criteria",
            "cloud-availability",
            "provider-access-visibility",
        ],
    },
];

impl Group {
    /// Its controls, in its order.
    pub(crate) fn controls<'a>(&self, catalogue: &'a Catalogue) -> Vec<&'a Control> {
        let known = |id: &&str| catalogue.controls().iter().find(|control| control.id.as_str() == *id);
        self.ids.iter().filter_map(known).collect()
    }
}

/// Holds that every control is in a group.
pub(crate) fn check(catalogue: &Catalogue) -> Result<(), DashboardError> {
    let is_grouped = |id: &str| GROUPS.iter().any(|group| group.ids.contains(&id));
    match catalogue.controls().iter().find(|control| !is_grouped(control.id.as_str())) {
        Some(control) => Err(DashboardError::NoGroup(control.id.to_string())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_is_in_one_group_and_no_group_names_another() {
        let catalogue = Catalogue::shipped().unwrap();
        check(&catalogue).unwrap();
        let held: usize = GROUPS.iter().map(|group| group.controls(&catalogue).len()).sum();
        let named: usize = GROUPS.iter().map(|group| group.ids.len()).sum();
        assert_eq!((held, named), (catalogue.controls().len(), catalogue.controls().len()));
    }
}
