//! Persons who enrol an authenticator, and a vendor's engineer whose sessions they approve. The test takes edge's place at
//! `doors.sock` beside the real one; codes come from another program than ours (oathtool).
use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gateway::wire::doors::{DoorsAnswer, DoorsAsk, KeyId, SessionId, SessionState};
use serde_json::Value;
use transport::Invitation;

use crate::{
    daemon::{Said, Site},
    edge::{Edge, key, key_id},
};

/// Admins of the policy of these tests.
pub(crate) const HANAKO: &str = "hanako";
pub(crate) const ICHIRO: &str = "ichiro";
const VENDOR: &str = "acme-emr";
const ENGINEER: u8 = 1;
pub(crate) const TARGET: &str = "device:ehr-server:ssh";
const DURATION_S: u32 = 600;
/// How long a session may take to open or to end.
const TURN_LIMIT: Duration = Duration::from_secs(40);
/// RFC 6238: seconds of a step, and how shortly before its end no code is made.
const STEP_S: i64 = 30;
const MARGIN_S: i64 = 8;
/// A code that is six digits and no authenticator's of these tests, but for once in a million times.
const WRONG: &str = "000000";
/// Wrong codes until no code is taken for a while.
const WRONG_MAX: usize = 5;

/// An authenticator.
pub(crate) struct Factor {
    secret: String,
    /// The step of the last code that was shown: a code counts once, and none after a later one.
    last: i64,
}

impl Factor {
    /// The next code that counts, of the step before, the present one or the one after; waits where there is none yet.
    pub(crate) fn code(&mut self) -> String {
        let now = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        while now() % STEP_S > STEP_S - MARGIN_S || self.last > now() / STEP_S {
            thread::sleep(Duration::from_millis(200));
        }
        self.last = (self.last + 1).max(now() / STEP_S - 1);
        let at = jiff::Timestamp::from_second(self.last * STEP_S).unwrap();
        let time = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        let output =
            Command::new("oathtool").args(["--totp", "-b", &self.secret, "-N", &time]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Gives a person an authenticator as the command line does; `by` is an admin.
    pub(crate) fn enrol(site: &Site, person: &str, by: Option<(&str, &mut Factor)>) -> Self {
        let mut arguments = vec!["--json", "person", "enrol", person];
        arguments.extend(by.iter().flat_map(|(admin, _)| ["--by", admin]));
        let code = by.map(|(_, factor)| factor.code());
        let mut command = site.sekisho(&arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        code.iter().for_each(|code| writeln!(input, "{code}").unwrap());
        // The secret is shown before the first code is asked for: JSON up to its closing brace.
        let mut output = child.stdout.take().unwrap();
        let mut shown = Vec::new();
        while !shown.ends_with(b"}\n") {
            let mut byte = [0];
            if output.read(&mut byte).unwrap() == 0 {
                panic!("{:?}", child.wait_with_output().unwrap());
            }
            shown.push(byte[0]);
        }
        let offer: Value = serde_json::from_slice(&shown).unwrap();
        let mut factor = Self { secret: offer["secret"].as_str().unwrap().to_owned(), last: 0 };
        writeln!(input, "{}", factor.code()).unwrap();
        drop(input);
        output.read_to_string(&mut String::new()).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        factor
    }
}

/// Both admins.
pub(crate) struct Persons {
    pub(crate) hanako: Factor,
    pub(crate) ichiro: Factor,
}

impl Persons {
    pub(crate) fn enrol(site: &Site) -> Self {
        let mut hanako = Factor::enrol(site, HANAKO, None);
        let ichiro = Factor::enrol(site, ICHIRO, Some((HANAKO, &mut hanako)));
        Self { hanako, ichiro }
    }

    /// Somebody guesses at one of them, until no code is taken.
    pub(crate) fn lock_hanako(&self, site: &Site) {
        for _ in 0..WRONG_MAX {
            let said = with_input(site.sekisho(&["person", "remove", ICHIRO, "--by", HANAKO]), WRONG);
            assert_ne!(said.code, Some(0), "{said:?}");
        }
    }

    /// The other gives her a new one.
    pub(crate) fn give_hanako_another(&mut self, site: &Site) {
        let remove = site.sekisho(&["person", "remove", HANAKO, "--by", ICHIRO]);
        with_input(remove, &self.ichiro.code()).succeeded();
        self.hanako = Factor::enrol(site, HANAKO, Some((ICHIRO, &mut self.ichiro)));
    }
}

/// A vendor's engineer at the door.
pub(crate) struct Visitor {
    edge: Edge,
}

impl Visitor {
    /// Invited by the clinic, and enrolled; a second one takes the place of the first.
    pub(crate) fn enrol(site: &Site) -> Self {
        let mut edge = Edge::connect(&site.runtime().join("doors.sock"));
        let invited = site.run(&["--json", "vendor", "invite", VENDOR, "--engineer", "鈴木"]).succeeded();
        let code = Invitation::parse(invited.json()["code"].as_str().unwrap()).unwrap();
        let invitation = KeyId::of_spki(&code.spki());
        let enrolled = edge.ask(DoorsAsk::Enrol { invitation, key: key(ENGINEER) });
        assert!(matches!(enrolled, DoorsAnswer::Certificate { .. }), "{enrolled:?}");
        Self { edge }
    }

    /// Asks for a session.
    pub(crate) fn ask(&mut self) -> SessionId {
        let text = |text: &str| text.to_owned().try_into().unwrap();
        let (target, purpose) = (text(TARGET), text("サーバの更新"));
        let asked = self.edge.ask(DoorsAsk::Request {
            engineer: key_id(ENGINEER),
            vouched: None,
            target,
            purpose,
            duration_s: DURATION_S,
        });
        match asked {
            DoorsAnswer::Requested { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a session stands so; whoever follows is there.
    pub(crate) fn wait(&mut self, session: &SessionId, state: SessionState) {
        self.edge.wait(session, state, TURN_LIMIT);
    }

    /// A session that was approved and is open.
    pub(crate) fn open(&mut self, site: &Site, hanako: &mut Factor) -> SessionId {
        let session = self.ask();
        let approve = site.sekisho(&["session", "approve", session.as_str(), "--person", HANAKO]);
        with_input(approve, &hanako.code()).succeeded();
        self.wait(&session, SessionState::Open);
        session
    }
}

/// Runs a program with a line of input.
fn with_input(mut command: Command, line: &str) -> Said {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    Said::of(child.wait_with_output().unwrap())
}
