//! The shipped monitoring against a real gateway: Debian's Prometheus and Alertmanager in the management zone read the
//! console over mutual TLS, every query of the dashboards is answered, and every alert is fired by
//! a fault that was really provoked and resolves when it is mended. Needs root.
#[cfg(test)]
mod alerts;
#[cfg(test)]
#[path = "../evidence/cases.rs"]
#[expect(dead_code, reason = "shared with the tests of the controls, which use the rest")]
mod cases;
#[cfg(test)]
#[path = "../evidence/clinic.rs"]
#[expect(dead_code, reason = "shared with the tests of the controls, which use the rest")]
mod clinic;
#[cfg(test)]
#[path = "../behaviour/daemon.rs"]
#[expect(dead_code, reason = "shared with the behaviour tests, which use the rest")]
mod daemon;
#[cfg(test)]
#[path = "../doors/edge.rs"]
#[expect(dead_code, reason = "shared with the tests of the doors, which use the rest")]
mod edge;
#[cfg(test)]
mod faults;
#[cfg(test)]
#[path = "../evidence/hands.rs"]
mod hands;
#[cfg(test)]
mod inbox;
#[cfg(test)]
#[path = "../evidence/inspections.rs"]
mod inspections;
#[cfg(test)]
#[path = "../evidence/persons.rs"]
mod persons;
#[cfg(test)]
#[path = "../evidence/policies.rs"]
mod policies;
#[cfg(test)]
mod shipped;
#[cfg(test)]
#[path = "../behaviour/site.rs"]
#[expect(dead_code, reason = "shared with the behaviour tests, which use the rest")]
mod site;
#[cfg(test)]
mod stack;
