//! The last steps between a lab and a role's program, taken by `lab-launch` in the role's own process, as systemd
//! takes them: directories put in their places, descriptors closed, seccomp filters put in force.
//!
//! Contract: whatever fails ends the process with systemd's exit status for it (systemd.exec(5)); the program never
//! runs with less than was asked for.
use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use nix::unistd::close;
use seccompiler::{BpfProgram, apply_filter, sock_filter};

use crate::{Lab, LabError, namespace::finished, registry::lock};

/// The program's name; it lies beside the program or the test that builds a lab.
pub(crate) const LAUNCHER: &str = "lab-launch";
/// Shows directories at other places to what follows: pairs of here and there, up to `--`.
const PLACES: &str = "places";
/// Confines what follows by the filters in a file.
const CONFINED: &str = "confined";
const REST: &str = "--";
/// The first descriptor that a role does not get from systemd (sd_listen_fds(3)).
const FIRST_DESCRIPTOR: i32 = 3;
const EXIT_EXEC: u8 = 203;
const EXIT_NAMESPACE: u8 = 226;
const EXIT_SECCOMP: u8 = 228;

/// Is `lab-launch`: becomes the program that its arguments name.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut words = arguments.skip(1);
    let mode = words.next().unwrap_or_default();
    let prepared = match mode.to_str() {
        Some(PLACES) => show_places(&mut words).map_err(|error| (EXIT_NAMESPACE, error)),
        Some(CONFINED) => confine(&words.next().unwrap_or_default()).map_err(|error| (EXIT_SECCOMP, error)),
        _ => Err((EXIT_EXEC, format!("unknown mode `{}`; this is a part of the lab", mode.display()))),
    };
    let (status, error) = match prepared {
        Ok(()) => (EXIT_EXEC, become_program(words)),
        Err((status, error)) => (status, error),
    };
    eprintln!("{LAUNCHER}: {error}");
    ExitCode::from(status)
}

/// Gives the launcher's arguments that show directories at other places to the program that follows.
pub(crate) fn places(pairs: &[(PathBuf, PathBuf)]) -> Vec<OsString> {
    let pairs = pairs.iter().flat_map(|(here, there)| [here.into(), there.into()]);
    std::iter::once(PLACES.into()).chain(pairs).chain([REST.into()]).collect()
}

/// Writes the filters where any role can read them and gives the launcher's arguments that put them in force.
pub(crate) fn confined(programs: &[BpfProgram], file: &Path) -> Result<[OsString; 2], LabError> {
    fs::write(file, encode(programs)).map_err(LabError::io(format!("write {}", file.display())))?;
    Ok([CONFINED.into(), file.into()])
}

/// Finds the launcher where the roles' users can run it, copying it if need be.
pub(crate) fn launcher(lab: &Lab) -> Result<PathBuf, LabError> {
    let own = env::current_exe().map_err(LabError::io("find this program"))?;
    // A test lies one directory deeper than the programs.
    let built = own.ancestors().skip(1).take(2).map(|directory| directory.join(LAUNCHER));
    let built = built.into_iter().find(|path| path.exists()).ok_or_else(|| {
        let near = own.display();
        LabError::Impossible(format!(
            "`{LAUNCHER}` is not beside {near}; `cargo build -p tests --bins` makes it"
        ))
    })?;
    let passable = |path: &Path| fs::metadata(path).is_ok_and(|found| found.mode() & 0o001 != 0);
    if built.ancestors().all(passable) {
        return Ok(built);
    }
    let copy = lab.directory().join(LAUNCHER);
    let lock = lock()?;
    if !copy.exists() {
        // By a process of its own: a child that another thread starts would keep the file open for writing.
        let mut install = Command::new("install");
        install.args(["-m", "755"]).args([&built, &copy]);
        finished(install)?;
    }
    drop(lock);
    Ok(copy)
}

/// Mounts in the mount namespace that `ip netns exec` has made for this process.
fn show_places(words: &mut impl Iterator<Item = OsString>) -> Result<(), String> {
    while let Some(here) = words.next().filter(|word| word != REST) {
        let there = words.next().ok_or("a place without another")?;
        let there = Path::new(&there);
        fs::create_dir_all(there).map_err(|error| format!("cannot make {}: {error}", there.display()))?;
        let mut mount = Command::new("mount");
        mount.arg("--bind").arg(here).arg(there);
        finished(mount).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn confine(file: &OsString) -> Result<(), String> {
    let text =
        fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let programs = decode(&text).ok_or_else(|| format!("{} holds no filters", file.display()))?;
    close_inherited().map_err(|error| format!("cannot list the descriptors: {error}"))?;
    programs.iter().try_for_each(|program| apply_filter(program)).map_err(|error| error.to_string())
}

/// Closes what this process inherited unasked.
fn close_inherited() -> std::io::Result<()> {
    let entries = fs::read_dir("/proc/self/fd")?;
    let open: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor >= FIRST_DESCRIPTOR) {
        // The one that listed the others is gone already.
        let _ = close(descriptor);
    }
    Ok(())
}

/// Returns only when the program cannot be run.
fn become_program(mut words: impl Iterator<Item = OsString>) -> String {
    let program = words.next().unwrap_or_default();
    let error = Command::new(&program).args(words).exec();
    format!("cannot run {}: {error}", program.display())
}

/// Writes an instruction a line, and an empty line behind each program.
fn encode(programs: &[BpfProgram]) -> String {
    let line = |sock_filter { code, jt, jf, k }: &sock_filter| format!("{code} {jt} {jf} {k}\n");
    programs.iter().map(|program| program.iter().map(line).collect::<String>() + "\n").collect()
}

fn decode(text: &str) -> Option<Vec<BpfProgram>> {
    let programs = text.split_terminator("\n\n");
    programs.map(|program| program.lines().map(instruction).collect()).collect()
}

fn instruction(line: &str) -> Option<sock_filter> {
    let mut words = line.split(' ');
    let (code, jt, jf, k) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (code, jt) = (code.parse().ok()?, jt.parse().ok()?);
    Some(sock_filter { code, jt, jf: jf.parse().ok()?, k: k.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_survive_the_file() {
        let one = vec![sock_filter { code: 32, jt: 0, jf: 255, k: u32::MAX }; 3];
        let programs = vec![one.clone(), one[..1].to_vec()];
        assert_eq!(decode(&encode(&programs)).unwrap(), programs);
        assert_eq!(decode(&encode(&[])).unwrap(), Vec::<BpfProgram>::new());
        assert_eq!(decode("32 0 0\n\n"), None);
        assert_eq!(decode("32 0 0 x\n\n"), None);
    }
}
