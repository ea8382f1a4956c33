//! A person's second factor: enrolled as the admin does it, with codes by another program than Sekisho (oathtool).
use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{screen::Screen, site::Site};

/// RFC 6238: seconds of a step.
const STEP_S: i64 = 30;
/// No code is made so shortly before the end of its step, in seconds.
const MARGIN_S: i64 = 5;
/// The gateway's answer is longer than this only if it went wrong.
const OFFER_BYTES_MAX: usize = 64 * 1024;

/// The secret as an authenticator would keep it.
pub(crate) struct Factor(String);

impl Factor {
    /// Enrols the first person, whom root vouches for.
    pub(crate) fn enrol(screen: &Screen, site: &Site, person: &str) -> Result<Self> {
        screen.command(&format!("sekisho person enrol \"{person}\""));
        let mut command = site.sekisho(&["--json", "person", "enrol", person]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("cannot start sekisho")?;
        let mut input = child.stdin.take().context("no way to type")?;
        let mut output = child.stdout.take().context("no way to read")?;
        // The secret is shown before the first code is asked for.
        let offer: Value = serde_json::from_slice(&until_brace(&mut output)?)?;
        let secret = offer.get("secret").and_then(Value::as_str).context("no secret was shown")?;
        let factor = Self(secret.to_owned());
        // The code of the step before: the present one is then still good for an approval.
        writeln!(input, "{}", factor.code(-1)?)?;
        drop(input);
        output.read_to_end(&mut Vec::new())?;
        ensure!(child.wait()?.success(), "{person} cannot be enrolled");
        Ok(factor)
    }

    /// The code of the step so many after the present one; each counts once, and none after a later one.
    pub(crate) fn code(&self, step: i64) -> Result<String> {
        let into = Timestamp::now().as_second() % STEP_S;
        if into + MARGIN_S > STEP_S {
            thread::sleep(Duration::from_secs(u64::try_from(STEP_S - into)?));
        }
        let at = Timestamp::now() + SignedDuration::from_secs(step * STEP_S);
        let at = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        let output = Command::new("oathtool").args(["--totp", "-b", &self.0, "-N", &at]).output();
        let output = output.context("cannot start oathtool")?;
        ensure!(output.status.success(), "oathtool: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// The first value of what a program prints, up to the brace at the end of a line.
fn until_brace(output: &mut impl Read) -> Result<Vec<u8>> {
    let (mut shown, mut byte) = (Vec::new(), [0]);
    while !shown.ends_with(b"}\n") {
        let read = output.read(&mut byte)?;
        ensure!(read > 0 && shown.len() < OFFER_BYTES_MAX, "{}", String::from_utf8_lossy(&shown));
        shown.extend(byte);
    }
    Ok(shown)
}
