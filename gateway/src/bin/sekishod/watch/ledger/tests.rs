//! The ledger with its thread and its file, told by a kernel of this test's own.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use events::Feed;
use gateway::wire::watch::{Cursor, Ending, GapReason, LedgerQuery};
use netfilter::conntrack::{Connection, Count, Detail, Event as Told, Tuple};
use policy::services::WatchSettings;

use super::row::samples::connection;
use super::*;

fn settings() -> WatchSettings {
    serde_json::from_value(serde_json::json!({
        "flows_retention_s": 4_000_000_000_u64, "flows_budget_bytes": 1_u64 << 30,
        "zones": [
            {"slug": "modality", "name": "検査", "interface": "m", "kind": "medical-device",
             "networks": ["192.168.20.0/24"], "gateway": ["192.168.20.1"]},
            {"slug": "ehr", "name": "電子カルテ", "interface": "e", "kind": "clinical",
             "networks": ["192.168.10.0/24"], "gateway": ["192.168.10.1"]},
            {"slug": "wan", "name": "外", "interface": "w", "kind": "external", "networks": [], "gateway": []}],
        "devices": [
            {"name": "ct", "zone": "modality", "addresses": ["192.168.20.21"], "mac": null},
            {"name": "pacs", "zone": "ehr", "addresses": ["192.168.10.11"], "mac": null}],
        "marks": [{"mark": 9, "flow": "ct-to-pacs"}, {"mark": 10, "flow": "ct-to-pacs-again"}]
    }))
    .unwrap()
}

/// A ledger in a directory, with the settings above.
async fn begun(directory: &Path) -> Running {
    let running = start(directory, Timestamp::now()).unwrap();
    running.ledger.order(Order::Settings(Box::new(settings()))).await;
    running
}

fn query(device: Option<&str>, peer: Option<&str>) -> LedgerQuery {
    let text = |word: Option<&str>| word.map(str::to_owned);
    LedgerQuery { device: text(device), peer: text(peer), limit: 100, ..LedgerQuery::default() }
}

/// Waits until all that was ordered is done, by an order whose end is seen. The kernel's lists are empty.
async fn settled(running: &Running) {
    let (reply, mut answer) = oneshot::channel();
    running.ledger.order(Order::List(Want::Sums { since_ms: None, reply })).await;
    loop {
        list_end(running).await;
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(20), &mut answer).await {
            answer.unwrap().unwrap();
            break;
        }
    }
    // The word to core that nobody took.
    let _ = tokio::time::timeout(Duration::ZERO, running.ledger.list_wanted().notified()).await;
}

/// The kernel's list, which is empty.
async fn list_end(running: &Running) {
    running.ledger.order(Order::Connections(vec![Told::ListEnd { complete: true }], Timestamp::now())).await;
}

/// Asks for connections while the kernel lists these as open.
async fn asked(running: &Running, query: &LedgerQuery, open: Vec<Connection>) -> LedgerPage {
    let list = running.ledger.list_wanted();
    let answer = async {
        list.notified().await;
        let told = open.into_iter().map(Told::Open).chain([Told::ListEnd { complete: true }]).collect();
        running.ledger.order(Order::Connections(told, Timestamp::now())).await;
    };
    tokio::join!(running.ledger.connections(query), answer).0.unwrap()
}

fn outward(id: u32, source: [u8; 4], destination: [u8; 4]) -> Connection {
    let tuple = Tuple {
        source: source.into(),
        destination: destination.into(),
        protocol: 17,
        detail: Detail::Ports { source: 1024, destination: 53 },
    };
    Connection { tuple, tcp_state: None, ..connection(id, 53, 10) }
}

