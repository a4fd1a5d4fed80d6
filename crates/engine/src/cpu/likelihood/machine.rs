//! Runs a program's control flow on one block of theta: every lane goes its own way, the block takes each way that some
//! lane takes. Invariant: lanes that are not at work are never written by stores.

use std::sync::Arc;
use std::time::Instant;

use super::mask::Mask;
use super::ops::Run;
use super::{LANES, Level, Real};
use crate::wgsl::bytecode::{Bytecode, Function, Node, Reg};

/// When to give up.
#[derive(Debug)]
pub(super) struct Watch {
    deadline: Option<Instant>,
}

impl Watch {
    pub fn new(deadline: Option<Instant>) -> Self {
        Self { deadline }
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() > deadline)
    }
}

/// Loop turns between two looks at the watch.
const TURNS: u32 = 256;

/// One scalar of every lane.
pub(super) type Register<T> = Box<[T; LANES]>;

/// The registers of one thread.
#[derive(Debug)]
pub(super) struct Machine<F> {
    pub f: Vec<Register<F>>,
    pub i: Vec<Register<u32>>,
    pub spare_f: Register<F>,
    pub spare_i: Register<u32>,
    pub mask: Mask,
    pub data: Arc<[F]>,
    pub n_columns: usize,
    returned: Mask,
    continued: Mask,
    turns: u32,
}

/// The integer registers of an argument.
fn integers(argument: Option<&Vec<Reg>>) -> impl Iterator<Item = usize> {
    argument.into_iter().flatten().filter_map(|reg| match reg {
        Reg::I(at) => Some(*at as usize),
        Reg::F(_) => None,
    })
}

/// What every step of the control flow looks at.
struct Job<'a> {
    code: &'a Bytecode,
    level: Level,
    watch: &'a Watch,
}

impl<F: Real> Machine<F> {
    pub fn new(code: &Bytecode, data: Arc<[F]>, n_columns: usize) -> Self {
        let zero = || Box::new([F::of_f64(0.0); LANES]);
        let mut f: Vec<Register<F>> = (0..code.n_f).map(|_| zero()).collect();
        let mut i: Vec<Register<u32>> = (0..code.n_i).map(|_| Box::new([0; LANES])).collect();
        for (at, value) in &code.constants_f {
            f[*at as usize].fill(F::of_f64(*value));
        }
        for (at, value) in &code.constants_i {
            i[*at as usize].fill(*value);
        }
        Self {
            f,
            i,
            spare_f: zero(),
            spare_i: Box::new([0; LANES]),
            mask: Mask::all(),
            data,
            n_columns,
            returned: Mask::none(),
            continued: Mask::none(),
            turns: 0,
        }
    }

    /// log L `[n]` and derived quantities, `[n, M]` or none wanted, of up to [`LANES`] theta `[n, D]`; the rest of the block repeats the
    /// last. The error is the place of a loop that the watch ended.
    pub fn evaluate(
        &mut self,
        code: &Bytecode,
        level: Level,
        watch: &Watch,
        theta: &[F],
        log_likelihood: &mut [F],
        derived: &mut [F],
    ) -> Result<(), usize> {
        let job = Job { code, level, watch };
        self.mask = Mask::all();
        self.run(&job, code.prologue);
        let value = self.call(&job, code.entry, theta, log_likelihood.len())?;
        for (lane, out) in log_likelihood.iter_mut().enumerate() {
            *out = self.value(value.first(), lane);
        }
        if let Some(at) = code.derived.filter(|_| !derived.is_empty()) {
            let value = self.call(&job, at, theta, log_likelihood.len())?;
            for (lane, row) in derived.chunks_exact_mut(value.len().max(1)).enumerate() {
                for (out, reg) in row.iter_mut().zip(value) {
                    *out = self.value(Some(reg), lane);
                }
            }
        }
        Ok(())
    }

    /// x `[n, X]` of up to [`LANES`] theta `[n, D]` with one stream each, `[n]`; the rest of the block repeats the last. A row
    /// whose random numbers were asked for with senseless arguments begins with infinity.
    pub fn simulate(
        &mut self,
        code: &Bytecode,
        level: Level,
        watch: &Watch,
        streams: &[[u32; 4]],
        theta: &[F],
        x: &mut [F],
    ) -> Result<(), usize> {
        let job = Job { code, level, watch };
        self.mask = Mask::all();
        self.run(&job, code.prologue);
        // The fields of `Random`: the key, numbers drawn, whether there was a senseless argument.
        let stream: Vec<usize> = integers(code.functions[code.entry].arguments.get(1)).collect();
        for (field, at) in stream.iter().enumerate() {
            for (lane, value) in self.i[*at].iter_mut().enumerate() {
                *value = streams[lane.min(streams.len() - 1)].get(field).copied().unwrap_or(0);
            }
        }
        let value = self.call(&job, code.entry, theta, streams.len())?;
        let invalid = stream.last().map(|at| &self.i[*at]);
        for (lane, row) in x.chunks_exact_mut(value.len().max(1)).enumerate() {
            for (out, reg) in row.iter_mut().zip(value) {
                *out = self.value(Some(reg), lane);
            }
            if invalid.is_some_and(|lanes| lanes[lane] != 0) {
                row[0] = F::of_f64(f64::INFINITY);
            }
        }
        Ok(())
    }

