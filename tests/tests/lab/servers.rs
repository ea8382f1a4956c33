//! The servers are real and answer real clients, over IPv4 and IPv6.
use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use lab::{Host, LabBuilder, ServerKind, Spec};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn every_kind_of_server_answers_its_own_client_over_both_families() {
    let lab = LabBuilder::new(Spec::client_router_server()).forwarding(true).build().unwrap();
    let [client, server] = ["client", "server"].map(|name| lab.host(name).unwrap());
    let key = lab.ssh_key().unwrap().display().to_string();
    for (number, kind) in (0..).zip(KINDS) {
        let port = 9000 + number;
        let running = lab.serve("server", kind.on(port)).unwrap();
        assert_eq!((running.host(), running.spec().port), ("server", port));
        for address in server.addresses() {
            ask(client, kind, SocketAddr::new(address, port), &key);
        }
        drop(running);
        let left = server.output("ss", &["-Hlntu", &format!("sport = :{port}")]).unwrap();
        assert_eq!(left, "", "{kind} is left");
    }
}

const KINDS: [ServerKind; 6] = [
    ServerKind::Ssh,
    ServerKind::Http,
    ServerKind::Dicom,
    ServerKind::TcpEcho,
    ServerKind::UdpEcho,
    ServerKind::Pusher,
];

fn ask(client: &Host, kind: ServerKind, to: SocketAddr, key: &str) {
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    match kind {
        ServerKind::Ssh => {
            let trust = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
            let login = format!("root@{host}");
            let mut words = vec!["-i", key, "-p", &port, "-o", "BatchMode=yes", &login, "echo", "in"];
            words.splice(0..0, trust);
            assert_eq!(client.output("ssh", &words).unwrap(), "in\n");
        }
        ServerKind::Http => {
            let page = client.output("curl", &["-sS", "-m", "30", &format!("http://{to}/")]).unwrap();
            assert!(page.contains("<h1>server</h1>"), "{page}");
        }
        // dcmtk up to 3.6.7 speaks IPv4 only, client and server.
        ServerKind::Dicom if to.is_ipv4() => {
            client.output("echoscu", &["-to", "30", &host, &port]).unwrap();
        }
        ServerKind::Dicom => {}
        ServerKind::TcpEcho => {
            let mut stream = connect(client, to);
            stream.write_all(b"hello").unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"hello");
        }
        ServerKind::UdpEcho => {
            let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
            let socket = client.run_in(|| UdpSocket::bind((any, 0))).unwrap().unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(b"hello", to).unwrap();
            let mut answer = [0; 9];
            let (length, from) = socket.recv_from(&mut answer).unwrap();
            assert_eq!((&answer[..length], from), (&b"hello"[..], to));
        }
        ServerKind::Pusher => {
            let mut pushed = vec![0; 1 << 20];
            connect(client, to).read_exact(&mut pushed).unwrap();
        }
    }
}

fn connect(client: &Host, to: SocketAddr) -> TcpStream {
    let stream = client.run_in(|| TcpStream::connect(to)).unwrap().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn the_clinics_servers_start_and_end_with_it() {
    let mut lab = LabBuilder::new(Spec::clinic()).forwarding(true).build().unwrap();
    lab.start_servers().unwrap();
    let count = lab.servers().len();
    assert!(count >= 15, "{count} servers");
    let picture = lab.picture();
    for part in ["pacs", "dicom:104", "dicom:11112", "192.168.90.50/24", "2001:db8:77::77/64", "lan-mgmt"] {
        assert!(picture.contains(part), "no `{part}` in\n{picture}");
    }
    let ct = lab.host("ct").unwrap();
    ct.output("echoscu", &["-to", "30", "192.168.10.11", "104"]).unwrap();
    let page = ct.output("curl", &["-sS", "-m", "30", "http://[fd51:7ec5:0:10::10]/"]).unwrap();
    assert!(page.contains("ehr-server"), "{page}");
}

#[test]
fn a_server_that_cannot_listen_says_so() {
    let lab = LabBuilder::new(Spec::client_router_server()).build().unwrap();
    let _first = lab.serve("server", ServerKind::TcpEcho.on(80)).unwrap();
    let error = lab.serve("server", ServerKind::TcpEcho.on(80)).unwrap_err().to_string();
    assert!(error.contains("listen on port 80"), "{error}");
    let error = lab.serve("server", ServerKind::Http.on(80)).unwrap_err().to_string();
    assert!(error.contains("port 80 of server already"), "{error}");
}
