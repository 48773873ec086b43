//! What do a step's parts cost for one launch? From the inventory, the plan and the card to coefficients.

use std::collections::BTreeMap;

use plimsoll_facts::gpu::Gpu;
use plimsoll_facts::model::{AttentionKind, Ffn, Mixer, Model, Span};
use plimsoll_facts::quant::Scheme;
use plimsoll_facts::tensor::{DType, Part, Role, Tensor};
use plimsoll_plan::{Batching, Item, Ledger, Plan};

use super::{Attention, Coefficients, Experts, Knobs, Link, MBU, MFU, OVERHEAD, Roofline};
use crate::Error;

/// Collectives: seconds that an all-reduce takes whatever its size, and per step of the ring, by link, for small messages
/// (LL) and large ones (Simple); of small messages a quarter of the bandwidth is data.
///
/// NCCL, commit 01afd20a, `src/graph/tuning.cc`, `baseLat`, `hwLat` and the refinements of the bus bandwidth.
const NCCL_BASE: [f64; 2] = [3.6e-6, 8.4e-6];
const NCCL_NVLINK: [f64; 2] = [0.47e-6, 3.4e-6];
const NCCL_PCIE: [f64; 2] = [1.0e-6, 5.7e-6];
const NCCL_DATA: [f64; 2] = [0.25, 1.0];

/// Bytes a second of sixteen lanes of PCI Express in one direction, generation 1: 2.5 GT/s, 8 of 10 bits; 3 and later: 8 GT/s
/// doubled each time, 128 of 130 bits. PCI Express Base Specification 6.0, physical layer.
fn pcie(generation: u32) -> Option<f64> {
    match generation {
        1 => Some(4.0e9),
        2 => Some(8.0e9),
        3..=5 => Some(15.754e9 * f64::from(1_u32 << (generation - 3))),
        _ => None,
    }
}

/// The format in which a matrix is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Math {
    Half,
    Fp8,
    Int8,
    Fp4,
}

impl Math {
    const ALL: [Math; 4] = [Math::Half, Math::Fp8, Math::Int8, Math::Fp4];

    /// The format that a scheme computes in where the card can.
    ///
    /// Weight-only formats are expanded to 16 bits; MXFP4 weights meet 16-bit activations (vLLM 0.33.0,
    /// `model_executor/layers/quantization/mxfp4.py`).
    fn of(scheme: &Scheme) -> Math {
        match scheme {
            Scheme::Fp8 { .. } => Math::Fp8,
            Scheme::Int8 { .. } | Scheme::BnbInt8 => Math::Int8,
            Scheme::Nvfp4 { .. } => Math::Fp4,
            Scheme::Gptq { .. }
            | Scheme::Awq { .. }
            | Scheme::Packed { .. }
            | Scheme::Bnb4 { .. }
            | Scheme::Mxfp4
            | Scheme::Ggml(_) => Math::Half,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Math::Half => "16-bit",
            Math::Fp8 => "fp8",
            Math::Int8 => "int8",
            Math::Fp4 => "fp4",
        }
    }
}

/// Works a launch out.
pub(super) fn roofline(model: &Model, plan: &Plan, gpu: Option<&Gpu>, knobs: &Knobs) -> Result<Roofline, Error> {
    let card = Card::new(model, gpu, knobs)?;
    let mut case = Case::new(model, plan, card);
    let mut c = Coefficients {
        byte: 1.0 / case.card.bandwidth,
        stages: f64::from(plan.parallel.pp.max(1)),
        overhead: knobs.overhead.unwrap_or(OVERHEAD).as_seconds(),
        ..Coefficients::default()
    };
    case.products(&mut c);
    case.weights(&mut c);
    case.attention(&mut c);
    case.link(&mut c, gpu, knobs);
    let explain = case.explain(&c);
    let Case { mut assumptions, notes, .. } = case;
    if knobs.mfu.is_none() {
        assumptions
            .insert(0, format!("matrix products reach {MFU} of the card's peak (mfu); not measured on this card"));
    }
    if knobs.mbu.is_none() {
        assumptions.insert(0, format!("weights and caches are read at {MBU} of the bandwidth (mbu); not measured"));
    }
    if knobs.overhead.is_none() {
        assumptions.push(format!("a step takes {OVERHEAD} beside its kernels (overhead)"));
    }
    assumptions.push("tokens are sent to experts uniformly".to_owned());
    if c.experts.is_empty() {
        assumptions.pop();
    }
    Ok(Roofline { coefficients: c, assumptions, notes, explain })
}

