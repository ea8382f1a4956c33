//! Strangers: other versions, no certificate, garbage, half a handshake, floods. They get an alert at most, and whoever
//! belongs here still comes in.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use transport::{Carrier, Credentials, Guests, Pin, Wish, dial};

use crate::ground::{Authority, Echo, comes_in, echo, key_id, listed};

const BOTH: [Carrier; 2] = [Carrier::Quic, Carrier::Tcp];

fn door(clinic: &Authority) -> (Echo, Credentials) {
    let engineer = clinic.engineer();
    let guests = Guests {
        authority: Some(clinic.certificate.clone()),
        engineers: [(key_id(&engineer), listed("acme"))].into(),
        ..Guests::default()
    };
    (echo(&clinic.gateway(), guests), engineer)
}

/// What `openssl s_client` says and shows of application data.
async fn s_client(door: &Echo, arguments: &[&str]) -> String {
    let address = door.address.to_string();
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let run = move || {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, "-alpn", "sekisho/1", "-msg"]).args(&arguments);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn openssl_finds_tls_1_3_only_and_an_alert_without_a_certificate() {
    let (door, _) = door(&Authority::new("clinic"));
    for old in ["-tls1_2", "-tls1_1"] {
        let said = s_client(&door, &[old]).await;
        assert!(!said.contains("Cipher is TLS") && !said.contains("BEGIN CERTIFICATE"), "{old}: {said}");
    }
    let said = s_client(&door, &["-tls1_3", "-ign_eof"]).await;
    assert!(said.contains("TLSv1.3"), "{said}");
    assert!(said.contains("alert certificate required") || said.contains("certificate_required"), "{said}");
    // Nothing is told about who would be believed, no ticket is given, no data follows.
    assert!(said.contains("No client certificate CA names sent"), "{said}");
    assert!(!said.contains("NewSessionTicket"), "{said}");
    let data = said.lines().filter(|line| line.starts_with("<<<") && line.contains("ApplicationData"));
    assert_eq!(data.count(), 0, "{said}");
    for suite in ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"] {
        let said = s_client(&door, &["-tls1_3", "-ciphersuites", suite]).await;
        assert!(said.contains(suite), "{suite}: {said}");
    }
    assert_eq!(door.counters.admitted.load(Ordering::Relaxed), 0);
}

