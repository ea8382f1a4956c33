//! One file's journey: carries out what the machine of the crate `transfer` orders, and brings back what happened.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use events::event::text;
use events::words::FileChange;
use gateway::wire::files::{FilesAnswer, FilesAsk};
use gateway::wire::{Fault, FaultKind};
use jiff::Timestamp;
use policy::diagnostic::Language;
use policy::services::{FilesSettings, FilesVendor};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use transfer::attestation::{self, AttestationError, Expected, SignerKey};
use transfer::{
    Announcement, Command, Failure, Hash, Inspection, Order, Outcome, Proof, Released, State, Step, Transfer,
    TransferId,
};

use super::deliver::{self, Delivery};
use super::house::{self, House};
use super::inspection;
use super::journal::Entry;
use super::keep::Intake;
use super::{serve, telling};

/// Bytes taken at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Most kinds that are told.
const KINDS_MAX: usize = 16;

struct Journey {
    house: Rc<House>,
    stream: UnixStream,
    machine: Transfer,
    entry: Entry,
    began: Instant,
    /// Directory below the vendor's drop.
    below: Option<String>,
    attested: bool,
    intake: Option<Intake>,
    kinds: Vec<String>,
    leavings: Vec<PathBuf>,
}

/// Takes one file from its announcement to its outcome.
pub(super) async fn run(house: Rc<House>, mut stream: UnixStream, ask: FilesAsk) {
    let announced = match named(&ask) {
        Ok(announced) => announced,
        Err(error) => {
            let fault = Fault::new(FaultKind::Failed, error.to_string());
            return serve::say(&mut stream, &FilesAnswer::Failed(fault)).await;
        }
    };
    let FilesSettings { site, vendors } = house.settings();
    let vendor: Option<&FilesVendor> = vendors.iter().find(|vendor| vendor.name == announced.vendor);
    let proof = proof(&house, &ask, &announced, &site);
    let attested = matches!(proof, Proof::Given(Ok(_)));
    let entry = Entry::begun(&announced, Timestamp::now());
    let machine = Transfer::announce(announced, house::rules(vendor), &proof, Duration::ZERO);
    let below = vendor.and_then(|vendor| vendor.drop.clone());
    let (began, intake, kinds, leavings) = (Instant::now(), None, Vec::new(), Vec::new());
    Journey { house, stream, machine, entry, began, below, attested, intake, kinds, leavings }.run().await;
}

/// What is announced, under a name of its own.
fn named(ask: &FilesAsk) -> io::Result<Announcement> {
    let FilesAsk::Begin { session, vendor, name, size_bytes, sha256, attestation: _, engineer_key: _ } = ask;
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(Announcement {
        transfer: TransferId::from_random(random),
        session: session.to_string(),
        vendor: vendor.as_str().to_owned(),
        name: name.clone(),
        size_bytes: *size_bytes,
        sha256: *sha256,
    })
}

/// What came of the sender's attestation; one that counts is spent, durably, before it is used.
fn proof(house: &House, ask: &FilesAsk, announced: &Announcement, site: &str) -> Proof {
    let FilesAsk::Begin { attestation, engineer_key, .. } = ask;
    let Some(envelope) = attestation else { return Proof::Absent };
    let expected = Expected {
        name: &announced.name,
        size_bytes: announced.size_bytes,
        sha256: announced.sha256,
        site,
        session: &announced.session,
    };
    let verified = SignerKey::from_spki(engineer_key.der()).and_then(|key| {
        let spent = &mut house.spent.borrow_mut();
        attestation::verify(envelope.as_str(), &key, &expected, spent, Timestamp::now())
    });
    Proof::Given(verified.and_then(|attested| match house.keep_spent() {
        Ok(()) => Ok(Box::new(attested)),
        Err(error) => {
            tracing::error!(%error, "cannot note that an attestation was used");
            Err(AttestationError::Full)
        }
    }))
}

