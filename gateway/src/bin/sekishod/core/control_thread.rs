//! A thread beside the loop. The loop holds its own for as long as the kernel's packet filter or a disk takes; admins'
//! sockets and rtnetlink are served here, so that an order to end a session is seen at once.

use std::future::pending;
use std::io;
use std::thread;

use tokio::runtime::{Builder, EnterGuard, Handle};

/// The thread's name, as `ps -T` shows it.
const NAME: &str = "control";

/// The way to the thread. It ends with the process.
#[derive(Clone, Debug)]
pub(super) struct ControlThread(Handle);

impl ControlThread {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().name(NAME.to_owned()).spawn(move || runtime.block_on(pending::<()>()))?;
        Ok(ControlThread(handle))
    }

    /// While this is held, sockets are opened and tasks are spawned there.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.0.enter()
    }
}
