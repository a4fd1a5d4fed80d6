//! Threads that share a list of tasks. Invariant: which thread runs a task changes nothing in its result, so results
//! do not depend on the number of threads.

use std::sync::{Mutex, PoisonError};

/// The threads of a device; the calling thread is one of them.
#[derive(Debug)]
pub(super) struct Pool {
    others: Option<rayon::ThreadPool>,
    n_threads: usize,
}

impl Pool {
    /// A pool of `n_threads` in all; of one if the system refuses to start more.
    pub fn new(n_threads: usize) -> Self {
        let build = || rayon::ThreadPoolBuilder::new().num_threads(n_threads - 1).build();
        let others = if n_threads > 1 {
            build().map_err(|error| tracing::warn!(%error, "no threads; running on one")).ok()
        } else {
            None
        };
        let n_threads = if others.is_some() { n_threads } else { 1 };
        Self { others, n_threads }
    }

    /// Threads, the calling one included.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Runs every task once, each thread with a workspace of its own.
    pub fn run<T: Send, W: Send>(&self, tasks: Vec<T>, workspaces: &mut [W], run: impl Fn(&mut W, T) + Sync) {
        let Some((own, rest)) = workspaces.split_first_mut() else { return };
        let n_others = rest.len().min(tasks.len().saturating_sub(1));
        let tasks = Mutex::new(tasks.into_iter());
        let work = |workspace: &mut W| {
            loop {
                let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(task) = task else { return };
                run(workspace, task);
            }
        };
        let work = &work;
        match &self.others {
            Some(others) if n_others > 0 => others.in_place_scope(|scope| {
                for workspace in &mut rest[..n_others] {
                    scope.spawn(move |_| work(workspace));
                }
                work(own);
            }),
            _ => work(own),
        }
    }
}