impl Journey {
    async fn run(mut self) {
        loop {
            let now = self.now();
            self.machine.handle_timeout(now);
            match self.machine.poll_command() {
                Some(Order { command: Command::Conclude(outcome), .. }) => {
                    return self.conclude(outcome).await;
                }
                Some(order) => self.carry_out(order).await,
                None if matches!(self.machine.state(), State::Receiving { .. }) => self.receive().await,
                None => {
                    // Every other state waits for an answer that was given already.
                    let what = "the transfer stood still".to_owned();
                    tracing::error!(transfer = %self.entry.transfer, %what);
                    return;
                }
            }
        }
    }

    async fn carry_out(&mut self, Order { step, command }: Order) {
        match command {
            Command::Hold {} => self.hold(step).await,
            Command::Seal {} => self.seal(step).await,
            Command::Inspect {} => self.inspect(step).await,
            Command::Record {} => self.record(step).await,
            Command::Deliver(released) => self.deliver(step, released).await,
            // Taken by the caller, for it is the last.
            Command::Conclude(_) => {}
        }
    }

    /// The transfer is in the journal before a byte of it is on the disk.
    async fn hold(&mut self, step: Step) {
        let size_bytes = self.machine.announced().size_bytes;
        let held = self.house.journal.write(&self.entry);
        let held = held.and_then(|()| self.house.keep.begin(&self.entry.transfer, size_bytes));
        let result = held.map(|intake| self.intake = Some(intake)).map_err(failure);
        let is_held = result.is_ok();
        self.machine.handle_held(step, result, self.now());
        if is_held {
            let change = FileChange::Held { size_bytes, attested: self.attested };
            self.house.tell(telling::of(self.machine.announced(), change));
            serve::say(&mut self.stream, &FilesAnswer::Send { transfer: self.entry.transfer.clone() }).await;
        }
    }

    /// Takes the next bytes; the last of them ends the receiving.
    async fn receive(&mut self) {
        let State::Receiving { received_bytes } = self.machine.state() else { return };
        let missing = self.machine.announced().size_bytes.saturating_sub(received_bytes);
        if missing == 0 {
            return self.received().await;
        }
        let limit = self.machine.poll_timeout().unwrap_or_default().saturating_sub(self.now());
        let mut bytes = vec![0; CHUNK_BYTES.min(usize::try_from(missing).unwrap_or(CHUNK_BYTES))];
        let read = timeout(limit, self.stream.read(&mut bytes)).await;
        let now = self.now();
        match read {
            Err(_) => self.machine.handle_timeout(now),
            Ok(Ok(0) | Err(_)) => self.machine.handle_sender_gone(now),
            Ok(Ok(count)) => {
                bytes.truncate(count);
                if self.machine.handle_bytes(u64::try_from(count).unwrap_or(u64::MAX), now) {
                    self.write(bytes).await;
                }
            }
        }
    }

    async fn write(&mut self, bytes: Vec<u8>) {
        let Some(mut intake) = self.intake.take() else { return };
        let written = on_thread(move || intake.take(&bytes).map(|()| intake)).await;
        match written {
            Ok(intake) => self.intake = Some(intake),
            Err(error) => self.machine.handle_hold_failed(failure(error), self.now()),
        }
    }

    async fn received(&mut self) {
        let Some(intake) = self.intake.take() else { return };
        let finished = on_thread(move || intake.finish()).await;
        let now = self.now();
        match finished {
            Ok(sha256) => self.machine.handle_received(sha256, now),
            Err(error) => self.machine.handle_hold_failed(failure(error), now),
        }
    }

    async fn seal(&mut self, step: Step) {
        let result = match self.house.sealing.acquire().await {
            Ok(_one) => {
                let (keep, transfer) = (self.house.keep.clone(), self.entry.transfer.clone());
                on_thread(move || keep.seal(&transfer)).await
            }
            Err(error) => Err(io::Error::other(error)),
        };
        self.machine.handle_sealed(step, result.map_err(failure), self.now());
    }

