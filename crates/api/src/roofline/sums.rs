//! What does a step come to? Sums over its operators: work, roofs, predicted time and its parts.

use plimsoll_cost::{Basis, Bound, Family, Hardware, Math, Operator, Predicted, Predictor, Shape, bound};

/// Sums over the operators of one step, or of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Operations by [`Math`].
    pub(super) flops: [f64; 4],
    /// Bytes read from the card's memory.
    pub(super) read: f64,
    /// Bytes written to it.
    pub(super) written: f64,
    /// Bytes sent to other cards.
    pub(super) sent: f64,
    /// Seconds with each operator at its own roof.
    pub(super) ideal: f64,
    /// Predicted seconds of kernels by [`Family`].
    pub(super) families: [f64; 6],
    /// Predicted seconds of kernels by [`Basis`].
    pub(super) bases: [f64; 4],
    /// Predicted seconds of kernels by [`Bound`].
    pub(super) bounds: [f64; 4],
    /// Predicted seconds in which the last stage of a pipeline waits for the first piece of a prompt.
    pub(super) waiting: f64,
    /// Predicted seconds beside the kernels.
    pub(super) overhead: f64,
    /// Predicted seconds.
    pub(super) seconds: f64,
    /// Their tenth percentile.
    pub(super) low: f64,
    /// Their ninetieth percentile.
    pub(super) high: f64,
}

impl Sums {
    /// Sums a step up.
    pub(super) fn of(predictor: &mut Predictor, shape: &Shape) -> Sums {
        let mut sums = Sums::default();
        for operator in predictor.inventory.operators(shape) {
            let timed = predictor.kernels.time(&operator.kernel, &operator.work);
            sums.add(&predictor.kernels.hardware, &operator, timed.seconds, timed.basis);
        }
        let Predicted { seconds, low, high, overhead, .. } = predictor.predict(shape);
        Sums { seconds, low, high, overhead, ..sums }
    }

    /// Sums a step of prompts up on one of `stages` stages: a step goes through them as one piece, not as micro-batches, and
    /// the next one follows a stage behind.
    ///
    /// As many copies of the step as there are stages are as many micro-batches; one of them is what a stage does in a step.
    pub(super) fn of_piece(predictor: &mut Predictor, shape: &Shape, stages: u32) -> Sums {
        if stages <= 1 {
            return Sums::of(predictor, shape);
        }
        let mut copies = Shape { sampled: shape.sampled.saturating_mul(stages), ..Shape::default() };
        for _ in 0..stages {
            copies.chunks.extend_from_slice(&shape.chunks);
        }
        copies.decodes = shape.decodes.saturating_mul(stages);
        copies.decode_context = shape.decode_context.saturating_mul(u64::from(stages));
        copies.decode_windowed = shape.decode_windowed.saturating_mul(u64::from(stages));
        let mut sums = Sums::of(predictor, &copies);
        let share = 1.0 / f64::from(stages);
        sums.scale(share);
        sums
    }

    fn scale(&mut self, by: f64) {
        let Sums { flops, read, written, sent, ideal, families, bases, bounds, waiting, overhead, seconds, low, high } =
            self;
        let lists: [&mut [f64]; 4] = [flops, families, bases, bounds];
        lists.into_iter().flatten().for_each(|value| *value *= by);
        for value in [read, written, sent, ideal, waiting, overhead, seconds, low, high] {
            *value *= by;
        }
    }

    /// Adds what a pipeline's last stage waits until the piece that takes these sums has come to it.
    pub(super) fn wait(&mut self, stages: u32, piece: &Sums) {
        let others = f64::from(stages.saturating_sub(1));
        self.waiting += others * piece.seconds;
        self.seconds += others * piece.seconds;
        self.low += others * piece.low;
        self.high += others * piece.high;
        self.ideal += others * piece.ideal;
    }

