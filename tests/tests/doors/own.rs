//! A vendor with a certificate authority of its own, made by openssl as a vendor would: its engineers come in by their
//! certificates alone and open nothing without the clinic; whoever else has a certificate stays out.
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use gateway::wire::doors::SessionId;
use serde_json::Value;

use crate::{
    ready::{Ready, SSH},
    rota::Rota,
    whole::{DOORS, Engineer, Held, eventually},
};

/// `sekisho-vendor`: the clinic says no; the gateway does not let this key in.
const REFUSED: i32 = 3;
const NOT_ADMITTED: i32 = 5;
const HOST: &str = "vendor";
const NAME: &str = "田中 実";
/// The port of the engineer's machine that leads to the target.
const PORT: u16 = 2290;
const VENDORS: &str = r#"
[vendor.kinki]
ca = "authorities/kinki.pem"
contract_until = 2099-03-31
[vendor.kinki.maintenance]
targets = ["device:ehr-server:ssh"]
max_duration = "2h"
approvals = ["clinic"]

[vendor.other]
ca = "authorities/other.pem"
contract_until = 2099-03-31
[vendor.other.maintenance]
targets = ["device:pacs:ssh"]
max_duration = "2h"
approvals = ["clinic"]
"#;
/// What openssl writes into certificates.
const EXTENSIONS: &str = "
[ca]
default_ca = own
[own]
database = index
new_certs_dir = .
serial = serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
utf8 = yes
string_mask = utf8only
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[engineer]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = clientAuth
";
const GOOD: &str = "20980101000000Z";

/// Goes through all of it, in a clinic whose roles run under this policy.
pub(crate) fn come_in_by_certificates(ready: &Ready, rota: &mut Rota, policy: &str) {
    let desk = Desk::new(ready);
    for authority in ["kinki", "other", "foreign"] {
        desk.authority(authority);
    }
    let tanaka = desk.engineer("kinki", "tanaka", NAME, GOOD);
    let text = format!("{policy}{VENDORS}");
    let said = ready.site.try_apply(&text).succeeded();
    assert!(said.err.contains("authority-missing"), "{said:?}");
    assert_eq!(ask(&tanaka), Some(NOT_ADMITTED), "the file of the authority is not there");

    desk.hand_over(ready, &["kinki", "other"]);
    let said = ready.site.try_apply(&text).succeeded();
    assert!(!said.err.contains("authority"), "{said:?}");
    let (session, mut held) = work(ready, rota, &tanaka);
    let row = row(ready, &session);
    assert_eq!((&row["vendor"], &row["engineer"]), (&"kinki".into(), &NAME.into()), "{row}");

    for (what, engineer, code) in [
        ("a foreign authority's", desk.engineer("foreign", "mallory", "mallory", GOOD), NOT_ADMITTED),
        ("one that has ended", desk.engineer("kinki", "late", "late", "20210101000000Z"), NOT_ADMITTED),
        (
            "one by somebody who may sign none",
            desk.engineer("tanaka", "friend", "friend", GOOD),
            NOT_ADMITTED,
        ),
        ("another vendor's, for this vendor's target", desk.engineer("other", "sato", "sato", GOOD), REFUSED),
    ] {
        assert_eq!(ask(&engineer), Some(code), "{what}");
    }
    assert!(tanaka.echoes(PORT), "the others disturbed him");

    let yamada = desk.engineer("kinki", "yamada", "yamada", GOOD);
    let waiting = yamada.request("tcp").unwrap();
    let key = self::row(ready, &waiting)["key"].as_str().unwrap().to_owned();
    ready.site.run(&["vendor", "revoke", &key]).succeeded();
    eventually("the revoked engineer's request is over", || why(ready, &waiting) == "revoked");
    eventually("one whom the clinic revoked stays out", || ask(&yamada) == Some(NOT_ADMITTED));

    // Another authority under the old name, then none.
    desk.authority("later");
    fs::rename(desk.at("later.pem"), ready.site.files().join("authorities/kinki.pem")).unwrap();
    ready.site.apply(&text);
    eventually("the session is over", || why(ready, &session) == "policy-changed");
    eventually("the vendor's program has ended", || held.has_ended());
    eventually("nobody comes in by the former authority", || ask(&tanaka) == Some(NOT_ADMITTED));
    ready.site.apply(policy);
    ready.site.assert_verified();
}

