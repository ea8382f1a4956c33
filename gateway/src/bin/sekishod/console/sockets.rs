//! The sockets on which the gateway listens, as the kernel lists them in /proc/net (proc_pid_net(5)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use policy::guideline::observation::{Listener, ListenerTransport, Listeners, ROWS_MAX};
use policy::services::{ConsolePort, ConsoleSettings};

/// Longest list read; a gateway has some tens of lines of 150 bytes.
const LIST_BYTES_MAX: u64 = 4 << 20;
/// How long a UDP socket must be there to count as one that waits for strangers: a question of the gateway's own, such as
/// DNS asks from a port of its own each time, is over sooner.
const UDP_AGE: SignedDuration = SignedDuration::from_secs(30);
/// UDP sockets remembered at once.
const UDP_MAX: usize = 4096;
/// `TCP_LISTEN` and `TCP_CLOSE` of linux/net/tcp_states.h: what an unconnected UDP socket shows, too.
const TCP_LISTEN: u8 = 0x0a;
const UDP_UNCONNECTED: u8 = 0x07;

/// One line of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Socket {
    transport: ListenerTransport,
    local: SocketAddr,
    inode: u64,
}

/// The reader; it remembers since when each UDP socket is there.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    udp: BTreeMap<u64, Timestamp>,
}

impl Sockets {
    /// What listens now; `None` when the kernel's lists cannot be read.
    pub(crate) fn read(&mut self, settings: &ConsoleSettings, now: Timestamp) -> Option<Listeners> {
        let lists = [
            ("tcp", ListenerTransport::Tcp),
            ("tcp6", ListenerTransport::Tcp),
            ("udp", ListenerTransport::Udp),
            ("udp6", ListenerTransport::Udp),
        ];
        let mut sockets = Vec::new();
        for (name, transport) in lists {
            match list(&Path::new("/proc/self/net").join(name)) {
                Ok(text) => sockets.extend(listening(&text, transport)),
                // A box without IPv6 has no list of it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && name.ends_with('6') => {}
                Err(error) => {
                    tracing::warn!(%error, name, "the kernel's list of sockets cannot be read");
                    return None;
                }
            }
        }
        let lasting = self.lasting(sockets, now);
        Some(judged(&lasting, settings))
    }

    /// Leaves out UDP sockets that are there for an answer only.
    fn lasting(&mut self, sockets: Vec<Socket>, now: Timestamp) -> Vec<Socket> {
        let mut udp = BTreeMap::new();
        let mut lasting = Vec::new();
        for socket in sockets {
            match socket.transport {
                ListenerTransport::Tcp => lasting.push(socket),
                ListenerTransport::Udp => {
                    // A clock that was set back begins the wait anew.
                    let since = self.udp.get(&socket.inode).copied().unwrap_or(now).min(now);
                    if now.duration_since(since) >= UDP_AGE {
                        lasting.push(socket);
                    }
                    if udp.len() < UDP_MAX {
                        udp.insert(socket.inode, since);
                    }
                }
            }
        }
        self.udp = udp;
        lasting
    }
}

fn judged(sockets: &[Socket], settings: &ConsoleSettings) -> Listeners {
    let mut listeners: Vec<Listener> = sockets
        .iter()
        .filter(|socket| !socket.local.ip().is_loopback())
        .map(|Socket { transport, local, .. }| {
            let port = local.port();
            let naming =
                |at: &&ConsolePort| at.transport == *transport && (at.first..=at.last).contains(&port);
            let faces_outside = faces_outside(local.ip(), &settings.inside);
            Listener {
                transport: *transport,
                port,
                faces_outside,
                named: settings.ports.iter().any(|at| naming(&at)),
                allowed_from_outside: faces_outside
                    && settings.ports.iter().filter(naming).any(|at| at.from_outside),
            }
        })
        .collect();
    // What faces the outside comes first: it must not be what the limit cuts off.
    listeners.sort_by_key(|listener| (!listener.faces_outside, listener.clone()));
    listeners.dedup();
    listeners.truncate(ROWS_MAX);
    Listeners { sockets: listeners }
}

/// Whether strangers outside could address it: bound to every address, or to one that is not of a zone of the clinic.
/// A link-local address never leaves its segment.
fn faces_outside(address: IpAddr, inside: &[IpAddr]) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    address.is_unspecified() || !(is_link_local || inside.contains(&address))
}

