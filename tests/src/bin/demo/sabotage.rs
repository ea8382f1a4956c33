//! Ways to break the product on purpose, each to be found at the line that measures it.
use anyhow::Result;
use serde_json::Value;

use crate::{screen::Screen, site::Site};

/// The name of Sekisho's table in the kernel.
pub(crate) const TABLE: &str = "sekisho";

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sabotage {
    /// A packet is let through that no flow allows.
    Flow,
    /// Packets of an ended flow pass: the gate at the live set is bypassed.
    Gate,
    /// A rule is edited between the apply and the comparison.
    Readback,
}

/// Lets everything from the waiting room through, as a careless hand would.
pub(crate) fn edit_a_rule(screen: &Screen, site: &Site) -> Result<()> {
    site.nft(screen, &format!("insert rule inet {TABLE} gate-forward iifname lan-guest accept"))
}

/// Allows SSH from ct to the records behind the policy's back, under the mark of another flow.
pub(crate) fn add_a_flow(screen: &Screen, site: &Site) -> Result<()> {
    const MAP: &str = "modality-to-ehr-ip4";
    let flows = site.ask(&["--json", "flows"])?.json()?;
    let rows = flows.as_array().into_iter().flatten();
    let named = |row: &&Value| row.get("name").and_then(Value::as_str) == Some("ct-to-pacs");
    let mark = rows.clone().find(named).and_then(|row| row.get("mark")).and_then(Value::as_str);
    let mark = mark.unwrap_or_default();
    // Core would repair it within seconds, and the line would hold again.
    site.freeze()?;
    let key = "192.168.20.21 . 192.168.10.10 . tcp . 22";
    site.nft(screen, &format!("add element inet {TABLE} {MAP} {{ {key} : {mark} }}"))
}

/// Lets every connection go on that was ever allowed between staff and the records' zone.
pub(crate) fn bypass_the_gate(screen: &Screen, site: &Site) -> Result<()> {
    site.freeze()?;
    site.nft(screen, &format!("insert rule inet {TABLE} staff-to-ehr ct state established accept"))
}
