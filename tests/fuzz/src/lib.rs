//! What must hold of any input from outside: one function for each parser, fed by a fuzzer (`make fuzz`, `libfuzzer/`) and, as
//! an ordinary test, with the kept seeds. A target returns, or it panics: then its input is a finding, and becomes a seed.

mod certificates;
mod clinic;
mod files;
mod strangers;

/// A target: any bytes, no panic.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also the name of its directory of seeds.
pub const TARGETS: [(&str, Target); 15] = [
    ("whole_file", files::whole),
    ("named_file", files::named),
    ("attestation", files::attestation),
    ("file_name", files::name),
    ("wireguard_datagram", strangers::datagram),
    ("wireguard_runs", strangers::runs),
    ("tunnel_pieces", strangers::pieces),
    ("maintenance_frame", strangers::frame),
    ("invitation", strangers::invitation),
    ("certificate", certificates::certificate),
    ("role_frame", clinic::role_frame),
    ("kernel_feed", clinic::kernel_feed),
    ("policy_text", clinic::policy_text),
    ("log_file", clinic::log_file),
    ("backup", clinic::backup),
];

/// Runs the target of this name.
///
/// # Panics
/// When there is none, and when the target finds a fault.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    assert!(target.is_some(), "no target `{name}`");
    if let Some((_, target)) = target {
        target(input);
    }
}
