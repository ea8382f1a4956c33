//! Section 8: the metrics are read by who may and by nobody else, and a real Prometheus answers the dashboard from them.
use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use lab::Resident;

use crate::{
    patience::until,
    prometheus::{HOST, KEYS, Prometheus, QUERY, Series, dashboard},
    screen::Screen,
    site::{ROLES, Said, Site},
};

/// The port of the example policy.
const PORT: u16 = 9464;
/// Where what was read is kept.
const TEXT: &str = "metrics.txt";
/// How many series a clinic may have.
const SERIES_MAX: usize = 500;
/// How much all roles together may hold resident; the code of a debug build, which nobody installs, is larger alone.
const RESIDENT_BYTES_MAX: u64 = if cfg!(debug_assertions) { 96_000_000 } else { 64_000_000 };
/// A reader whose right was taken back.
const FORMER: &str = "former-keys";
const PATIENCE_S: &str = "2";
/// curl(1): TLS refused at the handshake, or by the peer after it; an empty answer; sending or receiving failed.
const NO_TLS: [i32; 4] = [35, 52, 55, 56];
/// curl(1): no connection, no answer in time.
const NO_CONNECTION: [i32; 2] = [7, 28];
/// The dashboard, and the panel of it that is shown.
const DASHBOARD: &str = "overview";
const PANEL_METRIC: &str = "sekisho_controls{";

/// Reads them, and lets Prometheus read them from now on.
pub(crate) fn metrics(screen: &mut Screen, site: &mut Site) -> Result<()> {
    screen.section(&screen.words.metrics());
    fs::create_dir(site.files().join("prometheus"))?;
    let said = site.run(screen, &["metrics", "add", "prometheus", "-o", KEYS])?;
    ensure!(said.ended(0), "no reader can be added: {}", said.text());
    let url = format!("https://{}/metrics", door(site)?);
    read(screen, site, &url)?;
    strangers(screen, site, &url)?;
    screen.command(&format!("[{HOST}] promtool check metrics < {TEXT}"));
    let said = site.quietly_on(HOST, "sh", &["-c", &format!("promtool check metrics < {TEXT}")])?;
    screen.quote(&said.text());
    screen.expect(said.ended(0) && said.text().is_empty(), &screen.words.metrics_clean())?;
    let prometheus = Prometheus::start(site, &door(site)?)?;
    site.keep(prometheus);
    let site = &*site;
    dashboards(screen, site)?;
    memory(screen, site)
}

/// Where the gateway listens.
fn door(site: &Site) -> Result<String> {
    let leg = site.lab().leg("management")?;
    let address = leg.v4().context("the gateway has no address in the management zone")?.addr();
    Ok(format!("{address}:{PORT}"))
}

/// Reads with the keys in a directory, or without any.
fn curl(site: &Site, host: &str, keys: Option<&str>, url: &str) -> Result<(String, Said)> {
    let authority = format!("{KEYS}/ca.crt");
    let mut arguments = vec!["--cacert".to_owned(), authority];
    if let Some(keys) = keys {
        arguments.extend(["--cert".to_owned(), format!("{keys}/client.crt")]);
        arguments.extend(["--key".to_owned(), format!("{keys}/client.key")]);
    }
    arguments.push(url.to_owned());
    let line = format!("[{host}] curl {}", arguments.join(" "));
    let mut all = vec!["-sS", "--max-time", PATIENCE_S];
    all.extend(arguments.iter().map(String::as_str));
    Ok((line, site.quietly_on(host, "curl", &all)?))
}

fn read(screen: &mut Screen, site: &Site, url: &str) -> Result<()> {
    let words = screen.words;
    let all_up = |text: &str| ROLES.iter().all(|role| is_up(text, role));
    let found = until(|| {
        let (line, said) = curl(site, HOST, Some(KEYS), url)?;
        Ok((said.ended(0) && all_up(&said.out)).then_some((line, said)))
    })?;
    let (line, said) = match found {
        Some((found, _)) => found,
        None => curl(site, HOST, Some(KEYS), url)?,
    };
    screen.command(&line);
    let (up, err): (Vec<_>, _) = (said.out.lines().filter(|line| is_about_roles(line)).collect(), &said.err);
    screen.quote(&format!("{}\n{err}", up.join("\n")));
    let series: Vec<_> = said.out.lines().filter(|line| !line.starts_with('#')).collect();
    let families: BTreeSet<_> = series.iter().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let good = said.ended(0) && all_up(&said.out) && series.len() <= SERIES_MAX;
    screen.expect(good, &words.metrics_read(series.len(), families.len(), up.len()))?;
    let told: Vec<_> = secrets(site).into_iter().filter(|secret| said.out.contains(secret)).collect();
    screen.quote(&told.join(" "));
    fs::write(site.files().join(TEXT), &said.out)?;
    Ok(screen.expect(told.is_empty(), &words.metrics_private())?)
}