/// A second opinion, by a program that knows nothing of ours.
#[tokio::test]
async fn testssl_finds_tls_1_3_only() {
    let (door, _) = door(&Authority::new("clinic"));
    let directory = tempfile::tempdir().unwrap();
    let (found, address) = (directory.path().join("found.json"), door.address.to_string());
    let json = found.clone();
    let run = move || {
        let mut command = Command::new("testssl");
        command
            .args(["--quiet", "--color", "0", "--warnings", "off", "-p", "--jsonfile"])
            .arg(json)
            .arg(address);
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = tokio::task::spawn_blocking(run).await.unwrap();
    let found: serde_json::Value = serde_json::from_slice(&std::fs::read(found).unwrap()).unwrap();
    let finding = |id: &str| {
        let of_id = found.as_array().unwrap().iter().find(|finding| finding["id"] == id);
        of_id.unwrap_or_else(|| panic!("nothing about {id}: {said}"))["finding"].as_str().unwrap().to_owned()
    };
    for old in ["SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2"] {
        assert!(finding(old).starts_with("not offered"), "{old}: {said}");
    }
    assert_eq!(finding("TLS1_3"), "offered with final", "{said}");
    assert_eq!(door.counters.admitted.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_post_quantum_exchange_works_and_so_do_the_plain_ones() {
    let clinic = Authority::new("clinic");
    let (door, _) = door(&clinic);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
    for (wanted, groups) in [
        (rustls::NamedGroup::X25519MLKEM768, vec![X25519MLKEM768, X25519]),
        (rustls::NamedGroup::X25519, vec![X25519, SECP256R1]),
        (rustls::NamedGroup::secp256r1, vec![SECP256R1]),
    ] {
        let provider = Arc::new(rustls::crypto::CryptoProvider { kx_groups: groups, ..provider.clone() });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(clinic.certificate.clone()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![transport::ALPN.to_vec()];
        let stream = TcpStream::connect(door.address).await.unwrap();
        let name = ServerName::try_from("sekisho-gateway").unwrap();
        let mut stream =
            tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, wanted);
        // What a stranger without a certificate reads is an error, never a byte.
        let mut seen = Vec::new();
        let error = stream.read_to_end(&mut seen).await.unwrap_err();
        assert!(seen.is_empty() && error.to_string().contains("CertificateRequired"), "{error}");
    }
}

/// A client that names no protocol gets no channel, even with a certificate.
#[tokio::test]
async fn a_peer_that_names_no_protocol_is_let_go() {
    let clinic = Authority::new("clinic");
    let (door, engineer) = door(&clinic);
    let said = s_client_with(&door, &engineer).await;
    assert!(said.contains("TLSv1.3"), "{said}");
    assert_eq!(door.counters.admitted.load(Ordering::Relaxed), 0);
    assert_eq!(door.counters.refused.load(Ordering::Relaxed), 1);
}

async fn s_client_with(door: &Echo, who: &Credentials) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    std::fs::write(&chain, who.chain_pem()).unwrap();
    std::fs::write(&key, who.key_pem().as_bytes()).unwrap();
    let address = door.address.to_string();
    let run = move || {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-tls1_3", "-ign_eof", "-cert"])
            .arg(&chain)
            .arg("-key")
            .arg(&key)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let said = tokio::task::spawn_blocking(run).await.unwrap();
    drop(directory);
    said
}

#[tokio::test]
async fn garbage_and_half_handshakes_get_at_most_an_alert() {
    let clinic = Authority::new("clinic");
    let (door, engineer) = door(&clinic);
    let mut random = 1u64;
    let mut garbage = |length: usize| -> Vec<u8> {
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    };
    // A record of the handshake that announces 64 KiB, and an SSH client.
    let mut pieces = vec![b"\x16\x03\x01\xff\xff\x01\x00\xff\xfc".to_vec(), b"SSH-2.0-x\r\n\r\n".to_vec()];
    pieces.extend([1, 5, 100, 2000, 70_000].map(&mut garbage));
    for piece in pieces {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        let _ = stream.write_all(&piece).await;
        let _ = stream.shutdown().await;
        let mut seen = Vec::new();
        // A reset is as good as an end.
        let _ = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut seen)).await.unwrap();
        assert!(seen.is_empty() || (seen[0] == 0x15 && seen.len() == 7), "{seen:?}");
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in [0, 1, 20, 100, 1200, 1400] {
        for first in [0x00, 0x40, 0xc0, 0xff] {
            let mut datagram = garbage(length);
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            socket.send_to(&datagram, door.address).await.unwrap();
        }
    }
    for carrier in BOTH {
        assert_eq!(comes_in(door.address, &engineer, &clinic.pin(), carrier).await, Ok(()), "{carrier:?}");
    }
}

/// One site that opens connections and says nothing takes its own places, and nobody else's; a flood leaves no memory.
#[tokio::test]
async fn floods_and_slow_strangers_do_not_keep_others_out() {
    let clinic = Authority::new("clinic");
    let (door, engineer) = door(&clinic);
    let mut silent = Vec::new();
    let from = |last: u8| std::net::SocketAddr::from(([127, 0, 1, last], 0));
    for last in 1..=8 {
        for _ in 0..10 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(from(last)).unwrap();
            let mut stream = socket.connect(door.address).await.unwrap();
            let _ = stream.write_all(&[0x16]).await;
            silent.push(stream);
        }
    }
    // 20,000 first packets of QUIC from changing ports, as a flood with invented senders looks.
    let before = resident_kib();
    for _ in 0..40 {
        let socket = UdpSocket::bind(from(99)).await.unwrap();
        for number in 0..500u32 {
            let mut datagram = vec![0u8; 1200];
            datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
            datagram[6..10].copy_from_slice(&number.to_be_bytes());
            let _ = socket.send_to(&datagram, door.address).await;
        }
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more after the flood");
    assert!(door.counters.limited.load(Ordering::Relaxed) >= 48, "{:?}", door.counters);
    for carrier in BOTH {
        assert_eq!(comes_in(door.address, &engineer, &clinic.pin(), carrier).await, Ok(()), "{carrier:?}");
    }
    drop(silent);
}

/// The first packet of a handshake over QUIC, for somebody else to send.
async fn first_packet(who: &Credentials, pin: &Pin) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, mut packet) = (socket.local_addr().unwrap(), vec![0; 2000]);
    let length = tokio::select! {
        received = socket.recv(&mut packet) => received.unwrap(),
        dialled = dial(address, who, pin, Wish::Only(Carrier::Quic)) => panic!("{:?}", dialled.err()),
    };
    packet.truncate(length);
    packet
}

/// More handshakes than one address may hold or have in a burst, each begun in an engineer's name and never carried on.
#[tokio::test]
async fn whoever_claims_an_address_takes_nothing_from_it() {
    let clinic = Authority::new("clinic");
    let (door, engineer) = door(&clinic);
    let (liar, count) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), 24);
    for _ in 0..count {
        let packet = first_packet(&engineer, &clinic.pin()).await;
        liar.send_to(&packet, door.address).await.unwrap();
    }
    let all_told = async {
        while door.counters.retried.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all_told).await.unwrap();
    for carrier in BOTH {
        assert_eq!(comes_in(door.address, &engineer, &clinic.pin(), carrier).await, Ok(()), "{carrier:?}");
    }
    assert_eq!(door.counters.limited.load(Ordering::Relaxed), 0, "{:?}", door.counters);
}

/// Through the door: the ninth channel of one key ends at once, an engineer's as well as an invitation's.
#[tokio::test]
async fn the_ninth_channel_of_one_key_is_closed() {
    let clinic = Authority::new("clinic");
    for is_invited in [false, true] {
        let (door, engineer) = door(&clinic);
        if is_invited {
            let invitations = [key_id(&engineer)].into();
            door.guests.replace(Guests { invitations, ..Guests::default() });
        }
        let mut held = Vec::new();
        for _ in 0..8 {
            let dialled = dial(door.address, &engineer, &clinic.pin(), Wish::Only(Carrier::Quic)).await;
            held.push(dialled.unwrap().channel);
        }
        while door.counters.admitted.load(Ordering::Relaxed) < 8 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(comes_in(door.address, &engineer, &clinic.pin(), Carrier::Quic).await.is_err());
        assert_eq!(door.counters.limited.load(Ordering::Relaxed), 1, "{:?}", door.counters);
        held.pop().unwrap().finish().await;
        let mut is_in = false;
        for _ in 0..20 {
            is_in |= comes_in(door.address, &engineer, &clinic.pin(), Carrier::Tcp).await.is_ok();
            if is_in {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(is_in, "the place that one left is free again: {:?}", door.counters);
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
