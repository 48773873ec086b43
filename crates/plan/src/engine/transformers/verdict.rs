//! What would help, and how far would it go?

use super::launch::Launch;
use super::options::{Attention, Bits, DeviceMap, Implementation};
use super::quantised::{Backend, Quantised};
use super::rank::Placement;
use super::{Outcome, margin};
use crate::{Item, Rank, Remedy, Verdict};

/// Sequences side by side at most that are searched for.
const MOST_SEQUENCES: u64 = 1 << 16;

fn fits(launch: &Launch<'_>) -> bool {
    Outcome::of(launch).is_ok_and(|outcome| outcome.fits())
}

/// Returns the largest number from 1 to `most` for which `good` holds (it holds below a limit), or 0.
fn largest(most: u64, good: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most.saturating_add(1));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if good(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// Returns the longest sequences, prompt and new tokens together, of which the batch fits; 0 when none does.
pub fn longest(launch: &Launch<'_>) -> u64 {
    let most = launch.model.positions_limit.max(launch.total());
    largest(most, |total| fits(&of_length(launch, total)))
}

/// The same launch with sequences of so many tokens: a shorter prompt, and in the end fewer new tokens.
fn of_length<'a>(launch: &Launch<'a>, total: u64) -> Launch<'a> {
    let new = launch.new.min(total.saturating_sub(1)).max(1);
    Launch { prompt: total.saturating_sub(new).max(1), new, ..launch.clone() }
}

/// Returns how many sequences of the asked length fit side by side.
pub fn most_sequences(launch: &Launch<'_>) -> u64 {
    largest(MOST_SEQUENCES, |batch| fits(&Launch { batch, ..launch.clone() }))
}

/// Says what binds.
pub fn refused(rank: &Rank, remedies: Vec<Remedy>) -> Verdict {
    let ledger = &rank.ledger;
    let binding = if ledger.weights() > rank.total {
        "weights"
    } else if ledger.bytes(Item::Activation) > ledger.bytes(Item::Kv) {
        "activation"
    } else {
        "kv"
    };
    let short_by = ledger.total().saturating_sub(rank.total);
    Verdict::DoesNotFit { short_by, binding: binding.to_owned(), refusal: None, remedies }
}

/// Returns changes that help, cheapest first, each with its own outcome.
pub fn remedies(launch: &Launch<'_>) -> Vec<Remedy> {
    let mut list = Vec::new();
    let mut try_one = |change: &str, flags: &[&str], cost: &str, changed: Launch<'_>| {
        let Ok(outcome) = Outcome::of(&changed) else { return };
        let fits = outcome.fits();
        let longest = longest(&changed);
        let better = margin(&outcome.ranks[outcome.scarcest]).bytes;
        list.push((better, remedy(change, flags, cost, fits, longest, &changed)));
    };
    if launch.attention == Attention::Eager {
        let changed = Launch { attention: Attention::Sdpa, ..launch.clone() };
        try_one(
            "a fused attention kernel",
            &["--attn-implementation", "sdpa"],
            "none where the model has one",
            changed,
        );
    }
    if launch.options.prefill_chunk.is_none() && launch.prompt > 2048 {
        let mut changed = launch.clone();
        changed.options.prefill_chunk = Some(2048);
        try_one("the prompt in chunks", &["--prefill-chunk-size", "2048"], "a slower first token", changed);
    }
    if launch.options.cache == Implementation::Dynamic {
        let mut changed = launch.clone();
        changed.options.cache = Implementation::Quantised(Quantised::new(Backend::Quanto));
        let cost = "some quality, and steps that unpack the cache";
        try_one("a quantised cache", &["--cache-implementation", "quantized"], cost, changed);
    }
    if launch.batch > 1 {
        let fitting = most_sequences(launch);
        if fitting > 0 {
            let text = fitting.to_string();
            let changed = Launch { batch: fitting, ..launch.clone() };
            try_one("a smaller batch", &["--batch-size", text.as_str()], "throughput", changed);
        }
    }
    let length = longest(launch);
    if length > 0 && length < launch.total() {
        let text = length.to_string();
        try_one("shorter sequences", &["--max-length", text.as_str()], "context", of_length(launch, length));
    }
    if launch.options.bits.is_none() && launch.model.quant.is_none() {
        let mut changed = launch.clone();
        changed.options.bits = Some(Bits::Four { double: false });
        try_one("4-bit weights (NF4)", &["--load-in-4bit"], "some quality and speed", changed);
    }
    list.sort_by_key(|(better, remedy)| (!remedy.fits, std::cmp::Reverse(*better)));
    let fitting_first = list.into_iter().map(|(_, remedy)| remedy);
    fitting_first.take(6).collect()
}

