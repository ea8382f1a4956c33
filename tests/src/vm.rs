//! A guest under QEMU with a kernel of its own choice, for what the host's kernel lacks (VLAN, flowtable, WireGuard).
//! It runs the given programs in order, brings back their exit codes and output, and leaves nothing behind.
//!
//! No privilege, disk, network or KVM is needed: the programs travel in the initial RAM file system, the results in a
//! serial line. Emulation is slow, so use it for what passes or not, never for how fast.

mod cpio;
mod error;
mod guest;
mod host;
mod kernel;
mod payload;
mod qemu;
mod report;

use std::path::PathBuf;
use std::time::Duration;

pub use error::VmError;
use guest::Guest;
pub use kernel::Kernel;
pub use payload::test_executables;
use qemu::Qemu;
pub use report::{ProgramResult, VmReport};

/// The most programs that one guest may run.
const PROGRAM_LIMIT: usize = 200;
/// How long a program may run in the guest unless the caller says otherwise.
const PROGRAM_TIME_LIMIT: Duration = Duration::from_mins(5);

/// How nice a guest is to what runs beside it (`nice`, 0 to 19): what it emulates passes or not, and others measure times.
/// Not nicer, for on a busy machine it would stand still for longer than the timers in it allow.
pub const GUEST_NICE: &str = "5";

/// A guest to be.
#[derive(Debug)]
#[must_use]
pub struct Vm {
    kernel: Kernel,
    files: Vec<(Source, String)>,
    programs: Vec<Program>,
}

/// Where a file of the guest comes from.
#[derive(Debug)]
enum Source {
    Host(PathBuf),
    Script(String),
    Tool { package: String },
}

/// A command that the guest runs.
#[derive(Debug)]
struct Program {
    name: String,
    argv: Vec<String>,
    limit: Duration,
}

impl Vm {
    /// Starts the description of a guest that has a shell, busybox, `ip` and `nft`.
    pub fn new(kernel: Kernel) -> Self {
        // Busybox's own shell takes its applets before any program, so it would never call the real `ip`.
        Self { kernel, files: Vec::new(), programs: Vec::new() }
            .tool("sh", "dash")
            .tool("ip", "iproute2")
            .tool("nft", "nftables")
    }

    /// Adds a program from the host's search path with its libraries; `package` is where to get it.
    pub fn tool(mut self, name: &str, package: &str) -> Self {
        self.files.push((Source::Tool { package: package.to_owned() }, name.to_owned()));
        self
    }

    /// Adds a file of the host at an absolute path of the guest; an executable brings its libraries.
    pub fn file(mut self, host_path: impl Into<PathBuf>, guest_path: &str) -> Self {
        self.files.push((Source::Host(host_path.into()), guest_path.to_owned()));
        self
    }

    /// Adds an executable script with the given text.
    pub fn script(mut self, text: &str, guest_path: &str) -> Self {
        self.files.push((Source::Script(text.to_owned()), guest_path.to_owned()));
        self
    }

    /// Runs a command after those before it, as root, for at most five minutes; its name is for the report.
    pub fn program(self, name: &str, argv: &[&str]) -> Self {
        self.program_within(PROGRAM_TIME_LIMIT, name, argv)
    }

    /// Runs a command as [`Vm::program`] does, but kills it after `limit`, in whole seconds.
    pub fn program_within(mut self, limit: Duration, name: &str, argv: &[&str]) -> Self {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        self.programs.push(Program { name: name.to_owned(), argv, limit });
        self
    }

    /// Boots the guest, waits until it powers off, and reads its report; it is killed when `limit` is over.
    pub fn run(self, limit: Duration) -> Result<VmReport, VmError> {
        self.check_programs()?;
        let directory = tempfile::tempdir().map_err(VmError::file(std::env::temp_dir()))?;
        let initrd = directory.path().join("initrd");
        let mut out =
            std::io::BufWriter::new(std::fs::File::create(&initrd).map_err(VmError::file(&initrd))?);
        self.archive()?.write(&mut out)?;
        out.into_inner().map_err(|error| VmError::file(&initrd)(error.into_error()))?;

        let qemu = Qemu::start(&self.kernel.image(), &initrd, directory.path())?;
        let (console, bytes) = qemu.finish(limit)?;
        match report::parse(&bytes) {
            Ok((release, results)) => Ok(VmReport { release, console, results }),
            Err(reason) => Err(VmError::Report { reason, console: host::tail(&console, 40) }),
        }
    }

    fn check_programs(&self) -> Result<(), VmError> {
        let bad = |name: &str, reason| Err(VmError::Name { name: name.to_owned(), reason });
        for (number, program) in self.programs.iter().enumerate() {
            let name = program.name.as_str();
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if number >= PROGRAM_LIMIT {
                return bad(name, "there are too many programs");
            }
            if name.is_empty() || name.len() > 64 || !name.bytes().all(known) {
                return bad(name, "a program's name has 1 to 64 letters, digits, `-`, `_` or `.`");
            }
            if self.programs.iter().take(number).any(|earlier| earlier.name == name) {
                return bad(name, "another program has the same name");
            }
            if program.argv.is_empty() {
                return bad(name, "it has no command");
            }
        }
        Ok(())
    }

    fn archive(&self) -> Result<cpio::Archive, VmError> {
        let mut guest = Guest::new()?;
        guest.modules(&self.kernel)?;
        guest.programs(&self.programs)?;
        for (source, name) in &self.files {
            match source {
                Source::Host(path) => guest.host_file(path, name)?,
                Source::Script(text) => guest.text(name, text, 0o755)?,
                Source::Tool { package } => guest.tool(name, package)?,
            }
        }
        guest.busybox()?;
        Ok(guest.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm() -> (tempfile::TempDir, Vm) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("release"), "6.1.0\n").unwrap();
        let vm = Vm::new(Kernel::at(directory.path()).unwrap());
        (directory, vm)
    }

    #[test]
    fn programs_that_the_report_could_not_carry_are_refused() {
        let long = "x".repeat(65);
        for name in ["", "two words", "line\nbreak", "../up", &long] {
            let (_directory, vm) = vm();
            let error = vm.program(name, &["true"]).run(Duration::ZERO).unwrap_err();
            assert!(matches!(error, VmError::Name { .. }), "{name}: {error}");
        }
        let (_directory, vm) = vm();
        let error =
            vm.program("twice", &["true"]).program("twice", &["true"]).run(Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("same name"), "{error}");
    }

    #[test]
    fn a_directory_without_a_kernel_is_a_clear_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = Kernel::at(directory.path()).unwrap_err().to_string();
        assert!(error.contains("release") && error.contains("No such file"), "{error}");
    }
}
