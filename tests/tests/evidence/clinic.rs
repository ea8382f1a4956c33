//! The example clinic with every role running, its care done, and what its controls say.
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use gateway::{
    client,
    wire::{Answer, Ask, Measured, doors::SessionId, record::RecordAsk},
};
use jiff::Timestamp;
use lab::{Host, Role, RoleRunner, Unit};
use serde_json::{Value, json};

use crate::{
    daemon::{Said, Site, unit_file},
    inspections::Inspections,
    persons::{Persons, Visitor},
    policies,
    site::clinic,
};

/// How long anything may take to show, as the issue has it.
pub(crate) const SHOWN_LIMIT: Duration = Duration::from_secs(60);
/// How long the clinic may take to be in order after its start: the clock has to follow its sources first.
const START_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(250);
/// The hardware addresses that the policy's ledger has.
const LEDGER: [(&str, &str); 2] = [("ehr-server", "02:00:00:00:10:10"), ("pacs", "02:00:00:00:10:11")];
/// A person of the policy.
const PERSON: &str = "佐倉 花子";
/// `sekisho controls` when one failed or is unknown.
const ATTENTION: i32 = 9;
const METRICS: &str = "https://192.168.99.1:9464/metrics";

/// A program that ends with the clinic.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a control stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: String,
    why: String,
}

/// Every control by its id.
pub(crate) type Board = BTreeMap<String, Standing>;

/// The clinic.
pub(crate) struct Clinic {
    // Order matters: what runs ends before the site does.
    time: Option<Role>,
    pub(crate) inspections: Inspections,
    /// Admins who have enrolled, once they have.
    pub(crate) persons: Option<Persons>,
    visitor: Option<Visitor>,
    _provider: Running,
    pub(crate) site: Site,
    reader: PathBuf,
}

impl Clinic {
    /// Starts everything and puts the policy in force; what is to be done by people is not done yet.
    pub(crate) fn fresh() -> Self {
        let mut site = Site::new(clinic(false));
        for (name, mac) in LEDGER {
            let host = site.lab().host(name).unwrap();
            host.output("ip", &["link", "set", host.leg().interface(), "address", mac]).unwrap();
        }
        let inspections = Inspections::serve(&RoleRunner::runtime_root(site.lab()), site.program("sekishod"));
        // First, so that their users exist when core looks them up, as on an installed box.
        for unit in ["sekisho-console", "sekisho-watch", "sekisho-edge", "sekisho-files"] {
            site.start_role(unit);
        }
        site.start_core();
        let provider = provider(&site);
        site.apply(&policies::good());
        let reader = site.files().join("reader");
        let (time, persons, visitor) = (None, None, None);
        let mut this = Self { time, inspections, persons, visitor, _provider: provider, site, reader };
        this.start_time();
        this.site.run(&["metrics", "add", "reader", "-o", this.reader.to_str().unwrap()]).succeeded();
        this
    }

    /// Does what people have to do, and waits until every live control is in order.
    pub(crate) fn put_in_order(&mut self, live: &[String]) -> Duration {
        self.wait(&[], SHOWN_LIMIT, "the first judgement");
        self.care();
        let green: Vec<_> = live.iter().map(|control| (control.as_str(), "ok")).collect();
        self.wait(&green, START_LIMIT, "the clinic to be in order")
    }

    /// What people have to do.
    fn care(&mut self) {
        self.enrol();
        self.site.run(&["time", "trusted"]).succeeded();
        let file = |name: &str| self.site.files().join(name).to_str().unwrap().to_owned();
        self.site.run(&["report", "-o", &file("report.html")]).succeeded();
        self.site.run(&["audit", "export", &file("export")]).succeeded();
        self.back_up(&file("backup"));
        self.review();
        self.scrape();
    }

    /// The admins enrol, unless they have; their codes are needed for whatever opens.
    pub(crate) fn enrol(&mut self) {
        if self.persons.is_none() {
            self.persons = Some(Persons::enrol(&self.site));
        }
    }

