//! One child process: what is written to it, what it answers, how long that may take, and how it ends. Invariant: no
//! child outlives its worker; it stands in a process group of its own, so that Ctrl-C at a terminal reaches it only as the
//! end of its input.

use super::protocol::Protocol;
use super::watcher::Watcher;
use super::{Answer, Launch};
use crate::HostError;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Last lines of a child's standard error that an error shows, and the most bytes of one.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: usize = 400;
/// Parameters that an error shows.
const SHOWN_THETA: usize = 32;
/// How long a child that has closed its output may take to end, or to end after its input has.
const GRACE: Duration = Duration::from_millis(1000);
const POLL: Duration = Duration::from_millis(5);

/// Every child that runs, for the end of the program.
static RUNNING: Mutex<Vec<Arc<Mutex<Child>>>> = Mutex::new(Vec::new());

/// Kills the children of every command likelihood at once: for a program that is about to end without dropping them.
pub fn kill_commands() {
    for child in lock(&RUNNING).iter() {
        kill(&mut lock(child));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills a child and, where there are process groups, what it has started.
fn kill(child: &mut Child) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    // It has not been waited for, so its number is still its own.
    #[cfg(unix)]
    if let Ok(id) = i32::try_from(child.id()) {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// What all questions have in common.
pub(super) struct Request<'a> {
    pub(super) dim: usize,
    pub(super) answer: &'a dyn Answer,
    pub(super) protocol: Protocol,
    pub(super) timeout: Duration,
}

/// The last lines of a child's standard error.
#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
    is_complete: bool,
}

/// A running child.
pub(super) struct Worker {
    child: Arc<Mutex<Child>>,
    /// Messages to its standard input; dropped, it ends.
    input: Option<Sender<Vec<u8>>>,
    /// Pieces of its standard output.
    output: Receiver<Vec<u8>>,
    /// Bytes of the output that no row has taken.
    rest: Vec<u8>,
    tail: Arc<Mutex<Tail>>,
    /// Ends the child if this program is killed.
    _watcher: Option<Watcher>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("id", &lock(&self.child).id()).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts the child and the threads that serve its pipes.
    ///
    /// # Errors
    /// [`HostError::Likelihood`] with what the system said.
    pub(super) fn start(launch: &Launch) -> Result<Self, HostError> {
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .current_dir(&launch.folder)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        #[cfg(windows)]
        {
            const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
            std::os::windows::process::CommandExt::creation_flags(&mut command, CREATE_NEW_PROCESS_GROUP);
        }
        let cannot = |e: std::io::Error| {
            let (program, folder) = (launch.program.display(), launch.folder.display());
            launch.error(format!("cannot start `{program}` in {folder}: {e}"))
        };
        let mut child = command.spawn().map_err(cannot)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let child = Arc::new(Mutex::new(child));
        lock(&RUNNING).push(Arc::clone(&child));
        let watcher = Watcher::of(lock(&child).id());
        let (input, messages) = channel::<Vec<u8>>();
        let (pieces, output) = channel();
        let tail = Arc::new(Mutex::new(Tail::default()));
        let kept = Arc::clone(&tail);
        // A child may answer while it is still being written to, so neither end may wait for the other.
        std::thread::spawn(move || write_all(stdin, &messages));
        std::thread::spawn(move || read_all(stdout, &pieces));
        std::thread::spawn(move || keep_tail(stderr, &kept));
        Ok(Self { child, input: Some(input), output, rest: Vec::new(), tail, _watcher: watcher })
    }

    /// Has `theta`, `[n, dim]`, evaluated and adds the answers, `[n, width]`, to `values`.
    ///
    /// # Errors
    /// What went wrong with the first row that has no legal answer; the rows before it have been added.
    pub(super) fn ask(
        &mut self,
        request: &Request<'_>,
        theta: &[f64],
        first: Option<u64>,
        values: &mut Vec<f64>,
    ) -> Result<(), String> {
        while let Ok(piece) = self.output.try_recv() {
            self.rest.extend(piece);
        }
        self.refuse_excess(request)?;
        let message = request.protocol.message(theta, request.dim, first);
        // If nobody takes it, the output has ended too and says so below.
        let _ = self.input.as_ref().map(|input| input.send(message));
        let mut taken = 0;
        for row in theta.chunks_exact(request.dim) {
            let start = values.len();
            let of = || format!("for theta = {}", show(row));
            loop {
                let step = request.protocol.take_row(&self.rest[taken..], request.answer, values);
                if let Some(n) = step.map_err(|problem| format!("{problem}, {}", of()))? {
                    taken += n;
                    break;
                }
                // What was taken is dropped before more is read, so that no row is moved more than once a piece.
                self.rest.drain(..std::mem::take(&mut taken));
                match self.output.recv_timeout(request.timeout) {
                    Ok(piece) => self.rest.extend(piece),
                    Err(error) => {
                        let rest = request.protocol.describe_rest(&self.rest, request.answer.width());
                        return Err(match error {
                            RecvTimeoutError::Timeout => {
                                let seconds = request.timeout.as_secs_f64();
                                format!(
                                    "gave no answer within {seconds} s {}{rest}{}",
                                    of(),
                                    self.last_words()
                                )
                            }
                            RecvTimeoutError::Disconnected => {
                                format!(
                                    "{} before it answered {}{rest}{}",
                                    self.ending(),
                                    of(),
                                    self.last_words()
                                )
                            }
                        });
                    }
                }
            }
            if let Err(problem) = request.answer.check(&values[start..]) {
                values.truncate(start);
                return Err(format!("{problem} {}", of()));
            }
        }
        self.rest.drain(..taken);
        self.refuse_excess(request)
    }

    /// Refuses output that nothing asked for: answers would be taken for those of other points.
    fn refuse_excess(&self, request: &Request<'_>) -> Result<(), String> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let rest = match request.protocol {
            Protocol::Binary => format!("{} bytes", self.rest.len()),
            Protocol::Csv => {
                format!("`{}`", String::from_utf8_lossy(&self.rest[..self.rest.len().min(80)]).trim_end())
            }
        };
        Err(format!(
            "wrote {rest} beyond the answers that were due, expected one row per theta and nothing else on standard output"
        ))
    }

    /// How the child ended, or that it only closed its output.
    fn ending(&self) -> String {
        match wait(&self.child, GRACE) {
            Some(status) => format!("ended ({status})"),
            None => "closed its standard output".to_owned(),
        }
    }

    /// The last lines of the child's standard error, once they are complete or a second has passed.
    fn last_words(&self) -> String {
        kill(&mut lock(&self.child));
        let end = Instant::now() + GRACE;
        while !lock(&self.tail).is_complete && Instant::now() < end {
            std::thread::sleep(POLL);
        }
        let tail = lock(&self.tail);
        if tail.lines.is_empty() {
            return "; it wrote nothing to standard error".to_owned();
        }
        let lines: Vec<&str> = tail.lines.iter().map(String::as_str).collect();
        format!("; the end of its standard error:\n{}", lines.join("\n"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input asks the child to end by itself.
        self.input = None;
        wait(&self.child, GRACE / 4);
        kill(&mut lock(&self.child));
        lock(&RUNNING).retain(|child| !Arc::ptr_eq(child, &self.child));
    }
}

/// Waits for the end of a child, at most so long.
fn wait(child: &Mutex<Child>, longest: Duration) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + longest;
    loop {
        match lock(child).try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => {}
            _ => return None,
        }
        std::thread::sleep(POLL);
    }
}

