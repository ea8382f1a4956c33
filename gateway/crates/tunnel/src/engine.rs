//! The data path in user space: one thread from the device to the wire, one back, one for what time demands.

mod receive;
mod ticks;
mod transmit;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{Builder, JoinHandle};
use std::time::SystemTime;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::counters::Drops;
use crate::device::Device;
use crate::peers::Table;
use crate::socket::Wire;
use crate::{Backend, Config, Stats, Tunnel, TunnelError};

/// What the threads share.
struct Shared {
    device: Device,
    wire: Wire,
    /// INVARIANT: a thread holds this for reading as long as it works on a batch, so that a change of the configuration
    /// waits until no packet of a peer that it takes away is under way.
    table: RwLock<Table>,
    drops: Drops,
    is_closing: AtomicBool,
    /// Readable from the moment the tunnel shall close.
    close: OwnedFd,
}

/// WireGuard in user space.
#[derive(Debug)]
pub struct UserSpace {
    shared: Arc<Shared>,
    port: u16,
    threads: Vec<(&'static str, JoinHandle<()>)>,
}

impl UserSpace {
    /// Starts on a device.
    /// # Errors
    /// Refuses a configuration that cannot be carried out; fails when the port is taken.
    pub fn start(device: Device, config: &Config) -> Result<Self, TunnelError> {
        config.check()?;
        let wire = Wire::listen(config.listen_port)?;
        let port = wire.port()?;
        let table = Table::new(config, None, SystemTime::now())?;
        let close = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(TunnelError::io("make an event descriptor"))?;
        let shared = Arc::new(Shared {
            device,
            wire,
            table: RwLock::new(table),
            drops: Drops::default(),
            is_closing: AtomicBool::new(false),
            close,
        });
        let mut tunnel = Self { shared, port, threads: Vec::new() };
        tunnel.spawn("transmitter", transmit::run)?;
        tunnel.spawn("receiver", receive::run)?;
        tunnel.spawn("clock", ticks::run)?;
        Ok(tunnel)
    }

    /// Gives the UDP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn spawn(&mut self, part: &'static str, work: fn(&Shared)) -> Result<(), TunnelError> {
        let shared = Arc::clone(&self.shared);
        let thread = Builder::new().name(format!("vpn-{part}")).spawn(move || work(&shared));
        self.threads.push((part, thread.map_err(TunnelError::io("start a thread"))?));
        Ok(())
    }

    /// A part that has ended by itself ends the tunnel's promises, so everybody hears of it.
    fn is_whole(&self) -> Result<(), TunnelError> {
        let stopped = self.threads.iter().find(|(_, thread)| thread.is_finished());
        stopped.map_or(Ok(()), |(part, _)| Err(TunnelError::Stopped { part }))
    }

    fn stop(&mut self) -> Result<(), TunnelError> {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        rustix::io::write(&self.shared.close, &1_u64.to_ne_bytes())
            .map_err(TunnelError::io("tell the threads to end"))?;
        let mut result = Ok(());
        for (part, thread) in self.threads.drain(..) {
            if thread.join().is_err() {
                result = Err(TunnelError::Stopped { part });
            }
        }
        result
    }
}

impl Tunnel for UserSpace {
    fn backend(&self) -> Backend {
        Backend::UserSpace
    }

    fn configure(&self, config: &Config) -> Result<(), TunnelError> {
        self.is_whole()?;
        config.check()?;
        if ![0, self.port].contains(&config.listen_port) {
            return Err(TunnelError::Port { now: self.port, wanted: config.listen_port });
        }
        let now = SystemTime::now();
        let mut table = self.shared.table.write().unwrap_or_else(PoisonError::into_inner);
        // Nothing passes between the two tables: what waits for this lock finds the new one.
        let nobody = Config { private_key: config.private_key.clone(), listen_port: 0, peers: Vec::new() };
        let before = std::mem::replace(&mut *table, Table::new(&nobody, None, now)?);
        *table = Table::new(config, Some(before), now)?;
        Ok(())
    }

    fn stats(&self) -> Result<Stats, TunnelError> {
        self.is_whole()?;
        let mut stats = Stats::new(&self.shared.drops);
        stats.peers = self.shared.table().stats(SystemTime::now());
        Ok(stats)
    }

    fn close(mut self: Box<Self>) -> Result<(), TunnelError> {
        self.stop()
    }
}

impl Drop for UserSpace {
    fn drop(&mut self) {
        if !self.threads.is_empty() && self.stop().is_err() {
            tracing::error!("a part of the tunnel had stopped before it was closed");
        }
    }
}

impl Shared {
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something can be read, or for so long; says whether the tunnel goes on.
    fn wait(&self, source: Option<&dyn AsFd>, limit: Option<&Timespec>) -> bool {
        let close = PollFd::new(&self.close, PollFlags::IN);
        let polled = match source {
            Some(source) => {
                poll(&mut [close, PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN)], limit)
            }
            None => poll(&mut [close], limit),
        };
        let is_interrupted = polled.is_err_and(|errno| errno == rustix::io::Errno::INTR);
        (polled.is_ok() || is_interrupted) && !self.is_closing.load(Ordering::SeqCst)
    }
}

/// Says whether there is just nothing more to read.
fn is_empty(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("device", &self.device).finish_non_exhaustive()
    }
}
