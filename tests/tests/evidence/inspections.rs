//! The service manager's part for `sekisho-inspect.socket`: one process for each connection, until the clinic ends. Here the
//! process is the real one without its unit, or, when inspection is broken on purpose, one that finds nothing.
use std::{
    fs,
    io::{ErrorKind, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

const POLL: Duration = Duration::from_millis(20);
/// Answers that any file may pass.
const BLIND: &str = "import hashlib, json, os, socket
asked = socket.socket(fileno=0)
_, files, _, _ = socket.recv_fds(asked, 8192, 1)
sha256 = hashlib.sha256(os.fdopen(files[0], 'rb').read()).hexdigest()
answer = {'sha256': sha256, 'verdict': 'allow', 'kinds': ['text'], 'findings': []}
asked.sendall((json.dumps(answer) + '\\n').encode())";

/// Serves inspections.
pub(crate) struct Inspections {
    is_over: Arc<AtomicBool>,
    is_blind: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Inspections {
    /// Listens in the directory that takes the place of `/run`.
    pub(crate) fn serve(runtime: &Path, program: PathBuf) -> Self {
        let directory = runtime.join("sekisho-inspect");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("inspect.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // On the box its group is that of the files role; in this directory nobody else is there to ask.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (is_over, is_blind) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (over, blind) = (Arc::clone(&is_over), Arc::clone(&is_blind));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((connection, _)) => {
                        connection.set_nonblocking(false).unwrap();
                        inspect(&program, connection.into(), blind.load(Ordering::Acquire));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Self { is_over, is_blind, thread: Some(thread) }
    }

    /// From now on everything passes, or nothing that should not.
    pub(crate) fn blind(&self, is_blind: bool) {
        self.is_blind.store(is_blind, Ordering::Release);
    }
}

impl Drop for Inspections {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn inspect(program: &Path, connection: OwnedFd, is_blind: bool) {
    let mut command = if is_blind { Command::new("python3") } else { Command::new(program) };
    if is_blind {
        command.args(["-c", BLIND])
    } else {
        command.arg("inspect")
    };
    let output = command.stdin(connection).stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    // One that ends badly has given no answer, which the files role takes for a refusal.
    let _ = std::io::stderr().write_all(&output.stderr);
}
