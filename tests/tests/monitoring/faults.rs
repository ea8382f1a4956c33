//! What is broken, which alerts that fires, and how it is mended. The table is data, so that an alert without a fault is
//! found without a lab.
use std::{
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use gateway::{
    client,
    wire::{Answer, Ask, record::RecordAsk},
};
use jiff::Timestamp;
use lab::RoleRunner;
use serde_json::json;

use crate::{cases::Mend, clinic::Clinic, hands, policies};

/// An alert, and a label by which this fault's is told from another's.
pub(crate) type Alert = (&'static str, (&'static str, &'static str));

/// Things to break at once.
pub(crate) struct Fault {
    /// In words.
    pub(crate) what: &'static str,
    /// Breaks each, and gives the way back.
    pub(crate) breaks: &'static [fn(&mut Clinic) -> Mend],
    /// What is told then, and told to be over after.
    pub(crate) fires: &'static [Alert],
}

/// Made by age-keygen for these tests.
const RECIPIENT: &str = "age1wyje83ll49l27r4e83u8py2jyrpc2vtalcrphqn4akam4tqy4ycsnn9ss2";
/// A user that nobody is.
const NOBODY: u32 = 4_242;
/// Longer ago than the log may go unsigned: 26 hours.
const LONG_AGO: Duration = Duration::from_secs(27 * 3600);
/// How often somebody changes the rules: oftener than they can be read in one piece.
const RESTLESS: Duration = Duration::from_micros(200);
const RESTLESS_PROGRAMS: u32 = 3;

/// The maintenance door as the outside finds it, and how often it is knocked at.
const MAINTENANCE_DOOR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2)), 8443);
const KNOCKS: usize = 500;
/// How long one knock may take.
const KNOCK: Duration = Duration::from_secs(2);

/// In this order.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        what: "a fresh box, and nobody has done their part",
        breaks: &[undone],
        fires: &[
            ("ControlFailed", ("control", "management-report")),
            ("TimeNotTrusted", ("what", "untrusted")),
            ("BackupOld", ("what", "never")),
        ],
    },
    Fault {
        what: "a DHCP server that nobody put there, a forged entry, an authority that ends soon, a log long unsigned",
        breaks: &[hands::rogue_dhcp, forged_entry, hands::ending_certificate, unsigned],
        fires: &[
            ("SuspiciousTraffic", ("kind", "dhcp_server")),
            ("LogNotAccepting", ("what", "refused")),
            ("CertificateEnding", ("door", "metrics")),
            ("LogCheckpointStale", ("what", "signed")),
        ],
    },
    Fault {
        what: "a changed log, somebody else's table, no watch",
        breaks: &[hands::changed_log, hands::foreign_table, kill_watch],
        fires: &[
            ("LogDamaged", ("severity", "critical")),
            ("RulesChangedByOthers", ("what", "foreign")),
            ("RoleDown", ("role", "watch")),
        ],
    },
    Fault {
        what: "a ledger and a log with little room, and more than fits",
        breaks: &[hands::little_room, hands::full_log],
        fires: &[
            ("DiskBudget", ("store", "ledger")),
            ("DiskBudget", ("store", "audit")),
            ("LogNotAccepting", ("what", "closed")),
        ],
    },
    Fault {
        what: "a vendor whom nobody answers, codes that are guessed at, and knocks at the door",
        breaks: &[hands::guessed_codes, knocks, waiting_session],
        fires: &[
            ("SessionWaiting", ("state", "waiting")),
            ("DoorAttacked", ("what", "guessed")),
            ("DoorAttacked", ("what", "knocked")),
        ],
    },
    Fault {
        what: "rules that never stand still, and so cannot be compared",
        breaks: &[restless_rules],
        fires: &[("ReadBackStale", ("severity", "critical"))],
    },
    Fault {
        what: "no core, and with it none of the kernel's notices",
        breaks: &[hands::kill_core],
        fires: &[("RoleDown", ("role", "core")), ("LedgerLosing", ("what", "silent"))],
    },
    Fault {
        what: "a box whose policy is lost",
        breaks: &[lost_policy],
        fires: &[("NothingPasses", ("state", "closed"))],
    },
    Fault {
        what: "no console",
        breaks: &[kill_console],
        fires: &[("GatewayAbsent", ("severity", "critical"))],
    },
];

