//! Section 14: what sections 12 and 13 were, in controls and in numbers: inspection tried by the gateway itself, sessions,
//! files and the VPN as Prometheus has them.
use anyhow::Result;

use crate::{
    controls, inspections,
    patience::until,
    prometheus::{HOST, QUERY},
    screen::Screen,
    site::Site,
};

/// Controls that rest on what was done, and on the gateway's own test of inspection.
const IN_ORDER: [&str; 4] =
    ["rm-preapproval", "rm-sanitization", "file-sanitization", "mutual-authentication"];
/// What must have been counted by now, at the least: of sections 12 and 13, and of nobody's visits at the door.
const COUNTED: [(&str, f64); 9] = [
    (r#"sekisho_sessions_total{step="opened"}"#, 2.0),
    (r#"sekisho_sessions_ended_total{why="killed"}"#, 1.0),
    (r#"sekisho_sessions_ended_total{why="recorder-failed"}"#, 1.0),
    (r#"sekisho_session_bytes_total{way="sent"}"#, 1.0),
    (r#"sekisho_files_total{fate="delivered"}"#, 1.0),
    (r#"sekisho_file_findings_total{finding="vba-macro"}"#, 1.0),
    (r#"sekisho_maintenance_handshakes_total{end="admitted"}"#, 1.0),
    (r#"sekisho_vpn_bytes_total{way="received"}"#, 1.0),
    (r#"sekisho_persons{state="enrolled"}"#, 1.0),
];

/// Shows both.
pub(crate) fn doors(screen: &mut Screen, site: &Site) -> Result<()> {
    screen.section(&screen.words.doors());
    in_order(screen, site)?;
    counted(screen, site)
}

/// The gateway tries inspection by itself every half a minute, with a macro that must be stopped.
fn in_order(screen: &mut Screen, site: &Site) -> Result<()> {
    screen.command("sekisho controls");
    let wanted = IN_ORDER.map(|control| (control, "ok"));
    let found = inspections::during(site, None, || controls::turned(site, &wanted))?;
    let lines = found.as_ref().map(|(board, _)| IN_ORDER.map(|control| board.line(control)));
    screen.quote(&lines.unwrap_or_default().join("\n"));
    Ok(screen.expect(found.is_some(), &screen.words.doors_in_order())?)
}

fn counted(screen: &mut Screen, site: &Site) -> Result<()> {
    let prometheus = site.prometheus()?;
    let absent = || -> Result<Vec<&str>> {
        let mut absent = Vec::new();
        for (series, least) in COUNTED {
            if prometheus.query(site, &format!("{series} >= {least}"))?.is_empty() {
                absent.push(series);
            }
        }
        Ok(absent)
    };
    let all = until(|| Ok(absent()?.is_empty().then_some(())))?.is_some();
    for (series, _) in COUNTED {
        screen.command(&format!("[{HOST}] curl -G {QUERY} --data-urlencode 'query={series}'"));
        let values: Vec<_> = prometheus.query(site, series)?.into_iter().map(|found| found.value).collect();
        screen.quote(&values.join(" "));
    }
    Ok(screen.expect(all, &screen.words.doors_counted(COUNTED.len()))?)
}
