//! The console as readers and strangers meet it: real sockets, real handshakes, on the loopback.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;

use events::Family;
use gateway::wire::console::Bundle;
use jiff::Timestamp;
use policy::guideline::observation::MetricsDoor;
use policy::model::MetricsAuth;
use policy::services::ConsoleMetrics;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use super::authority::{Authority, Identity};
use super::door::Door;
use super::gather::Places;
use super::shelf::Shelf;
use super::{Console, probe, tls};

const PAGE: &str = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A console whose other roles are all silent, with an open door.
struct House {
    console: Rc<Console>,
    door: Door,
    at: SocketAddr,
    auth: MetricsAuth,
    _directory: TempDir,
}

impl House {
    async fn open(auth: MetricsAuth) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let places = Places {
            core: path("core"),
            watch: path("watch"),
            record: path("record"),
            edge: path("edge"),
            files: path("files"),
            services: path("services"),
        };
        let console = Console::open(&places, Shelf::new(directory.path())).unwrap();
        let at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut door = Door::default();
        door.settle(&console, Some(&ConsoleMetrics { listen: vec![at], auth })).await.unwrap();
        assert_eq!(door.open_at(), Some((at, auth)));
        House { console, door, at, auth, _directory: directory }
    }

    fn reader(&self, name: &str) -> Arc<ClientConfig> {
        let bundle = self.console.keys.borrow_mut().add_reader(name, Timestamp::now()).unwrap();
        self.config(Some(&identity(bundle)))
    }

    /// A reader's side that trusts this door.
    fn config(&self, own: Option<&Identity>) -> Arc<ClientConfig> {
        tls::reader(self.console.keys.borrow().authority().unwrap(), own).unwrap()
    }

    /// What one request is answered with; nothing when it is refused below HTTP.
    async fn ask(&self, config: &Arc<ClientConfig>, request: &str) -> String {
        let stream = TcpStream::connect(self.at).await.unwrap();
        let name = ServerName::IpAddress(self.at.ip().into());
        let Ok(mut stream) = TlsConnector::from(Arc::clone(config)).connect(name, stream).await else {
            return String::new();
        };
        let mut answer = Vec::new();
        if stream.write_all(request.as_bytes()).await.is_ok() {
            let _ = stream.read_to_end(&mut answer).await;
        }
        String::from_utf8(answer).unwrap()
    }

    /// What plain bytes are answered with.
    async fn ask_plainly(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    /// Scrapes by result, as counted.
    fn counted(&self, result: &str) -> f64 {
        let samples = self.console.tally.borrow().samples();
        let of =
            samples.iter().filter(|sample| sample.family == Family::Scrapes && sample.labels == [result]);
        of.map(|sample| sample.value).sum()
    }

    /// What is counted comes a moment after the visitor has seen it.
    async fn wait_counted(&self, result: &str, count: f64) {
        for _ in 0..500 {
            if self.counted(result) >= count {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(self.counted(result), count, "{result}");
    }
}

fn identity(bundle: Bundle) -> Identity {
    let Bundle { certificate, key, not_after, authority: _ } = bundle;
    let not_before = Timestamp::UNIX_EPOCH;
    Identity { name: String::new(), addresses: Vec::new(), certificate, key, not_before, not_after }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_reader_with_a_certificate_reads_and_everybody_else_gets_an_alert() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let house = House::open(MetricsAuth::MutualTls).await;
            let reader = house.reader("prometheus");
            let answer = house.ask(&reader, PAGE).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(body(&answer).contains("\nsekisho_role_up{role=\"core\"} 0\n"), "{answer}");
            assert!(body(&answer).contains("\nsekisho_role_up{role=\"console\"} 1\n"), "{answer}");
            house.wait_counted("answered", 1.0).await;

            let stranger = Authority::make("another", Timestamp::now()).unwrap();
            let foreign = stranger.reader("prometheus", Timestamp::now()).unwrap();
            assert_eq!(house.ask(&house.config(None), PAGE).await, "", "no certificate");
            assert_eq!(house.ask(&house.config(Some(&foreign)), PAGE).await, "", "a stranger's");
            let door = house.console.keys.borrow_mut().door(&[house.at.ip()], Timestamp::now()).unwrap();
            assert_eq!(house.ask(&house.config(Some(&door)), PAGE).await, "", "the door's own");
            house.wait_counted("handshake", 3.0).await;

            house.console.keys.borrow_mut().remove_reader("prometheus").unwrap();
            assert_eq!(house.ask(&reader, PAGE).await, "", "removed");
            house.wait_counted("handshake", 4.0).await;
            assert_eq!(house.counted("answered"), 1.0);
        })
        .await;
}

