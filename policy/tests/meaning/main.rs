//! What a policy means: the reference evaluator, its explanations, the checks, and the configuration of the daemons and roles.
//! One binary, so that the clinic built by hand in `site` is shared.
#![cfg(test)]

mod checks;
mod evaluation;
mod properties;
mod services;
mod settings;
mod site;
mod why;
