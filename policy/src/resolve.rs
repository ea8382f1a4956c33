//! From names to ids and from words to sets: the only constructor of a [`Policy`].
//! Finds every error it can before it gives up; a policy comes out only when there is none.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use crate::diagnostic::{Diagnostic, Report};
use crate::model::{Policy, Source};
use crate::raw::{File, Sources, parse};

mod authority;
mod builtin;
mod clinic;
mod context;
mod devices;
mod doors;
mod endpoints;
mod evidence;
mod flows;
mod metrics;
mod names;
mod networks;
mod people;
mod promises;
mod services;
pub(crate) mod suggest;
mod vendors;
mod vpn;
mod wan;
mod zones;

use context::Context;

pub use endpoints::{EndpointError, parse_endpoint};
pub use services::{BUILT_IN_SERVICES, ServiceError, parse_service};

/// Most pairs of one source and one destination in all flows together: what is compiled grows with it.
pub const PAIRS_MAX: usize = 1 << 20;

/// A policy that can be used, and what somebody should look at.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The policy.
    pub policy: Policy,
    /// Warnings, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// Reads and resolves a policy.
///
/// # Errors
/// Reports everything that makes the policy unusable.
pub fn load(sources: &Sources, now: Timestamp) -> Result<Resolved, Report> {
    resolve(parse(sources)?, sources, now)
}

/// Resolves a policy that was read; `now` decides what has expired.
///
/// # Errors
/// Reports everything that makes the policy unusable.
pub fn resolve(file: File, sources: &Sources, now: Timestamp) -> Result<Resolved, Report> {
    let mut context = Context::new(&file, now);
    let policy = whole(&mut context, &file, sources);
    match policy {
        Some(policy) if !context.has_errors() => Ok(Resolved { policy, warnings: context.into_warnings() }),
        _ => Err(context.into_report(sources)),
    }
}

/// Resolves section after section; later ones see what the earlier ones could make sense of.
fn whole(context: &mut Context<'_>, file: &File, sources: &Sources) -> Option<Policy> {
    let clinic = clinic::clinic(context, file)?;
    let responsible = clinic::responsible(context, file);
    let persons = people::persons(context, file);
    let mut zones = zones::zones(context, file);
    let tunnel = vpn::tunnel(context, file, &mut zones);
    let vendor_names = names::keys(context, &file.vendors);
    let devices = devices::devices(context, file, &zones, &vendor_names);
    let services = services::named(context, file);
    let names = endpoints::Names::new(&zones, &devices, &services);
    let mut flows = flows::flows(context, file, &names);
    let tests = promises::promises(context, file, &names);
    let exceptions = flows::exceptions(context, file, &flows);
    let vpn = vpn::vpn(context, file, tunnel, &names, &persons);
    let vendors = vendors::vendors(context, file, &names, &persons, &sources.authorities);
    builtin::warn_without_management(context, &names, &flows);
    let evidence = evidence::evidence(context, file);
    let metrics = metrics::metrics(context, file, &names, &flows, vpn.as_ref());
    let maintenance = doors::maintenance(context, file, &vendors, vpn.as_ref(), metrics);
    flows.extend(builtin::flows(&zones, metrics));
    flows.extend(doors::flows(context, &zones, &persons, vpn.as_ref(), maintenance));
    let sources = digest(sources);
    Some(Policy {
        sources,
        clinic,
        responsible,
        persons,
        zones,
        devices,
        services,
        flows,
        tests,
        exceptions,
        vpn,
        vendors,
        maintenance,
        evidence,
        metrics,
    })
}

fn digest(sources: &Sources) -> Vec<Source> {
    let each = (0..sources.texts.len()).filter_map(|number| sources.get(number));
    each.map(|(name, text)| Source { name: name.to_owned(), sha256: hex(&Sha256::digest(text.as_bytes())) })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first instant after a day, in the clinic's time zone.
fn end_of_day(day: Date, tz: &TimeZone) -> Option<Timestamp> {
    day.tomorrow().ok()?.to_zoned(tz.clone()).ok().map(|start| start.timestamp())
}

type ByName<T> = BTreeMap<String, T>;
