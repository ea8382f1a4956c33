//! Numbers by which controls are judged. All are this product's own defaults: the guideline, as far as it could be
//! read, names none of them, and the catalogue says so.

/// Days after which a device of the ledger counts as unseen.
pub const UNSEEN_DAYS: i64 = 90;
/// Days for which suspicious traffic is kept in [`super::observation::Sightings`].
pub const SIGHTING_DAYS: i64 = 30;
/// Hours for which suspicious traffic that nobody looked at is a failure; later it is a warning.
pub const SIGHTING_FAILED_H: i64 = 24;
/// Minutes for which a repaired difference of the kernel's rules is a failure; later, until somebody looks, a warning.
pub const REPAIR_FAILED_M: i64 = 5;
/// Minutes for which lost events are a warning.
pub const LOSS_SHOWN_M: i64 = 60;
/// Hours for which entries dropped before their time are a failure; later, until somebody looks, a warning.
pub const LOSS_FAILED_H: i64 = 24;
/// Minutes without a reading of the metrics after which monitoring is a warning.
pub const SCRAPE_MAX_M: i64 = 5;
/// Offset of the clock in milliseconds from which it is a warning.
pub const OFFSET_WARNING_MS: u64 = 1_000;
/// Offset of the clock in milliseconds from which it is a failure.
pub const OFFSET_FAILED_MS: u64 = 10_000;
/// Sources of time that should answer.
pub const TIME_SOURCES_MIN: u32 = 2;
/// Hours within which the whole log is verified again.
pub const VERIFY_MAX_H: i64 = 26;
/// Hours within which a checkpoint is signed.
pub const CHECKPOINT_MAX_H: i64 = 26;
/// Days before the end of a certificate from which it is a warning.
pub const CERTIFICATE_WARNING_DAYS: i64 = 30;
/// Days within which the log is reviewed.
pub const REVIEW_WARNING_DAYS: i64 = 31;
/// Days after which a missing review is a failure.
pub const REVIEW_FAILED_DAYS: i64 = 365;
/// Days within which the configuration diagram is drawn anew.
pub const DIAGRAM_MAX_DAYS: i64 = 30;
/// Days within which management gets a report.
pub const REPORT_WARNING_DAYS: i64 = 35;
/// Days after which a missing report is a failure.
pub const REPORT_FAILED_DAYS: i64 = 90;
/// Days within which a backup is made.
pub const BACKUP_WARNING_DAYS: i64 = 31;
/// Days after which a missing backup is a failure.
pub const BACKUP_FAILED_DAYS: i64 = 180;
/// Days within which a restore is tried, and evidence is exported as a drill.
pub const DRILL_MAX_DAYS: i64 = 365;
/// Share of a disk budget in percent from which it is a warning: before a ledger lets its oldest rows go (at 90) and
/// before a log keeps its last room for what is critical.
pub const BUDGET_WARNING_PERCENT: u64 = 85;
/// Hours of a log's life before its growth is projected.
pub const PROJECTION_MIN_H: i64 = 24;
/// Minutes within which the inspection of files is tried again by a test file.
pub const INSPECTION_TRIED_MAX_M: i64 = 2;
/// Days after the end of a maintenance session from which a missing review of the log is a failure; until then, and from
/// the end on, it is a warning.
pub const MAINTENANCE_REVIEW_FAILED_DAYS: i64 = 7;
/// Hours for which a maintenance session that could not be recorded to its end is a failure; later, until somebody looks,
/// a warning.
pub const CUT_OFF_FAILED_H: i64 = 24;
/// Suites of TLS 1.3 that are taken as high security: all with authenticated encryption (RFC 8446, B.4).
pub const TLS_SUITES: [&str; 3] =
    ["TLS13_AES_256_GCM_SHA384", "TLS13_AES_128_GCM_SHA256", "TLS13_CHACHA20_POLY1305_SHA256"];
/// Key exchanges that are taken as high security.
pub const TLS_GROUPS: [&str; 4] = ["X25519", "secp256r1", "secp384r1", "X25519MLKEM768"];