#[tokio::test]
async fn who_spoke_to_whom_is_answered_by_name_zone_address_and_time() {
    let directory = tempfile::tempdir().unwrap();
    let running = begun(directory.path()).await;
    let now = Timestamp::now();
    let mut told = vec![Told::Open(connection(1, 104, 9)), Told::Ended(connection(1, 104, 9))];
    told.push(Told::Ended(outward(2, [192, 168, 20, 21], [192, 0, 2, 1])));
    told.push(Told::Ended(outward(3, [192, 168, 10, 11], [192, 168, 20, 21])));
    running.ledger.order(Order::Connections(told, now)).await;
    settled(&running).await;
    let ids = |page: &LedgerPage| -> Vec<i64> {
        let from_one = |row: &LedgerRow| row.ended.unwrap().as_second() - 1_000_000;
        page.rows.iter().map(from_one).collect()
    };
    for (device, peer, expected) in [
        (None, None, vec![1, 2, 3]),
        (Some("ct"), None, vec![1, 2, 3]),
        (Some("pacs"), Some("ct"), vec![1, 3]),
        (Some("pacs"), None, vec![1, 3]),
        (Some("ct"), Some("zone:wan"), vec![2]),
        (Some("zone:wan"), None, vec![2]),
        (Some("192.0.2.1"), None, vec![2]),
        (None, Some("192.0.2.1"), vec![2]),
        (Some("192.0.2.9"), None, vec![]),
    ] {
        let page = asked(&running, &query(device, peer), Vec::new()).await;
        assert_eq!(ids(&page), expected, "{device:?} {peer:?}");
        assert!(page.with_open && page.more.is_none() && page.gaps.is_empty());
    }
    let time = |second: i64| Timestamp::from_second(1_000_000 + second).ok();
    let since = LedgerQuery { since: time(2), ..query(None, None) };
    assert_eq!(ids(&asked(&running, &since, Vec::new()).await), [2, 3]);
    let none = LedgerQuery { until: time(0), ..query(None, None) };
    assert_eq!(ids(&asked(&running, &none, Vec::new()).await), [0; 0]);
    let flow = LedgerQuery { flow: Some("ct-to-pacs".to_owned()), ..query(None, None) };
    let page = asked(&running, &flow, Vec::new()).await;
    assert_eq!(ids(&page), [1]);
    let row = &page.rows[0];
    assert_eq!((row.flow.as_str(), row.ending, row.protocol.as_str()), ("ct-to-pacs", Ending::Closed, "tcp"));
    assert_eq!((row.from.device.as_deref(), row.from.zone.as_str()), (Some("ct"), "modality"));
    assert_eq!((row.sent.bytes, row.returned.packets), (600, 4));
    let unknown = running.ledger.connections(&query(Some("nobody"), None)).await.unwrap_err();
    assert!(unknown.message.contains("no device `nobody`"), "{unknown:?}");
    running.close().await;
}

#[tokio::test]
async fn pages_follow_one_another_and_open_connections_come_last() {
    let directory = tempfile::tempdir().unwrap();
    let running = begun(directory.path()).await;
    let ended = (1..=25).map(|id| Told::Ended(connection(id, 104, 9))).collect();
    running.ledger.order(Order::Connections(ended, Timestamp::now())).await;
    settled(&running).await;
    let mut open = connection(99, 11112, 9);
    open.ended_at = None;
    let mut seen = Vec::new();
    let mut asking = LedgerQuery { limit: 10, ..query(Some("ct"), None) };
    for expected in [10, 10] {
        let page = running.ledger.connections(&asking).await.unwrap();
        assert_eq!((page.rows.len(), page.with_open), (expected, false));
        seen.extend(page.rows);
        asking.after = page.more;
        assert!(asking.after.is_some());
    }
    let page = asked(&running, &asking, vec![open]).await;
    assert_eq!((page.rows.len(), page.more, page.with_open), (6, None, true));
    let last = page.rows.last().unwrap();
    assert_eq!((last.ending, last.ended, last.to.port), (Ending::Open, None, Some(11112)));
    seen.extend(page.rows);
    let ends: Vec<_> = seen.iter().filter_map(|row| row.ended).collect();
    assert!(ends.len() == 25 && ends.is_sorted(), "{ends:?}");
    // Of more than are asked for it is said that some are missing.
    let open = |port| {
        let mut open = connection(99, port, 9);
        open.ended_at = None;
        open
    };
    for (count, expected) in [(5, (10, true)), (6, (10, false))] {
        let page = asked(&running, &asking, (0..count).map(|number| open(2000 + number)).collect()).await;
        assert_eq!((page.rows.len(), page.with_open), expected, "{count} open ones");
    }
    // Behind the last row there is nothing, and a cursor of nowhere is no error.
    asking.after = Some(Cursor { ended_ms: i64::MAX, row: i64::MAX });
    assert!(asked(&running, &asking, Vec::new()).await.rows.is_empty());
    running.close().await;
}

