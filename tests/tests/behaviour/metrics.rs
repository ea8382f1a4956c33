//! The metrics as a reader in the management zone finds them, and as everybody else does not.
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lab::{Host, Role};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    daemon::{READY_LIMIT, Said, Site},
    site::{clinic, flow, policy},
};

const PORT: u16 = 9464;
/// How long something may take to show in the metrics; the issue allows a minute.
const SHOWN_LIMIT: Duration = Duration::from_secs(60);
/// How long a connection is tried that nothing should answer.
const SILENCE_S: &str = "2";
/// curl(1): no connection, no answer in time.
const NO_CONNECTION: [i32; 2] = [7, 28];
/// curl(1): TLS refused at the handshake, or by the peer after it; an empty answer; sending or receiving failed.
const NO_TLS: [i32; 4] = [35, 52, 55, 56];

/// A clinic whose roles all run.
struct Evidence {
    // Order matters: the roles end before the site does.
    console: Role,
    watch: Role,
    site: Site,
}

impl Evidence {
    fn start(auth: &str) -> Self {
        let mut site = Site::new(clinic(false));
        // First, so that their users exist when core looks them up, as on an installed box.
        let [watch, console] = ["sekisho-watch", "sekisho-console"].map(|unit| ready(&site, unit));
        site.start_core();
        site.apply(&with_metrics(auth));
        Self { console, watch, site }
    }

    fn admin(&self) -> &Host {
        self.site.lab().host("admin").unwrap()
    }

    /// Where the door is, from the admin's device.
    fn url(&self) -> String {
        format!("https://192.168.99.1:{PORT}/metrics")
    }

    /// Gives a reader its files.
    fn keys(&self, name: &str) -> PathBuf {
        let directory = self.site.files().join(name);
        self.site.run(&["metrics", "add", name, "-o", directory.to_str().unwrap()]).succeeded();
        directory
    }

    /// Reads the metrics with a reader's files.
    fn read(&self, keys: &Path) -> Said {
        self.curl(self.admin(), &by_certificate(keys))
    }

    fn curl(&self, host: &Host, arguments: &[String]) -> Said {
        let mut command = host.command("curl");
        command.args(["-sS", "--max-time", SILENCE_S]).args(arguments).arg(self.url());
        Said::of(command.output().unwrap())
    }

    /// Waits until the metrics hold a line.
    fn wait_line(&self, keys: &Path, line: &str) -> String {
        let deadline = Instant::now() + SHOWN_LIMIT;
        loop {
            let said = self.read(keys);
            if said.code == Some(0) && said.out.lines().any(|found| found == line) {
                return said.out;
            }
            assert!(
                Instant::now() < deadline,
                "no `{line}` in {said:?}; the console says: {}",
                self.console.log()
            );
            thread::sleep(Duration::from_millis(200));
        }
    }
}

fn ready(site: &Site, unit: &str) -> Role {
    let mut role = site.runner(unit).start().unwrap();
    role.wait_ready(READY_LIMIT).unwrap();
    role
}

fn with_metrics(auth: &str) -> String {
    let flows = [flow("staff-web", "zone:staff", "zone:wan", "https")];
    format!("{}\n[metrics]\nzone = \"management\"\nport = {PORT}\nauth = \"{auth}\"\n", policy(&flows))
}

fn by_certificate(keys: &Path) -> Vec<String> {
    let of = |name: &str| keys.join(name).to_str().unwrap().to_owned();
    let pairs = [("--cacert", of("ca.crt")), ("--cert", of("client.crt")), ("--key", of("client.key"))];
    pairs.into_iter().flat_map(|(option, file)| [option.to_owned(), file]).collect()
}

/// A real Prometheus on the admin's device.
struct Prometheus<'a> {
    host: &'a Host,
    child: Child,
    log: PathBuf,
}

impl<'a> Prometheus<'a> {
    fn start(evidence: &'a Evidence, keys: &Path) -> Self {
        let files = evidence.site.files().join("prometheus-home");
        fs::create_dir(&files).unwrap();
        let of = |name: &str| keys.join(name).display().to_string();
        let config = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: sekisho\n  scheme: https\n  \
             tls_config: {{ ca_file: {}, cert_file: {}, key_file: {} }}\n  \
             static_configs:\n  - targets: ['192.168.99.1:{PORT}', '[fd51:7ec5:0:99::1]:{PORT}']\n",
            of("ca.crt"),
            of("client.crt"),
            of("client.key")
        );
        fs::write(files.join("prometheus.yml"), config).unwrap();
        let log = files.join("log");
        let output = fs::File::create(&log).unwrap();
        let mut command = evidence.admin().command("prometheus");
        command
            .arg(format!("--config.file={}", files.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", files.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:9090")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        Self { host: evidence.admin(), child: command.spawn().unwrap(), log }
    }

