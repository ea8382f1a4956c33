//! `--keep`: what to try in a clinic that is left running, and its end.
use std::{
    env,
    io::{IsTerminal, stdin},
    thread,
};

use anyhow::Result;

use crate::{
    prometheus,
    screen::{Screen, columns},
    site::{POLICY, Site},
};

/// Tells what can be tried, and waits for the end.
pub(crate) fn keep(screen: &mut Screen, site: &Site) -> Result<()> {
    let words = screen.words;
    site.thaw()?;
    screen.section(&words.keep_title());
    let mut rows = Vec::new();
    for host in site.lab().hosts() {
        let addresses: Vec<_> = host.addresses().map(|address| address.to_string()).collect();
        rows.push(vec![host.name().to_owned(), host.zone().to_owned(), addresses.join("  ")]);
    }
    screen.quote(&columns(&rows));
    let own = env::current_exe()?;
    let shell = format!("{} shell HOST --lab {}", own.with_file_name("lab").display(), site.lab().prefix());
    screen.say(&words.keep_shell());
    screen.command(&shell);
    screen.say(&words.keep_admin());
    screen.command(&format!("cd {}", site.files().display()));
    let sockets = site.sockets().map(|(name, path)| format!("{name}={}", path.display()));
    screen.command(&format!("export {}", sockets.join(" ")));
    screen.command(&format!("export PATH={}:$PATH", site.programs().display()));
    let apply = format!("apply {POLICY}");
    let about = ["status", "flows", "flows --denied", "verify", "controls", "audit list", "audit verify"];
    let commands = about.into_iter().chain(["flows --device ehr-server --since 10m", &apply]);
    commands.for_each(|command| screen.command(&format!("sekisho {command}")));
    if site.prometheus().is_ok() {
        screen.say(&words.keep_metrics());
        let query = "query=sekisho_control_state == 1";
        screen.command(&format!("[admin] curl -G {} --data-urlencode '{query}'", prometheus::QUERY));
    }
    screen.say(&words.keep_try());
    let (records, web) = (site.host("ehr-server")?, site.host("web")?);
    screen.command(&format!("[phone] curl -m 2 http://{}/", web.v4()?));
    screen.command(&format!("[phone] curl -m 2 http://{}/", records.v4()?));
    if stdin().is_terminal() {
        screen.say(&words.keep_end());
        stdin().read_line(&mut String::new())?;
        return Ok(());
    }
    screen.say(&words.keep_end_remote());
    // Whatever ends this process, the lab's warden takes the lab down.
    loop {
        thread::park();
    }
}
