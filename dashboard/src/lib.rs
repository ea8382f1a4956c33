//! Everything that people watch a gateway with, made from two lists: the catalogue of controls and the families of
//! metrics. The same lists give the same bytes; what is committed beside this crate is what [`files`] gives.

use std::collections::BTreeMap;

use policy::guideline::Catalogue;
use policy::guideline::catalogue::CatalogueError;
use thiserror::Error;

pub mod alerts;
mod config;
mod grafana;
mod groups;
pub mod promql;
pub mod rules;
mod runbooks;
mod thresholds;
mod titles;
mod vocabulary;
mod words;
mod yaml;

pub use grafana::{Query, queries};
pub use thresholds::Thresholds;

/// Why nothing is made.
#[derive(Debug, Error)]
pub enum DashboardError {
    /// The catalogue cannot be used.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A dashboard is no JSON.
    #[error("cannot write a dashboard as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A control is in no group.
    #[error("the control `{0}` is in no group; add it to one in groups.rs")]
    NoGroup(String),
}

/// Every generated file by its path below `dashboard/`.
///
/// # Errors
/// When the catalogue holds what this crate has no place for.
pub fn files() -> Result<BTreeMap<String, String>, DashboardError> {
    let (catalogue, limits) = (Catalogue::shipped()?, Thresholds::SHIPPED);
    groups::check(&catalogue)?;
    let mut files = BTreeMap::new();
    for dashboard in grafana::dashboards(&catalogue) {
        let text = serde_json::to_string_pretty(&dashboard.json())?;
        files.insert(dashboard.path(), format!("{text}\n"));
    }
    files.insert("prometheus/rules.yml".to_owned(), rules::yaml(&catalogue, &limits));
    files.insert("prometheus/alerts.yml".to_owned(), alerts::yaml(&limits));
    files.extend(config::files());
    files.extend(runbooks::files(&catalogue, &limits));
    Ok(files)
}