fn is_about_roles(line: &str) -> bool {
    line.starts_with("sekisho_role_up{")
}

fn is_up(text: &str, role: &str) -> bool {
    text.lines().any(|line| line == format!("sekisho_role_up{{role=\"{role}\"}} 1"))
}

/// What no metric may tell: addresses and names of devices.
fn secrets(site: &Site) -> Vec<String> {
    let of = |host: &lab::Host| {
        let addresses = host.addresses().map(|address| address.to_string());
        addresses.chain([format!("\"{}\"", host.name())]).collect::<Vec<_>>()
    };
    site.lab().hosts().flat_map(of).collect()
}

fn strangers(screen: &mut Screen, site: &Site, url: &str) -> Result<()> {
    let words = screen.words;
    for arguments in [&["metrics", "add", "former", "-o", FORMER][..], &["metrics", "remove", "former"]] {
        let said = site.ask(arguments)?;
        ensure!(said.ended(0), "`{}` failed: {}", arguments.join(" "), said.text());
    }
    let refused = |host: &str, keys: Option<&str>, codes: &[i32]| -> Result<bool> {
        let (line, said) = curl(site, host, keys, url)?;
        screen.command(&line);
        screen.quote(&said.text());
        Ok(said.code.is_some_and(|code| codes.contains(&code)) && said.out.is_empty())
    };
    let nobody = refused(HOST, None, &NO_TLS)?;
    let former = refused(HOST, Some(FORMER), &NO_TLS)?;
    let elsewhere = refused("reception", Some(KEYS), &NO_CONNECTION)?;
    screen.expect(nobody && former, &words.metrics_strangers())?;
    Ok(screen.expect(elsewhere, &words.metrics_elsewhere())?)
}

fn dashboards(screen: &mut Screen, site: &Site) -> Result<()> {
    let words = screen.words;
    let prometheus = site.prometheus()?;
    screen.command(&format!("[{HOST}] prometheus --config.file=prometheus.yml"));
    let up = until(|| {
        let up = prometheus.query(site, "up{job=\"sekisho\"}")?;
        Ok(up.iter().any(|series| series.value == "1").then_some(()))
    })?;
    let Some(((), took)) = up else {
        screen.quote(&Prometheus::log(site));
        return Ok(screen.expect(false, &words.metrics_down())?);
    };
    screen.expect(true, &words.metrics_up(took.as_millis()))?;
    let queries = dashboard(DASHBOARD, words.language())?;
    let silent = |site: &Site| -> Result<Vec<String>> {
        let mut silent = Vec::new();
        for (title, query) in &queries {
            if prometheus.query(site, query)?.is_empty() {
                silent.push(format!("{title}: {query}"));
            }
        }
        Ok(silent)
    };
    // A rate needs two readings.
    let answered = until(|| Ok(silent(site)?.is_empty().then_some(())))?.is_some();
    let shown = queries.iter().find(|(_, query)| query.contains(PANEL_METRIC));
    let (title, query) = shown.context("no panel shows how many controls there are")?;
    screen.command(&format!("[{HOST}] curl -G {QUERY} --data-urlencode 'query={query}'"));
    let counts: Vec<_> = prometheus.query(site, query)?.iter().map(by_state).collect();
    screen.quote(&format!("{title}: {}", counts.join("  ")));
    screen.quote(&if answered { String::new() } else { silent(site)?.join("\n") });
    Ok(screen.expect(answered && !counts.is_empty(), &words.metrics_dashboard(queries.len()))?)
}

fn by_state(series: &Series) -> String {
    let state = series.labels.get("state").and_then(serde_json::Value::as_str).unwrap_or("?");
    format!("{state}={}", series.value)
}

/// What the roles hold resident, what they share counted once.
fn memory(screen: &mut Screen, site: &Site) -> Result<()> {
    let (mut together, mut resident, mut parts) = (0, 0, Vec::new());
    for (name, role) in site.roles() {
        let Resident { bytes, share_bytes } = role.resident()?;
        parts.push(format!("{name} {}", megabytes(bytes)));
        resident += bytes;
        together += share_bytes;
    }
    let parts = format!("{} = {}", parts.join(" + "), megabytes(resident));
    let line = screen.words.memory(megabytes(together), megabytes(RESIDENT_BYTES_MAX), parts);
    let all = site.roles().count() == ROLES.len();
    Ok(screen.expect(all && together <= RESIDENT_BYTES_MAX, &line)?)
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10)
}
