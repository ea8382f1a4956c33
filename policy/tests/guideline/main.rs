//! The guideline's controls: each live one can be turned red and green by what it measures, never by nothing.
#![cfg(test)]

mod broken;
mod catalogue;
mod doors;
mod healthy;
mod posture;
mod report;
mod states;