/// The card's rates, efficiencies multiplied in.
struct Card {
    /// By [`Math`]: operations a second; the 16-bit rate where the card has none for the format.
    rates: [f64; 4],
    /// Which formats the card has no rate for.
    lacks: [bool; 4],
    /// Bytes a second.
    bandwidth: f64,
    name: String,
}

impl Card {
    fn new(model: &Model, gpu: Option<&Gpu>, knobs: &Knobs) -> Result<Card, Error> {
        let name = gpu.map_or_else(|| "the card".to_owned(), |gpu| gpu.name.clone());
        let part = |knob: &'static str, value: Option<f64>, default: f64| match value.unwrap_or(default) {
            part if part > 0.0 && part <= 1.0 => Ok(part),
            part => Err(Error::Knob { knob, found: part, expected: "above 0 and at most 1" }),
        };
        let positive = |knob: &'static str, value: Option<f64>| match value {
            Some(rate) if !(rate > 0.0 && rate < 1e30) => {
                Err(Error::Knob { knob, found: rate, expected: "a positive number" })
            }
            Some(_) | None => Ok(value),
        };
        let (mfu, mbu) = (part("mfu", knobs.mfu, MFU)?, part("mbu", knobs.mbu, MBU)?);
        let peak = positive("peak", knobs.peak)?;
        positive("link", knobs.link)?;
        let missing = |what, knob| Error::Rate { gpu: name.clone(), what, knob };
        let bandwidth = positive("bandwidth", knobs.bandwidth)?.or_else(|| gpu.and_then(|gpu| gpu.bandwidth));
        let bandwidth = bandwidth.ok_or_else(|| missing("memory bandwidth", "bandwidth"))? * mbu;
        let rates = gpu.map(|gpu| gpu.rates).unwrap_or_default();
        let half = if model.dtype == DType::F16 { rates.fp16.or(rates.bf16) } else { rates.bf16.or(rates.fp16) };
        let half = peak.or(half).ok_or_else(|| missing("16-bit peak", "peak"))?;
        let own = [Some(half), rates.fp8, rates.int8, rates.fp4].map(|rate| if peak.is_some() { peak } else { rate });
        Ok(Card {
            rates: own.map(|rate| rate.unwrap_or(half) * mfu),
            lacks: own.map(|rate| rate.is_none()),
            bandwidth,
            name,
        })
    }

    fn rate(&self, math: Math) -> f64 {
        self.rates[math as usize]
    }
}

/// A launch being worked out.
struct Case<'a> {
    model: &'a Model,
    plan: &'a Plan,
    card: Card,
    /// Ranks over which one worker's tokens are divided.
    ranks: f64,
    /// Batches of as many tokens whose experts lie on the same cards.
    batches: f64,
    /// Part of the layers that the slowest stage holds.
    part: f64,
    /// Operations per token by [`Math`], and of the output projection, on the rank.
    operations: ([f64; 4], f64),
    assumptions: Vec<String>,
    notes: Vec<String>,
}

impl<'a> Case<'a> {
    fn new(model: &'a Model, plan: &'a Plan, card: Card) -> Self {
        let (tp, dp) = (f64::from(plan.parallel.tp.max(1)), f64::from(plan.parallel.dp.max(1)));
        // Attention of data-parallel workers inside the group divides requests, not heads.
        let (workers, batches) = match &plan.batching {
            Some(Batching::Sglang(batching)) => (batching.workers as f64, batching.workers as f64),
            Some(Batching::TensorRtLlm(batching)) if batching.attention_dp => (tp, tp),
            Some(Batching::Vllm(_)) => (1.0, dp),
            Some(Batching::TensorRtLlm(_)) | None => (1.0, 1.0),
        };
        let layers = (model.layers.len() as u64).max(1);
        let largest = layers.div_ceil(u64::from(plan.parallel.pp.max(1)));
        let mut notes = Vec::new();
        if plan.parallel.pp > 1 {
            notes.push(format!(
                "{} micro-batches in flight share a step's tokens: the slowest stage of {largest} layers reads its \
                 weights once for each",
                plan.parallel.pp
            ));
        }
        Case {
            model,
            plan,
            card,
            ranks: (tp / workers).max(1.0),
            batches: batches.max(1.0),
            part: largest as f64 / layers as f64,
            operations: ([0.0; 4], 0.0),
            assumptions: Vec::new(),
            notes,
        }
    }