    /// The engineer of the vendor, enrolled at the first visit.
    pub(crate) fn visitor(&mut self) -> &mut Visitor {
        let site = &self.site;
        self.visitor.get_or_insert_with(|| Visitor::enrol(site))
    }

    /// A session that one of them approved is open.
    pub(crate) fn open_session(&mut self) -> SessionId {
        self.visitor();
        let (Some(visitor), Some(persons)) = (&mut self.visitor, &mut self.persons) else {
            panic!("nobody can approve anything")
        };
        visitor.open(&self.site, &mut persons.hanako)
    }

    /// Writes a backup, and tries whether it can be read back.
    fn back_up(&self, backup: &str) {
        let word = self.site.write("word", "a long word that nobody guesses\n");
        let root = RoleRunner::state_root(self.site.lab());
        let with = ["--passphrase-file", &word, "--state-root", root.to_str().unwrap()];
        self.site.run(&[&["backup", "-o", backup], &with[..]].concat()).succeeded();
        self.site.run(&[&["restore", "--check", backup], &with[..]].concat()).succeeded();
    }

    /// A named person looks through the log and what was seen.
    pub(crate) fn review(&self) {
        self.site.run(&["audit", "review", "--person", PERSON]).succeeded();
    }

    /// Has the log take an entry of this length and a little more; gives what it answers.
    pub(crate) fn append(&self, bytes: usize) -> Answer {
        let socket = RoleRunner::runtime_root(self.site.lab()).join("sekisho-record/record.sock");
        let deed = json!({ "deed": "restore-check", "sha256": "0".repeat(bytes) });
        let event = json!({ "kind": "done", "by": rustix::process::geteuid().as_raw(), "deed": deed });
        let event = serde_json::from_value(event).unwrap();
        client::ask(&socket, Ask::Record(RecordAsk::Append { at: Timestamp::now(), event, again: false }))
            .unwrap()
    }

    /// Reads the metrics as the reader of the clinic does.
    pub(crate) fn scrape(&self) -> String {
        let said = self.try_scrape();
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out
    }

