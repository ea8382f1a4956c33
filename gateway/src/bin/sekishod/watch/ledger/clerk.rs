//! The ledger's own thread: takes what the kernel told, keeps the books, writes. It is the only writer of the file; what
//! it cannot write in time waits in the kernel's buffer, so that there is one place where something can be lost, and
//! that one is counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use events::{Event as Happening, Feed};
use gateway::wire::watch::GapReason;
use jiff::Timestamp;
use netfilter::conntrack::{Connection, Count, Event};
use policy::services::WatchSettings;
use tokio::sync::{Notify, mpsc};

use super::super::names::{GATEWAY, Names};
use super::super::packet::Head;
use super::books::Books;
use super::listing::{Listing, Listings, OpenRows, Sums, Want, add};
use super::open::{OpenConnections, Unmarked};
use super::question::{flow_name, open_row};
use super::row::{FlowRow, milliseconds};
use super::schema::PutAside;
use super::sightings::Sightings;
use super::steady::Steadiness;
use super::store::{Fact, GapRow, Store, unsigned};
use super::summary::{self, Summary};

/// How long after one list of all open connections the next is asked for, at least. The kernel does not tell of
/// beginnings: a connection is first seen in such a list, or at its end when it is shorter.
const SURVEY_EVERY: Duration = Duration::from_secs(5);
/// How many times longer than the last list took, at least, so that a full table is not read all the time.
const SURVEY_REST: u32 = 20;
/// How long a write that failed shows, so that whoever measures now and then sees it.
const FAILURE_SHOWS: Duration = Duration::from_secs(20);

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// What the kernel told of connections.
    Connections(Vec<Event>, Timestamp),
    /// Running connections whose flow ended.
    Unmarked(Vec<Unmarked>, Timestamp),
    /// Denied packets.
    Denied(Vec<Head>, Timestamp),
    /// The kernel dropped events, so many in all since its socket was made.
    Lost { dropped: u64, since: Timestamp, until: Timestamp },
    /// The kernel's events come, from a socket that is new, or that core kept for us.
    Gained { is_new: bool, dropped: u64, at: Timestamp },
    /// They no longer come.
    Ceased(Timestamp),
    /// The policy changed.
    Settings(Box<WatchSettings>),
    /// A list of open connections is wanted.
    List(Want),
    /// A second has passed, by either clock.
    Tick(Timestamp, Instant),
    /// The role ends.
    Close,
}

/// How the thread speaks to the role's loop.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    /// Asks core for a list.
    pub(crate) list: Arc<Notify>,
    /// What happened.
    pub(crate) events: mpsc::Sender<Happening>,
    /// How things are.
    pub(crate) summary: Arc<Mutex<Summary>>,
}

/// What a feed that came means for the file.
#[derive(Debug)]
struct Begun {
    facts: Vec<(Fact, i64)>,
    gap: Option<GapRow>,
    since: Timestamp,
    at: Timestamp,
}

/// The thread's state.
#[derive(Debug)]
pub(crate) struct Clerk {
    store: Store,
    voice: Voice,
    names: Names,
    books: Books,
    sightings: Sightings,
    listings: Listings,
    /// Whether the kernel's events come.
    is_fed: bool,
    open: OpenConnections,
    /// When the next list of all open connections is due.
    survey_at: Instant,
    /// What began before was counted by a former process.
    new_since_ms: i64,
    /// What the kernel had dropped in all, when that was last heard.
    dropped: u64,
    /// What the file does not know yet of the feed that comes now: the disk did not take it.
    begun: Option<Begun>,
    /// When a write last failed.
    failed_at: Option<Instant>,
    /// For a file that is begun anew.
    settings: Option<WatchSettings>,
    clock: Steadiness,
    budget_bytes: u64,
    retention_ms: i64,
}

impl Clerk {
    /// Begins with an opened file, in place of one that was put aside if that is said.
    pub(crate) fn new(
        store: Store,
        voice: Voice,
        aside: Option<&PutAside>,
        now: Timestamp,
    ) -> rusqlite::Result<Self> {
        let books = Books::open(&store, now)?;
        let mut clerk = Clerk {
            store,
            voice,
            names: Names::default(),
            books,
            sightings: Sightings::default(),
            listings: Listings::default(),
            is_fed: false,
            open: OpenConnections::default(),
            survey_at: Instant::now(),
            new_since_ms: i64::MIN,
            dropped: 0,
            begun: None,
            failed_at: None,
            settings: None,
            clock: Steadiness::new(now, Instant::now()),
            budget_bytes: 0,
            retention_ms: 0,
        };
        if aside.is_some() {
            clerk.books.begin_anew(&mut clerk.store, aside);
        }
        clerk.summarise(now);
        Ok(clerk)
    }

