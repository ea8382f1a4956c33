//! What needs no daemon: check, render, why.

use std::path::Path;

use gateway::client;
use gateway::sources;
use gateway::wire::{Answer, Ask};
use jiff::Timestamp;
use policy::compile;
use policy::diagnostic::{Diagnostic, Report, Severity};
use policy::eval::{Clock, why};
use policy::ledger::Ledger;
use policy::model::Policy;
use policy::raw::Sources;
use policy::services;
use serde_json::json;

use crate::args::Service;
use crate::daemon::Sockets;
use crate::exit::{CliError, Exit};
use crate::output::Output;

/// A policy that passed every check, with what somebody should look at.
pub(crate) struct Checked {
    pub(crate) policy: Policy,
    pub(crate) sources: Sources,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Reads and checks a policy as the daemon would.
pub(crate) fn load(file: &Path) -> Result<Checked, CliError> {
    load_sources(sources::read(file)?)
}

/// Checks a policy that was read.
pub(crate) fn load_sources(sources: Sources) -> Result<Checked, CliError> {
    let now = Timestamp::now();
    let refused = |report| CliError::Refused(Box::new((report, sources.clone())));
    let resolved = policy::resolve::load(&sources, now).map_err(refused)?;
    let found = policy::check::check(&resolved.policy, now);
    if found.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(refused(Report::new(found, sources.names())));
    }
    let warnings = resolved.warnings.into_iter().chain(found).collect();
    Ok(Checked { policy: resolved.policy, sources, warnings })
}

/// `sekisho policy check`.
pub(crate) fn check(output: &Output, file: &Path) -> Result<Exit, CliError> {
    let checked = load(file)?;
    let compiled = compile::compile(&checked.policy, &Ledger::default())?;
    let (flows, zones) = (checked.policy.flows.len(), checked.policy.zones.len());
    if output.is_json() {
        let names = checked.sources.names();
        let warnings: Vec<_> = checked.warnings.iter().map(|warning| warning.to_json(&names)).collect();
        output.json(&json!({
            "ok": true, "diagnostics": warnings, "omitted": 0, "zones": zones, "flows": flows,
            "elements": compiled.ruleset.element_count(), "ruleset": compiled.ruleset.id(),
        }));
        return Ok(Exit::Ok);
    }
    output.findings(checked.warnings.iter(), &checked.sources);
    let count = checked.warnings.len();
    output.line(&match output.language {
        policy::diagnostic::Language::En => {
            format!("{}: good: {zones} zones, {flows} flows, {count} warnings", checked.sources.main)
        }
        policy::diagnostic::Language::Ja => {
            format!(
                "{}: 正しい通信方針です(区画 {zones}件、通信許可 {flows}件、注意 {count}件)",
                checked.sources.main
            )
        }
    });
    Ok(Exit::Ok)
}

/// `sekisho policy render`.
pub(crate) fn render(output: &Output, file: &Path, service: Option<Service>) -> Result<Exit, CliError> {
    let checked = load(file)?;
    let paths = gateway::service_paths::installed()?;
    let text = match service {
        None => {
            let ruleset = compile::compile(&checked.policy, &Ledger::default())?.ruleset;
            Some(policy::render::render(&ruleset))
        }
        Some(Service::Names) => services::names_conf(&checked.policy, &paths)?,
        Some(Service::Leases) => services::leases_conf(&checked.policy, &paths)?,
        Some(Service::Chrony) => Some(services::chrony_conf(&checked.policy, &paths)?),
        Some(Service::Dhcpcd) => services::dhcpcd_conf(&checked.policy)?,
    };
    let nothing = output.pick("# this policy needs no such service", "# この通信方針では使いません");
    output.answer(text.as_deref().unwrap_or(nothing), &json!({ "text": text }));
    Ok(Exit::Ok)
}

/// What `why` is asked.
pub(crate) struct Question {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) service: String,
}

/// `sekisho policy why`.
pub(crate) fn why(
    output: &Output,
    sockets: &Sockets,
    question: &Question,
    file: Option<&Path>,
    at: Option<Timestamp>,
) -> Result<Exit, CliError> {
    let policy = match file {
        Some(file) => load(file)?.policy,
        None => in_force(sockets)?,
    };
    let clock = Clock { now: at.unwrap_or_else(Timestamp::now), trusted: true };
    let answer = why::why(&policy, &question.from, &question.to, &question.service, clock)
        .map_err(|error| CliError::Question(error.describe(output.language)))?;
    output.answer(&answer.text(output.language), &serde_json::to_value(&answer)?);
    Ok(if answer.allowed { Exit::Ok } else { Exit::Denied })
}

/// The policy in force, as core holds its text.
pub(crate) fn in_force(sockets: &Sockets) -> Result<Policy, CliError> {
    match client::ask(&sockets.core, Ask::Sources {})? {
        Answer::Sources(Some(texts)) => {
            let sources = Sources::from(texts);
            let loaded = policy::resolve::load(&sources, Timestamp::now());
            Ok(loaded.map_err(|report| CliError::Refused(Box::new((report, sources))))?.policy)
        }
        Answer::Sources(None) => Err(CliError::Question(
            "no policy is in force: nothing passes; ask a file with --policy".to_owned(),
        )),
        Answer::Failed(fault) => Err(CliError::Fault(fault)),
        _ => Err(CliError::Confused),
    }
}
