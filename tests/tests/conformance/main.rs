//! The kernel against the reference evaluator, packet by packet, judged by capture where a packet would arrive.
//! Needs root. `SEKISHO_SEED` replays a run, `SEKISHO_PACKETS` (or `SEKISHO_LONG=1`) makes it longer.
//!
//! The executable needs no cargo: `conformance per_flow` is the short version for another kernel.
#[cfg(test)]
#[path = "../behaviour/daemon.rs"]
#[expect(dead_code, reason = "shared with the behaviour tests, which use the rest")]
mod daemon;
#[cfg(test)]
mod draw;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod grants;
#[cfg(test)]
mod ground;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod link;
#[cfg(test)]
mod pace;
#[cfg(test)]
mod per_flow;
#[cfg(test)]
mod pool;
#[cfg(test)]
mod probe;
#[cfg(test)]
mod random;
#[cfg(test)]
mod render;
#[cfg(test)]
mod scene;
#[cfg(test)]
#[path = "../behaviour/site.rs"]
#[expect(dead_code, reason = "shared with the behaviour tests, which use the rest")]
mod site;
#[cfg(test)]
mod tally;
#[cfg(test)]
mod trial;
#[cfg(test)]
mod vpn;
#[cfg(test)]
mod wire;
