//! From the invitation to the kill.
use std::{net::SocketAddr, time::Duration};

use gateway::wire::doors::{DoorsAnswer, DoorsAsk, SessionState, Transport};

use crate::{
    edge::key,
    ready::{Ready, SSH, connect, echoes, policy, policy_without_ssh},
};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_session_opens_by_a_persons_code_and_ends_by_a_kill_or_another_policy() {
    let ready = Ready::new();
    let server = ready.echo("ehr-server", 22);
    let (beside, other) = (ready.echo("ehr-server", 23), ready.echo("pacs", 22));
    let mut edge = ready.edge();
    let (session, _) = edge.requested(Ready::engineer(), SSH);
    let (answer, socket) = edge.connect_to(&session);
    assert!(matches!(answer, DoorsAnswer::Failed(_)) && socket.is_none(), "before any approval: {answer:?}");

    ready.approve(&session, "taro", &ready.taro.code(0), &[]).succeeded();
    let open = edge.wait(&session, SessionState::Open, SOON);
    assert!(open.at.is_some_and(|until| until > jiff::Timestamp::now()));
    ready.site.assert_verified();

    let (mut stream, _) = reach(&mut edge, &session, server);
    for elsewhere in [beside, other] {
        let (_, socket) = edge.connect_to(&session);
        let error = connect(socket.unwrap(), elsewhere).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{elsewhere} is no target of the session");
    }
    let (_, later) = edge.connect_to(&session);

    ready.site.run(&["session", "kill", session.as_str()]).succeeded();
    assert!(!echoes(&mut stream, b"after the kill"), "the connection lives");
    assert!(connect(later.unwrap(), server).is_err(), "a socket from before the kill still connects");
    let (answer, socket) = edge.connect_to(&session);
    assert!(matches!(answer, DoorsAnswer::Failed(_)) && socket.is_none(), "{answer:?}");
    let closed = edge.wait(&session, SessionState::Closed, SOON);
    assert_eq!(closed.why.as_deref(), Some("killed"));

    // Asked under one policy, approved under another that wants one person more.
    let (session, _) = edge.requested(Ready::engineer(), SSH);
    ready.site.apply(&policy().replace("approvals = [\"clinic\"]", "approvals = [\"clinic\", \"it\"]"));
    ready.approve(&session, "taro", &ready.taro.code(1), &[]).succeeded();
    edge.wait(&session, SessionState::Requested, SOON);
    ready.approve(&session, "jiro", &ready.jiro.code(0), &[]).succeeded();
    edge.wait(&session, SessionState::Open, SOON);
    let (mut stream, _) = reach(&mut edge, &session, server);
    ready.site.apply(&policy_without_ssh());
    let closed = edge.wait(&session, SessionState::Closed, SOON);
    assert_eq!(closed.why.as_deref(), Some("policy-changed"));
    assert!(!echoes(&mut stream, b"after the policy"));
    ready.site.assert_verified();
    told(&ready);
}

/// A connection through the session, over which words come back.
fn reach(
    edge: &mut crate::edge::Edge,
    session: &gateway::wire::doors::SessionId,
    server: SocketAddr,
) -> (std::net::TcpStream, SocketAddr) {
    let (answer, socket) = edge.connect_to(session);
    let DoorsAnswer::Socket { address, transport: Transport::Tcp } = answer else { panic!("{answer:?}") };
    assert_eq!(address, server);
    let mut stream = connect(socket.unwrap(), address).unwrap();
    assert!(echoes(&mut stream, b"hello"), "nothing comes back");
    (stream, address)
}

/// The log tells all of it, in order.
fn told(ready: &Ready) {
    let what: Vec<String> = ready
        .logged("session")
        .iter()
        .map(|event| event["change"]["what"].as_str().unwrap().to_owned())
        .collect();
    let one = ["requested", "approved", "opening", "opened", "closed"];
    let mut sorted = what.clone();
    sorted.sort();
    // The second one by two persons.
    let mut expected = [&one[..], &one, &["approved"]].concat();
    expected.sort_unstable();
    assert_eq!(sorted, expected, "{what:?}");
    let place = |word: &str| what.iter().position(|found| found == word).unwrap();
    assert!(place("opening") < place("opened"), "the record comes before the path: {what:?}");
    for event in ready.logged("session").iter().filter(|event| event["change"]["what"] == "opening") {
        let approvers = event["change"]["approved_by"].as_array().unwrap();
        assert!(!approvers.is_empty(), "who approved is durable before the path opens: {event}");
    }
    let persons = ready.logged("person");
    assert_eq!(persons.len(), 3, "{persons:?}");
    let engineers: Vec<_> = ready.logged("engineer").iter().map(|event| event["change"].clone()).collect();
    assert_eq!(engineers, ["invited", "enrolled"]);
    let text = format!("{:?}{:?}", ready.logged("person"), ready.logged("session"));
    assert!(!text.contains(&ready.hana.0) && !text.contains(&ready.taro.0), "a secret is in the log");
}

#[test]
fn what_the_policy_does_not_allow_is_not_even_asked_of_the_clinic() {
    let ready = Ready::new();
    let mut edge = ready.edge();
    let engineer = Ready::engineer();
    for (asked, word) in [
        (edge.request(engineer, "device:receipt:ssh", 60), "no-such-target"),
        (edge.request(engineer, "device:ehr-server:https", 60), "no-such-target"),
        (edge.request(engineer, "zone:ehr", 60), "no-such-target"),
        (edge.request(engineer, SSH, 7201), "against-terms"),
        (edge.request(engineer, SSH, 1), "against-terms"),
        (edge.request(crate::edge::key_id(77), SSH, 60), "no-such-engineer"),
    ] {
        assert!(matches!(&asked, DoorsAnswer::Refused(refusal) if refusal.word == word), "{word}: {asked:?}");
    }
    let DoorsAnswer::Engineers(engineers) = edge.ask(DoorsAsk::Engineers {}) else { panic!("no engineers") };
    assert_eq!(engineers.enrolled.iter().map(|one| one.key).collect::<Vec<_>>(), [engineer]);
    assert!(engineers.invitations.is_empty() && engineers.authority_pem.contains("CERTIFICATE"));
    assert!(matches!(edge.ask(DoorsAsk::Certify { key: key(9) }), DoorsAnswer::Certificate { .. }));
    let invitation = engineer;
    let enrol = edge.ask(DoorsAsk::Enrol { invitation, key: key(10) });
    assert!(matches!(enrol, DoorsAnswer::Failed(_)), "an engineer's key is no invitation: {enrol:?}");

    let (session, _) = edge.requested(engineer, SSH);
    ready.site.run(&["vendor", "revoke", &engineer.to_string()[..12]]).succeeded();
    let closed = edge.wait(&session, SessionState::Closed, SOON);
    assert_eq!(closed.why.as_deref(), Some("revoked"));
    let asked = edge.request(engineer, SSH, 60);
    assert!(
        matches!(&asked, DoorsAnswer::Refused(refusal) if refusal.word == "no-such-engineer"),
        "{asked:?}"
    );
}
