//! Continuous numbered probe traffic between two hosts, with exact counts of what arrived.
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    Host, LabError,
    wire::{Datagrams, Receiver, Sender, connects, datagrams, stream},
};

/// How often a finishing prober looks whether the rest has arrived.
const POLL: Duration = Duration::from_millis(5);
/// A sender that falls further behind does not catch up: the probe is continuous, not a burst.
const LAG_LIMIT: Duration = Duration::from_millis(100);
const RATE_LIMIT_PER_SECOND: u32 = 100_000;
/// Arrivals kept; further ones are counted only.
const ARRIVALS_LIMIT: usize = 8_000_000;

/// Sends numbered probes until it is stopped.
#[derive(Debug)]
pub struct Prober {
    stop_sending: Arc<AtomicBool>,
    stop_receiving: Arc<AtomicBool>,
    sender: Option<JoinHandle<Result<(), LabError>>>,
    receiver: Option<JoinHandle<Result<(), LabError>>>,
    tally: Tally,
}

/// Says what became of a prober's probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Probes handed to the kernel: datagrams, records of a stream, or connection attempts.
    pub sent: u64,
    /// Different probes that arrived.
    pub received: u64,
    /// Probes sent that did not arrive.
    pub lost: u64,
    /// Arrivals of a probe that had arrived before.
    pub duplicated: u64,
    /// Arrivals of a probe after one that was sent later.
    pub reordered: u64,
    /// Streams that ended by a reset or another error, or connection attempts that were refused.
    pub resets: u64,
    /// Probes that were not sent: the sender's own kernel refused them, or the stream was full or over.
    pub refused_by_sender: u64,
    /// When the last probe arrived.
    pub last_arrival: Option<Instant>,
    /// Every arrival, in order: the probe's number and when it arrived.
    pub arrivals: Vec<(u64, Instant)>,
}

impl Prober {
    /// Sends numbered datagrams to an address at which the second host listens.
    /// # Errors
    /// Fails when the rate is above 100,000 a second, or a socket or thread cannot be made.
    pub fn udp(from: &Host, to: &Host, target: SocketAddr, per_second: u32) -> Result<Self, LabError> {
        let (sender, receiver) = datagrams(from, to, target, Datagrams::Along)?;
        Self::start(from, to, (sender, receiver), per_second)
    }

    /// Sends numbered datagrams from a new port each, so that each is the first packet of a connection.
    /// # Errors
    /// As `udp`.
    pub fn udp_fresh(from: &Host, to: &Host, target: SocketAddr, per_second: u32) -> Result<Self, LabError> {
        let (sender, receiver) = datagrams(from, to, target, Datagrams::Fresh)?;
        Self::start(from, to, (sender, receiver), per_second)
    }

    /// Lets the second host, the server, push numbered datagrams back to the first, which called it once.
    /// # Errors
    /// As `udp`, and when the call does not arrive within three seconds.
    pub fn udp_push(from: &Host, to: &Host, target: SocketAddr, per_second: u32) -> Result<Self, LabError> {
        let (sender, receiver) = datagrams(from, to, target, Datagrams::Back)?;
        Self::start(to, from, (sender, receiver), per_second)
    }

    /// Sends numbered records on one TCP connection to an address at which the second host listens.
    /// # Errors
    /// As `udp`, and when the connection is not established within three seconds.
    pub fn tcp(from: &Host, to: &Host, target: SocketAddr, per_second: u32) -> Result<Self, LabError> {
        let (sender, receiver) = stream(from, to, target, false)?;
        Self::start(from, to, (sender, receiver), per_second)
    }

    /// Connects once from the first host, and lets the second one, the server, push numbered records.
    /// # Errors
    /// As `tcp`.
    pub fn tcp_push(from: &Host, to: &Host, target: SocketAddr, per_second: u32) -> Result<Self, LabError> {
        let (sender, receiver) = stream(from, to, target, true)?;
        Self::start(to, from, (sender, receiver), per_second)
    }

    /// Makes one TCP connection per probe to an address at which the second host listens; an attempt ends
    /// before its first retransmission, so that a lost SYN counts as lost.
    /// # Errors
    /// As `udp`.
    pub fn tcp_connects(
        from: &Host,
        to: &Host,
        target: SocketAddr,
        per_second: u32,
    ) -> Result<Self, LabError> {
        let (sender, receiver) = connects(from, to, target)?;
        Self::start(from, to, (sender, receiver), per_second)
    }