#[tokio::test]
async fn no_key_is_given_that_cannot_be_recorded_and_what_ends_ends_all_the_same() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let house = House::open(MetricsAuth::MutualTls).await;
            let reader = house.reader("prometheus");
            assert!(house.console.add_reader(1000, "second".to_owned()).await.is_err());
            assert!(house.console.new_token(1000).await.is_err());
            let names = || house.console.keys.borrow().readers().into_iter().map(|reader| reader.name);
            assert_eq!(names().collect::<Vec<_>>(), ["prometheus"], "nothing was changed");
            assert!(house.console.remove_reader(1000, "prometheus".to_owned()).await.is_err());
            assert_eq!(names().count(), 0);
            assert_eq!(house.ask(&reader, PAGE).await, "", "removed");
        })
        .await;
}

#[tokio::test]
async fn garbage_and_plain_http_get_nothing_but_an_alert() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let house = House::open(MetricsAuth::MutualTls).await;
            for bytes in [
                PAGE.as_bytes(),
                &[0; 300],
                &[0x16, 3, 1, 0xff, 0xff],
                b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
            ] {
                let mut sent = bytes.to_vec();
                sent.resize(sent.len().max(600), b'x');
                let answer = house.ask_plainly(&sent).await;
                assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
                assert!(answer.len() <= 7, "{answer:?}");
            }
            house.wait_counted("handshake", 4.0).await;
        })
        .await;
}

#[tokio::test]
async fn only_the_one_page_is_served_and_only_to_be_read() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let house = House::open(MetricsAuth::MutualTls).await;
            let reader = house.reader("a");
            let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            for (line, status) in [
                ("HEAD /metrics", "200"),
                ("GET /metrics?x=1", "200"),
                ("GET /", "404"),
                ("GET /metrics/", "404"),
                ("POST /metrics", "405"),
                ("DELETE /metrics", "405"),
                ("POST /x", "404"),
            ] {
                let answer = house.ask(&reader, &request(line)).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
                assert!(
                    status == "200" && line.starts_with("GET") || body(&answer).is_empty(),
                    "{line}: {answer}"
                );
            }
            let long = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20 << 10));
            let answer = house.ask(&reader, &long).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
            let many = format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
            let answer = house.ask(&reader, &many).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
            house.wait_counted("request", 7.0).await;
            assert_eq!(house.counted("answered"), 2.0);
        })
        .await;
}

#[tokio::test]
async fn a_token_is_asked_for_where_the_policy_says_so() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let house = House::open(MetricsAuth::Token).await;
            let anybody = house.config(None);
            let with = |token: &str| {
                format!(
                    "GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n"
                )
            };
            let token = house.console.keys.borrow_mut().new_token().unwrap();
            let answer = house.ask(&anybody, &with(&format!("Bearer {token}"))).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            let wrong = [
                PAGE.to_owned(),
                with("Bearer"),
                with("Bearer "),
                with(&format!("Bearer {}", &token[1..])),
                with(&format!("Bearer {token}0")),
                with(&format!("Basic {token}")),
                PAGE.replace("/metrics", "/"),
            ];
            for request in &wrong {
                let answer = house.ask(&anybody, request).await;
                assert!(answer.starts_with("HTTP/1.1 401 "), "{request}: {answer}");
                assert!(body(&answer).is_empty(), "{answer}");
            }
            house.wait_counted("token", 7.0).await;
            house.console.keys.borrow_mut().new_token().unwrap();
            let answer = house.ask(&anybody, &with(&format!("Bearer {token}"))).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "the former token: {answer}");
            assert_eq!(house.ask_plainly(PAGE.as_bytes()).await.first(), Some(&21), "plain HTTP");
        })
        .await;
}

