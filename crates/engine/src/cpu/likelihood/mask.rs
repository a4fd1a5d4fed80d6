//! Which lanes of a block are at work. Invariant: `lanes` means something only where neither flag decides alone.

use super::LANES;

/// A set of lanes: all ones where a lane is in it.
#[derive(Debug, Clone)]
pub(super) struct Mask {
    pub lanes: [u32; LANES],
    /// Some lane is in it.
    pub any: bool,
    /// Every lane is in it.
    pub all: bool,
}

impl Mask {
    pub fn none() -> Self {
        Self { lanes: [0; LANES], any: false, all: false }
    }

    pub fn all() -> Self {
        Self { lanes: [u32::MAX; LANES], any: true, all: true }
    }

    pub fn clear(&mut self) {
        self.any = false;
        self.all = false;
    }

    fn of(lanes: [u32; LANES]) -> Self {
        let (mut or, mut and) = (0, u32::MAX);
        for lane in &lanes {
            or |= lane;
            and &= lane;
        }
        Self { lanes, any: or != 0, all: and != 0 }
    }

    /// Lanes at work for which `truth` holds.
    pub fn and(&self, truth: &[u32; LANES]) -> Self {
        match (self.any, self.all) {
            (false, _) => Self::none(),
            (_, true) => Self::of(*truth),
            _ => Self::of(std::array::from_fn(|l| self.lanes[l] & truth[l])),
        }
    }

    /// Lanes at work for which `truth` does not hold.
    pub fn and_not(&self, truth: &[u32; LANES]) -> Self {
        match (self.any, self.all) {
            (false, _) => Self::none(),
            (_, true) => Self::of(std::array::from_fn(|l| !truth[l])),
            _ => Self::of(std::array::from_fn(|l| self.lanes[l] & !truth[l])),
        }
    }

    pub fn without(&self, other: &Self) -> Self {
        match (other.any, other.all) {
            (false, _) => self.clone(),
            (_, true) => Self::none(),
            _ => self.and_not(&other.lanes),
        }
    }

    pub fn add(&mut self, other: &Self) {
        if !other.any || self.all {
            return;
        }
        if !self.any || other.all {
            *self = other.clone();
            return;
        }
        *self = Self::of(std::array::from_fn(|l| self.lanes[l] | other.lanes[l]));
    }
}
