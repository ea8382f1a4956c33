//! Section 10: who spoke to the record server, when, and how much: the ledger's answer beside what was really sent.
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jiff::{Timestamp, Zoned};
use lab::ServerKind;
use serde_json::Value;

use crate::{
    Sabotage,
    patience::until,
    sabotage,
    screen::{Screen, typed},
    site::{Site, TIMEZONE},
};

const DEVICE: &str = "reception";
const PEER: &str = "ehr-server";
const PORT: u16 = 443;
/// The flow of the example policy by which it passes.
const FLOW: &str = "staff-ehr";
/// Where the device sends from, so that what is sent here can be told from what was sent before.
const OWN_PORT: u16 = 4711;
/// How many datagrams are sent, and how many bytes each carries; as many come back.
const SENT: [Batch; 2] = [Batch { count: 800, payload: 1000 }, Batch { count: 500, payload: 400 }];
/// What the network adds to each: IPv4 (RFC 791) or IPv6 (RFC 8200), and UDP (RFC 768).
const HEADERS: [u64; 2] = [20 + 8, 40 + 8];
const PATIENCE: Duration = Duration::from_secs(5);
const DATAGRAM_BYTES_MAX: usize = 2048;

/// Is a number of datagrams of one size.
#[derive(Clone, Copy, Debug)]
struct Batch {
    count: u64,
    payload: usize,
}

/// What the ledger has to say of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    from: SocketAddr,
    to: SocketAddr,
    packets: u64,
    bytes: u64,
}

/// Sends, and asks.
pub(crate) fn ledger(screen: &mut Screen, site: &Site, sabotage: Option<Sabotage>) -> Result<()> {
    let words = screen.words;
    screen.section(&words.ledger());
    let _echo = site.lab().serve(PEER, ServerKind::UdpEcho.on(PORT))?;
    if sabotage == Some(Sabotage::Ledger) {
        sabotage::silence_the_kernel(screen, site)?;
    }
    let since = Timestamp::now().in_tz(TIMEZONE)?;
    let expected = send_all(screen, site)?;
    forget(screen, site)?;
    compare(screen, site, &since, &expected)
}

fn send_all(screen: &Screen, site: &Site) -> Result<Vec<Expected>> {
    let words = screen.words;
    let (from, to) = (site.host(DEVICE)?, site.host(PEER)?);
    let mut expected = Vec::new();
    for (((own, peer), batch), headers) in from.addresses().zip(to.addresses()).zip(SENT).zip(HEADERS) {
        let (own, peer) = (SocketAddr::new(own, OWN_PORT), SocketAddr::new(peer, PORT));
        let echoed = from.run_in(|| exchange(own, peer, batch))?;
        let echoed = echoed.with_context(|| format!("cannot send from {own} to {peer}"))?;
        ensure!(echoed == batch.count, "{echoed} of {} datagrams came back", batch.count);
        screen.say(&words.ledger_sent(own, peer, batch.count, batch.payload));
        let bytes = batch.count * (u64::try_from(batch.payload)? + headers);
        expected.push(Expected { from: own, to: peer, packets: batch.count, bytes });
    }
    Ok(expected)
}

/// Sends each datagram when the one before has come back, so that none is lost on the way; counts what came back.
fn exchange(own: SocketAddr, peer: SocketAddr, batch: Batch) -> io::Result<u64> {
    let any: IpAddr = if own.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, own.port()))?;
    socket.connect(peer)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (payload, mut answer) = (vec![7; batch.payload], [0; DATAGRAM_BYTES_MAX]);
    let mut echoed = 0;
    for _ in 0..batch.count {
        socket.send(&payload)?;
        echoed += u64::from(socket.recv(&mut answer)? == batch.payload);
    }
    Ok(echoed)
}

/// Ends the connections now; the kernel would forget them by itself two minutes after the last packet.
fn forget(screen: &Screen, site: &Site) -> Result<()> {
    screen.say(&screen.words.ledger_forget());
    for family in ["ipv4", "ipv6"] {
        let port = OWN_PORT.to_string();
        let arguments = ["-D", "-f", family, "-p", "udp", "--orig-port-src", &port];
        let said = site.on(screen, lab::GATEWAY, "conntrack", &arguments)?;
        ensure!(said.ended(0), "conntrack failed: {}", said.text());
    }
    Ok(())
}

