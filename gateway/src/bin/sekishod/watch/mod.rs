//! The watch role: reads what the kernel denied from a socket that core opened, keeps the last of it, tells admins.
//! It holds no capability and can write to nothing but its own socket.

mod packet;
mod ring;
mod source;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use gateway::wire::{Answer, Ask, Fault, FaultKind};
use jiff::Timestamp;
use netfilter::nflog::{LoggedPacket, Losses};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use self::ring::{Kind, Ring};
use self::source::{Feed, Told};
use crate::notify::{self, every, tick};
use crate::sandbox;
use crate::server::{self, Access, Letter};
use crate::signals::{Signals, Word};

/// Requests that wait for the loop at once.
const LETTERS_MAX: usize = 16;
/// How long to wait before core is asked for the log again.
const RECONNECT_WAIT: Duration = Duration::from_millis(500);

/// Serves until told to stop.
pub(crate) async fn run(runtime: &Path, feed: &Path) -> Result<()> {
    let mut signals = Signals::listen()?;
    sandbox::enter(sandbox::WATCH_FAMILIES)?;
    let own = rustix::process::geteuid().as_raw();
    let path = runtime.join("watch.sock");
    // Everybody may connect, for this role is in no other group than its own; only admins are answered.
    let listener = server::bind(&path, Access::Everybody)
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    let (send, letters) = mpsc::channel(LETTERS_MAX);
    tokio::spawn(server::serve(listener, server::admins_only(own), send));
    let ring = Rc::new(RefCell::new(Ring::default()));
    let local = LocalSet::new();
    local.spawn_local(follow(feed.to_owned(), Rc::clone(&ring)));
    notify::ready("reading what was denied");
    tracing::info!("ready");
    local.run_until(turn(letters, &ring, &mut signals)).await;
    notify::stopping();
    Ok(())
}

async fn turn(mut letters: mpsc::Receiver<Letter>, ring: &RefCell<Ring>, signals: &mut Signals) {
    let mut alive = notify::alive_every().map(every);
    loop {
        tokio::select! {
            Some(letter) = letters.recv() => {
                // A client that left needs no answer.
                let _ = letter.reply.send(answer(&letter.ask, ring));
            }
            () = tick(alive.as_mut()) => notify::alive(),
            word = signals.next() => match word {
                Word::Reload => {}
                Word::Stop => return,
            },
        }
    }
}

fn answer(ask: &Ask, ring: &RefCell<Ring>) -> Answer {
    match ask {
        Ask::Denials {} => Answer::Denials(ring.borrow().denials()),
        Ask::Status {}
        | Ask::Apply { .. }
        | Ask::Flows {}
        | Ask::Verify {}
        | Ask::Sources {}
        | Ask::TimeTrusted {}
        | Ask::RenderServices {} => Answer::Failed(Fault::new(
            FaultKind::BadRequest,
            "this role only knows what was denied: ask core",
        )),
    }
}

/// Gets the log from core, reads it until core is gone, and begins again.
async fn follow(path: std::path::PathBuf, ring: Rc<RefCell<Ring>>) {
    loop {
        match Feed::connect(&path).await {
            Ok(mut feed) => {
                tracing::info!("core handed over the log of denied packets");
                let error = read(&mut feed, &ring).await;
                tracing::warn!(%error, "the log of denied packets ended; asking core again");
            }
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "core does not hand over the log yet")
            }
        }
        tokio::time::sleep(RECONNECT_WAIT).await;
    }
}

async fn read(feed: &mut Feed, ring: &RefCell<Ring>) -> std::io::Error {
    let mut before = Losses::default();
    loop {
        let Told { packets, losses } = match feed.next().await {
            Ok(told) => told,
            Err(error) => return error,
        };
        let mut ring = ring.borrow_mut();
        ring.count_lost((losses.missing + losses.overruns).saturating_sub(before.missing + before.overruns));
        ring.count_malformed(losses.malformed.saturating_sub(before.malformed));
        before = losses;
        for packet in packets {
            take(&packet, &mut ring);
        }
    }
}

fn take(logged: &LoggedPacket, ring: &mut Ring) {
    let Some(kind) = packet::kind(&logged.prefix, &logged.payload) else { return ring.count_malformed(1) };
    let Kind { prefix, source, destination, protocol, port } = &kind;
    tracing::debug!(prefix, source, destination, protocol, port, "denied");
    ring.push(kind, Timestamp::now());
}
