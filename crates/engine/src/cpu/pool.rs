//! Threads that share a list of tasks, quick enough for steps of a tenth of a millisecond: helpers spin for a moment
//! before they sleep, and one that wakes too late is not waited for. Invariant: which thread runs a task changes
//! nothing in its result, so results do not depend on the number of threads.
#![expect(unsafe_code, reason = "helper threads outlive the call whose borrowed closure they run")]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a helper looks for the next call before it sleeps: about what a trainer does between two steps.
const SPIN: Duration = Duration::from_micros(100);

/// What the threads of one call run, with the number of the thread.
type Work = &'static (dyn Fn(usize) + Sync);

/// What helpers and caller agree on under the lock.
#[derive(Default)]
struct State {
    /// The open call, until its caller has run out of tasks.
    work: Option<Work>,
    /// Helpers that the call can still use.
    wanted: usize,
    /// Helpers that are at it.
    active: usize,
    /// Helpers that joined so far.
    joined: usize,
    panic: Option<Box<dyn Any + Send>>,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Calls so far: what a spinning helper looks at.
    calls: AtomicUsize,
    /// Helpers at work, for a spinning caller to look at.
    active: AtomicUsize,
    call: Condvar,
    done: Condvar,
}

/// The threads of a device; the calling thread is one of them.
pub(super) struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Held by the call that uses the helpers; a second one at the same time does without.
    in_use: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("n_threads", &self.n_threads()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Life of a helper.
    fn help(&self) {
        let mut seen = 0;
        loop {
            self.spin(|| self.calls.load(Ordering::Acquire) != seen);
            let mut state = lock(&self.state);
            while self.calls.load(Ordering::Acquire) == seen && !state.closing {
                state = self.call.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closing {
                return;
            }
            seen = self.calls.load(Ordering::Acquire);
            let Some(work) = state.work.filter(|_| state.joined < state.wanted) else { continue };
            state.joined += 1;
            state.active += 1;
            let thread = state.joined;
            self.active.store(state.active, Ordering::Release);
            drop(state);
            let result = catch_unwind(AssertUnwindSafe(|| work(thread)));
            let mut state = lock(&self.state);
            state.active -= 1;
            if let Err(panic) = result {
                state.panic = Some(panic);
            }
            self.active.store(state.active, Ordering::Release);
            if state.active == 0 {
                self.done.notify_all();
            }
        }
    }

    /// Waits a moment for a condition.
    fn spin(&self, until: impl Fn() -> bool) {
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..32 {
                if until() {
                    return;
                }
                std::hint::spin_loop();
            }
        }
    }

    fn open(&self, work: Work, wanted: usize) {
        let mut state = lock(&self.state);
        (state.work, state.wanted, state.joined) = (Some(work), wanted, 0);
        self.calls.fetch_add(1, Ordering::Release);
        drop(state);
        self.call.notify_all();
    }

    /// Lets no more helpers in and waits for those at work.
    fn close(&self) -> Option<Box<dyn Any + Send>> {
        lock(&self.state).work = None;
        self.spin(|| self.active.load(Ordering::Acquire) == 0);
        let mut state = lock(&self.state);
        while state.active > 0 {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.panic.take()
    }
}

/// Closes the call, also when the caller's own share panics.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(panic) = self.0.close()
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}

impl Pool {
    /// A pool of `n_threads` in all, or as many as the system lets start.
    pub fn new(n_threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let start = |_| {
            let shared = shared.clone();
            std::thread::Builder::new().name("lwflow".into()).spawn(move || shared.help())
        };
        let helpers = (1..n_threads)
            .map(start)
            .map_while(|helper| {
                helper.map_err(|error| tracing::warn!(%error, "fewer threads than cores")).ok()
            })
            .collect();
        Self { shared, helpers, in_use: Mutex::new(()) }
    }

    /// Threads, the calling one included.
    pub fn n_threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Runs every task once, each thread with a workspace of its own.
    pub fn run<T: Send, W: Send>(&self, tasks: Vec<T>, workspaces: &mut [W], run: impl Fn(&mut W, T) + Sync) {
        let wanted = tasks.len().min(workspaces.len()).saturating_sub(1).min(self.helpers.len());
        let tasks = Mutex::new(tasks.into_iter());
        let workspaces: Vec<Mutex<&mut W>> = workspaces.iter_mut().map(Mutex::new).collect();
        let work = |thread: usize| {
            let Some(workspace) = workspaces.get(thread) else { return };
            let mut workspace = lock(workspace);
            loop {
                let task = lock(&tasks).next();
                let Some(task) = task else { return };
                run(&mut workspace, task);
            }
        };
        let in_use = self.in_use.try_lock();
        if wanted == 0 || in_use.is_err() {
            return work(0);
        }
        let work: &(dyn Fn(usize) + Sync) = &work;
        // SAFETY: helpers take the reference only while the call is open, and are counted as active until they have
        // returned from it. `open` closes the call and waits for them before this function returns or unwinds, so the
        // reference is not used after the end of its lifetime.
        let work_for_helpers = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Work>(work) };
        self.shared.open(work_for_helpers, wanted);
        let open = Open(&self.shared);
        work(0);
        drop(open);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).closing = true;
        self.shared.call.notify_all();
        for helper in self.helpers.drain(..) {
            // A helper ends without a panic: it catches those of its tasks.
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for n_threads in [1, 2, 5] {
            let pool = Pool::new(n_threads);
            assert_eq!(pool.n_threads(), n_threads);
            for n in [0, 1, 2, 3, 100, 1000] {
                let mut done = vec![0_u32; n];
                let mut counts = vec![0_usize; n_threads];
                let tasks = done.iter_mut().collect();
                pool.run(tasks, &mut counts, |count, task| {
                    *task += 1;
                    *count += 1;
                });
                assert!(done.iter().all(|&d| d == 1));
                assert_eq!(counts.iter().sum::<usize>(), n);
            }
        }
    }

    #[test]
    fn sleeping_helpers_wake_up() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            std::thread::sleep(10 * SPIN);
            // Two tasks that wait for each other need two threads.
            let barrier = std::sync::Barrier::new(2);
            pool.run(vec![(), ()], &mut [(), ()], |(), ()| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn two_calls_at_once_both_finish() {
        let pool = Pool::new(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..200 {
                        let sum = AtomicUsize::new(0);
                        pool.run((0..n).collect(), &mut [(); 3], |(), i: usize| {
                            sum.fetch_add(i + 1, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), n * (n + 1) / 2);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3);
        for bad in 0..20 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run((0..20).collect(), &mut [(); 3], |(), i: usize| {
                    assert!(i != bad, "expected in this test");
                });
            }));
            assert!(result.is_err());
            let sum = AtomicUsize::new(0);
            pool.run(vec![1, 2, 3], &mut [(); 3], |(), i: usize| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 6);
        }
    }
}