    async fn inspect(&mut self, step: Step) {
        let limit = self.machine.poll_timeout().unwrap_or_default().saturating_sub(self.now());
        let held = self.house.keep.held(&self.entry.transfer);
        let asked = inspection::inspect(&self.house.inspect, &held, &self.entry.name);
        let late = || Err(Failure("it took too long".to_owned()));
        let result: Result<Inspection, Failure> = timeout(limit, asked).await.unwrap_or_else(|_| late());
        if let Ok(Inspection { kinds, .. }) = &result {
            self.kinds = kinds.iter().take(KINDS_MAX).map(|kind| text(kind)).collect();
        }
        self.machine.handle_inspected(step, result, self.now());
    }

    async fn record(&mut self, step: Step) {
        let change = FileChange::Released { kinds: self.kinds.clone() };
        let event = telling::of(self.machine.announced(), change);
        let result = self.house.recorder.record(event.clone()).await;
        if result.is_ok() {
            self.house.count(&event);
        }
        let result = result.map(|_| ()).map_err(|error| Failure(error.to_string()));
        self.machine.handle_recorded(step, result, self.now());
    }

    /// Waits for the disk as long as it takes: a delivery that was given up must not happen behind our back.
    async fn deliver(&mut self, step: Step, released: Released) {
        let drop = deliver::drop_of(&self.house.drop, released.vendor(), self.below.as_deref());
        let (held, entry) = (self.house.keep.held(&self.entry.transfer), self.entry.clone());
        let journal = self.house.journal.clone();
        let delivered =
            on_thread(move || Ok(deliver::deliver(&held, &drop?, &released, &entry, &journal))).await;
        let result: Result<Hash, Failure> = match delivered {
            Ok(Delivery { leavings, result }) => {
                self.leavings = leavings;
                result.map_err(failure)
            }
            Err(error) => Err(failure(error)),
        };
        self.machine.handle_delivered(step, result, self.now());
    }

    /// The outcome is durable before anything in the drop is let go of, and before anybody hears of it. Only the held bytes
    /// go first: no restart needs them, and on a full disk theirs is the room that the entry takes.
    async fn conclude(mut self, outcome: Outcome) {
        let leavings = match &outcome {
            Outcome::Delivered { .. } => Vec::new(),
            Outcome::Refused { .. } | Outcome::Quarantined { .. } => std::mem::take(&mut self.leavings),
        };
        let entry = self.entry.over(outcome.clone(), leavings.clone());
        let transfer = entry.transfer.clone();
        // An open file keeps its room.
        self.intake = None;
        if let Err(error) = self.house.keep.release_hold(&transfer) {
            // The next start removes them; an outcome does not wait for that.
            tracing::warn!(%error, %transfer, "held bytes cannot be removed");
        }
        let written = self.house.journal.write(&entry);
        let done = written.and_then(|()| leavings.iter().try_for_each(|path| super::journal::remove(path)));
        if let Err(error) = done {
            // A restart finds the transfer as it stands in the journal, and ends it.
            tracing::error!(%error, %transfer, "an outcome could not be made durable");
            let fault = Fault::new(
                FaultKind::Failed,
                format!("the outcome of {transfer} could not be kept: {error}"),
            );
            return serve::say(&mut self.stream, &FilesAnswer::Failed(fault)).await;
        }
        tracing::info!(%transfer, outcome = outcome.word(), "a transfer ended");
        if self.house.untold.send(entry).await.is_err() {
            tracing::error!(%transfer, "nobody brings outcomes to the log");
        }
        let (ja, en) = (outcome.text(Language::Ja), outcome.text(Language::En));
        serve::say(&mut self.stream, &FilesAnswer::Judged { transfer, outcome, ja, en }).await;
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Does what waits for the disk beside the role's other work.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn failure(error: io::Error) -> Failure {
    Failure(error.to_string())
}