fn write_all(pipe: Option<impl Write>, messages: &Receiver<Vec<u8>>) {
    let Some(mut pipe) = pipe else { return };
    for message in messages {
        // A child that has gone is noticed at its output.
        if pipe.write_all(&message).and_then(|()| pipe.flush()).is_err() {
            return;
        }
    }
}

fn read_all(pipe: Option<impl Read>, pieces: &Sender<Vec<u8>>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 1 << 16];
    loop {
        match pipe.read(&mut buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(n) if n > 0 && pieces.send(buffer[..n].to_vec()).is_ok() => {}
            _ => return,
        }
    }
}

fn keep_tail(pipe: Option<impl Read>, kept: &Mutex<Tail>) {
    if let Some(pipe) = pipe {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A line without end is cut, so that no child fills the memory.
            match reader.by_ref().take(1 << 16).read_until(b'\n', &mut line) {
                Ok(n) if n > 0 => {}
                _ => break,
            }
            let text = String::from_utf8_lossy(&line[..line.len().min(TAIL_BYTES)]).trim_end().to_owned();
            let mut tail = lock(kept);
            tail.lines.push_back(text);
            if tail.lines.len() > TAIL_LINES {
                tail.lines.pop_front();
            }
        }
    }
    lock(kept).is_complete = true;
}

fn show(theta: &[f64]) -> String {
    if theta.len() <= SHOWN_THETA {
        return format!("{theta:?}");
    }
    let shown: Vec<String> = theta[..SHOWN_THETA].iter().map(|x| format!("{x:?}")).collect();
    format!("[{}, ... {} in all]", shown.join(", "), theta.len())
}
