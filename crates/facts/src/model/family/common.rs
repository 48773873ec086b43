//! What does every configuration say? Name, class, dtype, widths, the longest sequence, tied heads.

use super::super::build::Inventory;
use super::super::{Config, Layer, Model};
use crate::Error;
use crate::tensor::DType;

/// What every family reads first.
pub(super) struct Common {
    pub(super) id: String,
    pub(super) model_type: String,
    pub(super) architecture: String,
    pub(super) dtype: DType,
    pub(super) hidden: u64,
    pub(super) vocabulary: u64,
    pub(super) max_positions: u64,
    pub(super) positions_limit: u64,
    pub(super) tied: bool,
    rope_type: Option<String>,
    pub(super) notes: Vec<String>,
}

/// What the model's configuration class takes for a key that is absent (transformers 5.23.0, `configuration_*.py`).
#[derive(Clone, Copy, Default)]
pub(super) struct Defaults {
    /// `tie_word_embeddings`.
    pub(super) tied: bool,
    /// `max_position_embeddings`; without one, engines fall back to 2048.
    pub(super) positions: Option<u64>,
    /// `hidden_size`; without one the key is needed.
    pub(super) hidden: Option<u64>,
    /// `vocab_size`; without one the key is needed.
    pub(super) vocabulary: Option<u64>,
}

/// The most decoder layers that are taken for true.
pub(super) const fn most_layers() -> u64 {
    4096
}

impl Common {
    /// Reads from the root and the configuration of the language model (the same object for text models), for a class
    /// without defaults of its own.
    pub(super) fn read(id: &str, root: &Config<'_>, text: &Config<'_>) -> Result<Self, Error> {
        Common::read_with(id, root, text, Defaults::default())
    }

    /// Reads from the root and the configuration of the language model, with the defaults of their class.
    pub(super) fn read_with(id: &str, root: &Config<'_>, text: &Config<'_>, defaults: Defaults) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let dtype = read_dtype(root, text, &mut notes)?;
        let architecture = root.texts("architectures")?.and_then(|names| names.first().map(|n| (*n).to_owned()));
        let tied = root.flag("tie_word_embeddings", text.flag("tie_word_embeddings", defaults.tied)?)?;
        let (max_positions, positions_limit) = positions(text, defaults.positions, &mut notes)?;
        Ok(Common {
            id: id.to_owned(),
            model_type: root.model_type().to_owned(),
            architecture: architecture.unwrap_or_default(),
            dtype,
            hidden: or_default(text, &["hidden_size", "n_embd", "n_embed", "d_model"], defaults.hidden, &mut notes)?,
            vocabulary: or_default(text, &["vocab_size", "padded_vocab_size"], defaults.vocabulary, &mut notes)?,
            max_positions,
            positions_limit,
            tied,
            rope_type: Rope::read(text)?.kind,
            notes,
        })
    }

    /// Completes the model.
    pub(super) fn model(self, layers: Vec<Layer>, list: Inventory) -> Model {
        Model {
            id: self.id,
            model_type: self.model_type,
            architecture: self.architecture,
            dtype: self.dtype,
            hidden: self.hidden,
            vocabulary: self.vocabulary,
            max_positions: self.max_positions,
            positions_limit: self.positions_limit,
            tied: self.tied,
            rope_type: self.rope_type,
            layers,
            draft_layers: 0,
            tower: None,
            tensors: list.tensors,
            quant: None,
            notes: self.notes,
        }
    }
}

/// Returns the first of `keys`, or the class's default with a note that says so.
fn or_default(text: &Config<'_>, keys: &[&str], default: Option<u64>, notes: &mut Vec<String>) -> Result<u64, Error> {
    match default {
        Some(number) if keys.iter().all(|key| text.get(key).is_none()) => {
            notes.push(format!("`{}` is absent; {number} is what the model's class takes then", text.place(keys[0])));
            Ok(number)
        }
        Some(_) | None => text.any(keys),
    }
}

/// Reads `dtype` or `torch_dtype`, from the root before the language model and the vision tower. Where none is named,
/// vLLM takes the dtype of the stored weights and serves fp32 as bf16.
///
/// Source: vLLM 0.33.0 `transformers_utils/model_arch_config_convertor.py`, `get_torch_dtype`.
fn read_dtype(root: &Config<'_>, text: &Config<'_>, notes: &mut Vec<String>) -> Result<DType, Error> {
    let vision = root.object("vision_config")?;
    for config in [Some(root), Some(text), vision.as_ref()].into_iter().flatten() {
        for key in ["dtype", "torch_dtype"] {
            if let Some(name) = config.text(key)? {
                return DType::parse(name).ok_or_else(|| config.invalid(key, "a dtype such as bfloat16"));
            }
        }
    }
    notes.push("the configuration names no dtype; bfloat16 is assumed".to_owned());
    Ok(DType::BF16)
}

