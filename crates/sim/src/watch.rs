//! Who looks on together with whom? Pairs, and those who may be absent.

use std::ops::ControlFlow;

use plimsoll_units::Nanos;

use crate::{Holders, Idle, Requests, Rest, Slot, Step, Watch};

impl<A: Watch, B: Watch> Watch for (A, B) {
    fn wants_batches(&self) -> bool {
        self.0.wants_batches() || self.1.wants_batches()
    }

    fn begin(&mut self, total: Option<u64>) {
        self.0.begin(total);
        self.1.begin(total);
    }

    fn arrived(&mut self, requests: &Requests, slot: Slot, refused: Option<&str>) {
        self.0.arrived(requests, slot, refused);
        self.1.arrived(requests, slot, refused);
    }

    fn step(&mut self, step: &Step<'_>) {
        self.0.step(step);
        self.1.step(step);
    }

    fn rest(&mut self, rest: &Rest) {
        self.0.rest(rest);
        self.1.rest(rest);
    }

    fn gap(&mut self, gap: Nanos, count: u32) {
        self.0.gap(gap, count);
        self.1.gap(gap, count);
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        self.0.finished(requests, slot, now);
        self.1.finished(requests, slot, now);
    }

    fn proceed(&mut self, now: Nanos, steps: u64, finished: u64) -> ControlFlow<()> {
        self.0.proceed(now, steps, finished)?;
        self.1.proceed(now, steps, finished)
    }

    fn idle(&mut self, idle: &Idle) {
        self.0.idle(idle);
        self.1.idle(idle);
    }

    fn holders_at(&self) -> Nanos {
        self.0.holders_at().min(self.1.holders_at())
    }

    fn holders(&mut self, now: Nanos, holders: &Holders<'_>) {
        self.0.holders(now, holders);
        self.1.holders(now, holders);
    }
}

impl<W: Watch> Watch for Option<W> {
    fn wants_batches(&self) -> bool {
        self.as_ref().is_some_and(Watch::wants_batches)
    }

    fn begin(&mut self, total: Option<u64>) {
        if let Some(watch) = self {
            watch.begin(total);
        }
    }

    fn arrived(&mut self, requests: &Requests, slot: Slot, refused: Option<&str>) {
        if let Some(watch) = self {
            watch.arrived(requests, slot, refused);
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        if let Some(watch) = self {
            watch.step(step);
        }
    }

    fn rest(&mut self, rest: &Rest) {
        if let Some(watch) = self {
            watch.rest(rest);
        }
    }

    fn gap(&mut self, gap: Nanos, count: u32) {
        if let Some(watch) = self {
            watch.gap(gap, count);
        }
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        if let Some(watch) = self {
            watch.finished(requests, slot, now);
        }
    }

    fn proceed(&mut self, now: Nanos, steps: u64, finished: u64) -> ControlFlow<()> {
        self.as_mut().map_or(ControlFlow::Continue(()), |watch| watch.proceed(now, steps, finished))
    }

    fn idle(&mut self, idle: &Idle) {
        if let Some(watch) = self {
            watch.idle(idle);
        }
    }

    fn holders_at(&self) -> Nanos {
        self.as_ref().map_or(Nanos::MAX, Watch::holders_at)
    }

    fn holders(&mut self, now: Nanos, holders: &Holders<'_>) {
        if let Some(watch) = self {
            watch.holders(now, holders);
        }
    }
}

impl<W: Watch + ?Sized> Watch for &mut W {
    fn wants_batches(&self) -> bool {
        (**self).wants_batches()
    }

    fn begin(&mut self, total: Option<u64>) {
        (**self).begin(total);
    }

    fn rest(&mut self, rest: &Rest) {
        (**self).rest(rest);
    }

    fn arrived(&mut self, requests: &Requests, slot: Slot, refused: Option<&str>) {
        (**self).arrived(requests, slot, refused);
    }

    fn step(&mut self, step: &Step<'_>) {
        (**self).step(step);
    }

    fn gap(&mut self, gap: Nanos, count: u32) {
        (**self).gap(gap, count);
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        (**self).finished(requests, slot, now);
    }

    fn proceed(&mut self, now: Nanos, steps: u64, finished: u64) -> ControlFlow<()> {
        (**self).proceed(now, steps, finished)
    }

    fn idle(&mut self, idle: &Idle) {
        (**self).idle(idle);
    }

    fn holders_at(&self) -> Nanos {
        (**self).holders_at()
    }

    fn holders(&mut self, now: Nanos, holders: &Holders<'_>) {
        (**self).holders(now, holders);
    }
}