    /// Matrix products per token and per sampled token.
    fn products(&mut self, c: &mut Coefficients) {
        let online = self.online();
        let mut head = [0.0; 4];
        for tensor in self.model.tensors.iter().filter(|tensor| tensor.part == Part::Text && multiplies(tensor)) {
            let outside = tensor.role == Role::LmHead;
            let used = if tensor.role == Role::Experts { self.used(tensor) } else { tensor.total_elements() as f64 };
            let operations = 2.0 * used / self.ranks * if outside { 1.0 } else { self.part };
            let sets = tensor.layers.len().max(1) as f64;
            let mut left = 1.0;
            let into = if outside { &mut head } else { &mut self.operations.0 };
            for (layers, scheme) in &tensor.quantised {
                let taken = if layers.is_empty() { 1.0 } else { layers.len() as f64 / sets };
                let taken = f64::min(taken, left);
                into[Math::of(scheme) as usize] += operations * taken;
                left -= taken;
            }
            let plain = if outside { Math::Half } else { online };
            into[plain as usize] += operations * left;
        }
        if self.model.tied {
            head[0] += 2.0 * self.model.vocabulary as f64 * self.model.hidden as f64 / self.ranks;
        }
        for math in Math::ALL {
            let at = math as usize;
            c.token += self.operations.0[at] / self.card.rate(math);
            c.sampled += head[at] / self.card.rate(math);
            self.operations.1 += head[at];
            if self.card.lacks[at] && self.operations.0[at] > 0.0 {
                self.notes.push(format!(
                    "{} has no {} rate in the catalogue: such matrices are taken to run in 16 bits",
                    self.card.name,
                    math.name()
                ));
            }
        }
        // A scan updates and reads each number of a state once per token: about an operation per byte of it.
        c.token += self.model.state_bytes() as f64 / self.ranks * self.part / self.card.rate(Math::Half);
    }

    /// Elements of a tensor of routed experts that one token goes through.
    fn used(&self, tensor: &Tensor) -> f64 {
        let each = tensor.total_elements() as f64 / tensor.layers.len().max(1) as f64;
        tensor.layers.iter().map(|layer| each * self.experts_of(layer).map_or(1.0, |(all, used)| used / all)).sum()
    }

    /// How many experts a layer has and how many a token uses.
    fn experts_of(&self, layer: u32) -> Option<(f64, f64)> {
        match self.model.layers.get(layer as usize).map(|layer| &layer.ffn) {
            Some(Ffn::Moe { experts, active, .. }) if *experts > 0 => {
                Some((f64::from(*experts), f64::from((*active).min(*experts))))
            }
            Some(Ffn::Moe { .. } | Ffn::Dense { .. } | Ffn::None) | None => None,
        }
    }

    /// What matrices of a checkpoint that is not quantised are multiplied in: engines that quantise while loading hold
    /// them in fewer bits than the checkpoint, which the plan's ledger shows.
    fn online(&mut self) -> Math {
        let Some(ledger) = self.detailed() else { return Math::Half };
        if self.model.quant.is_some() {
            return Math::Half;
        }
        let rank = ledger.bytes(Item::WeightsAttention) + ledger.bytes(Item::WeightsMlp);
        let dense = |tensor: &&Tensor| {
            tensor.part == Part::Text && matches!(tensor.role, Role::Attention | Role::Mlp | Role::SharedExpert)
        };
        let plain: f64 = self.model.tensors.iter().filter(dense).map(|tensor| tensor.total_elements() as f64).sum();
        let held = rank.as_f64() * 8.0 / (plain * self.part / self.ranks).max(1.0);
        match held {
            bits if bits > 6.5 && bits < 11.0 => {
                self.assumptions
                    .push("weights that are quantised to 8 bits while loading are multiplied in fp8".to_owned());
                Math::Fp8
            }
            _ => Math::Half,
        }
    }

