//! What is settled before anything is loaded? Context, sequences, batch, attention, cache type, and how many layers go
//! where.

use plimsoll_facts::gguf::Gguf;

use super::estimate::{self, Estimate, MINIMUM, Request};
use super::graph::{Load, graph_size};
use super::layout;
use super::options::{CacheType, Options};
use super::predict::{self, Unfused};
use super::rules::{self, Generation};
use super::show;
use super::sizes::Sizes;
use crate::engine::Question;
use crate::{Card, Error, Version};

/// What the driver and a desktop hold of a card before a model is loaded, bytes. To settle it: the `available` that
/// Ollama logs when it starts, or `--free-memory`.
const HELD_BEFORE: u64 = 350 << 20;
/// More cards than one machine has.
const MOST_CARDS: usize = 64;

/// A launch without open questions.
#[derive(Clone, Debug)]
pub struct Settled<'a> {
    /// What Ollama looks at in the file.
    pub sizes: Sizes,
    /// The cards, each by itself.
    pub cards: Vec<&'a Card>,
    /// Free bytes of each.
    pub free: Vec<u64>,
    /// The options.
    pub options: Options,
    /// The release.
    pub version: Version,
    /// Who decides.
    pub generation: Generation,
    /// Context of one sequence.
    pub context: u64,
    /// Sequences at once.
    pub parallel: u64,
    /// Tokens of a batch.
    pub batch: u64,
    /// Fused attention; `None` where llama.cpp decides.
    pub flash: Option<bool>,
    /// Type of the cache.
    pub cache: CacheType,
    /// What nobody said.
    pub assumptions: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Where layers go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The cards that are used, by their places.
    pub cards: Vec<usize>,
    /// Layers on GPUs, the output counted; `None` where llama-server fits them itself.
    pub layers: Option<u64>,
    /// Layers of each of these cards.
    pub split: Vec<u64>,
    /// What the log says about it.
    pub lines: Vec<String>,
    /// What `ollama ps` goes by, where it is the estimate: all, and on GPUs.
    pub estimated: Option<(u64, u64)>,
}