#[tokio::test]
async fn a_connection_that_the_policy_cut_keeps_the_name_of_its_flow() {
    let directory = tempfile::tempdir().unwrap();
    let running = begun(directory.path()).await;
    // Two were listed before their flow ended; of the others only the rules' log told, by a packet of either direction.
    let listed = [Told::Open(connection(1, 104, 9)), Told::Open(connection(2, 105, 9))];
    running.ledger.order(Order::Connections(listed.to_vec(), Timestamp::now())).await;
    let unmarked = |port, is_reply| {
        let mut head = packet_head(policy::ruleset::ENDED_LOG_PREFIX, [192, 168, 20, 21], port);
        head.destination = [192, 168, 10, 11].into();
        if is_reply {
            (head.source, head.destination) = (head.destination, head.source);
            (head.source_port, head.destination_port) = (head.destination_port, head.source_port);
        }
        Unmarked { ends: Ends::of_packet(&head), mark: 9 }
    };
    let later = Unmarked { mark: 11, ..unmarked(107, false) };
    let told = vec![unmarked(106, false), unmarked(107, true), later];
    running.ledger.order(Order::Unmarked(told, Timestamp::now())).await;
    let ends = [(1, 104, 0), (2, 105, 10), (3, 106, 0), (4, 107, 10)];
    let ends = ends.map(|(id, port, mark)| Told::Ended(connection(id, port, mark)));
    running.ledger.order(Order::Connections(ends.to_vec(), Timestamp::now())).await;
    // What was logged before a connection began was another's.
    let mut fresh = connection(5, 108, 10);
    fresh.started_at = Some(SystemTime::now() + Duration::from_secs(60));
    fresh.ended_at = fresh.started_at;
    running.ledger.order(Order::Unmarked(vec![unmarked(108, false)], Timestamp::now())).await;
    running.ledger.order(Order::Connections(vec![Told::Ended(fresh)], Timestamp::now())).await;
    settled(&running).await;
    let rows = asked(&running, &query(Some("ct"), None), Vec::new()).await.rows;
    let said: Vec<_> =
        rows.iter().map(|row| (row.ending, row.flow.as_str(), row.later_flow.as_deref())).collect();
    let again = Some("ct-to-pacs-again");
    assert_eq!(
        said,
        [
            (Ending::Cut, "ct-to-pacs", None),
            (Ending::Closed, "ct-to-pacs", again),
            (Ending::Cut, "ct-to-pacs", None),
            (Ending::Closed, "ct-to-pacs", again),
            (Ending::Closed, "ct-to-pacs-again", None),
        ]
    );
    running.close().await;
}

