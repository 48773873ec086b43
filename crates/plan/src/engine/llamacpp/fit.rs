//! What does the engine change of itself so that the model fits? Context first, then layers, then experts.
//!
//! Source: llama.cpp 0c1e57098, `common/fit.cpp` (`common_params_fit_impl`).

use regex_lite::Regex;

use super::buffer::Where;
use super::layout::{Laid, Site, Trial};
use super::options::{GpuLayers, Options, SplitMode};
use super::weights::Override;

const MIB: i64 = 1 << 20;

/// Layers of one GPU while the engine tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    /// All its layers.
    layers: u64,
    /// Those of which experts lie elsewhere.
    partial: u64,
    /// What of the first partial one stays.
    kept: Kept,
}

/// What of a partial layer stays on the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kept {
    /// Attention.
    Attention,
    /// Attention and the up projection.
    Up,
    /// All but the down projection.
    Gate,
    /// All but the experts.
    #[default]
    Dense,
}

impl Share {
    fn full(self) -> u64 {
        self.layers.saturating_sub(self.partial)
    }
}

/// One fitting.
struct Fitting<'a> {
    site: &'a Site<'a>,
    options: &'a Options,
    trial: Trial,
    margins: Vec<i64>,
    /// Free memory of each GPU.
    free: Vec<i64>,
    notes: Vec<String>,
    /// Bytes that other models take on each GPU.
    beside: Vec<i64>,
}

/// Returns the trial as the engine changes it, with what it changed in words. `beside` is what drafting models take of
/// each GPU.
pub fn fit(site: &Site<'_>, options: &Options, trial: &Trial, beside: &[i64]) -> (Trial, Vec<String>) {
    if !options.fit.on || site.cards.is_empty() || options.split == SplitMode::Tensor {
        return (trial.clone(), Vec::new());
    }
    let target = |at: usize| options.fit.target.get(at).or(options.fit.target.last()).copied().unwrap_or(1024);
    let count = site.cards.len();
    let mut fitting = Fitting {
        site,
        options,
        trial: trial.clone(),
        margins: (0..count).map(|at| i64::try_from(target(at)).unwrap_or(i64::MAX / MIB).saturating_mul(MIB)).collect(),
        free: site.free.iter().map(|free| i64::try_from(free.bytes.get()).unwrap_or(i64::MAX)).collect(),
        notes: Vec::new(),
        beside: (0..count).map(|at| beside.get(at).copied().unwrap_or(0)).collect(),
    };
    fitting.run();
    (fitting.trial, fitting.notes)
}

