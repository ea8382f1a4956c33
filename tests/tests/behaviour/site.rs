//! The policies of these tests: one ground, and flows upon it.
use std::fmt::Write as _;

use lab::Lab;

/// Zones, devices and the management of the gateway.
pub(crate) const GROUND: &str = include_str!("site.toml");

/// Writes one flow; the service is a list such as `tcp/80, udp/53`.
pub(crate) fn flow(name: &str, from: &str, to: &str, service: &str) -> String {
    let words: Vec<_> = service.split(',').map(|word| format!("\"{}\"", word.trim())).collect();
    format!(
        "\n[[flow]]\nname = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\nservice = [{}]\n\
         purpose = \"a test\"\nowner = \"tests\"\n",
        words.join(", ")
    )
}

/// Writes one flow with a further key, such as `until = ..`.
pub(crate) fn flow_with(name: &str, from: &str, to: &str, service: &str, key: &str) -> String {
    let mut text = flow(name, from, to, service);
    let _ = writeln!(text, "{key}");
    text
}

/// Joins flows and the ground to a policy.
pub(crate) fn policy(flows: &[String]) -> String {
    format!("{GROUND}{}", flows.concat())
}

/// The clinic; it forwards only when the test does core's part itself.
pub(crate) fn clinic(forwarding: bool) -> Lab {
    lab::LabBuilder::new(lab::Spec::clinic()).forwarding(forwarding).build().unwrap()
}

/// Numbers that differ from run to run, and come again when `SEKISHO_SEED` says so.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(what: &str) -> Self {
        let given = std::env::var("SEKISHO_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::try_from(since.as_nanos() & u128::from(u64::MAX)).unwrap()
        });
        println!("{what}: SEKISHO_SEED={seed}");
        Self(seed)
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }
}