/// What a list shows is counted once, and not again when it ends; what ended while it was told is not open.
#[tokio::test]
async fn a_connection_is_counted_when_it_is_first_seen() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = begun(directory.path()).await;
    let [one, two, three] = [1, 2, 3].map(|id| connection(id, 104, 9));
    let list = || async {
        running.ledger.order(Order::List(Want::Survey)).await;
        running.ledger.list_wanted().notified().await;
    };
    let tell = |told: Vec<Told>| running.ledger.order(Order::Connections(told, Timestamp::now()));
    let end = Told::ListEnd { complete: true };
    list().await;
    tell(vec![Told::Open(one.clone()), Told::Open(two.clone()), end.clone()]).await;
    list().await;
    tell(vec![Told::Ended(one.clone()), Told::Open(one), Told::Open(two), Told::Ended(three), end]).await;
    running
        .ledger
        .order(Order::Tick(Timestamp::now() + jiff::SignedDuration::from_mins(6), Instant::now()))
        .await;
    settled(&running).await;
    assert_eq!(running.ledger.summary().open, 1);
    let mut counted = Vec::new();
    while let Ok(event) = running.events.try_recv() {
        if let Event::FlowsSeen { started, ended, .. } = event {
            counted.push((started, ended));
        }
    }
    assert_eq!(counted, [(3, 2)]);
    running.close().await;
}

#[tokio::test]
async fn sums_hold_what_ended_and_what_is_open_and_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let running = begun(directory.path()).await;
    let ended = (1..=3).map(|id| Told::Ended(connection(id, 104, 9))).collect();
    running.ledger.order(Order::Connections(ended, Timestamp::now())).await;
    let list = running.ledger.list_wanted();
    let told = async {
        list.notified().await;
        // The fifth ends while the list is told.
        let told = vec![
            Told::Open(connection(4, 104, 9)),
            Told::Open(connection(5, 104, 9)),
            Told::Ended(connection(5, 104, 9)),
            Told::ListEnd { complete: true },
        ];
        running.ledger.order(Order::Connections(told, Timestamp::now())).await;
    };
    let sums = tokio::join!(running.ledger.sums(None), told).0.unwrap();
    let [row] = &sums.rows[..] else { panic!("{sums:?}") };
    assert_eq!((row.flow.as_str(), row.connections), ("ct-to-pacs", 5));
    assert_eq!((row.count.packets, row.count.bytes), (50, 5000));
    running.close().await;
}

