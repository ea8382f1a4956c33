//! The door as those outside meet it: certificates, strangers, bytes, receipts.
#[cfg(test)]
mod bytes;
#[cfg(test)]
mod ground;
#[cfg(test)]
mod guests;
#[cfg(test)]
mod receipts;
#[cfg(test)]
mod strangers;