    /// Tells how many arrivals there have been so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.tally.count().received
    }

    /// Waits until so many probes have arrived.
    /// # Errors
    /// Fails when they have not in time.
    pub fn wait_received(&self, count: u64, limit: Duration) -> Result<(), LabError> {
        let deadline = Instant::now() + limit;
        while self.received() < count {
            if Instant::now() >= deadline {
                let what = format!("{count} probes to arrive ({} did)", self.received());
                return Err(LabError::Timeout { what, waited: limit });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Reports as of now; probes on their way count as lost.
    #[must_use]
    pub fn snapshot(&self) -> Report {
        self.tally.report()
    }

    /// Stops sending, waits until everything has arrived but at most so long, and reports.
    /// # Errors
    /// Fails when a thread of the prober failed.
    pub fn stop(mut self, grace: Duration) -> Result<Report, LabError> {
        self.stop_sending.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + grace;
        // The sender of a stream still has to flush, which a closed path may prevent for good.
        while Instant::now() < deadline && !self.is_complete() {
            thread::sleep(POLL);
        }
        self.join()?;
        Ok(self.tally.report())
    }

    fn start(
        sending: &Host,
        receiving: &Host,
        ends: (Box<dyn Sender>, Box<dyn Receiver>),
        per_second: u32,
    ) -> Result<Self, LabError> {
        if per_second == 0 || per_second > RATE_LIMIT_PER_SECOND {
            let rule = format!("use 1 to {RATE_LIMIT_PER_SECOND}");
            return Err(LabError::Impossible(format!("a prober with {per_second} probes a second; {rule}")));
        }
        let (mut sender, mut receiver) = ends;
        let tally = Tally::default();
        let (stop_sending, stop_receiving) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let (stop, counted) = (Arc::clone(&stop_receiving), tally.clone());
        let receiving = receiving.namespace().spawn_in(move || {
            while !stop.load(Ordering::Relaxed) {
                receiver.receive(&counted);
            }
        })?;
        let (stop, done, counted) = (Arc::clone(&stop_sending), Arc::clone(&stop_receiving), tally.clone());
        let interval = Duration::from_secs(1) / per_second;
        let sending = sending.namespace().spawn_in(move || {
            send_paced(sender.as_mut(), &stop, interval, &counted);
            while !done.load(Ordering::Relaxed) {
                sender.idle(&counted);
                thread::sleep(POLL);
            }
            sender.finish(&counted);
        })?;
        let (sender, receiver) = (Some(sending), Some(receiving));
        Ok(Self { stop_sending, stop_receiving, sender, receiver, tally })
    }

    fn is_complete(&self) -> bool {
        let count = self.tally.count();
        count.sending_over && count.received >= count.sent
    }

    fn join(&mut self) -> Result<(), LabError> {
        self.stop_sending.store(true, Ordering::Relaxed);
        self.stop_receiving.store(true, Ordering::Relaxed);
        let threads = [self.sender.take(), self.receiver.take()];
        threads.into_iter().flatten().try_for_each(|thread| {
            let panicked = |_| LabError::Impossible("a thread of the prober panicked".to_owned());
            thread.join().map_err(panicked)?
        })
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

fn send_paced(sender: &mut dyn Sender, stop: &AtomicBool, interval: Duration, tally: &Tally) {
    let mut due = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        // Before the sending: the receiver may be faster than this thread's next line.
        tally.with(|count| count.sent += 1);
        if sender.send(number, tally) {
            number += 1;
        } else {
            tally.with(|count| (count.sent, count.refused) = (count.sent - 1, count.refused + 1));
        }
        due += interval;
        let now = Instant::now();
        due = if now > due + LAG_LIMIT { now } else { due };
        thread::sleep(due.saturating_duration_since(now));
    }
    tally.with(|count| count.sending_over = true);
}

/// Is shared by the two ends of a prober.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    sent: u64,
    refused: u64,
    resets: u64,
    received: u64,
    sending_over: bool,
    last_arrival: Option<Instant>,
    arrivals: Vec<(u64, Instant)>,
}

/// Is the part of the count that decides whether everything has arrived.
struct Progress {
    sent: u64,
    received: u64,
    sending_over: bool,
}

impl Tally {
    pub(crate) fn arrived(&self, number: u64) {
        let now = Instant::now();
        self.with(|count| {
            count.received += 1;
            count.last_arrival = Some(now);
            if count.arrivals.len() < ARRIVALS_LIMIT {
                count.arrivals.push((number, now));
            }
        });
    }

    pub(crate) fn reset(&self) {
        self.with(|count| count.resets += 1);
    }

    fn count(&self) -> Progress {
        self.with(|&mut Count { sent, received, sending_over, .. }| Progress { sent, received, sending_over })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Count) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn report(&self) -> Report {
        self.with(|count| {
            let mut numbers: Vec<_> = count.arrivals.iter().map(|(number, _)| *number).collect();
            let mut latest = None;
            let reordered = numbers.iter().filter(|number| {
                let late = latest > Some(**number);
                latest = latest.max(Some(**number));
                late
            });
            let reordered = reordered.count() as u64;
            numbers.sort_unstable();
            numbers.dedup();
            let duplicated = (count.arrivals.len() - numbers.len()) as u64;
            // Arrivals beyond the kept ones are taken as different probes.
            let received = count.received - duplicated;
            Report {
                sent: count.sent,
                received,
                lost: count.sent.saturating_sub(received),
                duplicated,
                reordered,
                resets: count.resets,
                refused_by_sender: count.refused,
                last_arrival: count.last_arrival,
                arrivals: count.arrivals.clone(),
            }
        })
    }
}

impl Report {
    /// Counts the arrivals after a moment.
    #[must_use]
    pub fn arrivals_after(&self, moment: Instant) -> usize {
        self.arrivals.iter().filter(|(_, at)| *at > moment).count()
    }

    /// Gives the longest time between two arrivals.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        let pairs = self.arrivals.iter().zip(self.arrivals.iter().skip(1));
        pairs.map(|((_, one), (_, next))| next.saturating_duration_since(*one)).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_tell_lost_duplicated_and_reordered_apart() {
        let tally = Tally::default();
        tally.with(|count| count.sent = 6);
        [0, 2, 1, 1, 4].into_iter().for_each(|number| tally.arrived(number));
        let report = tally.report();
        assert_eq!((report.received, report.lost), (4, 2));
        assert_eq!((report.duplicated, report.reordered), (1, 2));
        assert_eq!(report.last_arrival, report.arrivals.last().map(|(_, at)| *at));
    }
}