impl Fitting<'_> {
    /// The memory of each GPU in a trial, as the engine's dry run reports it.
    fn memory(&self, trial: &Trial) -> Option<Vec<i64>> {
        let laid = self.site.lay(trial, true).ok()?;
        Some(self.sizes(&laid))
    }

    fn sizes(&self, laid: &Laid) -> Vec<i64> {
        let own = |at: usize| i64::try_from(laid.device(at).get()).unwrap_or(i64::MAX);
        (0..self.free.len()).map(|at| own(at).saturating_add(self.beside[at])).collect()
    }

    fn run(&mut self) {
        let auto = self.trial.asked.tokens.is_none();
        let streams = if self.trial.asked.unified { 1 } else { self.trial.asked.sequences.max(1) };
        let most = self.site.h.ctx_train.saturating_mul(streams).min(u64::from(u32::MAX));
        if auto {
            self.trial.asked.tokens = Some(most);
        }
        let Some(full) = self.memory(&self.trial) else { return };
        let short = full.iter().zip(&self.free).zip(&self.margins).any(|((used, free), margin)| free - used < *margin);
        if !short {
            return;
        }
        let surplus: i64 = (0..full.len()).map(|at| self.free[at] - full[at] - self.margins[at]).sum();
        if surplus < 0 && auto && !self.options.whole_context && self.cut_context(&full, most, streams) {
            return;
        }
        let refused = match (
            self.options.layers,
            !self.options.shares.iter().any(|share| *share > 0.0),
            self.trial.overrides.is_empty(),
        ) {
            (GpuLayers::All | GpuLayers::Exact(_), _, _) => Some("-ngl is given"),
            (GpuLayers::Auto, false, _) if self.free.len() > 1 => Some("--tensor-split is given"),
            (GpuLayers::Auto, _, false) => Some("tensor overrides are given"),
            (GpuLayers::Auto, _, true) if self.options.split == SplitMode::Row => Some("--split-mode is row"),
            (GpuLayers::Auto, _, true) => None,
        };
        match refused {
            Some(why) => self.notes.push(format!("llama.cpp moves no layers to fit because {why}")),
            None => self.move_layers(),
        }
    }

    /// Cuts the context by linear interpolation between its least and its most; true when that is the end.
    fn cut_context(&mut self, full: &[i64], most: u64, streams: u64) -> bool {
        let least = self.options.fit.context.saturating_mul(streams).min(u64::from(u32::MAX));
        if most <= least {
            return false;
        }
        let count = full.len() as i64;
        let mut target: i64 = self.free.iter().sum::<i64>() - self.margins.iter().sum::<i64>();
        let used: i64 = full.iter().sum();
        if count > 1 {
            let layers = self.site.h.main_layers().max(1) as i64;
            let model = self.site.place(&self.trial).sums;
            let on_gpus: u64 = (0..full.len()).map(|at| model.device(at)).fold(0, u64::saturating_add);
            let each = i64::try_from(on_gpus).unwrap_or(i64::MAX) / layers;
            target -= (count + 1).saturating_mul(each) / if self.site.h.experts == 0 { 2 } else { 6 };
        }
        self.trial.asked.tokens = Some(least);
        let Some(small) = self.memory(&self.trial).map(|memory| memory.iter().sum::<i64>()) else { return false };
        let (from, to) = (i128::from(least), i128::from(most));
        if target > small && used > small {
            let more = (to - from) * i128::from(target - small) / i128::from(used - small);
            let tokens = u64::try_from(from + more).unwrap_or(least);
            let align = 256 * streams;
            let tokens = (tokens - tokens % align).max(least);
            self.trial.asked.tokens = Some(tokens);
            self.notes
                .push(format!("llama.cpp cuts the context from {most} to {tokens} tokens so that the model fits"));
            return count <= 1;
        }
        self.notes.push(format!("llama.cpp cuts the context from {most} to {least} tokens, which is not enough"));
        false
    }

    /// A trial with these layers on the GPUs; partial ones leave experts to the next GPU or the host.
    fn with(&self, shares: &[Share], overflow: &[Where]) -> Trial {
        let mut trial = self.trial.clone();
        let all: u64 = shares.iter().map(|share| share.layers).sum();
        trial.layers = Some(all);
        if shares.len() > 1 {
            trial.shares = shares.iter().map(|share| share.layers as f32).collect();
        }
        let mut layer = (self.layers() + 1).saturating_sub(all);
        for (at, share) in shares.iter().enumerate() {
            layer += share.full();
            for partial in 0..share.partial {
                let first = partial == 0;
                let kept = if first { share.kept } else { Kept::Dense };
                let to = if first { overflow[at] } else { Where::Host };
                if let Ok(pattern) = Regex::new(&kept.pattern(layer)) {
                    trial.overrides.push(Override { pattern, to });
                }
                layer += 1;
            }
        }
        trial
    }

    /// Layers that can be moved, without the output.
    fn layers(&self) -> u64 {
        let h = &self.site.h;
        (if self.site.drafting { h.layers.len() } else { h.main_layers() }) as u64
    }

    fn move_layers(&mut self) {
        let count = self.free.len();
        let experts = self.site.h.experts > 0;
        let targets: Vec<i64> = (0..count).map(|at| self.free[at] - self.margins[at]).collect();
        let overflow = vec![Where::Host; count];
        let mut shares = vec![Share::default(); count];
        let surplus = if experts { self.surplus_without_experts() } else { 0 };
        let Some(mut memory) = self.memory(&self.with(&shares, &overflow)) else { return };
        for at in (0..count).rev() {
            let taken: u64 = shares[at + 1..].iter().map(|share| share.layers).sum();
            let left = (self.layers() + 1).saturating_sub(taken);
            self.fill(&mut shares, &mut memory, at, left, &targets);
        }
        let mut overflow = overflow;
        if experts && surplus > 0 {
            self.convert(&mut shares, &mut memory, &mut overflow, &targets);
        }
        let all: u64 = shares.iter().map(|share| share.layers).sum();
        let partial: u64 = shares.iter().map(|share| share.partial).sum();
        let total = self.layers() + 1;
        if all < total {
            self.notes.push(format!("llama.cpp puts {all} of {total} layers on the GPU so that the model fits"));
        }
        if partial > 0 {
            self.notes
                .push(format!("llama.cpp leaves experts of {partial} layers in host memory so that the rest fits"));
        }
        self.trial = self.with(&shares, &overflow);
    }

    /// What is left over all GPUs when every expert lies in host memory.
    fn surplus_without_experts(&self) -> i64 {
        let mut trial = self.trial.clone();
        trial.overrides.push(Override { pattern: super::options::experts_pattern().clone(), to: Where::Host });
        let Some(memory) = self.memory(&trial) else { return 0 };
        (0..memory.len()).map(|at| self.free[at] - memory[at] - self.margins[at]).sum()
    }

    /// Gives a GPU as many of the unassigned layers as fit, by false position; with experts, their dense parts only.
    fn fill(&self, shares: &mut Vec<Share>, memory: &mut Vec<i64>, at: usize, left: u64, targets: &[i64]) {
        let experts = self.site.h.experts > 0;
        let last = at + 1 == shares.len();
        let overflow = vec![Where::Host; shares.len()];
        let mut high = shares.clone();
        high[at].layers = left;
        if experts {
            high[at].partial = if last { left.saturating_sub(1) } else { left };
        }
        if left == 0 {
            return;
        }
        let Some(mut memory_high) = self.memory(&self.with(&high, &overflow)) else { return };
        if memory_high[at] <= targets[at] {
            (*shares, *memory) = (high, memory_high);
            return;
        }
        let mut delta = high[at].layers.saturating_sub(shares[at].layers);
        while delta > 1 {
            let step = step(delta, targets[at], memory[at], memory_high[at]);
            let mut test = shares.clone();
            test[at].layers += step;
            if experts {
                // The first of the last GPU is the output, which is never partial.
                let first = last && test[at].partial == 0;
                test[at].partial += if first { step - 1 } else { step };
            }
            let Some(memory_test) = self.memory(&self.with(&test, &overflow)) else { return };
            if memory_test[at] <= targets[at] {
                (*shares, *memory) = (test, memory_test);
            } else {
                (high, memory_high) = (test, memory_test);
            }
            delta = high[at].layers.saturating_sub(shares[at].layers);
        }
    }

    /// Turns dense-only layers into whole ones, front to back, and tries a part of one more on each GPU.
    fn convert(&self, shares: &mut Vec<Share>, memory: &mut Vec<i64>, overflow: &mut Vec<Where>, targets: &[i64]) {
        let count = shares.len();
        let mut start = (0..count).rev().take_while(|at| shares[*at].layers > 0).last().unwrap_or(count);
        let mut at = 0;
        while at <= start && start < count {
            let mut high = shares.clone();
            for from in start..count {
                let moved = if from + 1 < count { high[from].layers } else { high[from].layers.saturating_sub(1) };
                high[at].layers += moved;
                high[from].layers -= moved;
                high[from].partial = 0;
            }
            let Some(mut memory_high) = self.memory(&self.with(&high, overflow)) else { return };
            if memory_high[at] <= targets[at] {
                (*shares, *memory, start) = (high, memory_high, count - 1);
            } else {
                let mut delta = high[at].full().saturating_sub(shares[at].full());
                while delta > 1 {
                    let wanted = step(delta, targets[at], memory[at], memory_high[at]);
                    let (test, test_start) = converted(shares, at, start, wanted);
                    let Some(memory_test) = self.memory(&self.with(&test, overflow)) else { return };
                    if memory_test[at] <= targets[at] {
                        (*shares, *memory, start) = (test, memory_test, test_start);
                    } else {
                        (high, memory_high) = (test, memory_test);
                    }
                    delta = high[at].full().saturating_sub(shares[at].full());
                }
            }
            self.one_more(shares, memory, overflow, targets, (at, &mut start));
            at += 1;
        }
    }

    /// Tries a part of one more layer on a GPU, the rest of it on the next.
    fn one_more(
        &self,
        shares: &mut Vec<Share>,
        memory: &mut Vec<i64>,
        overflow: &mut Vec<Where>,
        targets: &[i64],
        (at, start): (usize, &mut usize),
    ) {
        let count = shares.len();
        let least = if at + 1 < count { 0 } else { 1 };
        if *start >= count || shares[*start].layers <= least || shares[*start].partial == 0 {
            return;
        }
        let mut test = shares.clone();
        test[*start].layers -= 1;
        test[*start].partial -= 1;
        test[at].layers += 1;
        test[at].partial += 1;
        let test_start = if test[*start].partial == 0 { *start + 1 } else { *start };
        let mut to = overflow.clone();
        if at + 1 < count {
            to[at] = Where::Device(u8::try_from(at + 1).unwrap_or(u8::MAX));
        }
        let mut fits = |kept: Kept| {
            test[at].kept = kept;
            let memory_test = self.memory(&self.with(&test, &to))?;
            let fits = memory_test[at] < targets[at] && (at + 1 == count || memory_test[at + 1] < targets[at + 1]);
            fits.then(|| (test.clone(), memory_test))
        };
        let found = match fits(Kept::Up) {
            Some(up) => Some(fits(Kept::Gate).unwrap_or(up)),
            None => fits(Kept::Attention),
        };
        if let Some((test, memory_test)) = found {
            (*shares, *memory, *overflow, *start) = (test, memory_test, to, test_start);
        }
    }
}

