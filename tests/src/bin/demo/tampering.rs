//! Section 7: somebody edits the kernel's rules with `nft`, and it does not last.
use anyhow::Result;

use crate::{
    sabotage,
    screen::Screen,
    site::{POLICY, Site},
    start::forbidden_for_a_moment,
};

/// Edits, finds, puts back.
pub(crate) fn tampering(screen: &mut Screen, site: &Site) -> Result<()> {
    let words = screen.words;
    screen.section(&words.tampering());
    // Core looks every few seconds by itself; it is kept from that for the moment in which the edit is measured.
    site.freeze()?;
    sabotage::edit_a_rule(screen, site)?;
    let (_, arrived) = forbidden_for_a_moment(site)?;
    site.thaw()?;
    screen.expect(arrived > 0, &words.leak(arrived))?;
    let said = site.run(screen, &["verify"])?;
    screen.expect(said.ended(6) && said.text().contains("gate-forward"), &words.found())?;
    let applied = site.run(screen, &["apply", POLICY])?;
    let verified = site.run(screen, &["verify"])?;
    screen.expect(applied.ended(0) && verified.ended(0), &words.put_back())?;
    let (sent, arrived) = forbidden_for_a_moment(site)?;
    Ok(screen.expect(sent > 0 && arrived == 0, &words.closed_again(arrived))?)
}
