//! Ends without the clinic: core is dead, the record role is dead, the engineer is done.
use std::{
    thread,
    time::{Duration, Instant},
};

use gateway::wire::doors::{DoorsAnswer, DoorsAsk, EndReason, SessionState};

use crate::ready::{Ready, connect, echoes};

/// Length of the sessions of these tests.
const LENGTH: Duration = Duration::from_secs(60);
/// How much later than the kernel's end a connection may be found dead: the pause between two tries, with room.
const LATE: Duration = Duration::from_secs(5);

#[test]
fn with_core_dead_the_kernel_ends_a_session_on_time_and_the_next_run_tells_of_it() {
    let mut ready = Ready::new();
    let server = ready.echo("ehr-server", 22);
    let mut edge = ready.edge();
    let session = ready.open(&mut edge, &ready.taro.code(0));
    let begun = Instant::now();
    let (_, socket) = edge.connect_to(&session);
    let mut stream = connect(socket.unwrap(), server).unwrap();
    ready.site.kill_core();
    assert!(echoes(&mut stream, b"core is dead"), "the grant lives in the kernel");
    while echoes(&mut stream, b"still") {
        assert!(begun.elapsed() < LENGTH + LATE, "the grant outlives its end");
        thread::sleep(Duration::from_millis(200));
    }
    assert!(begun.elapsed() > LENGTH / 2, "it ended early: {:?}", begun.elapsed());
    ready.site.start_core();
    ready.site.assert_verified();
    let whys: Vec<_> = ready.logged("session").iter().map(|event| event["change"]["why"].clone()).collect();
    assert!(whys.iter().any(|why| why == "core-restarted"), "{whys:?}");
}

#[test]
fn what_core_left_open_is_shut_at_its_next_start() {
    let mut ready = Ready::new();
    let server = ready.echo("ehr-server", 22);
    let mut edge = ready.edge();
    let session = ready.open(&mut edge, &ready.taro.code(0));
    let (_, socket) = edge.connect_to(&session);
    let mut stream = connect(socket.unwrap(), server).unwrap();
    ready.site.kill_core();
    assert!(echoes(&mut stream, b"core is dead"));
    ready.site.start_core();
    assert!(!echoes(&mut stream, b"core is back"), "a session of the former run goes on");
    let mut edge = ready.edge();
    assert!(matches!(edge.ask(DoorsAsk::Connect { session }), DoorsAnswer::Failed(_)));
    ready.site.assert_verified();
}

#[test]
fn a_silent_record_role_ends_every_session_and_no_new_one_opens() {
    let mut ready = Ready::new();
    let server = ready.echo("ehr-server", 22);
    let mut edge = ready.edge();
    let session = ready.open(&mut edge, &ready.taro.code(0));
    let (_, socket) = edge.connect_to(&session);
    let mut stream = connect(socket.unwrap(), server).unwrap();
    assert!(echoes(&mut stream, b"recorded"));
    ready.site.kill_role("sekisho-record");
    let closed = edge.wait(&session, SessionState::Closed, Duration::from_secs(15));
    assert_eq!(closed.why.as_deref(), Some("recorder-failed"));
    assert!(!echoes(&mut stream, b"unrecorded"));
    let (session, _) = edge.requested(Ready::engineer(), crate::ready::SSH);
    ready.approve(&session, "taro", &ready.taro.code(1), &[]).succeeded();
    let closed = edge.wait(&session, SessionState::Closed, Duration::from_secs(30));
    assert_eq!(closed.why.as_deref(), Some("recorder-failed"), "nothing opens unrecorded");
    ready.site.start_role("sekisho-record");
}

#[test]
fn the_engineer_ends_it() {
    let ready = Ready::new();
    let server = ready.echo("ehr-server", 22);
    let mut edge = ready.edge();
    let session = ready.open(&mut edge, &ready.taro.code(0));
    let (_, socket) = edge.connect_to(&session);
    let mut stream = connect(socket.unwrap(), server).unwrap();
    let end = DoorsAsk::End { session: session.clone(), why: EndReason::Finished };
    assert!(matches!(edge.ask(end), DoorsAnswer::Ended {}));
    assert!(!echoes(&mut stream, b"after the end"));
    assert_eq!(edge.follow(&session, 0).why.as_deref(), Some("finished"));
}
