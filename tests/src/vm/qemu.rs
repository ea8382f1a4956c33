//! One QEMU process: started under full emulation (no KVM is needed), watched, and killed when nobody waits for it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::GUEST_NICE;
use super::error::VmError;
use super::host;

/// The guest's memory; it must hold the initial file system twice while that is unpacked. The host gives what is used.
const MEMORY_MIB: u32 = 1024;
/// The most that a guest may write to one serial line.
const SERIAL_LIMIT_BYTES: u64 = 64 << 20;
/// How often the process and its files are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// A running guest; dropping it kills it.
#[derive(Debug)]
pub(super) struct Qemu {
    child: Child,
    console: PathBuf,
    report: PathBuf,
    errors: PathBuf,
}

impl Qemu {
    /// Starts a guest without network or disk; its two serial lines are files in `directory`.
    pub(super) fn start(kernel: &Path, initrd: &Path, directory: &Path) -> Result<Self, VmError> {
        let qemu = host::find("qemu-system-x86_64", "qemu-system-x86")?;
        let [console, report, errors] = ["console", "report", "errors"].map(|name| directory.join(name));
        let stderr = std::fs::File::create(&errors).map_err(VmError::file(&errors))?;
        let child = Command::new(host::find("setpriv", "util-linux")?)
            // The test runner may be killed without a chance to drop anything.
            .args(["--pdeathsig", "KILL", "--", "nice", "-n", GUEST_NICE])
            .arg(&qemu)
            .args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2"])
            .args(["-m", &MEMORY_MIB.to_string(), "-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-serial")
            .arg(serial(&console))
            .arg("-serial")
            .arg(serial(&report))
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(VmError::file(qemu))?;
        Ok(Self { child, console, report, errors })
    }

    /// Waits until the guest powers itself off and returns its console and its report.
    pub(super) fn finish(mut self, limit: Duration) -> Result<(String, Vec<u8>), VmError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().map_err(VmError::file("qemu-system-x86_64"))? {
                return self.collect(status);
            }
            if size_bytes(&self.console).max(size_bytes(&self.report)) > SERIAL_LIMIT_BYTES {
                return Err(VmError::Flood { limit_bytes: SERIAL_LIMIT_BYTES, console: self.console_end() });
            }
            if Instant::now() > deadline {
                return Err(VmError::Timeout { limit, console: self.console_end() });
            }
            std::thread::sleep(WATCH_INTERVAL);
        }
    }

    fn collect(&self, status: ExitStatus) -> Result<(String, Vec<u8>), VmError> {
        if !status.success() {
            let errors = std::fs::read(&self.errors).unwrap_or_default();
            let reason = format!("{status}\n{}", host::tail(&String::from_utf8_lossy(&errors), 20));
            return Err(VmError::Command { command: "qemu-system-x86_64".to_owned(), reason });
        }
        let report = std::fs::read(&self.report).map_err(VmError::file(&self.report))?;
        Ok((self.console_text(), report))
    }

    fn console_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    fn console_end(&self) -> String {
        host::tail(&self.console_text(), 40)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serial(path: &Path) -> String {
    format!("file:{}", path.display())
}

fn size_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::Kernel;

    /// Starts a kernel with an empty initial file system, unless QEMU is left out of this run.
    fn start(directory: &Path) -> Option<Qemu> {
        if std::env::var_os("SEKISHO_SKIP_QEMU").is_some_and(|value| value == "1") {
            eprintln!("SKIPPED: SEKISHO_SKIP_QEMU=1 is set");
            return None;
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let kernel = Kernel::fetched(workspace).unwrap_or_else(|error| panic!("{error}"));
        let initrd = directory.join("initrd");
        std::fs::write(&initrd, "").unwrap();
        Some(Qemu::start(&kernel.image(), &initrd, directory).unwrap_or_else(|error| panic!("{error}")))
    }

    fn is_running(directory: &Path) -> bool {
        let wanted = directory.as_os_str().as_encoded_bytes();
        std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            command.windows(wanted.len()).any(|window| window == wanted)
        })
    }

    #[test]
    fn a_guest_that_takes_too_long_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let Some(qemu) = start(directory.path()) else { return };
        // A process that is just being replaced by the program it starts has no command line for a moment.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_running(directory.path()) {
            assert!(Instant::now() < deadline, "QEMU never ran");
            std::thread::sleep(Duration::from_millis(10));
        }
        let error = qemu.finish(Duration::ZERO).unwrap_err();
        assert!(matches!(error, VmError::Timeout { .. }), "{error}");
        assert!(!is_running(directory.path()));
    }

    #[test]
    fn a_kernel_that_panics_ends_the_guest_and_leaves_its_words() {
        let directory = tempfile::tempdir().unwrap();
        let Some(qemu) = start(directory.path()) else { return };
        let (console, report) = qemu.finish(Duration::from_mins(10)).unwrap();
        assert!(console.contains("Kernel panic"), "{console}");
        assert!(super::super::report::parse(&report).is_err());
    }
}