#[tokio::test]
async fn what_is_lost_is_a_gap_and_an_event_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = begun(directory.path()).await;
    let gained = |is_new, dropped, second| Order::Gained { is_new, dropped, at: at(second) };
    running.ledger.order(gained(true, 0, 100)).await;
    running.ledger.order(Order::Tick(at(150), Instant::now())).await;
    for dropped in [7, 7, 10] {
        running.ledger.order(Order::Lost { dropped, since: at(200), until: at(201) }).await;
    }
    list_end(&running).await;
    settled(&running).await;
    let gaps = asked(&running, &query(None, None), Vec::new()).await.gaps;
    let lost: Vec<_> = gaps.iter().map(|gap| (gap.why, gap.lost)).collect();
    assert_eq!(lost, [(GapReason::Overrun, Some(7)), (GapReason::Overrun, Some(3))]);
    let mut told = 0;
    while let Ok(event) = running.events.try_recv() {
        if let Event::EventsLost { count, .. } = event {
            told += count;
        }
    }
    assert_eq!(told, 10);
    // A reader that begins again on the same socket does not tell the same losses; on a new one, all of them.
    running.ledger.order(gained(false, 12, 300)).await;
    list_end(&running).await;
    running.ledger.order(gained(true, 5, 400)).await;
    list_end(&running).await;
    settled(&running).await;
    let gaps = asked(&running, &query(None, None), Vec::new()).await.gaps;
    let lost: Vec<_> = gaps.iter().skip(2).map(|gap| (gap.why, gap.lost)).collect();
    assert_eq!(
        lost,
        [
            (GapReason::Absent, None),
            (GapReason::Overrun, Some(2)),
            (GapReason::Absent, None),
            (GapReason::Overrun, Some(5))
        ]
    );
    running.close().await;
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A ledger that was alive at 150, and whose feed came anew at 300 while nothing could be written: somebody else writes,
/// until the connection is told to commit.
async fn begun_unwritten(directory: &Path) -> (Running, rusqlite::Connection) {
    let running = begun(directory).await;
    running.ledger.order(Order::Gained { is_new: true, dropped: 0, at: at(100) }).await;
    running.ledger.order(Order::Tick(at(150), Instant::now())).await;
    list_end(&running).await;
    settled(&running).await;
    let other = rusqlite::Connection::open(directory.join(schema::FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    running.ledger.order(Order::Gained { is_new: true, dropped: 3, at: at(300) }).await;
    (running, other)
}

/// Has a denial lost, which is told once all was tried that was ordered before.
async fn denial_lost(running: &mut Running) -> u64 {
    let heads = vec![packet_head("sekisho:modality", [192, 168, 20, 21], 3389)];
    running.ledger.order(Order::Denied(heads, at(301))).await;
    loop {
        if let Event::EventsLost { feed: Feed::Denials, count, .. } = running.events.recv().await.unwrap() {
            return count;
        }
    }
}

#[tokio::test]
async fn what_the_disk_did_not_take_at_the_beginning_is_written_later() {
    let directory = tempfile::tempdir().unwrap();
    let (mut running, other) = begun_unwritten(directory.path()).await;
    assert_eq!(denial_lost(&mut running).await, 1);
    running.ledger.order(Order::Lost { dropped: 8, since: at(305), until: at(306) }).await;
    other.execute_batch("COMMIT").unwrap();
    running.ledger.order(Order::Tick(at(310), Instant::now())).await;
    list_end(&running).await;
    settled(&running).await;
    let gaps = asked(&running, &query(None, None), Vec::new()).await.gaps;
    let found: Vec<_> = gaps.iter().map(|gap| (gap.why, gap.since, gap.until, gap.lost)).collect();
    let absent = (GapReason::Absent, at(150), Some(at(300)), None);
    let overrun = (GapReason::Overrun, at(150), Some(at(306)), Some(8));
    assert_eq!(found, [absent, overrun]);
    running.close().await;
}

#[tokio::test]
async fn what_the_beginning_owes_is_written_at_an_orderly_end() {
    let directory = tempfile::tempdir().unwrap();
    let (mut running, other) = begun_unwritten(directory.path()).await;
    running.ledger.order(Order::Ceased(at(305))).await;
    denial_lost(&mut running).await;
    other.execute_batch("COMMIT").unwrap();
    running.close().await;
    let running = begun(directory.path()).await;
    let gaps = asked(&running, &query(None, None), Vec::new()).await.gaps;
    let found: Vec<_> = gaps.iter().map(|gap| (gap.why, gap.since, gap.until, gap.lost)).collect();
    let span = |why, lost| (why, at(150), Some(at(300)), lost);
    assert_eq!(found, [span(GapReason::Absent, None), span(GapReason::Overrun, Some(3))]);
    running.close().await;
}

#[tokio::test]
async fn an_orderly_end_leaves_no_gap_on_a_kept_socket_and_a_sudden_one_does() {
    let directory = tempfile::tempdir().unwrap();
    for (orderly, expected) in [(true, 0), (false, 1)] {
        let running = begun(directory.path()).await;
        running.ledger.order(Order::Gained { is_new: false, dropped: 0, at: Timestamp::now() }).await;
        running
            .ledger
            .order(Order::Connections(vec![Told::Ended(connection(1, 104, 9))], Timestamp::now()))
            .await;
        list_end(&running).await;
        settled(&running).await;
        if orderly {
            running.close().await;
        } else {
            // The thread ends when nobody can give orders any more, and writes nothing more.
            drop(running);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let running = begun(directory.path()).await;
        running.ledger.order(Order::Gained { is_new: false, dropped: 0, at: Timestamp::now() }).await;
        list_end(&running).await;
        settled(&running).await;
        let gaps = asked(&running, &query(None, None), Vec::new()).await.gaps;
        assert_eq!(gaps.len(), expected, "orderly {orderly}: {gaps:?}");
        running.close().await;
    }
}

#[tokio::test]
async fn a_period_is_sealed_over_its_rows_also_when_the_role_died_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = begun(directory.path()).await;
    let ended = (1..=10).map(|id| Told::Ended(connection(id, 104, 9))).collect();
    running.ledger.order(Order::Connections(ended, Timestamp::now())).await;
    settled(&running).await;
    drop(running);
    tokio::time::sleep(Duration::from_millis(100)).await;
    running = begun(directory.path()).await;
    running
        .ledger
        .order(Order::Connections(vec![Told::Ended(connection(11, 104, 9))], Timestamp::now()))
        .await;
    let later = Timestamp::now() + jiff::SignedDuration::from_mins(6);
    running.ledger.order(Order::Tick(later, Instant::now())).await;
    settled(&running).await;
    let mut seals = Vec::new();
    while let Ok(event) = running.events.try_recv() {
        if let Event::FlowsSeen { ended, sha256, .. } = event {
            seals.push((ended, sha256));
        }
    }
    let ledger = schema::open_to_read(directory.path()).unwrap();
    let hash = books::hash_rows(&ledger, 1, 11).unwrap();
    assert_eq!(seals, [(11, policy::ruleset::hex(&hash))]);
    drop(ledger);
    running.close().await;
    let store = rusqlite::Connection::open(directory.path().join(schema::FILE)).unwrap();
    store.execute("UPDATE flow SET returned_bytes = returned_bytes + 1 WHERE id = 7", []).unwrap();
    assert_ne!(books::hash_rows(&store, 1, 11).unwrap(), hash, "a changed row shows");
}

#[tokio::test]
async fn the_oldest_rows_go_at_their_time_and_when_there_is_no_room() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = begun(directory.path()).await;
    let day = WatchSettings { flows_retention_s: 86_400, ..settings() };
    running.ledger.order(Order::Settings(Box::new(day))).await;
    let rows = 30_000;
    let ended = (1..=rows).map(|id| Told::Ended(connection(id, 104, 9))).collect();
    running.ledger.order(Order::Connections(ended, Timestamp::now())).await;
    let after = |seconds: i64| Timestamp::from_second(1_000_000 + 86_400 + seconds).unwrap();
    let begun = Instant::now();
    // Both clocks go on alike from there.
    let tick = |seconds: i64| {
        Order::Tick(after(seconds), begun + Duration::from_secs(u64::try_from(seconds).unwrap()))
    };
    let oldest = || running.ledger.summary().oldest.unwrap().as_second() - 1_000_000;
    running.ledger.order(tick(1000)).await;
    // Set a year ahead, and back.
    for seconds in [1001, 1002] {
        let wall = after(365 * 86_400 + seconds);
        let now = begun + Duration::from_secs(u64::try_from(seconds).unwrap());
        running.ledger.order(Order::Tick(wall, now)).await;
    }
    settled(&running).await;
    assert_eq!(oldest(), 1, "no row is old by a clock that was just set");
    for seconds in [1003, 5000, 5000] {
        running.ledger.order(tick(seconds)).await;
    }
    settled(&running).await;
    assert_eq!(oldest(), 5000, "rows that ended more than a day before are gone");
    let budget = 1 << 20;
    let smaller = WatchSettings { flows_budget_bytes: budget, flows_retention_s: 1 << 30, ..settings() };
    running.ledger.order(Order::Settings(Box::new(smaller))).await;
    for _ in 0..10 {
        running.ledger.order(tick(5001)).await;
    }
    settled(&running).await;
    let summary = running.ledger.summary();
    assert!(summary.bytes < budget && summary.bytes > budget / 4, "{summary:?}");
    assert_eq!(summary.crowded, Some(after(5001)));
    running.ledger.order(tick(400_000)).await;
    settled(&running).await;
    let mut pruned = 0;
    while let Ok(event) = running.events.try_recv() {
        if let Event::LedgerPruned { rows, .. } = event {
            pruned += rows;
        }
    }
    let ledger = schema::open_to_read(directory.path()).unwrap();
    let left: i64 = ledger.query_row("SELECT count(*) FROM flow", [], |row| row.get(0)).unwrap();
    assert_eq!(pruned, u64::from(rows) - u64::try_from(left).unwrap());
    running.close().await;
}

#[tokio::test]
async fn a_damaged_file_is_put_aside_and_the_gap_told() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(schema::FILE), "not a ledger ".repeat(1000)).unwrap();
    let running = begun(directory.path()).await;
    running
        .ledger
        .order(Order::Connections(vec![Told::Ended(connection(1, 104, 9))], Timestamp::now()))
        .await;
    settled(&running).await;
    let page = asked(&running, &query(None, None), Vec::new()).await;
    assert_eq!(page.rows.len(), 1);
    assert_eq!(page.gaps.iter().map(|gap| gap.why).collect::<Vec<_>>(), [GapReason::Damaged]);
    running.close().await;
}