/// A step between what fits and what does not: where a line between both meets the target.
fn step(delta: u64, target: i64, low: i64, high: i64) -> u64 {
    let over = i128::from(delta) * i128::from(target - low) / i128::from((high - low).max(1));
    u64::try_from(over).unwrap_or(0).clamp(1, delta - 1)
}

/// Shares with `wanted` more whole layers on a GPU, taken from the dense-only ones of the GPUs from `start` on.
fn converted(shares: &[Share], at: usize, start: usize, wanted: u64) -> (Vec<Share>, usize) {
    let (mut test, mut start, mut done) = (shares.to_vec(), start, 0);
    while start < test.len() {
        let count = (wanted - done).min(test[start].partial);
        test[start].layers -= count;
        test[start].partial -= count;
        test[at].layers += count;
        done += count;
        if test[start].partial > 0 {
            break;
        }
        start += 1;
    }
    (test, start)
}

impl Kept {
    /// The tensors of a layer that do not stay.
    fn pattern(self, layer: u64) -> String {
        let inner = match self {
            Kept::Attention => r"\.ffn_(gate|up|gate_up|down).*",
            Kept::Up => r"\.ffn_(gate|gate_up|down).*",
            Kept::Gate => r"\.ffn_down.*",
            Kept::Dense => super::options::EXPERTS,
        };
        format!(r"blk\.{layer}{inner}")
    }
}