    /// The ledger of the rank that reads most, where it tells weights apart.
    fn detailed(&self) -> Option<&'a Ledger> {
        let told = |ledger: &Ledger| ledger.bytes(Item::WeightsAttention) + ledger.bytes(Item::WeightsRecurrent);
        let ranks = self.plan.ranks.iter().filter(|rank| told(&rank.ledger).get() > 0);
        ranks
            .map(|rank| &rank.ledger)
            .max_by_key(|ledger| self.read_of(ledger) + ledger.bytes(Item::WeightsExperts).get())
    }

    /// Bytes that a step reads of a ledger's weights, routed experts aside.
    fn read_of(&self, ledger: &Ledger) -> u64 {
        let items =
            [Item::WeightsAttention, Item::WeightsRecurrent, Item::WeightsMlp, Item::WeightsNorm, Item::WeightsLmHead];
        let read: u64 = items.iter().map(|item| ledger.bytes(*item).get()).sum();
        // A tied embedding is read as the output projection; an engine that unties it lists one.
        let tied = self.model.tied && ledger.bytes(Item::WeightsLmHead).get() == 0;
        read + if tied { ledger.bytes(Item::WeightsEmbedding).get() } else { 0 }
    }

    /// Bytes of weights: as the plan's ledger holds them, or the checkpoint's, divided.
    fn weights(&mut self, c: &mut Coefficients) {
        let routed = match self.detailed() {
            Some(ledger) => {
                c.weights = self.read_of(ledger) as f64;
                ledger.bytes(Item::WeightsExperts).as_f64()
            }
            None => {
                self.notes
                    .push("the plan does not tell weights apart: their bytes are the checkpoint's, divided".to_owned());
                let sum = |of: &dyn Fn(&Tensor) -> bool| -> f64 {
                    let read = self.model.tensors.iter().filter(|tensor| tensor.part == Part::Text && of(tensor));
                    read.map(|tensor| self.model.stored_bytes(tensor).as_f64()).sum::<f64>() / self.ranks * self.part
                };
                let embedded = |tensor: &Tensor| matches!(tensor.role, Role::Embedding | Role::Positions);
                c.weights = sum(&|tensor| {
                    tensor.role != Role::Experts
                        && (!embedded(tensor) || (self.model.tied && tensor.role == Role::Embedding))
                });
                sum(&|tensor| tensor.role == Role::Experts) / self.batches
            }
        };
        let mut kinds: BTreeMap<(u32, u32), f64> = BTreeMap::new();
        for layer in &self.model.layers {
            if let Ffn::Moe { experts, active, inner, .. } = layer.ffn
                && experts > 0
            {
                *kinds.entry((experts, active.min(experts))).or_default() += f64::from(experts) * inner as f64;
            }
        }
        let all: f64 = kinds.values().sum();
        if kinds.is_empty() {
            c.weights += routed;
        }
        c.experts = kinds
            .into_iter()
            .map(|((experts, active), size)| Experts {
                bytes: if all > 0.0 { routed * size / all } else { 0.0 },
                idle: 1.0 - f64::from(active) / f64::from(experts),
                batches: self.batches,
                last: (0.0, 0.0),
            })
            .collect();
    }

    /// Reading and writing caches, and attention's products.
    fn attention(&mut self, c: &mut Coefficients) {
        let mut layers = Layers::default();
        for layer in &self.model.layers {
            if let Mixer::Attention(attention) = &layer.mixer {
                layers.add(attention, self.ranks);
            }
        }
        let dealt = match &self.plan.batching {
            Some(Batching::Vllm(batching)) => f64::from(batching.context_ranks.max(1)),
            Some(Batching::Sglang(_) | Batching::TensorRtLlm(_)) | None => 1.0,
        };
        // The plan knows how wide an entry is and how heads divide; the model knows who reads how much of it.
        let each = if layers.kept > 0.0 { self.plan.kv.bytes_per_token as f64 / layers.kept / dealt } else { 0.0 };
        let second = self.part / self.card.rate(Math::Half);
        let scaled = |found: Attention| Attention {
            read: found.read * each,
            decode: found.decode * second,
            prompt: found.prompt * second,
        };
        c.full = scaled(layers.full);
        c.windows = layers.windows.into_iter().map(|(window, found)| (window, scaled(found))).collect();
        // The heaviest first: its sums are exact, those of others bounds.
        c.windows.sort_by(|a, b| b.1.read.total_cmp(&a.1.read).then(a.0.cmp(&b.0)));
        if c.windows.len() > 1 {
            let kept = c.windows[0].0;
            self.notes.push(format!(
                "layers have several windows: what decoding reads is exact for that of {kept} tokens and a bound for others"
            ));
        }
        c.written = self.plan.kv.bytes_per_token as f64 / dealt;
        c.state = 2.0 * self.model.state_bytes() as f64 / self.ranks * self.part;
        if layers.crossed {
            self.notes.push("cross-attention to an encoder is not counted".to_owned());
        }
    }

    /// Collectives of a step.
    fn link(&mut self, c: &mut Coefficients, gpu: Option<&Gpu>, knobs: &Knobs) {
        let (tp, pp) = (f64::from(self.plan.parallel.tp), f64::from(self.plan.parallel.pp));
        if tp <= 1.0 && pp <= 1.0 {
            return;
        }
        let nvlink = gpu.and_then(|gpu| gpu.nvlink).map(|both| both / 2.0);
        let bus = gpu.and_then(|gpu| gpu.pcie_gen).and_then(pcie);
        let (rate, steps, through) = match (knobs.link, nvlink, bus) {
            (Some(rate), Some(_), _) => (rate, NCCL_NVLINK, "the link given"),
            (Some(rate), None, _) => (rate, NCCL_PCIE, "the link given"),
            (None, Some(rate), _) => (rate, NCCL_NVLINK, "NVLink"),
            (None, None, Some(rate)) => (rate, NCCL_PCIE, "PCI Express"),
            (None, None, None) => (f64::INFINITY, NCCL_PCIE, "an unknown link"),
        };
        if rate.is_infinite() {
            self.notes.push(format!("the link of {} is not known: only its latency is counted (link)", self.card.name));
        }
        let count: u32 = self
            .model
            .layers
            .iter()
            .fold(0, |sum, layer| sum + u32::from(layer.mixer != Mixer::None) + u32::from(layer.ffn != Ffn::None));
        let around = 2.0 * (tp - 1.0);
        let line = |at: usize| (NCCL_BASE[at] + around * steps[at], around / tp / (rate * NCCL_DATA[at]));
        c.link = Link {
            count: if tp > 1.0 { f64::from(count) } else { 0.0 },
            token: 2.0 * self.model.hidden as f64,
            lines: [line(0), line(1)],
            sends: if pp > 1.0 { pp } else { 0.0 },
            send: (NCCL_BASE[0] + steps[0], 1.0 / rate),
        };
        if tp > 1.0 {
            self.assumptions.push(format!(
                "{count} all-reduces a step over {through} with the latencies of NCCL's tuner (src/graph/tuning.cc), none \
                 of them hidden behind arithmetic; all-to-all of experts counted as such"
            ));
        }
    }

    /// The terms in words.
    fn explain(&self, c: &Coefficients) -> Vec<String> {
        let gib = |bytes: f64| bytes / 1_073_741_824.0;
        let mut lines = vec![format!(
            "weights: {:.3} GiB read per step at {:.0} GB/s: {:.3} ms",
            gib(c.weights * c.stages),
            self.card.bandwidth / 1e9,
            c.weights * c.stages * c.byte * 1e3
        )];
        for experts in &c.experts {
            lines.push(format!(
                "routed experts: {:.3} GiB, {:.3} of them per token, {:.3} ms when all are touched",
                gib(experts.bytes * c.stages),
                1.0 - experts.idle,
                experts.bytes * c.stages * c.byte * 1e3
            ));
        }
        let windowed: f64 = c.windows.iter().map(|(_, attention)| attention.read).sum();
        lines.push(format!(
            "cache: {:.0} B read per token in full layers, {windowed:.0} B in windows, {:.0} B written per token, {:.0} B of \
             state per sequence",
            c.full.read, c.written, c.state
        ));
        let tops: f64 = self.operations.0.iter().sum();
        lines.push(format!(
            "products: {:.3} GFLOP per token and {:.3} per sampled one at {:.0} TFLOP/s in 16 bits: {:.3} us per token",
            tops / 1e9,
            self.operations.1 / 1e9,
            self.card.rate(Math::Half) / 1e12,
            c.token * 1e6
        ));
        if c.link.count > 0.0 || c.link.sends > 0.0 {
            lines.push(format!(
                "communication: {} all-reduces and {} sends, {:.3} ms for one token",
                c.link.count,
                c.link.sends,
                c.link.seconds(1.0) * 1e3
            ));
        }
        lines.push(format!("overhead: {:.3} ms per step", c.overhead * 1e3));
        lines
    }
}