    fn add(&mut self, card: &Hardware, operator: &Operator, seconds: f64, basis: Basis) {
        let Operator { runs, kernel, work, .. } = operator;
        let roofs = card.roofs(operator);
        self.flops[work.math as usize] += runs * work.flops;
        self.read += runs * work.read;
        self.written += runs * work.written;
        self.sent += runs * bound::sent(kernel);
        self.ideal += runs * roofs.ideal();
        self.families[kernel.family() as usize] += runs * seconds;
        self.bases[basis as usize] += runs * seconds;
        self.bounds[roofs.bound(seconds) as usize] += runs * seconds;
    }

    /// Adds another step's.
    pub(super) fn plus(&mut self, other: &Sums) {
        let pairs = [
            (&mut self.flops[..], &other.flops[..]),
            (&mut self.families[..], &other.families[..]),
            (&mut self.bases[..], &other.bases[..]),
            (&mut self.bounds[..], &other.bounds[..]),
        ];
        for (mine, theirs) in pairs {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
        let Sums { read, written, sent, ideal, waiting, overhead, seconds, low, high, .. } = other;
        self.read += read;
        self.written += written;
        self.sent += sent;
        self.ideal += ideal;
        self.waiting += waiting;
        self.overhead += overhead;
        self.seconds += seconds;
        self.low += low;
        self.high += high;
    }

    /// Returns all operations.
    pub(super) fn all_flops(&self) -> f64 {
        self.flops.iter().sum()
    }

    /// Returns the bytes of the card's memory.
    pub(super) fn bytes(&self) -> f64 {
        self.read + self.written
    }

    /// Returns operations per byte.
    pub(super) fn intensity(&self) -> f64 {
        ratio(self.all_flops(), self.bytes())
    }

    /// Returns the seconds of all arithmetic at the peaks, and of all bytes at the bandwidth.
    pub(super) fn roofs(&self, card: &Hardware) -> (f64, f64) {
        let compute = Math::ALL.iter().zip(self.flops).map(|(math, flops)| flops / card.peak(*math)).sum();
        (compute, self.bytes() / card.bandwidth)
    }

    /// Returns what holds most of the kernels' time back.
    pub(super) fn bound(&self) -> Bound {
        let most = Bound::ALL.into_iter().max_by(|a, b| {
            let of = |bound: &Bound| self.bounds[*bound as usize];
            // Of equals the first.
            of(a).total_cmp(&of(b)).then((*b as usize).cmp(&(*a as usize)))
        });
        most.unwrap_or(Bound::Memory)
    }
}

/// A part of a whole; nothing of nothing.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// What products and attention of one step do at the roofs: for the questions where one outgrows the other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sides {
    /// Seconds of arithmetic of products and experts.
    pub(super) products_compute: f64,
    /// Seconds of their bytes.
    pub(super) products_memory: f64,
    /// Bytes that they read.
    pub(super) products_read: f64,
    /// Seconds of products and experts, each at its own roof.
    pub(super) products: f64,
    /// Bytes that attention reads.
    pub(super) attention_read: f64,
    /// Seconds of attention, each at its own roof.
    pub(super) attention: f64,
}

impl Sides {
    /// Sums a step up.
    pub(super) fn of(predictor: &Predictor, shape: &Shape) -> Sides {
        let mut sides = Sides::default();
        let card = &predictor.kernels.hardware;
        for operator in predictor.inventory.operators(shape) {
            let (runs, roofs) = (operator.runs, card.roofs(&operator));
            match operator.kernel.family() {
                Family::Gemm | Family::Moe => {
                    sides.products_compute += runs * roofs.compute;
                    sides.products_memory += runs * roofs.memory;
                    sides.products_read += runs * operator.work.read;
                    sides.products += runs * roofs.ideal();
                }
                Family::Attention => {
                    sides.attention_read += runs * operator.work.read;
                    sides.attention += runs * roofs.ideal();
                }
                Family::Recurrent | Family::Stream | Family::Collective => {}
            }
        }
        sides
    }
}