/// Has a session approved and works in it.
fn work(ready: &Ready, rota: &mut Rota, engineer: &Engineer<'_>) -> (SessionId, Held) {
    let mut asked = None;
    eventually("the authority is known at the door", || {
        asked = engineer.request("tcp");
        asked.is_some()
    });
    let session = asked.unwrap();
    let held = engineer.connect(&session, "tcp", PORT);
    assert!(!engineer.echoes(PORT), "nothing passes before the clinic's word");
    assert!(rota.approve(ready, &session));
    eventually("the session is open", || held.said().contains("\"open\""));
    eventually("a word comes back from the target", || engineer.echoes(PORT));
    (session, held)
}

/// How asking for a session ends.
fn ask(engineer: &Engineer<'_>) -> Option<i32> {
    engineer.run(&["--transport", "tcp", "request", SSH, "--purpose", "点検", "--for", "10m"]).code
}

fn row(ready: &Ready, session: &SessionId) -> Value {
    ready.site.run(&["--json", "session", "show", session.as_str()]).succeeded().json()
}

fn why(ready: &Ready, session: &SessionId) -> String {
    row(ready, session)["standing"]["why"].as_str().unwrap_or("it goes on").to_owned()
}

/// Where the vendors make their certificates.
struct Desk<'r> {
    ready: &'r Ready,
    directory: PathBuf,
}

impl<'r> Desk<'r> {
    fn new(ready: &'r Ready) -> Self {
        let directory = ready.site.files().join("desk");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("cnf"), EXTENSIONS).unwrap();
        fs::write(directory.join("index"), "").unwrap();
        fs::write(directory.join("serial"), "01").unwrap();
        let clinic = ready.site.run(&["vendor", "authority"]).succeeded().out;
        fs::write(directory.join("clinic.pem"), clinic).unwrap();
        Self { ready, directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        let out = command.args(arguments).current_dir(&self.directory).stdin(Stdio::null()).output().unwrap();
        assert!(out.status.success(), "openssl {arguments:?}: {out:?}");
    }

    fn key(&self, name: &str) -> String {
        let key = format!("{name}.key");
        self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
        key
    }

    fn authority(&self, name: &str) {
        let (key, subject, pem) = (self.key(name), format!("/CN={name}"), format!("{name}.pem"));
        let kind = ["req", "-x509", "-config", "cnf", "-extensions", "authority", "-days", "3650"];
        self.openssl(&[&kind[..], &["-new", "-key", &key, "-subj", &subject, "-out", &pem]].concat());
    }

    /// An engineer with a certificate that somebody signed, ready to knock.
    fn engineer(&self, issuer: &str, name: &str, common: &str, until: &str) -> Engineer<'r> {
        let (key, request, pem) = (self.key(name), format!("{name}.csr"), format!("{name}.pem"));
        let subject = format!("/CN={common}");
        self.openssl(&[
            "req", "-new", "-utf8", "-config", "cnf", "-key", &key, "-subj", &subject, "-out", &request,
        ]);
        let (by, with) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        let dates = ["-startdate", "20200101000000Z", "-enddate", until];
        let sign = ["ca", "-batch", "-utf8", "-notext", "-config", "cnf", "-extensions", "engineer"];
        let who = ["-cert", &by, "-keyfile", &with, "-in", &request, "-out", &pem];
        self.openssl(&[&sign[..], &dates, &who].concat());
        let chain = self.at(&format!("{name}.chain"));
        let read = |name: &str| fs::read_to_string(self.at(name)).unwrap();
        // What an engineer issued by one who may not shows: his own, that one's, and the authority's.
        let above = format!("{issuer}.chain");
        let above = if self.at(&above).exists() { read(&above) } else { read(&by) };
        fs::write(&chain, format!("{}{above}", read(&pem))).unwrap();
        self.adopted(name, &self.at(&key), &chain)
    }

    fn adopted(&self, name: &str, key: &Path, chain: &Path) -> Engineer<'r> {
        let engineer = Engineer::of_home(self.ready, HOST, &format!("own-{name}"));
        let (clinic, path) = (self.at("clinic.pem"), |path: &Path| path.to_str().unwrap().to_owned());
        let (key, chain, clinic) = (path(key), path(chain), path(&clinic));
        let files = ["--key", &key, "--chain", &chain, "--clinic", &clinic];
        engineer.run(&[&["adopt", "--gateway", DOORS[0]], &files[..]].concat()).succeeded();
        engineer
    }

    /// Gives the clinic certificates of authorities.
    fn hand_over(&self, ready: &Ready, names: &[&str]) {
        let directory = ready.site.files().join("authorities");
        fs::create_dir(&directory).unwrap();
        for name in names {
            fs::copy(self.at(&format!("{name}.pem")), directory.join(format!("{name}.pem"))).unwrap();
        }
    }
}
