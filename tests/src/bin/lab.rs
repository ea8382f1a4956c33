//! `lab`: brings the clinic up to play with, and opens shells in its hosts.
use std::{
    env,
    io::{BufRead, IsTerminal, Write, stdin, stdout},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use lab::{LabBuilder, PLAYGROUND, Record, Spec, labs, reap};
use rustix::process::{Pid, Signal, kill_process};

/// How long `lab down` waits for a lab to be gone.
const DOWN_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A clinic, its gateway and the internet in network namespaces.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the clinic, start its servers, show it, and keep it until Ctrl-C.
    Up {
        /// Do not let the gateway forward; by default it forwards everything, with no firewall at all.
        #[arg(long)]
        no_forwarding: bool,
        /// Do not start the servers.
        #[arg(long)]
        no_servers: bool,
    },
    /// Open a shell in a host of the running lab, `gw` being the gateway.
    Shell {
        /// The host's name.
        host: String,
        /// Which lab, when several run (see `lab list`).
        #[arg(long)]
        lab: Option<String>,
    },
    /// Run a command in a host of the running lab.
    Exec {
        /// The host's name.
        host: String,
        /// Which lab, when several run (see `lab list`).
        #[arg(long)]
        lab: Option<String>,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// List the running labs and their hosts.
    List,
    /// End the running lab and remove what dead ones left behind.
    Down {
        /// Which lab, when several run (see `lab list`).
        #[arg(long)]
        lab: Option<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Action::Up { no_forwarding, no_servers } => up(!no_forwarding, !no_servers),
        Action::Shell { host, lab } => shell(&host, lab.as_deref()),
        Action::Exec { host, lab, command } => exec(&host, lab.as_deref(), &command),
        Action::List => list(),
        Action::Down { lab } => down(lab.as_deref()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("lab: {error:#}");
        ExitCode::FAILURE
    })
}

fn up(forwarding: bool, servers: bool) -> Result<ExitCode> {
    let started = Instant::now();
    let spec = Spec { name: PLAYGROUND.to_owned(), ..Spec::clinic() };
    let mut lab = LabBuilder::new(spec).forwarding(forwarding).build()?;
    if servers {
        lab.start_servers()?;
    }
    let (prefix, took_ms) = (lab.prefix().to_owned(), started.elapsed().as_millis());
    println!("{}", lab.picture());
    let ja = format!("診療所 {prefix} が {took_ms} ミリ秒で立ち上がりました。Ctrl-C で片付けます。");
    let en = format!("The clinic {prefix} is up after {took_ms} ms. Ctrl-C takes it down.");
    println!("{}", say(&ja, &en));
    let program = env::args().next().unwrap_or_else(|| "lab".to_owned());
    println!("{}", say("別の端末から:", "From another terminal:"));
    println!("  {program} shell HOST | exec HOST -- COMMAND | list | down");
    if stdin().is_terminal() {
        prompt(&find(Some(&prefix))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Whatever ends this process, the lab's warden takes the lab down.
    loop {
        thread::park();
    }
}

/// Opens a shell in each host that is named, until the input ends.
fn prompt(record: &Record) -> Result<()> {
    println!(
        "{}",
        say("ホスト名を入れるとそこでシェルが開きます。", "Type a host's name for a shell in it.")
    );
    let mut line = String::new();
    loop {
        print!("lab> ");
        stdout().flush()?;
        line.clear();
        if stdin().lock().read_line(&mut line)? == 0 {
            println!();
            return Ok(());
        }
        match line.trim() {
            "" => {}
            "quit" | "exit" => return Ok(()),
            host => match shell_command(record, host) {
                Ok(mut command) => drop(command.status().context("start a shell")?),
                Err(error) => eprintln!("{error:#}"),
            },
        }
    }
}

fn shell(host: &str, lab: Option<&str>) -> Result<ExitCode> {
    let status = shell_command(&find(lab)?, host)?.status().context("start a shell")?;
    Ok(exit_code(status.code()))
}

fn shell_command(record: &Record, host: &str) -> Result<Command> {
    let mut command = inside(record, host)?;
    // The user's own start files would replace the prompt, which says where one is.
    command.args(["bash", "--norc"]).env("PS1", format!("{host}:\\w# ")).env("SEKISHO_LAB_HOST", host);
    Ok(command)
}

fn exec(host: &str, lab: Option<&str>, words: &[String]) -> Result<ExitCode> {
    let status = inside(&find(lab)?, host)?.args(words).status().context("start the command")?;
    Ok(exit_code(status.code()))
}

fn list() -> Result<ExitCode> {
    let labs = running()?;
    if labs.is_empty() {
        println!("{}", say("動いているラボはありません。", "No lab is running."));
    }
    for Record { prefix, name, pid, namespaces, .. } in &labs {
        let hosts: Vec<_> = namespaces.keys().map(String::as_str).collect();
        println!("{prefix}  {name}  pid {pid}\n  {}", hosts.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}

fn down(lab: Option<&str>) -> Result<ExitCode> {
    let reaped = reap()?;
    if lab.is_none() && chosen(None)?.is_empty() {
        let ja = format!("動いているラボはありません（残骸 {} 件を片付けました）。", reaped.len());
        let en = format!("No lab is running; {} leftovers were removed.", reaped.len());
        println!("{}", say(&ja, &en));
        return Ok(ExitCode::SUCCESS);
    }
    let record = find(lab)?;
    let pid = i32::try_from(record.pid).ok().and_then(Pid::from_raw).context("the lab's owner has no pid")?;
    kill_process(pid, Signal::TERM).with_context(|| format!("cannot end process {}", record.pid))?;
    let deadline = Instant::now() + DOWN_LIMIT;
    while record.is_registered() {
        if Instant::now() > deadline {
            bail!("{} is still there after {} s", record.prefix, DOWN_LIMIT.as_secs());
        }
        thread::sleep(POLL);
    }
    let prefix = &record.prefix;
    println!("{}", say(&format!("{prefix} を片付けました。"), &format!("{prefix} is gone.")));
    Ok(ExitCode::SUCCESS)
}

/// Finds the lab of this prefix, or the one of `lab up`; several need a choice.
fn find(prefix: Option<&str>) -> Result<Record> {
    let mut labs = chosen(prefix)?;
    match (labs.pop(), labs.len(), prefix) {
        (Some(record), 0, _) => Ok(record),
        (Some(_), _, _) => bail!(say(
            "ラボが複数あります。--lab で選んでください。",
            "several labs run; choose one with --lab"
        )),
        (None, _, Some(prefix)) => bail!("no lab `{prefix}` runs; see `lab list`"),
        (None, _, None) => {
            bail!(say("ラボがありません。`lab up` で始めます。", "no lab runs; start one with `lab up`"))
        }
    }
}

fn chosen(prefix: Option<&str>) -> Result<Vec<Record>> {
    let mut labs = running()?;
    labs.retain(|record| prefix.map_or(record.name == PLAYGROUND, |prefix| prefix == record.prefix));
    Ok(labs)
}

fn running() -> Result<Vec<Record>> {
    Ok(labs()?.into_iter().filter(Record::is_owned).collect())
}

fn inside(record: &Record, host: &str) -> Result<Command> {
    let Some(namespace) = record.namespaces.get(host) else {
        let hosts: Vec<_> = record.namespaces.keys().map(String::as_str).collect();
        bail!("no host `{host}`; there are {}", hosts.join(", "));
    };
    if !rustix::process::geteuid().is_root() {
        bail!(say("root 権限が必要です。sudo で実行してください。", "this needs root; run it with sudo"));
    }
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]);
    Ok(command)
}

fn exit_code(code: Option<i32>) -> ExitCode {
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn say(ja: &str, en: &str) -> String {
    let japanese = ["LC_ALL", "LC_MESSAGES", "LANG"]
        .iter()
        .find_map(|name| env::var(name).ok().filter(|v| !v.is_empty()));
    if japanese.is_some_and(|language| language.starts_with("ja")) { ja.to_owned() } else { en.to_owned() }
}