/// The keys in which configurations write down a longest sequence.
const POSITION_KEYS: [&str; 9] = [
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
];

/// What engines assume when no key says how long a sequence may be.
const ASSUMED_POSITIONS: u64 = 2048;

/// Returns the longest sequence that engines take when none is asked for, and the longest that may be asked for.
///
/// The least of all keys, unless `model_max_length` says otherwise; times the factor of rope scaling where the kind
/// multiplies (linear, dynamic: others state the scaled length already); with LongRoPE the length before scaling is
/// taken when none is asked for.
///
/// Source: vLLM 0.33.0 `config/model.py`, `_get_and_verify_max_len`; `transformers_utils/
/// model_arch_config_convertor.py`, `derive_max_model_len_and_key`; `transformers_utils/config.py`,
/// `iter_rope_parameters`.
fn positions(text: &Config<'_>, default: Option<u64>, notes: &mut Vec<String>) -> Result<(u64, u64), Error> {
    let mut found: Option<u64> = None;
    for key in POSITION_KEYS {
        if let Some(length) = length(text, key, notes)? {
            found = Some(found.map_or(length, |least| least.min(length)));
        }
    }
    let named = ["max_position_embeddings", "n_positions"].iter().any(|key| text.get(key).is_some());
    if !named && let Some(default) = default {
        found = Some(found.map_or(default, |least| least.min(default)));
    }
    if let Some(length) = length(text, "model_max_length", notes)?
        && length > 0
    {
        found = Some(length);
    }
    let stated = found.unwrap_or_else(|| {
        notes.push(format!("no key says how long a sequence may be; {ASSUMED_POSITIONS} positions are assumed"));
        ASSUMED_POSITIONS
    });
    if stated == 0 {
        return Err(text.invalid("max_position_embeddings", "at least 1"));
    }
    let rope = Rope::read(text)?;
    let own_type = text.text("model_type")?.unwrap_or(text.model_type()).to_owned();
    let factor = if own_type.contains("gemma3") { 1.0 } else { rope.factor };
    let limit = (stated as f64 * factor) as u64;
    if !rope.long {
        return Ok((limit, limit));
    }
    let original = match text.maybe("original_max_position_embeddings")? {
        Some(original) => original,
        None if own_type == "phi3" => 4096,
        None if own_type == "phimoe" => rope.original.unwrap_or(limit),
        None => limit,
    };
    if original < limit {
        notes.push(format!(
            "LongRoPE: {original} positions are taken when none are asked for, and up to {limit} may be asked for"
        ));
    }
    Ok((original, limit))
}

/// Reads one of the keys; a number beyond any real sequence (tokenizers write 1e30 for "no limit") is passed over.
fn length(text: &Config<'_>, key: &str, notes: &mut Vec<String>) -> Result<Option<u64>, Error> {
    match text.get(key).and_then(serde_json::Value::as_f64) {
        Some(number) if number > f64::from(1 << 30) => {
            let note = format!("`{}` is no real limit and is passed over", text.place(key));
            if !notes.contains(&note) {
                notes.push(note);
            }
            Ok(None)
        }
        Some(_) | None => text.maybe(key),
    }
}

/// What rope scaling does to the longest sequence.
struct Rope {
    factor: f64,
    long: bool,
    original: Option<u64>,
    kind: Option<String>,
}

impl Rope {
    /// Reads `rope_scaling`, or `rope_parameters` in the newer style, which may hold one object per kind of layer.
    fn read(text: &Config<'_>) -> Result<Self, Error> {
        let mut rope = Rope { factor: 1.0, long: false, original: None, kind: None };
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(outer) = text.object(key)? else { continue };
            let kinds = outer.objects();
            let all = if kinds.is_empty() { vec![outer] } else { kinds };
            let mut any = false;
            for config in &all {
                any |= rope.take(config)?;
            }
            if any {
                break;
            }
        }
        Ok(rope)
    }

    /// Takes one object; returns whether it says anything.
    fn take(&mut self, config: &Config<'_>) -> Result<bool, Error> {
        if config.is_empty() {
            return Ok(false);
        }
        let kind = match config.text("rope_type")? {
            Some(kind) => kind,
            None => config.text("type")?.unwrap_or("default"),
        };
        if kind != "default" {
            self.kind = Some(kind.to_owned());
        }
        match kind {
            "su" | "longrope" => {
                self.long = true;
                self.original = config.maybe("original_max_position_embeddings")?;
            }
            "llama3" | "yarn" | "deepseek_yarn" | "deepseek_llama_scaling" => {}
            _ => match config.float("factor")? {
                Some(factor) if factor > 0.0 && factor <= 65_536.0 => self.factor = factor,
                Some(_) => return Err(config.invalid("factor", "a factor above 0 and up to 65536")),
                None => {}
            },
        }
        Ok(true)
    }
}
