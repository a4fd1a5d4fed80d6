//! Operations on all lanes of registers. Invariant: only stores and scatters depend on which lanes are at work; all
//! others write a register that nothing else reads in lanes that are not.

use super::super::simd::{Job, Simd};
use super::machine::{DataTable, Machine, Register};
use super::{LANES, Real, integer};
use crate::wgsl::bytecode::{Compare, F1, F2, FtoI, ItoF, Op, Table};

/// A run of operations.
pub(super) struct Run<'a, F> {
    pub machine: &'a mut Machine<F>,
    pub ops: &'a [Op],
    pub tables: &'a [u32],
}

impl<F: Real> Job for Run<'_, F> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.execute();
    }
}

#[inline(always)]
fn map1<T: Copy, U>(out: &mut [U; LANES], a: &[T; LANES], f: impl Fn(T) -> U) {
    for l in 0..LANES {
        out[l] = f(a[l]);
    }
}

#[inline(always)]
fn map2<T: Copy, V: Copy, U>(out: &mut [U; LANES], a: &[T; LANES], b: &[V; LANES], f: impl Fn(T, V) -> U) {
    for l in 0..LANES {
        out[l] = f(a[l], b[l]);
    }
}

/// The index that all lanes at work share, if they do.
#[inline(always)]
fn shared(index: &[u32; LANES], last: u32) -> Option<usize> {
    let first = index[0];
    let mut differs = 0;
    for lane in index {
        differs |= lane ^ first;
    }
    (differs == 0).then(|| first.min(last) as usize)
}

#[inline(always)]
fn gather<T: Copy>(out: &mut [T; LANES], registers: &[Register<T>], elements: &[u32], index: &[u32; LANES]) {
    let last = elements.len() as u32 - 1;
    match shared(index, last) {
        Some(at) => out.copy_from_slice(&registers[elements[at] as usize][..]),
        None => {
            for l in 0..LANES {
                out[l] = registers[elements[index[l].min(last) as usize] as usize][l];
            }
        }
    }
}

/// log(e^a + e^b), in steps that the compiler makes vectors of.
#[inline(always)]
fn log_add<F: Real>(out: &mut [F; LANES], a: &[F; LANES], b: &[F; LANES]) {
    map2(out, a, b, |x, y| -(x - y).abs());
    for l in 0..LANES {
        out[l] = out[l].exp();
    }
    for l in 0..LANES {
        out[l] = out[l].log_of_one_and();
    }
    for l in 0..LANES {
        let high = if a[l] < b[l] { b[l] } else { a[l] };
        out[l] = if high.is_finite() { high + out[l] } else { high };
    }
}

#[inline(always)]
fn mask(truth: bool) -> u32 {
    0u32.wrapping_sub(u32::from(truth))
}

