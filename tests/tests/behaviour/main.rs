//! What Sekisho promises, seen from the hosts of the lab: packets, programs and files. Needs root.
#[cfg(test)]
mod apply_under_traffic;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod daemon;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod path_mtu;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod router_basics;
#[cfg(test)]
mod sigkill;
#[cfg(test)]
mod site;
#[cfg(test)]
mod traffic;
