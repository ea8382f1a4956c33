//! A real Prometheus on the admin's device, with the configuration and the rules of `dashboard/`.
use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::site::{Site, repository};

/// Where the keys go that its configuration names.
pub(crate) const KEYS: &str = "prometheus/sekisho";
/// Where it answers, from the admin's device alone.
pub(crate) const QUERY: &str = "http://127.0.0.1:9090/api/v1/query";
/// The device that it runs on.
pub(crate) const HOST: &str = "admin";
const DIRECTORY: &str = "prometheus";
const CONFIG: &str = "prometheus.yml";
const RULES: [&str; 2] = ["rules.yml", "alerts.yml"];
/// What the shipped configuration leaves to the clinic: the gateway's address. And how often to look, which is too
/// seldom for a demo.
const EXAMPLE_TARGET: &str = "192.0.2.1:9464";
const EXAMPLE_INTERVALS: [&str; 2] = ["scrape_interval: 15s", "evaluation_interval: 15s"];
const TIMEOUT: &str = "scrape_timeout: 10s";
const PATIENCE_S: &str = "5";

/// Is a Prometheus that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    child: Child,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: Value,
    pub(crate) value: String,
}

impl Prometheus {
    /// Starts it to read the metrics at an address and port.
    pub(crate) fn start(site: &Site, target: &str) -> Result<Self> {
        let directory = site.files().join(DIRECTORY);
        let shipped = repository().join("dashboard/prometheus");
        for name in RULES {
            fs::copy(shipped.join(name), directory.join(name))
                .with_context(|| format!("cannot copy {name}"))?;
        }
        let config =
            fs::read_to_string(shipped.join(CONFIG)).with_context(|| format!("cannot read {CONFIG}"))?;
        fs::write(directory.join(CONFIG), adapted(&config, target)?)?;
        let log = File::create(directory.join("log"))?;
        let mut command = site.host(HOST)?.command("prometheus");
        command.arg(format!("--config.file={CONFIG}")).arg("--storage.tsdb.path=data");
        command.arg("--web.listen-address=127.0.0.1:9090").current_dir(&directory);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cannot start `prometheus`")?;
        Ok(Self { child })
    }

    /// Answers a query, by nothing while it does not answer.
    pub(crate) fn query(&self, site: &Site, query: &str) -> Result<Vec<Series>> {
        let query = format!("query={query}");
        let arguments = ["-s", "--max-time", PATIENCE_S, "-G", "--data-urlencode", &query, QUERY];
        let said = site.quietly_on(HOST, "curl", &arguments)?;
        let answer: Value = serde_json::from_str(&said.out).unwrap_or_default();
        let rows = answer.pointer("/data/result").and_then(Value::as_array).into_iter().flatten();
        Ok(rows.filter_map(series).collect())
    }

    /// What it wrote about itself.
    pub(crate) fn log(site: &Site) -> String {
        fs::read_to_string(site.files().join(DIRECTORY).join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn series(row: &Value) -> Option<Series> {
    let value = row.pointer("/value/1")?.as_str()?.to_owned();
    Some(Series { labels: row.get("metric")?.clone(), value })
}

/// The shipped configuration with the gateway's address in it, and looking every second.
fn adapted(config: &str, target: &str) -> Result<String> {
    let often = EXAMPLE_INTERVALS.map(|text| (text, text.replace("15s", "1s")));
    let changes = often
        .into_iter()
        .chain([(TIMEOUT, TIMEOUT.replace("10s", "1s")), (EXAMPLE_TARGET, target.to_owned())]);
    let mut adapted = config.to_owned();
    for (from, to) in changes {
        ensure!(adapted.contains(from), "the shipped {CONFIG} no longer says `{from}`");
        adapted = adapted.replace(from, &to);
    }
    Ok(adapted)
}

/// The queries of a shipped dashboard, each with its panel's title, with what Grafana fills in.
pub(crate) fn dashboard(name: &str, language: &str) -> Result<Vec<(String, String)>> {
    let path = repository().join("dashboard/grafana").join(language).join(format!("{name}.json"));
    queries(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn queries(path: &Path) -> Result<Vec<(String, String)>> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let panels = dashboard.get("panels").and_then(Value::as_array).context("it has no panels")?;
    let mut queries = Vec::new();
    for panel in panels {
        let title = panel.get("title").and_then(Value::as_str).unwrap_or_default();
        let targets = panel.get("targets").and_then(Value::as_array).into_iter().flatten();
        let expressions = targets.filter_map(|target| target.get("expr")?.as_str());
        queries.extend(expressions.map(|expression| (title.to_owned(), filled(expression))));
    }
    Ok(queries)
}

fn filled(expression: &str) -> String {
    let variables = [("$__rate_interval", "1m"), ("$__range", "1h"), ("$instance", ".*")];
    variables.iter().fold(expression.to_owned(), |text, (variable, value)| text.replace(variable, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_can_be_adapted() {
        let shipped = fs::read_to_string(repository().join("dashboard/prometheus").join(CONFIG)).unwrap();
        let adapted = adapted(&shipped, "192.0.2.7:1").unwrap();
        assert!(adapted.contains("192.0.2.7:1") && adapted.contains("scrape_interval: 1s"), "{adapted}");
        assert!(super::adapted("nothing", "192.0.2.7:1").is_err());
    }

    #[test]
    fn both_languages_ask_the_same() {
        let count = |language| dashboard("overview", language).unwrap().len();
        assert!(count("en") > 5 && count("en") == count("ja"));
        let all = dashboard("overview", "en").unwrap();
        assert!(all.iter().all(|(_, query)| !query.contains('$')), "{all:?}");
    }
}