impl<'a> Settled<'a> {
    /// Settles a question.
    ///
    /// # Errors
    /// [`Error`] for options that are none, or a file that lacks what the engine needs.
    pub fn new(question: &Question<'a>, options: Options, gguf: &Gguf) -> Result<Settled<'a>, Error> {
        let (mut assumptions, notes) = (Vec::new(), Vec::new());
        let sizes = Sizes::of(gguf)?;
        let version = question.version;
        let cards = cards(question, &mut assumptions);
        if cards.is_empty() {
            return Err(Error::Request("no card".to_owned()));
        }
        let free = free(&cards, &options, &mut assumptions)?;
        let mut generation = rules::generation(version, &sizes.arch);
        let opted = options.new_estimates && (Version::new(0, 11, 5)..Version::new(0, 11, 11)).contains(&version);
        if opted {
            generation = Generation::LayoutByMeasure;
        }
        let mut settled = Settled {
            cards,
            free,
            version,
            generation,
            context: 0,
            parallel: 1,
            batch: 512,
            flash: None,
            cache: CacheType::F16,
            options,
            assumptions,
            notes,
            sizes,
        };
        settled.settle_context();
        settled.settle_attention();
        settled.settle_parallel();
        settled.settle_batch();
        Ok(settled)
    }

    /// Request, Modelfile, variable, then the release's default; cut to what the model was trained for.
    fn settle_context(&mut self) {
        let total: u64 = self.cards.iter().map(|card| card.total.bytes.get()).fold(0, u64::saturating_add);
        let overhead = self.options.overhead.saturating_mul(self.cards.len() as u64);
        let arch = self.sizes.arch.clone();
        let (default, why) = rules::default_context(self.version, &arch, total.saturating_sub(overhead));
        let asked = self.options.context.or(self.options.context_env);
        let mut context = asked.unwrap_or_else(|| {
            self.assumptions.push(format!("num_ctx is not given: {default} ({why})"));
            default
        });
        if self.options.projector > 0 || self.sizes.vision > 0 {
            context = context.max(2048);
        }
        let trained = self.sizes.context;
        if trained > 0 && context > trained {
            if rules::clamps(self.version) {
                if asked.is_some() {
                    self.notes
                        .push(format!("requested context size too large for model: {context} is cut to {trained}"));
                }
                context = trained;
            } else {
                self.notes.push(format!("{context} positions are more than the {trained} that the model was made for"));
            }
        }
        self.context = context.max(4);
    }

    fn settle_parallel(&mut self) {
        let automatic = match self.options.parallel {
            None => rules::tries_four(self.version),
            Some(0) => rules::tries_four(self.version),
            Some(_) => false,
        };
        let one = self.sizes.embeds || rules::ONE_AT_A_TIME.contains(&self.sizes.arch.as_str());
        self.parallel = self.options.parallel.unwrap_or(1).max(1);
        if one && self.parallel > 1 {
            self.notes.push("this model takes one request at a time whatever OLLAMA_NUM_PARALLEL says".to_owned());
        }
        if one {
            self.parallel = 1;
        } else if automatic {
            // Four when everything fits then, else one.
            self.parallel = 4;
            let (_, estimate) = self.estimated();
            if estimate.layers <= self.sizes.layers.len() as u64 {
                self.parallel = 1;
            }
            self.assumptions.push(format!("OLLAMA_NUM_PARALLEL is not given: {} (four when they fit)", self.parallel));
        }
    }

    /// Whether fused attention is on, and the cache's type, which depends on it.
    fn settle_attention(&mut self) {
        let arch = self.sizes.arch.as_str();
        let supported =
            !self.sizes.embeds && arch != "gemma2" && self.sizes.key > 0 && self.sizes.key == self.sizes.value;
        let of_card = |card: &&Card| match card.compute_capability {
            Some((7, 2)) => false,
            Some(capability) => arch != "gemma4" || capability >= (7, 5),
            None => true,
        };
        let cards = self.cards.iter().all(of_card);
        let server = self.generation == Generation::LlamaServer;
        let default = rules::default_flash(self.version, arch);
        let asked = self.options.flash.or(default);
        self.flash = match asked {
            Some(true) if !(server || supported && cards) => {
                self.notes.push("flash attention is not supported by the model or a card: off".to_owned());
                Some(false)
            }
            other => other,
        };
        let Some(kind) = self.options.cache else { return };
        let needs_flash = match self.generation {
            Generation::LlamaServer => false,
            Generation::Estimator | Generation::LayoutByFormula | Generation::LayoutByMeasure => true,
        };
        if kind != CacheType::F16 && needs_flash && self.flash != Some(true) {
            self.notes.push(format!(
                "OLLAMA_KV_CACHE_TYPE={} is not used without flash attention: set OLLAMA_FLASH_ATTENTION=1",
                kind.name()
            ));
        } else {
            self.cache = kind;
        }
    }

    fn settle_batch(&mut self) {
        let all = self.context.saturating_mul(self.parallel);
        let automatic =
            self.generation == Generation::LlamaServer && self.options.batch.is_none() && !self.sizes.embeds;
        self.batch = match self.options.batch {
            Some(batch) => batch,
            None if automatic => {
                let predicted = predict::predicted(&self.sizes, all);
                let single = (!self.options.spread).then(|| predict::single(predicted, &self.free)).flatten();
                let available =
                    single.map_or_else(|| self.free.iter().copied().fold(0, u64::saturating_add), |at| self.free[at]);
                let small_card = self.free.iter().any(|free| *free <= 8 << 30);
                let batch = predict::batch(
                    all,
                    predicted,
                    available,
                    Unfused { disabled: self.flash == Some(false), small_card },
                );
                self.assumptions.push(format!("num_batch is not given: {batch}, by context and room"));
                batch
            }
            None => 512,
        };
        self.batch = if self.sizes.embeds { self.batch.max(1).min(all) } else { self.batch.min(self.context) };
    }

    /// The load as the estimator sees it.
    pub fn load(&self) -> Load {
        Load {
            context: self.context,
            batch: self.batch.min(self.context),
            parallel: self.parallel,
            element: self.cache.estimated(),
            flash: self.flash.unwrap_or(false),
        }
    }

    fn request(&self) -> Request {
        Request {
            load: self.load(),
            layers: self.options.layers,
            overhead: self.options.overhead,
            projector: self.options.projector,
            metal: false,
            version: self.version,
        }
    }

    fn gpus(&self) -> Vec<estimate::Gpu> {
        self.free.iter().map(|free| estimate::Gpu { free: *free, minimum: MINIMUM }).collect()
    }

    fn estimated(&self) -> (Vec<usize>, Estimate) {
        estimate::choose(&self.sizes, &self.gpus(), &self.request(), self.options.spread)
    }

    /// Decides by the static estimator.
    pub fn by_estimate(&self) -> Decision {
        let gpus = self.gpus();
        let (cards, estimate) = self.estimated();
        let chosen: Vec<estimate::Gpu> = cards.iter().map(|at| gpus[*at]).collect();
        let line = show::offload(&self.sizes, &chosen, &self.request(), &estimate);
        let on_gpu = if estimate.layers == 0 { 0 } else { estimate.partial };
        Decision {
            cards,
            // An explicit number is passed on as it is.
            layers: Some(self.options.layers.unwrap_or(estimate.layers)),
            split: estimate.split.clone(),
            lines: vec![line],
            estimated: Some((estimate.full, on_gpu)),
        }
    }

    /// Decides by the layout loop. `graph` is a GPU's compute graph as measured, for models of the Ollama engine.
    pub fn by_layout(&self, graph: Option<u64>) -> Decision {
        let formula = graph_size(&self.sizes, &self.load(), self.version);
        let cache = if graph.is_some() { self.measured_cache() } else { formula.kv.clone() };
        let mut layers: Vec<u64> = self.sizes.layers.iter().zip(&cache).map(|(w, kv)| w.saturating_add(*kv)).collect();
        let vision = if graph.is_some() { self.sizes.vision } else { 0 };
        layers.push(self.sizes.output_layer().saturating_add(vision));
        let buffer =
            if graph.is_some() { 0 } else { self.sizes.layers[0].saturating_add(cache.first().copied().unwrap_or(0)) };
        let graph = graph.unwrap_or(formula.full.max(formula.partial));
        let mut order: Vec<usize> = (0..self.free.len()).collect();
        order.sort_by_key(|at| (self.cards[*at].unified, std::cmp::Reverse(self.free[*at])));
        let mut used = 0;
        let mut found = vec![Vec::new(); order.len()];
        // Graphs are charged to as many GPUs as the round before used.
        for _ in 0..=order.len() {
            let gpu = |(place, at): (usize, &usize)| {
                let projector = if *at == 0 { self.options.projector } else { 0 };
                let taken = [buffer, projector, MINIMUM, self.options.overhead, if place < used { graph } else { 0 }];
                let free = taken.into_iter().fold(self.free[*at], u64::saturating_sub);
                layout::Gpu { free, integrated: self.cards[*at].unified }
            };
            let gpus: Vec<layout::Gpu> = order.iter().enumerate().map(gpu).collect();
            let requested = self.options.layers.map(|layers| layers as usize);
            found = layout::assign(&layers, &gpus, requested, self.options.spread);
            let now = found.iter().rposition(|layers| !layers.is_empty()).map_or(0, |last| last + 1);
            if now <= used {
                break;
            }
            used = now;
        }
        let count = layout::count(&found) as u64;
        let graph = if count as usize == layers.len() { formula.full.min(graph).max(1) } else { graph };
        let mut decision = Decision {
            cards: order,
            layers: Some(count),
            split: found.iter().map(|layers| layers.len() as u64).collect(),
            ..Decision::default()
        };
        let keep: Vec<usize> = (0..found.len()).filter(|at| !found[*at].is_empty()).collect();
        if !keep.is_empty() {
            decision.cards = keep.iter().map(|at| decision.cards[*at]).collect();
            decision.split = keep.iter().map(|at| decision.split[*at]).collect();
        }
        if self.generation == Generation::LayoutByFormula {
            decision.by_formula(&found, self, &cache, graph);
        }
        decision
    }

    /// The cache of the Ollama engine: cells in multiples of 256, windows with a batch beside them.
    fn measured_cache(&self) -> Vec<u64> {
        let all = self.context.saturating_mul(self.parallel).next_multiple_of(256);
        let window = self.sizes.more.window;
        let extra = u64::from(self.parallel > 1);
        let local = self.parallel.saturating_mul(window.saturating_add(extra)).saturating_add(self.batch);
        let local = if window == 0 || window >= self.context { all } else { local.next_multiple_of(256).min(all) };
        let arch = self.sizes.arch.as_str();
        let width = self.sizes.key.saturating_add(self.sizes.value);
        let of = |(at, heads): (usize, &u64)| {
            let slides = match arch {
                "gemma3" => (at + 1) % 6 != 0,
                "gptoss" | "gpt-oss" => at % 2 == 0,
                "gemma2" => at % 2 == 0,
                _ => false,
            };
            let cells = if slides { local } else { all };
            cells.saturating_mul(width).saturating_mul(*heads).saturating_mul(self.cache.per_32()) / 32
        };
        self.sizes.heads_kv.iter().enumerate().map(of).collect()
    }

    /// Decides which cards llama-server sees; it fits layers itself.
    pub fn by_server(&self) -> Decision {
        let all = self.context.saturating_mul(self.parallel);
        let predicted = predict::predicted(&self.sizes, all);
        let every: Vec<usize> = (0..self.cards.len()).collect();
        let named = self.options.main_gpu.map(|at| at as usize).filter(|at| *at < self.cards.len());
        let single = || if self.options.spread { None } else { predict::single(predicted, &self.free) };
        let cards = match named.or_else(single) {
            Some(at) => vec![at],
            None => every,
        };
        let lines = if self.cards.len() > 1 && cards.len() == 1 {
            let (at, available) = (cards[0], self.free[cards[0]]);
            vec![format!(
                "msg=\"selecting single GPU for llama-server model\" main_gpu={at} predicted=\"{}\" available=\"{}\"",
                show::human_binary(predicted),
                show::human_binary(available)
            )]
        } else {
            Vec::new()
        };
        Decision { cards, layers: self.options.layers, split: Vec::new(), lines, estimated: None }
    }
}

impl Decision {
    /// What the llama engine's layout reports: its own sizes, not the allocated ones.
    fn by_formula(&mut self, found: &layout::Layers, settled: &Settled<'_>, cache: &[u64], graph: u64) {
        let output = settled.sizes.layers.len();
        let weights_of =
            |at: usize| settled.sizes.layers.get(at).copied().unwrap_or_else(|| settled.sizes.output_layer());
        let kv_of = |at: usize| cache.get(at).copied().unwrap_or(0);
        let mut lines = Vec::new();
        let (mut on_gpu, mut total) = (0_u64, 0_u64);
        let mut say = |what: &str, device: &str, bytes: u64| {
            if bytes > 0 {
                lines.push(format!("msg=\"{what}\" device={device} size=\"{}\"", show::human_binary(bytes)));
            }
            total = total.saturating_add(bytes);
            if device != "CPU" {
                on_gpu = on_gpu.saturating_add(bytes);
            }
        };
        let placed: Vec<usize> = found.iter().flatten().copied().collect();
        let host: Vec<usize> = (0..=output).filter(|at| !placed.contains(at)).collect();
        let sum =
            |layers: &[usize], of: &dyn Fn(usize) -> u64| layers.iter().map(|at| of(*at)).fold(0, u64::saturating_add);
        let devices: Vec<(String, &Vec<usize>)> = found
            .iter()
            .filter(|layers| !layers.is_empty())
            .enumerate()
            .map(|(at, l)| (format!("CUDA{at}"), l))
            .collect();
        for (what, of) in [("model weights", &weights_of as &dyn Fn(usize) -> u64), ("kv cache", &kv_of)] {
            for (name, layers) in &devices {
                say(what, name, sum(layers, of));
            }
            say(what, "CPU", sum(&host, of));
        }
        for (name, _) in &devices {
            say("compute graph", name, graph);
        }
        lines.push(format!("msg=\"total memory\" size=\"{}\"", show::human_binary(total)));
        self.lines = lines;
        self.estimated = Some((total, on_gpu));
    }
}

/// Every card by itself; one where the number is not given.
fn cards<'a>(question: &Question<'a>, assumptions: &mut Vec<String>) -> Vec<&'a Card> {
    if question.cards.iter().any(|card| card.count == u32::MAX) {
        assumptions.push("the number of cards is not given: one".to_owned());
    }
    let count = |card: &Card| if card.count == u32::MAX { 1 } else { (card.count as usize).min(MOST_CARDS) };
    question.cards.iter().flat_map(|card| std::iter::repeat_n(card, count(card))).take(MOST_CARDS).collect()
}

fn free(cards: &[&Card], options: &Options, assumptions: &mut Vec<String>) -> Result<Vec<u64>, Error> {
    if options.free.is_empty() {
        assumptions.push(format!(
            "free_memory is not given: each card's total less {}, what a driver holds of an idle card",
            show::human_binary(HELD_BEFORE)
        ));
        return Ok(cards.iter().map(|card| card.total.bytes.get().saturating_sub(HELD_BEFORE)).collect());
    }
    if options.free.len() != cards.len() {
        return Err(Error::Flag {
            flag: "free_memory".to_owned(),
            found: format!("{} sizes", options.free.len()),
            expected: format!("one for each of {} cards", cards.len()),
        });
    }
    Ok(options.free.clone())
}