    fn value(&self, reg: Option<&Reg>, lane: usize) -> F {
        match reg {
            Some(Reg::F(at)) => self.f[*at as usize][lane],
            _ => F::of_f64(0.0),
        }
    }

    /// Runs a function of theta. Returns the registers of its result.
    fn call<'a>(&mut self, job: &Job<'a>, at: usize, theta: &[F], n: usize) -> Result<&'a [Reg], usize> {
        let function: &'a Function = &job.code.functions[at];
        let argument = function.arguments.first().map_or(&[][..], Vec::as_slice);
        let dim = argument.len();
        for (j, reg) in argument.iter().enumerate() {
            let Reg::F(reg) = reg else { continue };
            for (lane, value) in self.f[*reg as usize].iter_mut().enumerate() {
                *value = theta[lane.min(n - 1) * dim + j];
            }
        }
        self.mask = Mask::all();
        self.returned.clear();
        self.continued.clear();
        self.block(job, &function.body)?;
        Ok(&function.result)
    }

    fn run(&mut self, job: &Job<'_>, range: (usize, usize)) {
        let ops = &job.code.ops[range.0..range.1];
        F::run(job.level, Run { machine: self, ops, tables: &job.code.tables });
    }

    fn block(&mut self, job: &Job<'_>, nodes: &[Node]) -> Result<(), usize> {
        for node in nodes {
            if !self.mask.any {
                return Ok(());
            }
            match node {
                Node::Run(begin, end) => self.run(job, (*begin, *end)),
                Node::If { condition, accept, reject } => {
                    let truth = &self.i[*condition as usize];
                    let accepting = self.mask.and(truth);
                    if !accepting.any {
                        self.block(job, reject)?;
                        continue;
                    }
                    let rejecting = self.mask.and_not(truth);
                    if !rejecting.any {
                        self.block(job, accept)?;
                        continue;
                    }
                    self.mask = accepting;
                    self.block(job, accept)?;
                    let after = std::mem::replace(&mut self.mask, rejecting);
                    self.block(job, reject)?;
                    self.mask.add(&after);
                }
                Node::Switch { selector, cases, default } => {
                    let entry = self.mask.clone();
                    let mut rest = entry.clone();
                    for case in cases {
                        let selector = &self.i[*selector as usize];
                        let mut chosen = [0; LANES];
                        for value in &case.values {
                            for l in 0..LANES {
                                chosen[l] |= if selector[l] == *value { u32::MAX } else { 0 };
                            }
                        }
                        let at_work = rest.and(&chosen);
                        if at_work.any {
                            rest = rest.and_not(&chosen);
                            self.mask = at_work;
                            self.block(job, &case.body)?;
                        }
                    }
                    if rest.any {
                        self.mask = rest;
                        self.block(job, default)?;
                    }
                    self.mask = entry.without(&self.returned).without(&self.continued);
                }
                Node::Loop { body, continuing, break_if, at } => {
                    self.turn(job, body, continuing, *break_if, *at)?;
                }
                Node::Break => self.mask.clear(),
                Node::Continue => {
                    self.continued.add(&self.mask);
                    self.mask.clear();
                }
                Node::Return => {
                    self.returned.add(&self.mask);
                    self.mask.clear();
                }
                Node::Call(at) => {
                    let mask = self.mask.clone();
                    let returned = std::mem::replace(&mut self.returned, Mask::none());
                    let continued = std::mem::replace(&mut self.continued, Mask::none());
                    self.block(job, &job.code.functions[*at].body)?;
                    self.mask = mask;
                    self.returned = returned;
                    self.continued = continued;
                }
            }
        }
        Ok(())
    }

    /// A loop until no lane is left in it.
    fn turn(
        &mut self,
        job: &Job<'_>,
        body: &[Node],
        continuing: &[Node],
        break_if: Option<u32>,
        at: usize,
    ) -> Result<(), usize> {
        let entry = self.mask.clone();
        let outer = std::mem::replace(&mut self.continued, Mask::none());
        loop {
            self.block(job, body)?;
            self.mask.add(&self.continued);
            self.continued.clear();
            if !self.mask.any {
                break;
            }
            self.block(job, continuing)?;
            if let Some(condition) = break_if {
                self.mask = self.mask.and_not(&self.i[condition as usize]);
                if !self.mask.any {
                    break;
                }
            }
            self.turns = self.turns.wrapping_add(1);
            if self.turns.is_multiple_of(TURNS) && job.watch.is_over() {
                return Err(at);
            }
        }
        self.continued = outer;
        self.mask = entry.without(&self.returned);
        Ok(())
    }
}
