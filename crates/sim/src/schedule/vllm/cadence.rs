//! May prompts be computed in this step? With an interval, only so many steps after the last one with prompts in it.

/// vLLM's local prefill cadence (v1/core/sched/scheduler.py:762-790 and 1602-1630, 0.33.0).
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    interval: u64,
    /// Steps that computed something.
    steps: u64,
    /// The last of them with a prompt in it; an interval before the first, so that the first may have one.
    last: i64,
    /// Whether the last step that was open to prompts left requests waiting: then nothing is held back.
    crowded: bool,
    defers: bool,
    prefilled: bool,
}

impl Cadence {
    pub fn new(interval: u32) -> Self {
        let last = -i64::from(interval);
        Cadence { interval: interval.into(), steps: 0, last, crowded: false, defers: false, prefilled: false }
    }

    /// Begins a step; `decodes` says whether some request only decodes.
    pub fn begin(&mut self, decodes: bool) {
        let since = self.steps as i64 + 1 - self.last;
        self.defers = self.interval > 1 && !self.crowded && since < self.interval as i64 && decodes;
        self.prefilled = false;
    }

    /// Whether prompts are held back in this step.
    pub const fn defers(&self) -> bool {
        self.defers
    }

    /// Notes that the step computes part of a prompt.
    pub fn prefilled(&mut self) {
        self.prefilled = true;
    }

    /// Notes that waiting requests had their turn and how many still wait.
    pub fn admitted(&mut self, waiting: usize) {
        if !self.defers {
            self.crowded = waiting > 0;
        }
    }

    /// Ends a step.
    pub fn end(&mut self, computed: bool) {
        self.steps += u64::from(computed);
        if self.prefilled {
            self.last = self.steps as i64;
        }
    }

    /// Passes over steps of pure decoding.
    pub fn skip(&mut self, steps: u32, waiting: usize) {
        self.steps += u64::from(steps);
        if steps > 0 && waiting == 0 {
            self.crowded = false;
        }
    }
}
