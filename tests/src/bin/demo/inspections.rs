//! The service manager's part for `sekisho-inspect.socket`: one process, as its unit says, for each connection.
use std::{
    fs,
    io::ErrorKind,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;
use lab::{RoleRunner, Unit};

use crate::{
    Sabotage,
    sabotage::allow_everything,
    site::{Site, repository},
};

const UNIT: &str = "firmware/units/sekisho-inspect@.service";
const PLACE: &str = "sekisho-inspect";
const POLL: Duration = Duration::from_millis(20);
/// How long one inspection may take, as its unit has it.
const LIMIT: Duration = Duration::from_secs(60);

/// Serves inspections for as long as the work lasts.
pub(crate) fn during<T>(
    site: &Site,
    sabotage: Option<Sabotage>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let directory = RoleRunner::runtime_root(site.lab()).join(PLACE);
    fs::create_dir_all(&directory)?;
    let path = directory.join("inspect.sock");
    let listener = UnixListener::bind(&path)?;
    // On the box its group is that of the files role; in this directory nobody else is there to ask.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    let over = AtomicBool::new(false);
    let done = thread::scope(|scope| {
        let server = scope.spawn(|| serve(site, sabotage, &listener, &over));
        let done = work();
        over.store(true, Ordering::Release);
        match server.join() {
            Ok(served) => served.and(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    fs::remove_file(&path)?;
    done
}

fn serve(site: &Site, sabotage: Option<Sabotage>, listener: &UnixListener, over: &AtomicBool) -> Result<()> {
    while !over.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((connection, _)) => {
                connection.set_nonblocking(false)?;
                if sabotage == Some(Sabotage::Inspect) {
                    allow_everything(site, connection)?;
                } else {
                    inspect(site, connection)?;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn inspect(site: &Site, connection: UnixStream) -> Result<()> {
    let runner = RoleRunner::new(site.lab(), Unit::read(&repository().join(UNIT))?);
    let program = site.programs().join("sekishod");
    let mut role = runner.program(program).input(connection).start()?;
    // One that ends badly has given no answer, which the files role takes for a refusal.
    role.wait_ended(LIMIT)?;
    Ok(())
}
