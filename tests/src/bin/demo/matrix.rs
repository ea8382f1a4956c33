//! Section 3: the matrix of places, as packets really passed or not beside what the policy says.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use anyhow::{Result, ensure};

use crate::{
    Sabotage,
    places::{PLACES, Probe, SERVICES, Verdict, ZONES, probes},
    probing, sabotage,
    screen::{Screen, columns, pad},
    site::Site,
};

/// Columns of one cell.
const CELL_COLUMNS: usize = 9;
/// Probes that disagree, told one by one.
const TOLD: usize = 8;
/// Hosts and services of one flow, told one by one.
const WAYS_TOLD: usize = 4;

/// Sums of one pair of places.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    sent: usize,
    allowed: usize,
    arrived: usize,
    wrong: usize,
}

/// Measures, prints the table, and expects every cell to agree.
pub(crate) fn matrix(screen: &mut Screen, site: &Site, sabotage: Option<Sabotage>) -> Result<()> {
    let words = screen.words;
    screen.section(&words.matrix());
    let services: Vec<_> = SERVICES.iter().map(ToString::to_string).collect();
    screen.say(&words.matrix_legend(PLACES.len(), services.join(" ")));
    let began = Instant::now();
    let (probes, arrived) = measure(screen, site, sabotage)?;
    let cells = cells(&probes, &arrived);
    screen.say(&table(screen, &cells));
    screen.quote(&flows(screen, &probes, &arrived));
    let wrong: Vec<_> = probes.iter().filter(|probe| is_wrong(probe, &arrived)).collect();
    for probe in wrong.iter().take(TOLD) {
        let text = probe.text();
        screen.say(&if probe.is_allowed() { words.wrong_stopped(text) } else { words.wrong_passed(text) });
    }
    if wrong.len() > TOLD {
        screen.say(&words.matrix_more(wrong.len() - TOLD));
    }
    let agreeing = cells.values().filter(|cell| cell.wrong == 0).count();
    let allowed = probes.iter().filter(|probe| probe.is_allowed()).count();
    let passed = wrong.iter().filter(|probe| !probe.is_allowed()).count();
    let took_ms = began.elapsed().as_millis();
    let forbidden = probes.len() - allowed;
    let line = words.matrix_agrees(agreeing, cells.len(), allowed, forbidden, passed, took_ms);
    Ok(screen.expect(wrong.is_empty(), &line)?)
}

/// Asks the policy and sends; once more when a window opened or closed in between, which the answers tell.
fn measure(screen: &Screen, site: &Site, sabotage: Option<Sabotage>) -> Result<(Vec<Probe>, BTreeSet<u16>)> {
    let asked = probes(site)?;
    check_coverage(&asked)?;
    if sabotage == Some(Sabotage::Flow) {
        sabotage::add_a_flow(screen, site)?;
    }
    let arrived = probing::send(site, &asked)?;
    let wrong = asked.iter().any(|probe| is_wrong(probe, &arrived));
    let again = if wrong { probes(site)? } else { Vec::new() };
    let measured = if again.is_empty() || again == asked {
        (asked, arrived)
    } else {
        let arrived = probing::send(site, &again)?;
        (again, arrived)
    };
    site.thaw()?;
    Ok(measured)
}

/// A matrix in which nothing could go wrong would prove nothing: each family has both verdicts.
fn check_coverage(probes: &[Probe]) -> Result<()> {
    let kinds: BTreeSet<_> = probes.iter().map(|probe| (probe.is_v4(), probe.is_allowed())).collect();
    ensure!(kinds.len() == 4, "the policy allows or forbids everything over one family");
    Ok(())
}

fn is_wrong(probe: &Probe, arrived: &BTreeSet<u16>) -> bool {
    probe.is_allowed() != arrived.contains(&probe.id)
}

fn cells(probes: &[Probe], arrived: &BTreeSet<u16>) -> BTreeMap<(&'static str, &'static str), Cell> {
    let mut cells: BTreeMap<_, Cell> = BTreeMap::new();
    for probe in probes {
        let cell = cells.entry((probe.from.zone, probe.to.zone)).or_default();
        cell.sent += 1;
        cell.allowed += usize::from(probe.is_allowed());
        cell.arrived += usize::from(arrived.contains(&probe.id));
        cell.wrong += usize::from(is_wrong(probe, arrived));
    }
    cells
}

fn table(screen: &Screen, cells: &BTreeMap<(&'static str, &'static str), Cell>) -> String {
    let words = screen.words;
    let heads = ZONES.iter().map(|zone| pad(words.place(zone), CELL_COLUMNS));
    let mut lines =
        vec![format!("{}{}", pad(&words.matrix_corner(), CELL_COLUMNS), heads.collect::<String>())];
    for from in ZONES {
        let row = ZONES.map(|to| {
            let Some(Cell { allowed, arrived, wrong, sent: _ }) = cells.get(&(from, to)).copied() else {
                return pad("·", CELL_COLUMNS);
            };
            if wrong == 0 {
                pad(&format!("✔ {arrived}={allowed}"), CELL_COLUMNS)
            } else {
                // Where one passed and another did not, the sums alone could be equal.
                pad(&format!("✖ {arrived}≠{allowed}"), CELL_COLUMNS)
            }
        });
        lines.push(format!("{}{}", pad(words.place(from), CELL_COLUMNS), row.concat()));
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// Lists what arrived by the flow that allows it, with the policy's line.
fn flows(screen: &Screen, probes: &[Probe], arrived: &BTreeSet<u16>) -> String {
    let words = screen.words;
    let mut ways: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut counts: BTreeMap<(&str, &str), [usize; 2]> = BTreeMap::new();
    for probe in probes.iter().filter(|probe| arrived.contains(&probe.id)) {
        let Verdict::Allow { flow, place } = &probe.policy else { continue };
        let key = (flow.as_str(), place.as_str());
        let way = format!("{}→{} {}", probe.from.host, probe.to.host, probe.service);
        let told = ways.entry(key).or_default();
        if !told.contains(&way) {
            told.push(way);
        }
        let [v4, v6] = counts.entry(key).or_default();
        *(if probe.is_v4() { v4 } else { v6 }) += 1;
    }
    let heads = [words.matrix_heads_flow(), words.matrix_heads_line(), "v4".into(), "v6".into()];
    let mut rows = vec![heads.into_iter().chain([words.matrix_heads_ways()]).collect::<Vec<_>>()];
    for ((flow, place), ways) in &ways {
        let [v4, v6] = counts.get(&(*flow, *place)).copied().unwrap_or_default();
        let mut told = ways.iter().take(WAYS_TOLD).cloned().collect::<Vec<_>>().join(", ");
        if ways.len() > WAYS_TOLD {
            told = format!("{told}, {}", words.matrix_more(ways.len() - WAYS_TOLD));
        }
        rows.push(vec![(*flow).to_owned(), (*place).to_owned(), v4.to_string(), v6.to_string(), told]);
    }
    columns(&rows)
}
