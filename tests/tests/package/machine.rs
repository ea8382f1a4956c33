//! A guest with a disk, three lines with their far ends, and an agent: Debian booted by Debian's own kernel, emulated.
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lab::vm::GUEST_NICE;

/// Until the agent answers, and for one command: the machine may be shared, and everything is emulated.
const PATIENCE: Duration = Duration::from_mins(8);
const POLL: Duration = Duration::from_millis(100);
/// Longest output of a command.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// A running guest; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Machine {
    child: Child,
    agent: BufReader<UnixStream>,
    port: u16,
    console: std::path::PathBuf,
}

/// What a command in the guest ended with.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) output: String,
}

impl Machine {
    /// Boots what `disk.sh` made, with more words for the kernel's command line.
    pub(crate) fn boot(kernel: &Path, directory: &Path, words: &str) -> Self {
        let port = free_port();
        let [console, agent] = ["console", "agent"].map(|name| directory.join(name));
        let _ = fs::remove_file(&agent);
        let forward = format!("user,id=mgmt,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22");
        let mut command = Command::new("setpriv");
        command
            // The test runner may be killed without a chance to drop anything.
            .args(["--pdeathsig", "KILL", "--", "nice", "-n", GUEST_NICE, "qemu-system-x86_64"])
            .args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "1024"])
            .args(["-nodefaults", "-no-reboot", "-display", "none", "-device", "virtio-rng-pci"])
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-chardev", &format!("socket,id=agent,path={},server=on,wait=off", agent.display())])
            .args(["-serial", "chardev:agent"])
            .args(["-drive", &format!("file={},if=virtio,format=raw", directory.join("disk").display())])
            .arg("-kernel")
            .arg(kernel.join("vmlinuz"))
            .arg("-initrd")
            .arg(directory.join("initrd"))
            .args(["-append", &format!("console=ttyS0 loglevel=4 panic=-1 mitigations=off {words}")]);
        // Only `mgmt` leads anywhere, and only from this machine's loopback to the guest's port 22; the others to the far
        // ends of their lines, in the guest itself.
        let lines = [
            ("wan", "hubport,id=wan,hubid=1"),
            ("mgmt", &forward),
            ("staff", "hubport,id=staff,hubid=2"),
            ("outside", "hubport,id=outside,hubid=1"),
            ("inside", "hubport,id=inside,hubid=2"),
        ];
        for (number, (name, line)) in (1..).zip(lines) {
            let card = format!("virtio-net-pci,netdev={name},mac=52:54:00:00:00:0{number}");
            command.args(["-netdev", line, "-device", &card]);
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let agent = BufReader::new(connect(&agent));
        let mut machine = Machine { child, agent, port, console };
        while !machine.line().ends_with("READY") {}
        machine
    }

    /// Runs a line of shell as root.
    pub(crate) fn run(&mut self, line: &str) -> Ran {
        let begin = Instant::now();
        self.agent.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let answer = self.line();
        let mut words = answer.split(' ').skip(1);
        let code = words.next().unwrap().parse().unwrap();
        let size: usize = words.next().unwrap().parse().unwrap();
        assert!(size <= OUTPUT_BYTES_MAX, "`{line}` said {size} bytes");
        let mut output = vec![0; size];
        self.agent.read_exact(&mut output).unwrap();
        let output = String::from_utf8_lossy(&output).into_owned();
        println!("[{:.1} s] $ {line}  -> {code}\n{output}", begin.elapsed().as_secs_f32());
        Ran { code, output }
    }

    /// Runs a line that must succeed, and returns what it said.
    pub(crate) fn must(&mut self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "`{line}`: {}", ran.output);
        ran.output
    }

    /// Runs a line until it succeeds.
    pub(crate) fn until(&mut self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ran = self.run(line);
            if ran.code == 0 {
                return ran.output;
            }
            assert!(Instant::now() < deadline, "`{line}` never succeeded: {}", ran.output);
            thread::sleep(Duration::from_secs(2));
        }
    }

    /// Opens a session to the guest's port 22.
    pub(crate) fn session(&self) -> Session {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        Session { stream, sent: 0 }
    }

    /// Powers the guest off and waits until it has.
    pub(crate) fn power_off(mut self) {
        self.agent.get_mut().write_all(b"systemctl poweroff --no-wall\n").unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not power off:\n{}", self.last_words());
            thread::sleep(POLL);
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.agent.read_line(&mut line);
        let heard = read.as_ref().is_ok_and(|size| *size > 0);
        assert!(heard, "the agent is silent ({read:?}); the console ends with:\n{}", self.last_words());
        line.trim_end().to_owned()
    }

    fn last_words(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session over TCP, as an installer has one.
#[derive(Debug)]
pub(crate) struct Session {
    stream: TcpStream,
    sent: u32,
}

impl Session {
    /// Says something and reads it back; whether it came within the limit.
    pub(crate) fn lives(&mut self, limit: Duration) -> bool {
        self.sent += 1;
        let words = format!("line {}\n", self.sent);
        self.stream.set_read_timeout(Some(limit)).unwrap();
        if self.stream.write_all(words.as_bytes()).is_err() {
            return false;
        }
        // What was said while nothing passed comes first, and late.
        let mut reader = BufReader::new(&self.stream);
        let mut line = String::new();
        while matches!(reader.read_line(&mut line), Ok(size) if size > 0) {
            if line == words {
                return true;
            }
            line.clear();
        }
        false
    }
}

/// A port that nobody has at the moment.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn connect(path: &Path) -> UnixStream {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "QEMU does not answer: {error}"),
        }
        thread::sleep(POLL);
    }
}
