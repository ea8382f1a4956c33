//! What the lab promises about itself, proved on the real kernel. Needs root.
#[cfg(test)]
mod life;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod servers;
