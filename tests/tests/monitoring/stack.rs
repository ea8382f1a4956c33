//! Prometheus and Alertmanager on the admin's device, as `dashboard/` ships them.
use std::{
    fs::{self, File},
    io,
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
};

use lab::Host;
use serde_json::Value;

use crate::{
    clinic::Clinic,
    inbox::{self, Inbox},
    shipped,
};

/// The gateway's door in the management zone.
pub(crate) const DOOR: &str = "192.168.99.1:9464";
/// The same door, read from the gateway itself and led out beside the network, as by an agent on the box with a line of
/// its own: while nothing passes, nobody in the management zone can read it.
pub(crate) const BESIDE: &str = "127.0.0.1:9465";
const HOST: &str = "admin";
const QUERY: &str = "http://127.0.0.1:9090/api/v1/query";
const PATIENCE_S: &str = "5";

/// Everything on the admin's device that watches the gateway.
pub(crate) struct Stack {
    prometheus: Child,
    alertmanager: Child,
    directory: PathBuf,
    pub(crate) inbox: Inbox,
}

impl Stack {
    pub(crate) fn start(clinic: &Clinic) -> Self {
        let directory = clinic.site.files().join("monitoring");
        fs::create_dir(&directory).unwrap();
        let keys = directory.join("sekisho");
        clinic.site.run(&["metrics", "add", "prometheus", "-o", keys.to_str().unwrap()]).succeeded();
        let write = |name: &str, text: String| fs::write(directory.join(name), text).unwrap();
        write("prometheus.yml", shipped::prometheus(&[DOOR, BESIDE]));
        write("rules.yml", shipped::rules());
        write("alerts.yml", shipped::alerts());
        write("alertmanager.yml", shipped::alertmanager(inbox::URL));
        let host = clinic.host(HOST);
        lead_out(clinic);
        let inbox = Inbox::open(host);
        let alertmanager = run(
            host,
            &directory,
            "prometheus-alertmanager",
            &[
                "--config.file=alertmanager.yml",
                "--storage.path=alerts",
                "--web.listen-address=127.0.0.1:9093",
                "--cluster.listen-address=",
            ],
        );
        let prometheus = run(
            host,
            &directory,
            "prometheus",
            &[
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                "--web.listen-address=127.0.0.1:9090",
                // Alerts that go on are told again so often.
                "--rules.alert.resend-delay=5s",
            ],
        );
        Self { prometheus, alertmanager, directory, inbox }
    }

    /// How many series answer a query; none while it is not answered.
    pub(crate) fn count(&self, clinic: &Clinic, query: &str) -> usize {
        let mut command = clinic.host(HOST).command("curl");
        command
            .args(["-s", "--max-time", PATIENCE_S, "-G", "--data-urlencode"])
            .arg(format!("query={query}"));
        let output = command.arg(QUERY).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        answer.pointer("/data/result").and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// The last that both wrote about themselves.
    pub(crate) fn logs(&self) -> String {
        let last = |name: &str| {
            let text = fs::read_to_string(self.directory.join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<_> = text.lines().rev().take(8).map(str::to_owned).collect();
            lines.join("\n")
        };
        ["prometheus", "prometheus-alertmanager"].map(last).join("\n")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for child in [&mut self.prometheus, &mut self.alertmanager] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(host: &Host, directory: &Path, program: &str, arguments: &[&str]) -> Child {
    let log = File::create(directory.join(format!("{program}.log"))).unwrap();
    let mut command = host.command(program);
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// Joins a port of the admin's device to the door as the gateway itself sees it.
fn lead_out(clinic: &Clinic) {
    let listener = clinic.host(HOST).run_in(|| TcpListener::bind(BESIDE)).unwrap().unwrap();
    let carry = move || {
        for outer in listener.incoming().flatten() {
            // The door may be shut: then the reader finds the same.
            let Ok(inner) = TcpStream::connect(DOOR) else { continue };
            let (to, from) = (outer.try_clone().unwrap(), inner.try_clone().unwrap());
            thread::spawn(move || copy(&outer, &inner));
            thread::spawn(move || copy(&from, &to));
        }
    };
    clinic.site.lab().gateway().namespace().spawn_in(carry).unwrap();
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
