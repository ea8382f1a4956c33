//! Section 4: real programs, and the reason why one of them cannot reach its server.
use anyhow::{Context, Result};
use lab::{Server, ServerKind};
use serde_json::Value;

use crate::{screen::Screen, site::Site};

/// What HTTP clients run with; the page of the lab's server names its host.
const CURL: [&str; 4] = ["-sS", "--noproxy", "*", "--max-time"];
/// Patience of a client that should be answered, and of one that should not.
const ANSWERED_S: &str = "10";
const REFUSED_S: &str = "2";
/// Kinds of denied packet that are shown.
const DENIALS_TOLD: usize = 4;

/// Runs them.
pub(crate) fn applications(screen: &mut Screen, site: &Site) -> Result<()> {
    screen.section(&screen.words.applications());
    // The policy speaks of port 443; what is spoken there is plain HTTP, since certificates are no matter here.
    let _web: Server = site.lab().serve("ehr-server", ServerKind::Http.on(443))?;
    dicom(screen, site)?;
    ssh(screen, site)?;
    web(screen, site)?;
    refused(screen, site)
}

fn dicom(screen: &mut Screen, site: &Site) -> Result<()> {
    let pacs = site.host("pacs")?.v4()?.to_string();
    let said = site.on(screen, "ct", "echoscu", &["-v", "-aet", "CT", "-aec", "PACS", &pacs, "104"])?;
    let answer = said.text().lines().find(|line| line.contains("Echo Response")).map(ToOwned::to_owned);
    screen.quote(&answer.unwrap_or_else(|| said.text()));
    Ok(screen.expect(said.ended(0), &screen.words.dicom())?)
}

fn ssh(screen: &mut Screen, site: &Site) -> Result<()> {
    let (key, server) = (site.lab().ssh_key()?, format!("root@{}", site.host("ehr-server")?.v6()?));
    let key = key.to_str().context("the key's path is not text")?;
    let options =
        ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"];
    let mut arguments = vec!["-F", "/dev/null", "-i", key];
    options.iter().for_each(|option| arguments.extend(["-o", option]));
    arguments.extend([server.as_str(), "printenv", "SSH_CONNECTION"]);
    screen.command(&format!("[admin] ssh {server} printenv SSH_CONNECTION"));
    let said = site.quietly_on("admin", "ssh", &arguments)?;
    screen.quote(&said.text());
    let words = screen.words;
    Ok(screen.expect(said.ended(0), &words.ssh(said.out.trim()))?)
}

fn web(screen: &mut Screen, site: &Site) -> Result<()> {
    let words = screen.words;
    let page = |said: &crate::site::Said| said.text().lines().next().unwrap_or_default().to_owned();
    let inside = format!("http://[{}]:443/", site.host("ehr-server")?.v6()?);
    let said = curl(screen, site, "reception", ANSWERED_S, &inside)?;
    screen.expect(said.ended(0) && said.out.contains("ehr-server"), &words.web(page(&said)))?;
    let outside = format!("http://{}/", site.host("web")?.v4()?);
    let said = curl(screen, site, "reception", ANSWERED_S, &outside)?;
    Ok(screen.expect(said.ended(0) && said.out.contains("web"), &words.outside(page(&said)))?)
}

fn refused(screen: &mut Screen, site: &Site) -> Result<()> {
    let words = screen.words;
    let url = format!("http://{}:443/", site.host("ehr-server")?.v4()?);
    let said = curl(screen, site, "phone", REFUSED_S, &url)?;
    screen.quote(&said.text());
    screen.expect(!said.ended(0) && said.out.is_empty(), &words.refused())?;
    let question = ["policy", "why", "device:phone", "device:ehr-server", "tcp/443"];
    let said = site.run(screen, &question)?;
    let json = site.ask(&[["--json"].as_slice(), &question].concat())?.json()?;
    let place = json.pointer("/answers/0/outcome/promise/place").and_then(Value::as_str).unwrap_or_default();
    let line = line_at(site, place).unwrap_or_default();
    screen.say(&words.own_line());
    screen.quote(&format!("{place}: {line}"));
    let named = said.ended(7) && said.text().contains(place) && line.contains("zone:guest -> zone:ehr");
    screen.expect(named, &words.why(place))?;
    denied(screen, site)
}

/// What the watch role saw of it, read from the kernel's log of denied packets.
fn denied(screen: &mut Screen, site: &Site) -> Result<()> {
    let [phone, records] =
        [site.host("phone")?.v4()?, site.host("ehr-server")?.v4()?].map(|v4| v4.to_string());
    screen.command(&format!("sekisho flows --denied | grep {phone}"));
    let said = site.ask(&["flows", "--denied"])?;
    let of_phone = said.out.lines().filter(|line| line.contains(&phone));
    let (ours, others): (Vec<_>, Vec<_>) = of_phone.partition(|line| line.contains(&records));
    let shown: Vec<_> = others.iter().chain(&ours).rev().take(DENIALS_TOLD).collect();
    shown.iter().rev().for_each(|line| screen.quote(line));
    let seen = said.ended(0) && ours.iter().any(|line| line.split_whitespace().any(|word| word == "443"));
    Ok(screen.expect(seen, &screen.words.denied())?)
}

fn curl(screen: &Screen, site: &Site, host: &str, patience: &str, url: &str) -> Result<crate::site::Said> {
    screen.command(&format!("[{host}] curl {url}"));
    site.quietly_on(host, "curl", &[CURL.as_slice(), &[patience, url]].concat())
}

/// Reads the line that `FILE:LINE` names.
fn line_at(site: &Site, place: &str) -> Option<String> {
    let (file, line) = place.rsplit_once(':')?;
    let number: usize = line.parse().ok()?;
    let text = site.read(file.rsplit('/').next()?).ok()?;
    text.lines().nth(number.checked_sub(1)?).map(ToOwned::to_owned)
}