/// Whether a token is multiplied with a tensor.
fn multiplies(tensor: &Tensor) -> bool {
    match tensor.role {
        Role::LmHead
        | Role::Attention
        | Role::Recurrent
        | Role::Mlp
        | Role::Router
        | Role::Experts
        | Role::SharedExpert => tensor.parameter && tensor.shape.len() >= 2,
        Role::Embedding | Role::Positions | Role::Norm | Role::RecurrentState | Role::Tower | Role::Other => false,
    }
}

/// Attention layers by what they see, in numbers and operations on one rank.
#[derive(Default)]
struct Layers {
    /// Numbers that a token adds.
    kept: f64,
    full: Attention,
    windows: BTreeMap<u32, Attention>,
    crossed: bool,
}

impl Layers {
    fn add(&mut self, attention: &plimsoll_facts::model::Attention, ranks: f64) {
        let n = |number: u32| f64::from(number);
        let window = match attention.span {
            Span::Full | Span::Summary { .. } => None,
            Span::Window { tokens } | Span::Chunk { tokens } => Some(tokens),
            Span::Cross => {
                self.crossed = true;
                return;
            }
        };
        let kept = attention.shares_cache_of.is_none();
        let (found, window) = match &attention.kind {
            AttentionKind::Grouped { heads, kv_heads, key_dim, value_dim } => {
                let width = n(*key_dim) + n(*value_dim);
                let pair = 2.0 * n(*heads) / ranks * width;
                let held = (n(*kv_heads) / ranks).max(1.0);
                (Attention { read: held * width, decode: pair, prompt: pair }, window)
            }
            AttentionKind::Latent { heads, rank, rope_dim, nope_dim, value_dim, indexer, compress } => {
                let latent = (n(*rank) + n(*rope_dim)) / n((*compress).max(1));
                let heads = 2.0 * n(*heads) / ranks / n((*compress).max(1));
                let decode = heads * (2.0 * n(*rank) + n(*rope_dim));
                let prompt = heads * (n(*nope_dim) + n(*rope_dim) + n(*value_dim));
                if let Some(indexer) = indexer {
                    // The indexer looks at every token's key and chooses what attention reads.
                    let pair = 2.0 * n(indexer.heads) * n(indexer.dim);
                    self.put(None, Attention { read: n(indexer.dim), decode: pair, prompt: pair });
                    self.kept += if kept { n(indexer.dim) } else { 0.0 };
                }
                let chosen = indexer.map(|indexer| indexer.top).filter(|top| *top > 0);
                (Attention { read: latent, decode, prompt }, window.or(chosen))
            }
        };
        self.kept += if kept { found.read } else { 0.0 };
        self.put(window, found);
    }

    fn put(&mut self, window: Option<u32>, found: Attention) {
        let into = match window {
            Some(window) => self.windows.entry(window).or_default(),
            None => &mut self.full,
        };
        into.read += found.read;
        into.decode += found.decode;
        into.prompt += found.prompt;
    }
}
