//! The maintenance door as core keeps it: what edge and admins may bring about by asking, and what they may not. The test
//! takes edge's place at `doors.sock`; codes come from another program than ours (oathtool). Needs root.
#[cfg(test)]
mod abuse;
#[cfg(test)]
mod badly;
#[cfg(test)]
#[path = "../behaviour/daemon.rs"]
#[expect(dead_code, reason = "shared with the behaviour tests, which use the rest")]
mod daemon;
#[cfg(test)]
mod device;
#[cfg(test)]
mod dying;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod flood;
#[cfg(test)]
mod guests;
#[cfg(test)]
mod journey;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod own;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod ready;
#[cfg(test)]
mod rota;
#[cfg(test)]
#[path = "../behaviour/site.rs"]
#[expect(dead_code, reason = "shared with the behaviour tests, which use the rest")]
mod site;
#[cfg(test)]
mod tunnelled;
#[cfg(test)]
mod usurper;
#[cfg(test)]
mod vendor;
#[cfg(test)]
mod whole;
