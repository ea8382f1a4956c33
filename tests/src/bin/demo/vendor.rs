//! The vendor's engineer, far away: the vendor's program, and what it keeps.
use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use lab::Host;

use crate::{
    patience::until,
    screen::{Screen, typed},
    site::{Said, Site, finish},
};

/// The machine.
pub(crate) const HOST: &str = "vendor";
/// Where the gateway's door is.
const DOOR: &str = "203.0.113.2:8443";
/// What a forwarding says of itself.
const FORWARDING: &str = "vendor-connect.log";
/// The local port that leads to the target.
pub(crate) const LOCAL_PORT: &str = "2222";

/// One engineer.
pub(crate) struct Vendor<'a> {
    site: &'a Site,
    home: PathBuf,
}

/// A forwarding that runs until it is dropped.
pub(crate) struct Forwarding {
    child: Child,
    log: PathBuf,
}

impl<'a> Vendor<'a> {
    /// One who is not known yet.
    pub(crate) fn new(site: &'a Site, home: &str) -> Self {
        Self { site, home: site.files().join(home) }
    }

    fn host(&self) -> Result<&'a Host> {
        self.site.host(HOST)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let program = self.site.programs().join("sekisho-vendor");
        let mut command = self.host()?.command(program);
        command.arg("--home").arg(&self.home).args(arguments).current_dir(self.site.files());
        command.env("LC_ALL", self.site.words().locale());
        Ok(command)
    }

    /// Prints and runs the vendor's program.
    pub(crate) fn run(&self, screen: &Screen, arguments: &[&str]) -> Result<Said> {
        screen.command(&format!("[{HOST}] sekisho-vendor {}", typed(arguments)));
        let said = finish(self.command(arguments)?, None)?;
        screen.quote(&said.text());
        Ok(said)
    }

    /// Enrols with the clinic's code, once the door knows of it: seconds after it was made, sooner than one is handed over.
    pub(crate) fn enrol(&self, screen: &Screen, code: &str) -> Result<bool> {
        let arguments = ["enrol", "--gateway", DOOR];
        let enrolled = until(|| {
            let said = finish(self.command(&arguments)?, Some(code))?;
            Ok(said.ended(0).then_some(said))
        })?;
        let text = enrolled.as_ref().map(|(said, _)| said.text()).unwrap_or_default();
        screen.command(&format!("[{HOST}] sekisho-vendor {} # <<< {code}", typed(&arguments)));
        screen.quote(&text);
        Ok(enrolled.is_some())
    }

    /// Tries to enrol, with a code that may be none any more.
    pub(crate) fn try_to_enrol(&self, screen: &Screen, code: &str) -> Result<Said> {
        let arguments = ["enrol", "--gateway", DOOR];
        screen.command(&format!("[{HOST}] sekisho-vendor {} # <<< {code}", typed(&arguments)));
        let said = finish(self.command(&arguments)?, Some(code))?;
        screen.quote(&said.text());
        Ok(said)
    }

    /// Starts to forward a local port to the session's target, as soon as that is open.
    pub(crate) fn connect(&self, screen: &Screen, session: &str) -> Result<Forwarding> {
        let listen = format!("127.0.0.1:{LOCAL_PORT}");
        let arguments = ["connect", session, "--listen", &listen];
        screen.command(&format!("[{HOST}] sekisho-vendor {} &", typed(&arguments)));
        let log = self.site.files().join(FORWARDING);
        let output = File::create(&log)?;
        let mut command = self.command(&arguments)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context("cannot start sekisho-vendor")?;
        Ok(Forwarding { child, log })
    }

    /// Logs in at the local end of a forwarding; `words` are the command there.
    pub(crate) fn ssh(&self, screen: &Screen, words: &str) -> Result<Command> {
        screen.command(&format!("[{HOST}] ssh -p {LOCAL_PORT} root@127.0.0.1 '{words}'"));
        let mut command = self.host()?.command("ssh");
        command.args(["-F", "/dev/null", "-p", LOCAL_PORT, "-i"]).arg(self.site.lab().ssh_key()?);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "BatchMode=yes",
            "LogLevel=ERROR",
            "ConnectTimeout=5",
            "ServerAliveInterval=1",
            "ServerAliveCountMax=5",
        ] {
            command.args(["-o", option]);
        }
        command.args(["root@127.0.0.1", words]);
        Ok(command)
    }
}

impl Forwarding {
    /// All that it said.
    pub(crate) fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?.trim_end().to_owned())
    }

    /// Waits until it says this; whether it did.
    pub(crate) fn wait(&self, words: &[&str]) -> Result<bool> {
        let says = || -> Result<_> {
            let said = self.said()?;
            Ok(words.iter().any(|word| said.contains(word)).then_some(()))
        };
        Ok(until(says)?.is_some())
    }

    /// Waits for its end; its exit status, and how long that took.
    pub(crate) fn ended(&mut self) -> Result<Option<(Option<i32>, Duration)>> {
        let found = until(|| Ok(self.child.try_wait()?))?;
        Ok(found.map(|(status, took)| (status.code(), took)))
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