/// Nothing is broken, and nothing is done.
fn undone(_: &mut Clinic) -> Mend {
    Box::new(|clinic| {
        let file = |name: &str| clinic.site.files().join(name).to_str().unwrap().to_owned();
        let root = RoleRunner::state_root(clinic.site.lab());
        clinic.site.run(&["time", "trusted"]).succeeded();
        clinic.site.run(&["report", "-o", &file("report.html")]).succeeded();
        let backup = ["backup", "-o", &file("backup.age"), "--recipient", RECIPIENT, "--state-root"];
        clinic.site.run(&[&backup[..], &[root.to_str().unwrap()]].concat()).succeeded();
    })
}

/// Somebody has an entry of another user's written.
fn forged_entry(clinic: &mut Clinic) -> Mend {
    let event = json!({ "kind": "done", "by": NOBODY, "deed": { "deed": "restore-check", "sha256": "00" } });
    let event = serde_json::from_value(event).unwrap();
    let socket = RoleRunner::runtime_root(clinic.site.lab()).join("sekisho-record/record.sock");
    let answer =
        client::ask(&socket, Ask::Record(RecordAsk::Append { at: Timestamp::now(), event, again: false }));
    assert!(!matches!(answer, Ok(Answer::Record(_))), "{answer:?}");
    Box::new(|_| {})
}

/// The log was last signed yesterday. Whatever happens is signed again, and so is put back for as long as it takes.
fn unsigned(clinic: &mut Clinic) -> Mend {
    let file = clinic.state_of("sekisho-record").join("checkpoint");
    assert!(file.exists());
    let over = repeat(Duration::from_millis(100), move || {
        if let Ok(file) = fs::File::open(&file) {
            let _ = file.set_modified(SystemTime::now() - LONG_AGO);
        }
    });
    Box::new(move |clinic| {
        over();
        clinic.review();
    })
}

/// Programs change the rules all the time: several, lest a machine at work give core the moment that it needs.
fn restless_rules(clinic: &mut Clinic) -> Mend {
    let restless: Vec<_> = (0..RESTLESS_PROGRAMS).map(|number| change_rules(clinic, number)).collect();
    Box::new(|_| restless.into_iter().for_each(|over| over()))
}

fn change_rules(clinic: &Clinic, number: u32) -> impl FnOnce() + use<> {
    let mut command = clinic.site.lab().gateway().command("nft");
    command.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut nft = command.spawn().unwrap();
    let mut lines = nft.stdin.take().unwrap();
    let change = format!("add table inet restless{number}\ndelete table inet restless{number}\n");
    let over = repeat(RESTLESS, move || {
        let _ = lines.write_all(change.as_bytes());
    });
    move || {
        // Its input ends, and so it does.
        over();
        nft.wait().unwrap();
    }
}

/// Does something again and again until told that it is over.
fn repeat(pause: Duration, mut work: impl FnMut() + Send + 'static) -> impl FnOnce() {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let thread = thread::spawn(move || {
        while !told.load(Ordering::Acquire) {
            work();
            thread::sleep(pause);
        }
    });
    move || {
        over.store(true, Ordering::Release);
        thread.join().unwrap();
    }
}

/// The file is gone when core starts: nothing is known to be right, and nothing passes.
fn lost_policy(clinic: &mut Clinic) -> Mend {
    clinic.site.kill_core();
    fs::remove_file(clinic.site.state().join("applied")).unwrap();
    clinic.site.start_core();
    Box::new(|clinic| clinic.site.apply(&policies::good()))
}

/// A vendor asks, and nobody answers.
fn waiting_session(clinic: &mut Clinic) -> Mend {
    let session = clinic.visitor().ask();
    Box::new(move |clinic| {
        clinic.site.run(&["session", "deny", session.as_str(), "--reason", "not today"]).succeeded();
    })
}

/// Somebody without a certificate knocks at the maintenance door more often than any scan.
fn knocks(clinic: &mut Clinic) -> Mend {
    let knock =
        || (0..KNOCKS).filter(|_| TcpStream::connect_timeout(&MAINTENANCE_DOOR, KNOCK).is_ok()).count();
    let taken = clinic.host("vendor").run_in(knock).unwrap();
    assert_eq!(taken, KNOCKS, "the door is not there");
    Box::new(|_| {})
}

fn kill_watch(clinic: &mut Clinic) -> Mend {
    kill(clinic, "sekisho-watch")
}

fn kill_console(clinic: &mut Clinic) -> Mend {
    kill(clinic, "sekisho-console")
}

fn kill(clinic: &mut Clinic, unit: &'static str) -> Mend {
    clinic.site.kill_role(unit);
    Box::new(move |clinic| {
        clinic.site.start_role(unit);
    })
}