    /// Serves until told to close.
    pub(crate) fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.blocking_recv() {
            let is_last = matches!(order, Order::Close);
            if let Err(error) = self.carry_out(order) {
                self.failed(&error);
            }
            if is_last {
                return;
            }
        }
    }

    fn carry_out(&mut self, order: Order) -> rusqlite::Result<()> {
        match order {
            Order::Connections(events, at) => self.connections(events, at),
            Order::Unmarked(unmarked, at) => {
                unmarked.into_iter().for_each(|told| self.open.unmarked(told, at));
                Ok(())
            }
            Order::Denied(heads, at) => self.denied(&heads, at),
            Order::Lost { dropped, since, until } => self.lost(dropped, since, until),
            Order::Gained { is_new, dropped, at } => self.gained(is_new, dropped, at),
            Order::Ceased(at) => self.ceased(at),
            Order::Settings(settings) => {
                self.settings = Some(*settings);
                self.set_up()
            }
            Order::List(want) => {
                self.want(want);
                Ok(())
            }
            Order::Tick(wall, now) => self.tick(wall, now),
            Order::Close => {
                self.write_sightings()?;
                self.write_begun()?;
                self.seal(Timestamp::now())?;
                self.store.set_fact(Fact::Clean, 1)
            }
        }
    }

    fn connections(&mut self, events: Vec<Event>, at: Timestamp) -> rusqlite::Result<()> {
        let mut rows = Vec::new();
        let mut outcome = Ok(());
        for event in events {
            match event {
                Event::Ended(connection) => rows.extend(self.ended(&connection, at)),
                Event::Open(connection) => self.listed(&connection, at),
                Event::ListEnd { complete } => {
                    // What ended before the list did is in the ledger before it is summed up. A disk that takes none of it
                    // keeps nothing from being taken up that comes behind.
                    outcome = outcome.and(self.write(std::mem::take(&mut rows), at));
                    outcome = outcome.and(self.list_ended(complete));
                }
            }
        }
        outcome.and(self.write(rows, at))
    }

    /// A connection is seen for the first time.
    fn seen(&mut self, connection: &Connection, at: Timestamp) {
        let started_ms = milliseconds(connection.started_at);
        if started_ms.is_some_and(|started_ms| started_ms < self.new_since_ms) {
            return;
        }
        self.books.started += 1;
        let told = self.sightings.connection(&connection.tuple, &self.names, at);
        self.tell(told);
    }

    fn ended(&mut self, connection: &Connection, at: Timestamp) -> Option<FlowRow> {
        if is_inner(connection) {
            return None;
        }
        self.listings.ended(self.open.key(connection));
        let (opened, is_first) = self.open.ended(connection);
        if is_first {
            self.seen(connection, at);
        }
        Some(FlowRow::new(connection, opened, &self.names, at))
    }

    fn listed(&mut self, connection: &Connection, at: Timestamp) {
        let key = self.open.key(connection);
        let is_over = |listing: &Listing| listing.ended.contains(&key);
        if is_inner(connection) || self.listings.current.as_ref().is_some_and(is_over) {
            return;
        }
        let (opened, is_first) = self.open.listed(connection, at);
        if is_first {
            self.seen(connection, at);
        }
        let row = FlowRow::new(connection, Some(opened), &self.names, at);
        let Some(listing) = &mut self.listings.current else { return };
        match &listing.want {
            Want::Survey => {}
            Want::Sums { .. } => {
                let (sent, returned) = (row.sent, row.returned);
                listing.counted.insert(key, ((row.mark, row.last_mark), both(sent, returned)));
            }
            Want::Rows { selection, limit, .. } => {
                let flow = flow_name(row.mark, self.names.flows.get(&row.mark).cloned());
                let is_wanted = selection.takes(&row, &flow);
                if is_wanted && listing.rows.len() >= *limit {
                    listing.is_cut = true;
                } else if is_wanted {
                    let later = (row.last_mark != row.mark).then(|| self.names.flows.get(&row.last_mark));
                    let later = later.flatten().map(String::as_str);
                    listing.rows.insert(key, open_row(row, &flow, later));
                }
            }
        }
    }

    fn want(&mut self, want: Want) {
        if self.listings.want(want) {
            self.begin_list();
        }
    }

    fn begin_list(&mut self) {
        if self.listings.current.as_ref().is_some_and(|listing| matches!(listing.want, Want::Survey)) {
            self.open.begin_survey();
        }
        self.voice.list.notify_one();
    }

    fn list_ended(&mut self, complete: bool) -> rusqlite::Result<()> {
        let (done, again) = self.listings.end(complete);
        if let Some(listing) = done {
            match listing.want {
                Want::Survey => {
                    if complete {
                        self.open.end_survey();
                    }
                    let rest = (listing.asked_at.elapsed() * SURVEY_REST).max(SURVEY_EVERY);
                    self.survey_at = Instant::now() + rest;
                }
                // An answer that nobody waits for any more is dropped. A list with holes gives no sums at all.
                Want::Rows { reply, .. } => {
                    let rows = listing.rows.into_values().collect();
                    drop(reply.send(OpenRows { rows, is_whole: complete && !listing.is_cut }));
                }
                Want::Sums { since_ms, reply } if complete => {
                    let sums = self.sums(since_ms).map(|mut sums| {
                        listing.counted.into_values().for_each(|(marks, count)| add(&mut sums, marks, count));
                        sums
                    });
                    drop(reply.send(sums));
                }
                Want::Sums { .. } => {}
            }
        }
        if again {
            self.begin_list();
        }
        Ok(())
    }

    fn sums(&self, since_ms: Option<i64>) -> rusqlite::Result<Sums> {
        let mut statement = self.store.connection().prepare(
            "SELECT mark, last_mark, count(*), sum(sent_packets + returned_packets), sum(sent_bytes + returned_bytes)
             FROM flow WHERE ended >= ?1 GROUP BY mark, last_mark",
        )?;
        let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(unsigned);
        let rows = statement.query_map([since_ms.unwrap_or(i64::MIN)], |row| {
            let count = Count { packets: number(row, 3)?, bytes: number(row, 4)? };
            Ok(((row.get(0)?, row.get(1)?), (number(row, 2)?, count)))
        })?;
        rows.collect()
    }

    fn denied(&mut self, heads: &[Head], at: Timestamp) -> rusqlite::Result<()> {
        for head in heads {
            let told = self.sightings.denial(head, &self.names, at);
            self.tell(told);
            self.books.denied(head);
        }
        self.store.denials(heads, &self.names, at.as_millisecond()).inspect_err(|_| {
            let count = u64::try_from(heads.len()).unwrap_or(u64::MAX);
            self.tell(Some(Happening::EventsLost { feed: Feed::Denials, count, since: at, until: at }));
        })
    }

    fn lost(&mut self, dropped: u64, since: Timestamp, until: Timestamp) -> rusqlite::Result<()> {
        self.dropped = dropped;
        if let Some(begun) = &mut self.begun {
            // The file still has the count of another socket: looked at again once it knows of this one.
            begun.at = begun.at.max(until);
            return Ok(());
        }
        let before = self.store.fact(Fact::Dropped)?.map_or(0, unsigned);
        let count = dropped.saturating_sub(before);
        if count == 0 {
            return Ok(());
        }
        tracing::warn!(count, "the kernel had more connections to tell of than it had room for");
        let gap = GapRow {
            since_ms: since.as_millisecond(),
            until_ms: Some(until.as_millisecond()),
            lost: Some(count),
            why: GapReason::Overrun,
        };
        // Told once it is written: what is not is found again with the next loss, and must not be told twice.
        self.store.gap(gap)?;
        self.store.set_fact(Fact::Dropped, super::store::signed(dropped))?;
        self.tell(Some(Happening::EventsLost { feed: Feed::Connections, count, since, until }));
        self.want(Want::Survey);
        Ok(())
    }

    /// A socket that core kept has queued what happened meanwhile; but unless this role had ended in order, something of
    /// what it had read was not written yet.
    fn gained(&mut self, is_new: bool, dropped: u64, at: Timestamp) -> rusqlite::Result<()> {
        let clean = self.store.fact(Fact::Clean)? == Some(1);
        let alive = self.store.fact(Fact::Alive)?;
        self.is_fed = true;
        let survey_ms = i64::try_from(SURVEY_EVERY.as_millis()).unwrap_or(i64::MAX);
        self.new_since_ms = alive.map_or(i64::MIN, |alive_ms| alive_ms.saturating_sub(survey_ms));
        let mut facts = vec![(Fact::Clean, 0)];
        if self.store.fact(Fact::Began)?.is_none() {
            facts.push((Fact::Began, at.as_millisecond()));
        }
        if is_new {
            facts.push((Fact::Dropped, 0));
        }
        let gap = alive.filter(|_| is_new || !clean).map(|since_ms| GapRow {
            since_ms,
            until_ms: Some(at.as_millisecond()),
            lost: None,
            why: GapReason::Absent,
        });
        let since = alive.map_or(at, super::row::timestamp);
        let former = self.begun.take();
        self.begun = Some(Begun { facts, gap, since, at }.after(former));
        self.dropped = dropped;
        self.want(Want::Survey);
        // By itself it may be written where the rest cannot: what this process lacks must not pass for an orderly end.
        let unclean = self.store.set_fact(Fact::Clean, 0);
        unclean.and(self.write_begun())
    }

    /// Writes what a feed that came means for the file, if that is not written yet.
    fn write_begun(&mut self) -> rusqlite::Result<()> {
        let Some(begun) = &self.begun else { return Ok(()) };
        self.store.begin(&begun.facts, begun.gap)?;
        let (since, at) = (begun.since, begun.at);
        self.begun = None;
        self.lost(self.dropped, since, at)
    }

    fn ceased(&mut self, at: Timestamp) -> rusqlite::Result<()> {
        self.is_fed = false;
        self.listings.give_up();
        self.alive(at)
    }

    /// Marks that nothing is missing until now. Not while the beginning is unwritten: a next start measures the gap, which the
    /// file does not have yet, from this mark.
    fn alive(&mut self, at: Timestamp) -> rusqlite::Result<()> {
        if self.begun.is_some() { Ok(()) } else { self.store.set_fact(Fact::Alive, at.as_millisecond()) }
    }

    /// Tells the file what the policy says.
    fn set_up(&mut self) -> rusqlite::Result<()> {
        let Some(settings) = &self.settings else { return Ok(()) };
        self.names = Names::new(settings);
        self.budget_bytes = settings.flows_budget_bytes;
        self.retention_ms =
            i64::try_from(settings.flows_retention_s).unwrap_or(i64::MAX).saturating_mul(1000);
        self.store.limit_bytes(self.budget_bytes)?;
        let zones = settings.zones.iter().map(|zone| zone.slug.as_str());
        let devices = settings.devices.iter().map(|device| device.name.as_str());
        self.store.names(&self.names.flows, zones.chain(devices).chain([GATEWAY]))
    }

    fn tick(&mut self, now: Timestamp, by: Instant) -> rusqlite::Result<()> {
        self.names.renumber();
        if self.listings.is_overdue() {
            self.list_ended(false)?;
        }
        if self.is_fed && self.survey_at <= Instant::now() {
            // Until this one has ended or was given up.
            self.survey_at = Instant::now() + SURVEY_EVERY;
            self.want(Want::Survey);
        }
        let is_steady = self.clock.is_steady(now, by);
        // Each by itself, for the first makes the room that others lack.
        let mut outcome = self.prune(now, is_steady);
        outcome = outcome.and(self.write_sightings());
        outcome = outcome.and(self.write_begun());
        if self.is_fed {
            outcome = outcome.and(self.alive(now));
        }
        if self.books.is_due(now) {
            outcome = outcome.and(self.seal(now));
        }
        self.summarise(now);
        outcome
    }

    fn seal(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        let told = self.books.seal(&mut self.store, now)?;
        told.into_iter().for_each(|event| self.tell(Some(event)));
        Ok(())
    }

    /// Lets go of what is older than the policy wants kept, or than there is room for.
    fn prune(&mut self, now: Timestamp, is_steady: bool) -> rusqlite::Result<()> {
        // Before the first policy nobody has said how much may be kept.
        if self.budget_bytes == 0 {
            return Ok(());
        }
        // Nothing is old by a clock that was just set; what there is no room for goes all the same.
        let retention_ms = if is_steady { self.retention_ms } else { i64::MAX };
        self.books.prune(&mut self.store, (now.as_millisecond(), retention_ms), self.budget_bytes)
    }

    fn write_sightings(&mut self) -> rusqlite::Result<()> {
        if self.sightings.fresh.is_empty() {
            return Ok(());
        }
        // What cannot be written now is tried again with the next.
        self.store.sightings(&self.sightings.fresh)?;
        self.sightings.fresh.clear();
        Ok(())
    }

    fn write(&mut self, rows: Vec<FlowRow>, at: Timestamp) -> rusqlite::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let alive_ms = self.begun.is_none().then(|| at.as_millisecond());
        match self.store.flows(&rows, alive_ms) {
            Ok(first) => {
                self.books.take(first, &rows);
                Ok(())
            }
            Err(error) => {
                self.unwritten(&rows, at);
                Err(error)
            }
        }
    }

    /// The disk did not take rows: they are lost, and that is told, to the ledger as soon as it takes something again.
    fn unwritten(&mut self, rows: &[FlowRow], at: Timestamp) {
        let since = rows.iter().map(|row| row.ended_ms).min().map_or(at, super::row::timestamp);
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        self.books.unwritten(count, since, at);
        self.tell(Some(Happening::EventsLost { feed: Feed::Connections, count, since, until: at }));
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        tracing::error!(%error, "the ledger of connections cannot be written");
        self.failed_at = Some(Instant::now());
        self.voice.lock().failed(error.to_string());
        if super::schema::is_damage(error) {
            match self.store.reopen() {
                Ok(aside) => {
                    self.books.begin_anew(&mut self.store, aside.as_ref());
                    if let Err(error) = self.begin_anew(Timestamp::now()) {
                        tracing::error!(%error, "a new one is begun, and cannot be set up");
                    }
                }
                Err(error) => tracing::error!(%error, "nor can a new one be begun"),
            }
        }
    }

    /// A new file knows nothing of what the old one was told.
    fn begin_anew(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        self.store.set_fact(Fact::Began, now.as_millisecond())?;
        self.store.set_fact(Fact::Dropped, super::store::signed(self.dropped))?;
        self.set_up()
    }

    fn summarise(&mut self, now: Timestamp) {
        match summary::read(&self.store, self.budget_bytes, self.retention_ms, now) {
            Ok(mut summary) => {
                summary.open = self.open.len();
                let is_failing = self.failed_at.is_some_and(|at| at.elapsed() < FAILURE_SHOWS);
                summary.writing = !is_failing && !self.books.has_unwritten() && self.begun.is_none();
                *self.voice.lock() = summary;
            }
            Err(error) => self.failed(&error),
        }
    }

    fn tell(&self, event: Option<Happening>) {
        let Some(event) = event else { return };
        if let Err(error) = self.voice.events.try_send(event) {
            tracing::warn!(%error, "an event of the ledger was not told");
        }
    }
}

impl Begun {
    /// With what a former one had still to tell: one gap from the beginning of its own, which is never too short.
    fn after(mut self, former: Option<Begun>) -> Self {
        let Some(former) = former else { return self };
        self.since = self.since.min(former.since);
        self.gap = match (former.gap, self.gap) {
            (Some(former), Some(gap)) => Some(GapRow { since_ms: former.since_ms.min(gap.since_ms), ..gap }),
            (former, gap) => former.or(gap),
        };
        // A later number of the same name is the one that stays.
        self.facts.splice(..0, former.facts);
        self
    }
}

impl Voice {
    /// The summary; a thread that died while it held it does not take it along.
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Summary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The box talking to itself is no connection of the clinic.
fn is_inner(connection: &Connection) -> bool {
    connection.tuple.source.is_loopback() || connection.tuple.destination.is_loopback()
}

fn both(sent: Count, returned: Count) -> Count {
    Count {
        packets: sent.packets.saturating_add(returned.packets),
        bytes: sent.bytes.saturating_add(returned.bytes),
    }
}
