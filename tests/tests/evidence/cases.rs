//! What is broken, what that shows, and how it is mended. The tables are data, so that a live control without a case is
//! found without a lab.
use crate::{clinic::Clinic, hands};

/// Mends what was broken.
pub(crate) type Mend = Box<dyn FnOnce(&mut Clinic)>;

/// One thing to break.
pub(crate) struct Case {
    /// In words.
    pub(crate) what: &'static str,
    /// Breaks it, and gives the way back.
    pub(crate) breaks: fn(&mut Clinic) -> Mend,
    /// Controls and how they stand then; each stands at `ok` before and after.
    pub(crate) shows: &'static [(&'static str, &'static str)],
    /// Lines that a reader of the metrics finds then.
    pub(crate) exports: &'static [&'static str],
}

/// What is not in order before people have done their part.
pub(crate) const FRESH: &[(&str, &str)] = &[
    ("time-sync", "failed"),
    ("management-report", "failed"),
    ("configuration-diagram", "failed"),
    ("disposal-and-recovery", "failed"),
    ("incident-reporting", "warning"),
];

/// What the policy says.
pub(crate) const WRITTEN: &[Case] = &[
    Case {
        what: "careless accounts of persons, VPN users and vendors",
        breaks: hands::careless_accounts,
        shows: &[
            ("two-factor", "failed"),
            ("access-rights-review", "failed"),
            ("identity-proofing", "failed"),
            ("offsite-access", "failed"),
            ("rm-dedicated-account", "failed"),
            ("rm-account-lifecycle", "failed"),
            ("responsible-list", "warning"),
        ],
        exports: &[],
    },
    Case {
        what: "nobody responsible",
        breaks: hands::nobody_responsible,
        shows: &[("responsible-list", "failed"), ("incident-reporting", "failed")],
        exports: &[],
    },
    Case {
        what: "careless flows",
        breaks: hands::careless_flows,
        shows: &[
            ("net-separation", "warning"),
            ("least-communication", "warning"),
            ("iot-communication-control", "failed"),
            ("anti-loop-around", "failed"),
            ("transit-protection", "failed"),
            ("vpn-equivalence", "failed"),
            ("ssl-vpn-restriction", "warning"),
            ("rm-login-restriction", "failed"),
            ("configuration-diagram", "warning"),
            ("disposal-and-recovery", "warning"),
        ],
        exports: &[],
    },
    Case {
        what: "exceptions that have ended while their flows go on",
        breaks: hands::exceptions,
        shows: &[
            ("net-separation", "failed"),
            ("patient-facing-separation", "failed"),
            ("inbound-exposure", "failed"),
            ("source-restriction", "failed"),
            ("no-site-transit", "failed"),
            ("mgmt-interface", "failed"),
        ],
        exports: &[],
    },
    Case {
        what: "a token in place of client certificates",
        breaks: hands::by_token,
        shows: &[
            ("tls13-client-cert", "warning"),
            ("source-restriction", "warning"),
            ("mutual-authentication", "warning"),
        ],
        exports: &[],
    },
    Case {
        what: "files without the sender's word",
        breaks: hands::without_attestation,
        shows: &[("rm-sanitization", "warning")],
        exports: &[],
    },
];

/// What goes over the wires and stands in the box.
pub(crate) const MEASURED: &[Case] = &[
    Case {
        what: "packets that somebody should look at",
        breaks: hands::suspicious_packets,
        shows: &[
            ("rm-inventory", "failed"),
            ("ssl-vpn-restriction", "failed"),
            ("vpn-equivalence", "warning"),
            ("transit-protection", "warning"),
            ("log-review", "warning"),
        ],
        exports: &[],
    },
    Case {
        what: "a DHCP server that nobody put there",
        breaks: hands::rogue_dhcp,
        shows: &[("external-connection-inventory", "failed"), ("log-review", "warning")],
        exports: &[],
    },
    Case {
        what: "a DHCP server with an address from elsewhere, as of a router brought from home",
        breaks: hands::foreign_dhcp,
        shows: &[("external-connection-inventory", "failed"), ("log-review", "warning")],
        exports: &[],
    },
    Case {
        what: "an IPv6 router that nobody put there",
        breaks: hands::rogue_router,
        shows: &[("external-connection-inventory", "failed"), ("log-review", "warning")],
        exports: &[],
    },
    Case {
        what: "a device that nobody registered, at the modalities",
        breaks: hands::stray_device,
        shows: &[
            ("rogue-device-block", "failed"),
            ("asset-ledger", "failed"),
            ("iot-communication-control", "warning"),
        ],
        exports: &[],
    },
    Case {
        what: "a device that answers with a registered one's address",
        breaks: hands::impostor,
        shows: &[("rogue-device-block", "failed"), ("asset-ledger", "failed")],
        exports: &[],
    },
    Case {
        what: "a program that listens, and loose reverse paths",
        breaks: hands::careless_box,
        shows: &[("inbound-exposure", "warning"), ("anti-spoofing", "failed")],
        exports: &["sekisho_drift_repairs_total 1"],
    },
    Case {
        what: "the kernel's notices of connections switched off",
        breaks: hands::blind_ledger,
        shows: &[("access-log", "failed")],
        exports: &["sekisho_drift_repairs_total 2"],
    },
    Case {
        what: "forwarding switched off",
        breaks: hands::no_forwarding,
        shows: &[("anti-spoofing", "failed")],
        exports: &["sekisho_drift_repairs_total 3"],
    },
    Case {
        what: "a table of rules by somebody else",
        breaks: hands::foreign_table,
        shows: &[("net-separation", "warning"), ("no-site-transit", "warning"), ("anti-spoofing", "warning")],
        exports: &["sekisho_foreign_tables 1"],
    },
    Case {
        what: "every rule flushed",
        breaks: hands::flush,
        shows: &[
            ("net-separation", "failed"),
            ("least-communication", "failed"),
            ("inbound-exposure", "failed"),
            ("source-restriction", "failed"),
            ("anti-spoofing", "failed"),
            ("no-site-transit", "failed"),
            ("patient-facing-separation", "failed"),
            ("rogue-device-block", "failed"),
            ("iot-communication-control", "failed"),
            ("anti-loop-around", "failed"),
            ("transit-protection", "failed"),
            ("vpn-equivalence", "failed"),
            ("ssl-vpn-restriction", "failed"),
            ("mgmt-interface", "failed"),
            ("rm-login-restriction", "failed"),
        ],
        exports: &["sekisho_drift_repairs_total 4"],
    },
];

