//! Policies of a given size for the smallest lab: `client` on `lan0` (zone left), `server` on `lan1` (zone right).

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Lab, LabBuilder, Spec};
use netfilter::{LiveSet, Netfilter};
use policy::compile::{Compiled, compile, live_at};
use policy::ledger::Ledger;
use policy::raw::Sources;

/// The port that the measured packets go to; it is in the middle of every policy.
pub(crate) const PORT: u16 = 5_000;
/// Ports of the other flows begin here.
const FIRST_PORT: usize = 10_000;

/// A policy of so many flows between the client and the server, one of which is for [`PORT`].
pub(crate) fn policy_text(flows: usize) -> String {
    let mut text = String::from(
        r#"schema = 1
[clinic]
name = "bench"
site = "bench"
timezone = "Asia/Tokyo"
guideline = "6.0"
[zone.left]
kind = "staff"
interface = "lan0"
networks = ["10.0.1.0/24", "fd00:1::/64"]
[zone.right]
kind = "clinical"
interface = "lan1"
networks = ["10.0.2.0/24", "fd00:2::/64"]
[device.client]
zone = "left"
address = ["10.0.1.2"]
[device.server]
zone = "right"
address = ["10.0.2.2"]
"#,
    );
    for index in 0..flows {
        let port = if index == flows / 2 { usize::from(PORT) } else { FIRST_PORT + index };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[[flow]]\nname = \"f{index}\"\nfrom = \"device:client\"\nto = \"device:server\"\nservice = \"udp/{port}\"\n\
             purpose = \"p\"\nowner = \"o\"\n"
        );
    }
    text
}

/// The compiled policy and all its marks, live for ever.
pub(crate) fn compiled(flows: usize) -> Result<(Compiled, LiveSet)> {
    let text = policy_text(flows);
    let now = jiff::Timestamp::now();
    let resolved =
        policy::resolve::load(&Sources::single("bench.toml", &text), now).context("read the policy")?;
    let compiled = compile(&resolved.policy, &Ledger::default()).context("compile the policy")?;
    let live = live_at(&resolved.policy, &compiled.ruleset, now, true);
    Ok((compiled, live.into_keys().map(|mark| (mark, None::<Duration>)).collect()))
}

/// A lab that forwards.
pub(crate) fn lab() -> Result<Lab> {
    Ok(LabBuilder::new(Spec::client_router_server()).forwarding(true).build()?)
}

/// A lab whose gateway enforces a policy of so many flows.
pub(crate) fn enforcing(flows: usize) -> Result<Lab> {
    let lab = lab()?;
    let (compiled, live) = compiled(flows)?;
    lab.gateway().run_in(|| -> Result<()> {
        let mut netfilter = Netfilter::open()?;
        netfilter.replace(&compiled.ruleset, &live)?;
        Ok(())
    })??;
    Ok(lab)
}