fn remedy(change: &str, flags: &[&str], cost: &str, fits: bool, longest: u64, launch: &Launch<'_>) -> Remedy {
    Remedy {
        change: change.to_owned(),
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        fits,
        kv_tokens: longest.saturating_sub(1).saturating_mul(launch.batch),
        max_context_tokens: longest,
        cost: cost.to_owned(),
    }
}

/// Returns what a user should know beside the numbers.
pub fn notes(launch: &Launch<'_>, placement: &Placement) -> Vec<String> {
    let mut notes = Vec::new();
    if !placement.host.is_empty() {
        notes.push(
            "some modules do not fit on the cards and lie in host memory; each step copies them to the first card"
                .to_owned(),
        );
    }
    if launch.model.tower.is_some() {
        notes.push("images are not counted: the plan is for text alone".to_owned());
    }
    if launch.model.quant.as_ref().is_some_and(|quant| quant.method == "modelopt") {
        notes.push("transformers 5.23.0 has no loader for modelopt checkpoints; planned as they are stored".to_owned());
    }
    if launch.version < super::NEWEST && launch.model.layers.iter().any(is_recurrent) {
        notes.push(
            "recurrent states are counted as 5.23.0 keeps them; earlier releases had cache classes of their own"
                .to_owned(),
        );
    }
    notes
}

fn is_recurrent(layer: &plimsoll_facts::model::Layer) -> bool {
    matches!(layer.mixer, plimsoll_facts::model::Mixer::Recurrent(_))
}

/// Returns a command that makes this call: Transformers is a library.
pub fn command(launch: &Launch<'_>) -> Vec<String> {
    let mut load =
        vec![format!("dtype=\"{}\"", launch.dtype.name()), format!("device_map=\"{}\"", launch.device_map.name())];
    load.push(format!("attn_implementation=\"{}\"", attention(launch.attention)));
    if !launch.options.max_memory.is_empty() && launch.device_map != DeviceMap::One {
        let limits = launch.options.max_memory.iter().map(|(card, limit)| match card {
            Some(card) => format!("{card}: {}", limit.get()),
            None => format!("\"cpu\": {}", limit.get()),
        });
        load.push(format!("max_memory={{{}}}", limits.collect::<Vec<_>>().join(", ")));
    }
    match launch.options.bits {
        Some(Bits::Four { double }) => {
            let double = if double { ", bnb_4bit_use_double_quant=True" } else { "" };
            load.push(format!("quantization_config=t.BitsAndBytesConfig(load_in_4bit=True{double})"));
        }
        Some(Bits::Eight) => load.push("quantization_config=t.BitsAndBytesConfig(load_in_8bit=True)".to_owned()),
        None => {}
    }
    let mut generate = vec![format!("max_new_tokens={}", launch.new)];
    match (launch.options.cache, launch.options.offloaded) {
        (Implementation::Dynamic, false) => {}
        (Implementation::Dynamic, true) => generate.push("cache_implementation=\"offloaded\"".to_owned()),
        (Implementation::Static, false) => generate.push("cache_implementation=\"static\"".to_owned()),
        (Implementation::Static, true) => generate.push("cache_implementation=\"offloaded_static\"".to_owned()),
        (Implementation::Quantised(quantised), _) => generate.push(format!(
            "cache_implementation=\"quantized\", cache_config={{\"backend\": \"{}\", \"nbits\": {}}}",
            quantised.backend.name(),
            quantised.nbits
        )),
    }
    let script = format!(
        "import torch, transformers as t; m = t.AutoModelForCausalLM.from_pretrained(\"{}\", {}); \
         m.generate(torch.ones(({}, {}), dtype=torch.long, device=m.device), {})",
        launch.model.id.replace('"', ""),
        load.join(", "),
        launch.batch,
        launch.prompt,
        generate.join(", ")
    );
    ["python3", "-c", script.as_str()].map(str::to_owned).to_vec()
}

const fn attention(attention: Attention) -> &'static str {
    match attention {
        Attention::Eager => "eager",
        Attention::Sdpa => "sdpa",
        Attention::Flash => "flash_attention_2",
        Attention::Flex => "flex_attention",
    }
}