#[tokio::test]
async fn denials_are_counted_by_minute_and_suspects_by_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = begun(directory.path()).await;
    let head = |source: [u8; 4], port| packet_head("sekisho:modality", source, port);
    let at = Timestamp::now();
    let heads =
        vec![head([192, 168, 20, 21], 3389), head([192, 168, 20, 21], 3389), head([192, 168, 20, 9], 445)];
    running.ledger.order(Order::Gained { is_new: true, dropped: 0, at }).await;
    running.ledger.order(Order::Denied(heads, at)).await;
    running.ledger.order(Order::Tick(at, Instant::now())).await;
    settled(&running).await;
    let page = running.ledger.denials(&query(Some("ct"), None)).await.unwrap();
    let [row] = &page.rows[..] else { panic!("{page:?}") };
    assert_eq!((row.count, row.to.port, row.to.zone.as_str()), (2, Some(3389), "wan"));
    assert_eq!(row.minute.as_second() % 60, 0);
    let all = running.ledger.denials(&LedgerQuery { limit: 1, ..query(None, None) }).await.unwrap();
    assert!(all.more.is_some() && all.rows.len() == 1);
    let sightings = running.ledger.summary().sightings().unwrap().sightings;
    let rdp = sightings.iter().find(|sighting| sighting.suspect.name() == "RDP").unwrap();
    assert_eq!((rdp.count, rdp.passed, rdp.crosses_border, rdp.from.as_str()), (2, false, true, "modality"));
    let mut kinds = Vec::new();
    while let Ok(event) = running.events.try_recv() {
        if let Event::Suspicious { suspicion, .. } = event {
            kinds.push(suspicion.word());
        }
    }
    assert_eq!(kinds, ["remote_control", "clear_text"], "each once");
    running.close().await;
}

