//! How much of what they may still generate do running requests need? SGLang's estimate, which falls while all goes well
//! (0.5.23, `scheduler_components/new_token_ratio_tracker.py`).

/// `SGLANG_INIT_NEW_TOKEN_RATIO`.
const START: f64 = 0.7;
/// `SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR`.
const FLOOR: f64 = 0.14;
/// `SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS`.
const STEPS: f64 = 600.0;

/// The estimate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    start: f64,
    floor: f64,
    fall: f64,
    pub now: f64,
}

impl Ratio {
    pub fn new(conservativeness: f64) -> Self {
        let start = (START * conservativeness).min(1.0);
        let floor = (start * FLOOR).min(1.0);
        Ratio { start, floor, fall: (start - floor) / STEPS, now: start }
    }

    /// After a decode step in which nobody lost its place.
    pub fn fall(&mut self) {
        self.now = (self.now - self.fall).max(self.floor);
    }

    /// When nothing is left to do.
    pub fn reset(&mut self) {
        self.now = self.start;
    }

    /// After somebody lost its place: by what the others generated of what they may.
    pub fn learn(&mut self, generated: u64, others: u64, most: u64) {
        self.now = ((generated + super::RETRACT_STEPS * others) as f64 / (most + 1) as f64).min(1.0);
    }
}