fn compare(screen: &mut Screen, site: &Site, since: &Zoned, expected: &[Expected]) -> Result<()> {
    let words = screen.words;
    // The begin of the second: what began in it is asked for, too.
    let since = since.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let question = ["flows", "--device", DEVICE, "--peer", PEER, "--since", &since];
    let json = [&["--json"], question.as_slice()].concat();
    let told = |site: &Site| -> Result<Told> { Told::read(&site.ask(&json)?.json()?) };
    // The kernel's word of an end takes a moment to get into the ledger.
    let found = until(|| {
        let told = told(site)?;
        Ok((told.rows.len() >= expected.len()).then_some(told))
    })?;
    let told = match found {
        Some((told, _)) => told,
        None => told(site)?,
    };
    let own_port = format!(":{OWN_PORT}");
    screen.command(&format!("sekisho {} | grep '{own_port}'", typed(&question)));
    let text = site.ask(&question)?;
    let heads = text.out.lines().take(1);
    let lines = text.out.lines().filter(|line| line.contains(&own_port));
    screen.quote(&heads.chain(lines).collect::<Vec<_>>().join("\n"));
    let sum = |rows: &[Expected]| {
        let one = |sums: (u64, u64), row: &Expected| (sums.0 + row.packets, sums.1 + row.bytes);
        rows.iter().fold((0, 0), one)
    };
    let (sent, kept) = (sum(expected), sum(&told.rows));
    let equal = told.rows == expected && told.returned == sent.1 && told.is_by_flow;
    let line = if equal {
        words.ledger_equal(kept.0, kept.1)
    } else {
        words.ledger_differs(kept.0, kept.1, sent.0, sent.1)
    };
    screen.expect(equal, &line)?;
    Ok(screen.expect(told.is_complete, &words.ledger_complete())?)
}

/// What the ledger answered, of the connections sent here.
#[derive(Debug)]
struct Told {
    /// Connections that are over, in the order of their ends.
    rows: Vec<Expected>,
    /// Bytes that came back.
    returned: u64,
    /// Whether each is told by both devices' names and the right flow.
    is_by_flow: bool,
    /// Whether the ledger says that it misses nothing.
    is_complete: bool,
}

impl Told {
    fn read(answer: &Value) -> Result<Self> {
        let all = answer.get("rows").and_then(Value::as_array).context("the ledger told no rows")?;
        let ours = |row: &&Value| {
            let is_over = row.get("ended").is_some_and(|ended| !ended.is_null());
            is_over && row.pointer("/from/port").and_then(Value::as_u64) == Some(OWN_PORT.into())
        };
        let ours: Vec<_> = all.iter().filter(ours).collect();
        let named = |row: &&Value| {
            let is = |place: &str, word: &str| row.pointer(place).and_then(Value::as_str) == Some(word);
            is("/flow", FLOW)
                && is("/from/device", DEVICE)
                && is("/to/device", PEER)
                && is("/protocol", "udp")
        };
        let mut rows = ours.iter().map(|row| Expected::read(row)).collect::<Result<Vec<_>>>()?;
        rows.sort_by_key(|row| row.from);
        let returned = ours.iter().filter_map(|row| row.pointer("/returned/bytes")?.as_u64()).sum();
        let is_complete = answer.get("complete").and_then(Value::as_bool) == Some(true);
        Ok(Self { rows, returned, is_by_flow: ours.iter().all(named), is_complete })
    }
}

impl Expected {
    fn read(row: &Value) -> Result<Self> {
        let end = |name: &str| -> Result<SocketAddr> {
            let text = row.pointer(&format!("/{name}/address")).and_then(Value::as_str);
            let port = row.pointer(&format!("/{name}/port")).and_then(Value::as_u64).unwrap_or_default();
            Ok(SocketAddr::new(text.context("a row without an address")?.parse()?, port.try_into()?))
        };
        let number =
            |name: &str| row.pointer(&format!("/sent/{name}")).and_then(Value::as_u64).unwrap_or_default();
        Ok(Self { from: end("from")?, to: end("to")?, packets: number("packets"), bytes: number("bytes") })
    }
}
