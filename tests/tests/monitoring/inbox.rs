//! The receiver that the clinic puts in place of the example's: it keeps what Alertmanager tells it.
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use lab::Host;
use serde::Deserialize;

use crate::shipped::Annotations;

/// Where it listens, on its own host.
pub(crate) const URL: &str = "http://127.0.0.1:9095/sekisho";
const ADDRESS: &str = "127.0.0.1:9095";
const BODY_BYTES_MAX: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// One alert as Alertmanager tells it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Told {
    pub(crate) status: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: Annotations,
}

#[derive(Deserialize)]
struct Message {
    alerts: Vec<Told>,
}

/// What has been told so far.
#[derive(Clone, Default)]
pub(crate) struct Inbox(Arc<Mutex<Vec<Told>>>);

impl Inbox {
    /// Listens on a host; the thread lives as long as the tests do.
    pub(crate) fn open(host: &Host) -> Self {
        let this = Self::default();
        let listener = host.run_in(|| TcpListener::bind(ADDRESS)).unwrap().unwrap();
        let inbox = this.clone();
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| inbox.take(stream)));
        this
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self, mut stream: TcpStream) {
        let Some(body) = body(&stream) else { return };
        // Alertmanager tells it again when it gets no answer: bytes that are no message are a failure of the test.
        let message: Message = serde_json::from_slice(&body).unwrap();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(message.alerts);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
}

/// The body of one request (RFC 9112) whose length was told.
fn body(stream: &TcpStream) -> Option<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?
            }
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = Vec::new();
    reader.take(BODY_BYTES_MAX.min(length)).read_to_end(&mut body).ok()?;
    (body.len() as u64 == length).then_some(body)
}
