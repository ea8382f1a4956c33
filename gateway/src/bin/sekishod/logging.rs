//! Logs on standard error, as text for people or one JSON object per line for machines.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// Forms of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// One line of text per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// Starts logging; `SEKISHO_LOG` filters (default `info`), as `debug` or `sekishod::core=debug`.
pub(crate) fn start(format: Format) {
    let filter = EnvFilter::try_from_env("SEKISHO_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => builder.with_ansi(false).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
}
