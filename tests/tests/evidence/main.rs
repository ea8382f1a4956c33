//! Every live control of the guideline is turned red by breaking in the lab what it measures, and green again by mending
//! it; roles that die, rules that are flushed and a door that is shut are seen. Needs root.
#[cfg(test)]
mod cases;
#[cfg(test)]
mod clinic;
#[cfg(test)]
#[path = "../behaviour/daemon.rs"]
#[expect(dead_code, reason = "shared with the behaviour tests, which use the rest")]
mod daemon;
#[cfg(test)]
mod dying;
#[cfg(test)]
#[path = "../doors/edge.rs"]
#[expect(dead_code, reason = "shared with the tests of the doors, which use the rest")]
mod edge;
#[cfg(test)]
mod full_log;
#[cfg(test)]
mod hands;
#[cfg(test)]
mod inspections;
#[cfg(test)]
mod persons;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod red_green;
#[cfg(test)]
#[path = "../behaviour/site.rs"]
#[expect(dead_code, reason = "shared with the behaviour tests, which use the rest")]
mod site;