fn packet_head(prefix: &str, source: [u8; 4], port: u16) -> super::super::packet::Head {
    super::super::packet::Head {
        prefix: prefix.to_owned(),
        in_index: None,
        source: source.into(),
        destination: IpAddr::from([192, 0, 2, 1]),
        number: 6,
        source_port: Some(40_000),
        destination_port: Some(port),
        icmp_type: None,
        icmp_id: None,
    }
}

/// Counts of the kernel beyond what the file's numbers hold do not break it.
#[tokio::test]
async fn the_largest_numbers_fit() {
    let directory = tempfile::tempdir().unwrap();
    let running = begun(directory.path()).await;
    let mut connection = connection(u32::MAX, u16::MAX, u32::MAX);
    connection.sent = Some(Count { packets: u64::MAX, bytes: u64::MAX });
    connection.tuple.detail = Detail::Ports { source: u16::MAX, destination: u16::MAX };
    running.ledger.order(Order::Connections(vec![Told::Ended(connection)], Timestamp::now())).await;
    settled(&running).await;
    let rows = asked(&running, &query(None, None), Vec::new()).await.rows;
    assert_eq!(rows[0].flow, "0xffffffff");
    assert_eq!(rows[0].sent.bytes, store::COUNT_MAX);
    running.close().await;
}