#[tokio::test]
async fn a_ninth_visitor_is_turned_away_and_a_place_comes_free_again() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let house = House::open(MetricsAuth::MutualTls).await;
            let mut silent = Vec::new();
            for _ in 0..8 {
                silent.push(TcpStream::connect(house.at).await.unwrap());
            }
            assert!(house.ask_plainly(b"x").await.is_empty());
            house.wait_counted("busy", 1.0).await;
            drop(silent);
            house.wait_counted("handshake", 8.0).await;
            let answer = house.ask(&house.reader("a"), PAGE).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        })
        .await;
}

#[tokio::test]
async fn the_self_test_finds_the_door_as_it_is_and_counts_as_no_visit() {
    let local = LocalSet::new();
    local
        .run_until(async {
            for auth in [MetricsAuth::MutualTls, MetricsAuth::Token] {
                let house = House::open(auth).await;
                let found = probe::door(&house.console, house.at, house.auth).await.unwrap();
                let MetricsDoor::Open(door) = found else { panic!("{found:?}") };
                assert!(door.tls13_only && door.stranger_refused, "{door:?}");
                assert_eq!(door.client_certificate, auth == MetricsAuth::MutualTls);
                assert!(door.suite.starts_with("TLS13_"), "{door:?}");
                let days = door.not_after.duration_since(Timestamp::now()).as_hours() / 24;
                assert!((178..=180).contains(&days), "{days}");
                assert!(house.console.tally.borrow().samples().is_empty());
                let House { console, mut door, at, .. } = house;
                door.settle(&console, None).await.unwrap();
                tokio::task::yield_now().await;
                assert!(probe::door(&console, at, auth).await.is_err(), "a closed door");
            }
        })
        .await;
}

/// A server of TLS 1.2 would answer the probe's greeting with a record of the handshake (22): openssl shows that the
/// greeting is one that such a server takes.
#[tokio::test]
async fn the_self_test_tells_a_server_of_tls_1_2() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let house = House::open(MetricsAuth::Token).await;
            let directory = tempfile::tempdir().unwrap();
            let keys = house.console.keys.borrow_mut().door(&[house.at.ip()], Timestamp::now()).unwrap();
            let file = directory.path().join("both.pem");
            std::fs::write(&file, keys.certificate + &keys.key).unwrap();
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut server = Command::new("openssl")
                .args(["s_server", "-quiet", "-tls1_2", "-accept", &free.to_string(), "-cert"])
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            for _ in 0..500 {
                if TcpStream::connect(free).await.is_ok() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            let speaks_none = probe::speaks_no_tls12(&house.console, free).await;
            server.kill().unwrap();
            server.wait().unwrap();
            assert!(!speaks_none.unwrap());
            assert!(probe::speaks_no_tls12(&house.console, house.at).await.unwrap());
        })
        .await;
}

#[tokio::test]
async fn the_text_pleases_promtool() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let house = House::open(MetricsAuth::MutualTls).await;
            let answer = house.ask(&house.reader("a"), PAGE).await;
            for arguments in [&["check", "metrics"][..], &["check", "metrics", "--extended"]] {
                let mut command = Command::new("promtool");
                command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut promtool = command.spawn().unwrap();
                promtool.stdin.take().unwrap().write_all(body(&answer).as_bytes()).unwrap();
                let output = promtool.wait_with_output().unwrap();
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success() && errors.is_empty(), "{errors}\n{answer}");
            }
        })
        .await;
}