    /// The values of a query.
    fn query(&self, query: &str) -> Vec<String> {
        let mut command = self.host.command("curl");
        command.args(["-s", "--max-time", SILENCE_S, "-G", "--data-urlencode"]).arg(format!("query={query}"));
        let output = command.arg("http://127.0.0.1:9090/api/v1/query").output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let rows = answer.pointer("/data/result").and_then(Value::as_array).cloned().unwrap_or_default();
        rows.iter().map(|row| row["value"][1].as_str().unwrap().to_owned()).collect()
    }

    fn wait(&self, query: &str, values: &[&str]) {
        let deadline = Instant::now() + SHOWN_LIMIT;
        loop {
            let found = self.query(query);
            if found == values {
                return;
            }
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            assert!(Instant::now() < deadline, "`{query}` gives {found:?}, not {values:?}; {}", log());
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_reads_over_mutual_tls_and_sees_a_role_die() {
    let evidence = Evidence::start("mutual-tls");
    let keys = evidence.keys("prometheus");
    let prometheus = Prometheus::start(&evidence, &keys);
    // By IPv4 and by IPv6.
    prometheus.wait("up", &["1", "1"]);
    prometheus.wait("max(sekisho_role_up{role=\"core\"})", &["1"]);
    prometheus.wait("max(sekisho_role_up{role=\"watch\"})", &["1"]);
    prometheus.wait("max(sekisho_enforcement_state{state=\"applied\"})", &["1"]);
    evidence.watch.signal(Signal::KILL).unwrap();
    prometheus.wait("max(sekisho_role_up{role=\"watch\"})", &["0"]);
    prometheus.wait("max(sekisho_role_up{role=\"core\"})", &["1"]);
    evidence.console.signal(Signal::KILL).unwrap();
    prometheus.wait("up", &["0", "0"]);
}

#[test]
fn the_text_is_clean_small_and_follows_what_happens() {
    let evidence = Evidence::start("mutual-tls");
    let keys = evidence.keys("reader");
    let text = evidence.wait_line(&keys, "sekisho_role_up{role=\"watch\"} 1");
    assert_promtool_content(&text);
    assert!(text.lines().filter(|line| !line.starts_with('#')).count() <= 500);
    for secret in ["192.168.", "fd51:", "reception", "ehr-server", "staff-web", "02:00:"] {
        assert!(!text.contains(secret), "`{secret}` in {text}");
    }
    evidence.wait_line(&keys, "sekisho_enforcement_state{state=\"applied\"} 1");
    evidence.wait_line(&keys, "sekisho_readback_differences 0");
    evidence.wait_line(&keys, "sekisho_applies_total{outcome=\"applied\"} 1");
}

/// Two zones more than the ground has; their interfaces are not plugged in.
const MORE_ZONES: &str = r#"
[zone.cameras]
kind = "iot"
interface = "lan-iot"
networks = ["192.168.70.0/24"]

[zone.office]
kind = "staff"
interface = "lan-office"
networks = ["192.168.31.0/24"]
"#;
/// Zones with networks of the form 192.168.N.0/24, by name and N.
const INNER: [(&str, u8); 8] = [
    ("ehr", 10),
    ("billing", 11),
    ("modality", 20),
    ("staff", 30),
    ("office", 31),
    ("cameras", 70),
    ("guest", 90),
    ("management", 99),
];

/// A clinic of nine zones, 60 devices and 60 flows, which go from every zone to many others.
fn large() -> String {
    let mut text = format!("{}{MORE_ZONES}", with_metrics("mutual-tls"));
    let devices: Vec<_> = (0..53).map(|number| (INNER[number % INNER.len()], number)).collect();
    for ((zone, network), number) in &devices {
        let host = 100 + number;
        let _ = write!(
            text,
            "\n[device.d{number}]\nzone = \"{zone}\"\naddress = [\"192.168.{network}.{host}\"]\n"
        );
    }
    let staffed = |zone: &str| !["guest", "cameras"].contains(&zone);
    let pairs = devices.iter().flat_map(|from| devices.iter().rev().map(move |to| (from, to)));
    let pairs = pairs.filter(|(from, to)| from.0.0 != to.0.0 && staffed(from.0.0) && staffed(to.0.0));
    for (index, (from, to)) in pairs.step_by(19).take(58).enumerate() {
        let (from, to) = (format!("device:d{}", from.1), format!("device:d{}", to.1));
        text.push_str(&flow(&format!("flow-{index}"), &from, &to, &format!("tcp/{}", 1000 + index)));
    }
    text
}

#[test]
fn a_clinic_of_sixty_devices_fits_the_budget_with_nothing_folded() {
    let evidence = Evidence::start("mutual-tls");
    let text = large();
    assert_eq!((text.matches("[device.").count(), text.matches("[[flow]]").count()), (60, 60));
    assert_eq!(text.matches("kind = ").count(), 9);
    evidence.site.apply(&text);
    let keys = evidence.keys("reader");
    evidence.wait_line(&keys, "sekisho_applies_total{outcome=\"applied\"} 2");
    let text =
        evidence.wait_line(&keys, "sekisho_control_state{control=\"tls13-client-cert\",state=\"ok\"} 1");
    assert_promtool_content(&text);
    let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    println!("{} series", series.len());
    assert!(series.len() <= 500, "{text}");
    assert!(!text.contains("\"other\""), "{text}");
    let pairs = series.iter().filter(|line| line.starts_with("sekisho_allowed_bytes_total{")).count();
    assert!(pairs >= 20, "{pairs} pairs of zones: the clinic is not as large as it should be");
}

/// What the controls say is what was broken, and an entry of the log says since when.
#[test]
fn controls_turn_red_and_green_and_are_evidence() {
    let evidence = Evidence::start("mutual-tls");
    let state = |control: &str| {
        let said = evidence.site.run(&["--json", "controls"]).json();
        let rows = said["controls"].as_array().unwrap_or_else(|| panic!("{said}")).clone();
        rows.into_iter().find(|row| row["control"] == control).unwrap()
    };
    let wait = |control: &str, wanted: &str| {
        let deadline = Instant::now() + SHOWN_LIMIT;
        loop {
            let said = evidence.site.run(&["--json", "controls"]);
            let is_judged = matches!(said.code, Some(0 | 9));
            if is_judged && state(control)["state"] == wanted {
                return state(control);
            }
            assert!(Instant::now() < deadline, "{control} is not {wanted}: {said:?}");
            thread::sleep(Duration::from_millis(500));
        }
    };
    // The state is shown at once; the entry that proves it is named as soon as it is durable.
    let proved = |control: &str, wanted: &str| {
        let deadline = Instant::now() + SHOWN_LIMIT;
        loop {
            let said = wait(control, wanted);
            if let Some(index) = said["evidence"].as_u64() {
                return index;
            }
            assert!(Instant::now() < deadline, "{said}");
            thread::sleep(Duration::from_millis(100));
        }
    };
    let first = proved("tls13-client-cert", "ok");
    // No policy opens the door any more: there is nothing to judge.
    evidence.site.apply(&policy(&[flow("staff-web", "zone:staff", "zone:wan", "https")]));
    let without = proved("tls13-client-cert", "not-applicable");
    assert!(without > first, "{without} after {first}");
    evidence.site.apply(&with_metrics("token"));
    wait("tls13-client-cert", "warning");
    evidence.watch.signal(Signal::KILL).unwrap();
    wait("access-log", "unknown");
    let text = evidence.site.run(&["controls", "--guideline", "6.0"]);
    println!("{}", text.out);
    assert_eq!(text.code, Some(9), "{text:?}");
    assert!(text.out.contains("？ unknown") && text.out.contains("not a certificate"), "{}", text.out);
    let crosswalk = evidence.site.run(&["controls", "--crosswalk"]).succeeded();
    assert!(crosswalk.out.contains("7.0-draft"), "{}", crosswalk.out);
}

#[test]
fn a_report_is_written_and_recorded() {
    let evidence = Evidence::start("mutual-tls");
    let keys = evidence.keys("reader");
    evidence.wait_line(&keys, "sekisho_role_up{role=\"record\"} 1");
    let deadline = Instant::now() + SHOWN_LIMIT;
    while !matches!(evidence.site.run(&["controls"]).code, Some(0 | 9)) {
        assert!(Instant::now() < deadline, "nothing is judged");
        thread::sleep(Duration::from_millis(500));
    }
    let file = evidence.site.files().join("report.html");
    let said = evidence.site.run(&["--json", "report", "-o", file.to_str().unwrap()]).succeeded().json();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("試験クリニック") && text.contains("staff-web"), "{text}");
    assert!(said["entry"].as_u64().is_some_and(|entry| entry > 0), "{said}");
    evidence.site.run(&["report", "-o", "/nowhere/report.html"]).failed(1, &["/nowhere/report.html"]);
}

#[test]
fn who_has_no_right_gets_nothing() {
    let evidence = Evidence::start("mutual-tls");
    let keys = evidence.keys("reader");
    evidence.wait_line(&keys, "sekisho_role_up{role=\"core\"} 1");
    let (admin, authority) = (evidence.admin(), keys.join("ca.crt").to_str().unwrap().to_owned());
    let trusting = ["--cacert".to_owned(), authority.clone()];
    let refused = |said: &Said, codes: &[i32]| {
        assert!(said.code.is_some_and(|code| codes.contains(&code)), "{said:?}");
        assert!(said.out.is_empty(), "{said:?}");
    };
    refused(&evidence.curl(admin, &trusting), &NO_TLS);
    let foreign = foreign(evidence.site.files());
    let mut arguments = by_certificate(&foreign);
    arguments[1] = authority;
    refused(&evidence.curl(admin, &arguments), &NO_TLS);
    let mut old = by_certificate(&keys);
    old.extend(["--tls-max", "1.2"].map(str::to_owned));
    refused(&evidence.curl(admin, &old), &NO_TLS);
    // The right certificate at the wrong place is not even answered.
    for host in ["reception", "phone", "ct"] {
        refused(
            &evidence.curl(evidence.site.lab().host(host).unwrap(), &by_certificate(&keys)),
            &NO_CONNECTION,
        );
    }
    let plain = format!("http://192.168.99.1:{PORT}/metrics");
    let output = admin.command("curl").args(["-s", "--max-time", SILENCE_S, &plain]).output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    evidence.site.run(&["metrics", "remove", "reader"]).succeeded();
    refused(&evidence.read(&keys), &NO_TLS);
    let again = evidence.keys("again");
    let text = evidence.read(&again).succeeded().out;
    let counted = text.lines().find(|line| line.starts_with("sekisho_scrapes_total{result=\"handshake\"}"));
    let count: u32 = counted.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(count, 5, "four strangers and one that was removed: {text}");
}

#[test]
fn a_policy_may_ask_for_a_token_and_end_the_door() {
    let evidence = Evidence::start("token");
    let keys = evidence.site.files().join("token-keys");
    evidence.site.run(&["metrics", "token", "-o", keys.to_str().unwrap()]).succeeded();
    let token = fs::read_to_string(keys.join("token")).unwrap();
    let trusting = vec!["--cacert".to_owned(), keys.join("ca.crt").to_str().unwrap().to_owned()];
    let with = |token: &str| {
        let field = format!("Authorization: Bearer {token}");
        trusting.iter().cloned().chain(["-H".to_owned(), field]).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + SHOWN_LIMIT;
    let text = loop {
        let said = evidence.curl(evidence.admin(), &with(&token));
        if said.code == Some(0) {
            break said.out;
        }
        assert!(Instant::now() < deadline, "{said:?}");
        thread::sleep(Duration::from_millis(200));
    };
    assert!(text.contains("\nsekisho_role_up{role=\"core\"} 1\n"), "{text}");
    for arguments in [trusting.clone(), with("wrong")] {
        let said = evidence.curl(evidence.admin(), &arguments).succeeded();
        assert!(said.out.is_empty(), "{said:?}");
    }
    evidence.site.apply(&policy(&[flow("staff-web", "zone:staff", "zone:wan", "https")]));
    let deadline = Instant::now() + SHOWN_LIMIT;
    while evidence.curl(evidence.admin(), &with(&token)).code == Some(0) {
        assert!(Instant::now() < deadline, "the door is still open");
        thread::sleep(Duration::from_millis(200));
    }
}

/// `promtool check metrics` says nothing, in its plain and its extended form.
fn assert_promtool_content(text: &str) {
    for arguments in [&["check", "metrics"][..], &["check", "metrics", "--extended"]] {
        let mut command = Command::new("promtool");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut promtool = command.spawn().unwrap();
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && errors.is_empty(), "{errors}\n{text}");
    }
}

/// A certificate of somebody else's authority.
fn foreign(files: &Path) -> PathBuf {
    let directory = files.join("foreign");
    fs::create_dir(&directory).unwrap();
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    command.args(["-days", "10", "-subj", "/CN=reader", "-keyout", "client.key", "-out", "client.crt"]);
    let output = command.current_dir(&directory).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    directory
}
