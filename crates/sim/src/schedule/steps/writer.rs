//! What does a simulation decide, while it runs? A watcher that hands on every step in the recorded form, and keeps none.

use super::Decision;
use crate::run::{Idle, Rest, Step, Watch};

/// Hands on every step as soon as it is over.
pub struct Writer<F: FnMut(&Decision)> {
    emit: F,
    joined: bool,
    next: u64,
    pending: Option<Decision>,
}

impl<F: FnMut(&Decision)> Writer<F> {
    /// Makes one that hands steps to `emit`. `joined` puts resumed requests behind the new ones, as vLLM from 0.31 on
    /// reports them.
    pub fn new(joined: bool, emit: F) -> Self {
        Writer { emit, joined, next: 0, pending: None }
    }

    /// Hands on the last step, and the empty one in which an engine says who ended.
    pub fn finish(mut self) {
        self.pause(0, 0);
    }

    fn pause(&mut self, waiting: usize, running: usize) {
        let Some(last) = self.flush() else { return };
        if !last.finished.is_empty() {
            let free_blocks = last.free_blocks;
            let step = self.next;
            (self.emit)(&Decision { step, free_blocks, waiting, running, ..Decision::default() });
            self.next += 1;
        }
    }

    fn flush(&mut self) -> Option<Decision> {
        let last = self.pending.take()?;
        (self.emit)(&last);
        Some(last)
    }
}

impl<F: FnMut(&Decision)> Watch for Writer<F> {
    fn wants_batches(&self) -> bool {
        true
    }

    fn step(&mut self, step: &Step<'_>) {
        self.flush();
        self.pending = Some(Decision::of(self.next, step.batch, step.finished, step.requests, self.joined));
        self.next += 1;
    }

    fn rest(&mut self, rest: &Rest) {
        if let Some(last) = &mut self.pending {
            last.free_blocks = rest.free_blocks.unwrap_or_default();
            (last.waiting, last.running) = (rest.waiting, rest.running);
        }
    }

    fn idle(&mut self, idle: &Idle) {
        self.pause(idle.waiting, idle.running);
    }
}
