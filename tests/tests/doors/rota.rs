//! Persons enough to approve one session after the other: a code counts once, and none comes sooner than every 30 seconds.
use std::{fmt::Write as _, thread, time::Duration};

use gateway::wire::doors::SessionId;

use crate::ready::{self, Factor, Ready, enrol, present_step};

const PERSONS: usize = 8;

/// Who may approve, and the last step whose code was used.
pub(crate) struct Rota(Vec<(String, Factor, u64)>);

/// The policy with them; the first of them is enrolled by taro, each other by the one before.
pub(crate) fn policy() -> String {
    let policy = ready::policy();
    let (taro, admin) = (
        "name = \"山田 太郎\"\nroles = [\"clinic\"]",
        "name = \"山田 太郎\"\nroles = [\"clinic\", \"admin\"]",
    );
    let mut text = policy.replace(taro, admin);
    assert_ne!(text, policy);
    for number in 0..PERSONS {
        let _ = write!(
            text,
            "\n[person.p{number}]\nname = \"担当 {number}\"\nroles = [\"clinic\", \"admin\"]\n\
             second_factor = \"totp\"\n\
             identity = {{ confirmed = \"対面\", by = \"院長\", on = 2026-04-01 }}\nuntil = 2099-03-31\n"
        );
    }
    text
}

impl Rota {
    pub(crate) fn new(ready: &Ready) -> Self {
        let mut rota: Vec<(String, Factor, u64)> = Vec::new();
        for number in 0..PERSONS {
            let name = format!("p{number}");
            let by = match rota.last_mut() {
                None => ("taro".to_owned(), ready.taro.code(0)),
                Some((name, factor, used)) => {
                    let code = factor.code(0);
                    *used = present_step();
                    (name.clone(), code)
                }
            };
            let (factor, _) = enrol(&ready.site, &name, Some((by.0.as_str(), by.1)));
            rota.push((name, factor, present_step()));
        }
        Self(rota)
    }

    /// Approves a session, as whoever has a code that was not used; whether core took it.
    pub(crate) fn approve(&mut self, ready: &Ready, session: &SessionId) -> bool {
        loop {
            let now = present_step();
            if let Some((person, factor, used)) = self.0.iter_mut().min_by_key(|(_, _, used)| *used)
                && *used <= now
            {
                // That of the step after this one is good already.
                *used = now.max(*used + 1);
                return ready.approve(session, person, &factor.at(*used), &[]).code == Some(0);
            }
            thread::sleep(Duration::from_millis(500));
        }
    }
}