/// What the box keeps and lives by.
pub(crate) const KEPT: &[Case] = &[
    Case {
        what: "a log whose file was changed",
        breaks: hands::changed_log,
        shows: &[("log-integrity", "failed")],
        exports: &["sekisho_audit_intact 0"],
    },
    Case {
        what: "a ledger with too little room",
        breaks: hands::little_room,
        shows: &[("log-retention", "failed")],
        exports: &[],
    },
    Case {
        what: "an authority whose certificate ends soon",
        breaks: hands::ending_certificate,
        shows: &[("tls-high-security", "warning")],
        exports: &[],
    },
];

/// What happens at the doors.
pub(crate) const DOORS: &[Case] = &[
    Case {
        what: "a path that somebody opened by hand, and nobody approved",
        breaks: hands::unapproved_path,
        shows: &[
            ("rm-preapproval", "failed"),
            ("rm-login-restriction", "failed"),
            ("net-separation", "failed"),
        ],
        exports: &[],
    },
    Case {
        what: "a session whose recorder dies",
        breaks: hands::unrecorded_session,
        shows: &[("rm-access-log", "failed"), ("rm-review", "warning")],
        exports: &[
            r#"sekisho_sessions_ended_total{why="recorder-failed"} 1"#,
            r#"sekisho_sessions{state="open"} 0"#,
        ],
    },
    Case {
        what: "a session that ended, and nobody has looked",
        breaks: hands::ended_session,
        shows: &[("rm-review", "warning")],
        exports: &[
            r#"sekisho_sessions_ended_total{why="killed"} 1"#,
            r#"sekisho_sessions_total{step="opened"} 2"#,
        ],
    },
    Case {
        what: "an inspection that finds nothing",
        breaks: hands::blind_inspection,
        shows: &[("file-sanitization", "failed"), ("rm-sanitization", "failed")],
        exports: &[],
    },
    Case {
        what: "codes that are guessed at",
        breaks: hands::guessed_codes,
        shows: &[("two-factor", "warning")],
        exports: &[r#"sekisho_persons{state="locked"} 1"#, "sekisho_persons_locked_total 1"],
    },
];

/// Roles that die; they are started again, as systemd would.
pub(crate) const DYING: &[Case] = &[
    Case {
        what: "watch is gone, and the time daemon",
        breaks: hands::kill_watch_and_time,
        shows: &[
            ("network-monitoring", "failed"),
            ("zero-trust", "unknown"),
            ("access-log", "unknown"),
            ("log-retention", "unknown"),
            ("rm-inventory", "unknown"),
            ("transit-protection", "unknown"),
            ("time-sync", "unknown"),
        ],
        exports: &[r#"sekisho_role_up{role="watch"} 0"#, r#"sekisho_role_up{role="core"} 1"#],
    },
    Case {
        what: "record is gone",
        breaks: hands::kill_record,
        shows: &[
            ("network-monitoring", "failed"),
            ("log-integrity", "unknown"),
            ("log-retention", "unknown"),
            ("log-review", "unknown"),
            ("access-log", "unknown"),
            ("rm-access-log", "unknown"),
            ("rm-review", "unknown"),
            ("management-report", "unknown"),
        ],
        exports: &[r#"sekisho_role_up{role="record"} 0"#, r#"sekisho_role_up{role="core"} 1"#],
    },
    Case {
        what: "files is gone",
        breaks: hands::kill_files,
        shows: &[
            ("network-monitoring", "failed"),
            ("file-sanitization", "unknown"),
            ("rm-sanitization", "unknown"),
        ],
        exports: &[r#"sekisho_role_up{role="files"} 0"#],
    },
    Case {
        what: "core is gone, and with it the kernel's feeds",
        breaks: hands::kill_core,
        shows: &[
            ("network-monitoring", "failed"),
            ("access-log", "failed"),
            ("zero-trust", "failed"),
            ("net-separation", "unknown"),
            ("anti-spoofing", "unknown"),
            ("rogue-device-block", "unknown"),
            ("time-sync", "unknown"),
            ("two-factor", "unknown"),
        ],
        exports: &[r#"sekisho_role_up{role="core"} 0"#, r#"sekisho_feed_up{feed="connections"} 0"#],
    },
];

/// Every control that some case turns, and `FRESH`.
pub(crate) fn turned() -> impl Iterator<Item = &'static str> {
    let cases = [WRITTEN, MEASURED, KEPT, DOORS, DYING];
    let shown = cases.into_iter().flatten().flat_map(|case| case.shows);
    FRESH.iter().chain(shown).map(|(control, _)| *control)
}