impl<F: Real> Run<'_, F> {
    #[inline(always)]
    fn elements(&self, table: Table) -> &[u32] {
        &self.tables[table.begin as usize..(table.begin + table.len) as usize]
    }

    #[inline(always)]
    pub fn execute(mut self) {
        for op in self.ops {
            self.step(*op);
        }
    }

    #[inline(always)]
    fn step(&mut self, op: Op) {
        match op {
            Op::F1(f, d, a) => {
                self.f1(f, a);
                self.keep_f(d);
            }
            Op::F2(f, d, a, b) => {
                self.f2(f, a, b);
                self.keep_f(d);
            }
            Op::Compare(f, d, a, b) => {
                let m = &mut *self.machine;
                let (a, b, out) = (&m.f[a as usize], &m.f[b as usize], &mut m.spare_i);
                match f {
                    Compare::Eq => map2(out, a, b, |x, y| mask(x == y)),
                    Compare::Ne => map2(out, a, b, |x, y| mask(x != y)),
                    Compare::Lt => map2(out, a, b, |x, y| mask(x < y)),
                    Compare::Le => map2(out, a, b, |x, y| mask(x <= y)),
                }
                self.keep_i(d);
            }
            Op::I1(f, d, a) => {
                let m = &mut *self.machine;
                integer::one(f, &mut m.spare_i, &m.i[a as usize]);
                self.keep_i(d);
            }
            Op::I2(f, d, a, b) => {
                let m = &mut *self.machine;
                integer::two(f, &mut m.spare_i, &m.i[a as usize], &m.i[b as usize]);
                self.keep_i(d);
            }
            Op::FtoI(how, d, a) => {
                let m = &mut *self.machine;
                let (a, out) = (&m.f[a as usize], &mut m.spare_i);
                match how {
                    FtoI::ToI32 => map1(out, a, |x| x.to_i32().cast_unsigned()),
                    FtoI::ToU32 => map1(out, a, F::to_u32),
                    FtoI::NotZero => map1(out, a, |x| mask(x != F::of_f64(0.0))),
                    FtoI::IsFinite => map1(out, a, |x| mask(x.is_finite())),
                    FtoI::FrexpExponent => map1(out, a, |x| x.frexp().1.cast_unsigned()),
                    FtoI::Bits => map1(out, a, F::bits),
                }
                self.keep_i(d);
            }
            Op::ItoF(how, d, a) => {
                let m = &mut *self.machine;
                let (a, out) = (&m.i[a as usize], &mut m.spare_f);
                match how {
                    ItoF::OfI32 => map1(out, a, |x| F::of_i32(x.cast_signed())),
                    ItoF::OfU32 => map1(out, a, F::of_u32),
                    ItoF::OfBool => map1(out, a, |x| F::of_u32(x & 1)),
                    ItoF::Bits => map1(out, a, F::of_bits),
                }
                self.keep_f(d);
            }
            Op::Ldexp(d, a, n) => {
                let m = &mut *self.machine;
                map2(&mut m.spare_f, &m.f[a as usize], &m.i[n as usize], |x, n| x.ldexp(n.cast_signed()));
                self.keep_f(d);
            }
            Op::SelectF(d, c, a, b) => {
                let m = &mut *self.machine;
                let (c, a, b) = (&m.i[c as usize], &m.f[a as usize], &m.f[b as usize]);
                for l in 0..LANES {
                    m.spare_f[l] = if c[l] != 0 { a[l] } else { b[l] };
                }
                self.keep_f(d);
            }
            Op::SelectI(d, c, a, b) => {
                let m = &mut *self.machine;
                let (c, a, b) = (&m.i[c as usize], &m.i[a as usize], &m.i[b as usize]);
                for l in 0..LANES {
                    m.spare_i[l] = if c[l] != 0 { a[l] } else { b[l] };
                }
                self.keep_i(d);
            }
            Op::CopyF(d, s) => {
                let m = &mut *self.machine;
                m.spare_f.copy_from_slice(&m.f[s as usize][..]);
                self.keep_f(d);
            }
            Op::CopyI(d, s) => {
                let m = &mut *self.machine;
                m.spare_i.copy_from_slice(&m.i[s as usize][..]);
                self.keep_i(d);
            }
            Op::MoveF(d, s) if self.machine.mask.all => self.machine.f.swap(d as usize, s as usize),
            Op::MoveI(d, s) if self.machine.mask.all => self.machine.i.swap(d as usize, s as usize),
            Op::StoreF(d, s) | Op::MoveF(d, s) => {
                let m = &mut *self.machine;
                let (source, old) = (&m.f[s as usize], &m.f[d as usize]);
                if m.mask.all {
                    m.spare_f.copy_from_slice(&source[..]);
                } else {
                    for l in 0..LANES {
                        m.spare_f[l] = if m.mask.lanes[l] != 0 { source[l] } else { old[l] };
                    }
                }
                self.keep_f(d);
            }
            Op::StoreI(d, s) | Op::MoveI(d, s) => {
                let m = &mut *self.machine;
                let (source, old) = (&m.i[s as usize], &m.i[d as usize]);
                if m.mask.all {
                    m.spare_i.copy_from_slice(&source[..]);
                } else {
                    for l in 0..LANES {
                        m.spare_i[l] = if m.mask.lanes[l] != 0 { source[l] } else { old[l] };
                    }
                }
                self.keep_i(d);
            }
            Op::GatherF(d, table, index) => {
                let elements = &self.tables[table.begin as usize..(table.begin + table.len) as usize];
                let m = &mut *self.machine;
                gather(&mut m.spare_f, &m.f, elements, &m.i[index as usize]);
                self.keep_f(d);
            }
            Op::GatherI(d, table, index) => {
                let elements = &self.tables[table.begin as usize..(table.begin + table.len) as usize];
                let m = &mut *self.machine;
                gather(&mut m.spare_i, &m.i, elements, &m.i[index as usize]);
                self.keep_i(d);
            }
            Op::ScatterF(table, index, s) => {
                let last = table.len - 1;
                match shared(&self.machine.i[index as usize], last) {
                    Some(at) => {
                        let d = self.elements(table)[at];
                        self.step_store_f(d, s);
                    }
                    None => {
                        for l in 0..LANES {
                            if self.machine.mask.all || self.machine.mask.lanes[l] != 0 {
                                let at = self.machine.i[index as usize][l].min(last) as usize;
                                let d = self.elements(table)[at] as usize;
                                self.machine.f[d][l] = self.machine.f[s as usize][l];
                            }
                        }
                    }
                }
            }
            Op::ScatterI(table, index, s) => {
                let last = table.len - 1;
                for l in 0..LANES {
                    if self.machine.mask.all || self.machine.mask.lanes[l] != 0 {
                        let at = self.machine.i[index as usize][l].min(last) as usize;
                        let d = self.elements(table)[at] as usize;
                        self.machine.i[d][l] = self.machine.i[s as usize][l];
                    }
                }
            }
            Op::Data(d, row, column) => {
                self.data(row, column);
                self.keep_f(d);
            }
        }
    }

    fn step_store_f(&mut self, d: u32, s: u32) {
        let m = &mut *self.machine;
        for l in 0..LANES {
            let at_work = m.mask.all || m.mask.lanes[l] != 0;
            m.spare_f[l] = if at_work { m.f[s as usize][l] } else { m.f[d as usize][l] };
        }
        self.keep_f(d);
    }

    #[inline(always)]
    fn keep_f(&mut self, d: u32) {
        std::mem::swap(&mut self.machine.f[d as usize], &mut self.machine.spare_f);
    }

    #[inline(always)]
    fn keep_i(&mut self, d: u32) {
        std::mem::swap(&mut self.machine.i[d as usize], &mut self.machine.spare_i);
    }

    #[inline(always)]
    fn data(&mut self, row: u32, column: u32) {
        let m = &mut *self.machine;
        let (rows, columns) = (&m.i[row as usize], &m.i[column as usize]);
        let DataTable { values, n_rows, n_columns } = &*m.table;
        let (last_column, last_row) = (*n_columns as u32 - 1, *n_rows as u32 - 1);
        let at =
            |row: u32, column: u32| row.min(last_row) as usize * n_columns + column.min(last_column) as usize;
        let all = shared(rows, last_row).zip(shared(columns, last_column));
        match (all, &m.first) {
            (Some((row, column)), None) => m.spare_f.fill(values[row * n_columns + column]),
            (Some((row, column)), Some(first)) => {
                map1(&mut m.spare_f, first, |first| values[first + row * n_columns + column]);
            }
            (None, None) => map2(&mut m.spare_f, rows, columns, |row, column| values[at(row, column)]),
            (None, Some(first)) => {
                for l in 0..LANES {
                    m.spare_f[l] = values[first[l] + at(rows[l], columns[l])];
                }
            }
        }
    }

    #[inline(always)]
    fn f1(&mut self, f: F1, a: u32) {
        let m = &mut *self.machine;
        let (a, out) = (&m.f[a as usize], &mut m.spare_f);
        match f {
            F1::Neg => map1(out, a, |x| -x),
            F1::Abs => map1(out, a, F::abs),
            F1::Sign => map1(out, a, F::sign),
            F1::Ceil => map1(out, a, F::ceil),
            F1::Floor => map1(out, a, F::floor),
            F1::Round => map1(out, a, F::round),
            F1::Trunc => map1(out, a, F::trunc),
            F1::Fract => map1(out, a, |x| x - x.floor()),
            F1::Sqrt => map1(out, a, F::sqrt),
            F1::InverseSqrt => map1(out, a, |x| F::of_f64(1.0) / x.sqrt()),
            F1::Exp => map1(out, a, F::exp),
            F1::Exp2 => map1(out, a, F::exp2),
            F1::Log => map1(out, a, F::ln),
            F1::Log2 => map1(out, a, F::log2),
            F1::Sin => map1(out, a, F::sin),
            F1::Cos => map1(out, a, F::cos),
            F1::Tan => map1(out, a, F::tan),
            F1::Asin => map1(out, a, F::asin),
            F1::Acos => map1(out, a, F::acos),
            F1::Atan => map1(out, a, F::atan),
            F1::Sinh => map1(out, a, F::sinh),
            F1::Cosh => map1(out, a, F::cosh),
            F1::Tanh => map1(out, a, F::tanh),
            F1::Asinh => map1(out, a, F::asinh),
            F1::Acosh => map1(out, a, F::acosh),
            F1::Atanh => map1(out, a, F::atanh),
            F1::SafeExp => map1(out, a, F::safe_exp),
            F1::Erf => map1(out, a, F::erf),
            F1::Erfc => map1(out, a, F::erfc),
            F1::LogErfc => map1(out, a, F::log_erfc),
            F1::Lgamma => map1(out, a, F::lgamma),
            F1::FrexpFraction => map1(out, a, |x| x.frexp().0),
        }
    }

    #[inline(always)]
    fn f2(&mut self, f: F2, a: u32, b: u32) {
        let m = &mut *self.machine;
        let (a, b, out) = (&m.f[a as usize], &m.f[b as usize], &mut m.spare_f);
        match f {
            F2::Add => map2(out, a, b, |x, y| x + y),
            F2::Sub => map2(out, a, b, |x, y| x - y),
            F2::Mul => map2(out, a, b, |x, y| x * y),
            F2::Div => map2(out, a, b, |x, y| x / y),
            F2::Rem => map2(out, a, b, |x, y| x % y),
            F2::Min => map2(out, a, b, |x, y| if y < x { y } else { x }),
            F2::Max => map2(out, a, b, |x, y| if x < y { y } else { x }),
            F2::Atan2 => map2(out, a, b, F::atan2),
            F2::Pow => map2(out, a, b, F::power),
            F2::LogAdd => log_add(out, a, b),
        }
    }
}