fn list(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LIST_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The sockets of a list that wait for somebody.
fn listening(text: &str, transport: ListenerTransport) -> impl Iterator<Item = Socket> {
    let wanted = match transport {
        ListenerTransport::Tcp => TCP_LISTEN,
        ListenerTransport::Udp => UDP_UNCONNECTED,
    };
    text.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = address(fields.next()?)?;
        let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
        let inode = fields.nth(5)?.parse().ok()?;
        (state == wanted).then_some(Socket { transport, local, inode })
    })
}

/// An address as the kernel writes it: 32-bit words in the machine's own order, a colon, the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let mut bytes = [0; 16];
            for (place, byte) in bytes.iter_mut().zip(words.as_flattened()) {
                *place = *byte;
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, UdpSocket};

    fn settings() -> ConsoleSettings {
        let port =
            |transport, port, from_outside| ConsolePort { transport, first: port, last: port, from_outside };
        ConsoleSettings {
            site: String::new(),
            guideline: String::new(),
            timezone: "UTC".to_owned(),
            metrics: None,
            inside: vec![[192, 168, 99, 1].into()],
            ports: vec![port(ListenerTransport::Tcp, 22, false), port(ListenerTransport::Udp, 51820, true)],
        }
    }

    #[test]
    fn what_listens_here_is_found_and_a_question_on_its_way_is_not() {
        let open = (TcpListener::bind("0.0.0.0:0").unwrap(), UdpSocket::bind("[::]:0").unwrap());
        let (tcp, udp) = (open.0.local_addr().unwrap().port(), open.1.local_addr().unwrap().port());
        let mut sockets = Sockets::default();
        let now = Timestamp::now();
        let has = |listeners: &Listeners, transport, port| {
            let is = |one: &Listener| (one.transport, one.port, one.faces_outside) == (transport, port, true);
            listeners.sockets.iter().any(is)
        };
        let first = sockets.read(&settings(), now).unwrap();
        assert!(has(&first, ListenerTransport::Tcp, tcp));
        assert!(!has(&first, ListenerTransport::Udp, udp), "it may be waiting for an answer");
        let later = sockets.read(&settings(), now + UDP_AGE).unwrap();
        assert!(has(&later, ListenerTransport::Udp, udp));
        drop(open);
        let after = sockets.read(&settings(), now + UDP_AGE).unwrap();
        assert!(!has(&after, ListenerTransport::Tcp, tcp));
    }

    #[test]
    fn lines_of_the_kernel_are_read_as_it_writes_them() {
        // Little-endian machines; the lists of others differ, and so does what they are read with.
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0\n\
            \x20  1: 0163A8C0:24F8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0\n\
            \x20  2: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1 0\n\
            \x20  3: 0163A8C0:0016 0563A8C0:D431 01 00000000:00000000 00:00000000 00000000     0        0 14 1 0\n";
        let sockets: Vec<_> = listening(tcp, ListenerTransport::Tcp).collect();
        assert_eq!(sockets.len(), 3);
        let found = judged(&sockets, &settings()).sockets;
        let row = |port, faces_outside, named| Listener {
            transport: ListenerTransport::Tcp,
            port,
            faces_outside,
            named,
            allowed_from_outside: false,
        };
        assert_eq!(found, [row(22, true, true), row(9464, false, false)]);
        let local = address("00000000000000000000000001000000:0035").unwrap();
        assert_eq!(local, "[::1]:53".parse().unwrap());
        assert_eq!(
            address("0000000000000000FFFF0000020200C0:0035").unwrap(),
            "192.0.2.2:53".parse().unwrap()
        );
    }

    #[test]
    fn what_the_outside_may_reach_is_told() {
        let socket =
            |text: &str| Socket { transport: ListenerTransport::Udp, local: text.parse().unwrap(), inode: 1 };
        let of = |text: &str| judged(&[socket(text)], &settings()).sockets[0].clone();
        assert!(of("203.0.113.2:51820").allowed_from_outside);
        assert!(!of("192.168.99.1:51820").allowed_from_outside);
        assert!(!of("[fe80::1]:67").faces_outside);
        assert!(judged(&[socket("127.0.0.1:323")], &settings()).sockets.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(.{0,200}\n){0,5}", fields in "[0-9A-F:]{0,60}") {
            let _ = listening(&text, ListenerTransport::Tcp).count();
            let _ = address(&fields);
        }
    }
}