    /// Tries to.
    pub(crate) fn try_scrape(&self) -> Said {
        let mut command = self.host("admin").command("curl");
        command.args(["-sS", "--max-time", "5"]);
        for (option, name) in [("--cacert", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key")] {
            command.arg(option).arg(self.reader.join(name));
        }
        Said::of(command.arg(METRICS).output().unwrap())
    }

    pub(crate) fn host(&self, name: &str) -> &Host {
        self.site.lab().host(name).unwrap()
    }

    /// Where a role keeps its files.
    pub(crate) fn state_of(&self, role: &str) -> PathBuf {
        RoleRunner::state_root(self.site.lab()).join(role)
    }

    /// How every control stands; nothing while the console does not say.
    pub(crate) fn board(&self) -> Option<Board> {
        let said = self.site.run(&["--json", "controls"]);
        if !matches!(said.code, Some(0 | ATTENTION)) {
            return None;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let standing = |row: &Value| {
            let reasons = row["reasons"].as_array().unwrap().iter().map(|reason| text(&reason["en"]));
            let why = reasons.collect::<Vec<_>>().join("; ");
            (text(&row["control"]), Standing { state: text(&row["state"]), why })
        };
        Some(said.json()["controls"].as_array().unwrap().iter().map(standing).collect())
    }

    /// Waits until a reader of the metrics finds these lines.
    pub(crate) fn wait_lines(&self, lines: &[&str], what: &str) {
        let begun = Instant::now();
        loop {
            let text = self.scrape();
            let absent: Vec<_> =
                lines.iter().filter(|line| !text.lines().any(|found| found == **line)).collect();
            if absent.is_empty() {
                return;
            }
            assert!(begun.elapsed() < SHOWN_LIMIT, "{what}: no {absent:?} in {text}");
            thread::sleep(POLL);
        }
    }

    /// Waits until controls stand as told, in what `sekisho controls` says and in what is exported; gives how long it took.
    pub(crate) fn wait(&self, wanted: &[(&str, &str)], limit: Duration, what: &str) -> Duration {
        let begun = Instant::now();
        loop {
            let board = self.board();
            let differing = board.as_ref().map(|board| differing(board, wanted));
            if differing.as_ref().is_some_and(Vec::is_empty) && self.exports(wanted) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < limit, "waited for {what}: {differing:#?}");
            thread::sleep(POLL);
        }
    }

    /// Whether what is exported says the same; the door prints these very samples.
    fn exports(&self, wanted: &[(&str, &str)]) -> bool {
        let Measured { samples, .. } = self.measured();
        let states = samples.iter().filter(|sample| sample.family.info().name == "control_state");
        let states: Vec<_> =
            states.filter(|sample| sample.value > 0.5).map(|sample| &sample.labels).collect();
        wanted.iter().all(|(control, state)| states.iter().any(|labels| **labels == [*control, *state]))
    }

    /// What the console counted and measured.
    fn measured(&self) -> Measured {
        let socket = RoleRunner::runtime_root(self.site.lab()).join("sekisho-console/console.sock");
        match client::ask(&socket, Ask::Measure {}) {
            Ok(Answer::Measured(measured)) => *measured,
            other => panic!("{other:?}"),
        }
    }

    /// Starts chronyd as its unit says; `-x` keeps it from the machine's clock.
    pub(crate) fn start_time(&mut self) {
        let (user, group) = user_of_chronyd(&self.site);
        let own = self.site.files().join("chrony");
        fs::create_dir_all(&own).unwrap();
        // As the unit's ExecStartPre does.
        chown(&own, Some(user), Some(group)).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o750)).unwrap();
        let generated = fs::read_to_string(self.site.runtime().join("services/chrony.conf")).unwrap();
        let conf = ["/var/lib/sekisho-chrony", "/run/sekisho-chrony"]
            .iter()
            .fold(generated, |text, installed| text.replace(installed, own.to_str().unwrap()));
        let conf = self.site.write("chrony.conf", &conf);
        let words = unit_file("sekisho-chrony").exec.into_iter().skip(1);
        let words = words.map(|word| if word.starts_with("/run/") { conf.clone() } else { word });
        let arguments = std::iter::once("-x".to_owned()).chain(words);
        self.time = Some(self.site.runner("sekisho-chrony").arguments(arguments).start().unwrap());
    }

    /// The time daemon is gone.
    pub(crate) fn kill_time(&mut self) {
        self.time = None;
    }
}

/// What stands otherwise, in words.
fn differing(board: &Board, wanted: &[(&str, &str)]) -> Vec<String> {
    let differs = |(control, state): &(&str, &str)| {
        let Standing { state: found, why } = &board[*control];
        (found != state).then(|| format!("{control} is {found}, not {state}: {why}"))
    };
    wanted.iter().filter_map(differs).collect()
}

/// The provider's clock, which the policy names twice: by IPv4 and by IPv6.
fn provider(site: &Site) -> Running {
    let conf = format!("local stratum 2\nallow all\ncmdport 0\npidfile {}/ntp.pid\n", site.files().display());
    let conf = site.write("provider.conf", &conf);
    let user = Command::new("id").arg("-un").output().unwrap();
    let mut command = site.lab().host("internet").unwrap().command("/usr/sbin/chronyd");
    command.args(["-x", "-d", "-u", String::from_utf8(user.stdout).unwrap().trim(), "-f", &conf]);
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// The user of sysusers.d and its group, made if they are not there.
fn user_of_chronyd(site: &Site) -> (u32, u32) {
    let text = "[Service]\nUser=sekisho-chrony\nExecStart=/bin/sleep 1\n";
    drop(RoleRunner::new(site.lab(), Unit::parse("user", text).unwrap()).start().unwrap());
    let number = |option: &str| {
        let output = Command::new("id").args([option, "sekisho-chrony"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    (number("-u"), number("-g"))
}
