//! Do our sizes equal those that the engine printed? Rows of the shared oracle, compared field by field.

use plimsoll_facts::gguf::{GgmlType, Gguf};
use serde_json::Value;

use super::buffer::{Sums, Where};
use super::cache::{Role, cache};
use super::compute::{Ask, compute};
use super::context::{Asked, Context, Flash};
use super::hparams::Hparams;
use super::rules::Rules;
use super::weights::{Host, Offload, Override, Placed, place};
use crate::{Error, Refusal, Version};

/// What a row asks for: the context's settings and where the layers go.
#[derive(Clone, Debug)]
pub struct Case {
    /// The context.
    pub asked: Asked,
    /// The layers.
    pub offload: Offload,
}

/// What the engine would make of a row.
#[derive(Clone, Debug)]
pub struct Made {
    /// The hyper-parameters.
    pub hparams: Hparams,
    /// The context, or the engine's refusal.
    pub context: Result<Context, Refusal>,
    /// Where everything lies.
    pub placed: Placed,
}

/// Reads a row's settings.
///
/// # Errors
/// [`Error::Request`] names what cannot be read.
pub fn case(row: &Value, h: &Hparams) -> Result<Case, Error> {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    let flag = |key: &str| row.get(key).and_then(Value::as_bool).unwrap_or(false);
    let bad = |key: &str| Error::Request(format!("{key} is absent or of an unknown form"));
    let kind = |key: &'static str| text(key).and_then(GgmlType::parse).ok_or_else(|| bad(key));
    let command = text("command").unwrap_or_default();
    let word = |name: &str| {
        let mut words = command.split([' ', ';']).skip_while(|word| *word != name);
        words.nth(1).and_then(|word| word.parse::<u64>().ok())
    };
    let number = |key: &str| row.get(key).and_then(Value::as_u64);
    let asked = Asked {
        tokens: number("n_ctx_arg").filter(|tokens| *tokens > 0),
        batch: word("-b").or_else(|| number("n_batch")).unwrap_or(2048),
        ubatch: word("-ub").or_else(|| number("n_ubatch")).unwrap_or(512),
        sequences: number("n_seq_max").unwrap_or(1),
        unified: flag("kv_unified"),
        flash: match text("flash_attn") {
            Some("off") => Flash::Off,
            Some("on") => Flash::On,
            Some("auto") | None => Flash::Auto,
            Some(_) => return Err(bad("flash_attn")),
        },
        kind_k: kind("type_k")?,
        kind_v: kind("type_v")?,
        swa_full: flag("swa_full"),
        outputs: number("n_outputs_max").filter(|outputs| *outputs > 0),
        embeddings: flag("embeddings"),
        snapshots: number("n_rs_seq").unwrap_or(0),
        offload_kv: !flag("no_kv_offload"),
        ..Asked::default()
    };
    Ok(Case { asked, offload: layout(text("layout").unwrap_or_default(), h)? })
}

/// Reads where a row's layers go.
fn layout(text: &str, h: &Hparams) -> Result<Offload, Error> {
    let unknown = || Error::Request(format!("layout `{text}` is not known"));
    let host = Host { mapped: false, ..Host::default() };
    let mut offload = Offload {
        gpus: 0,
        layers: None,
        shares: Vec::new(),
        overrides: Vec::new(),
        host,
        drafting: false,
        output_first: true,
    };
    if let Some(rest) = text.strip_prefix("CPU") {
        offload.host.repack = match rest {
            "" => true,
            "-norepack" => false,
            _ => return Err(unknown()),
        };
        return Ok(offload);
    }
    let (count, rest) = text.strip_prefix("CUDA x").and_then(|rest| rest.split_once(' ')).ok_or_else(unknown)?;
    offload.gpus = count.parse().ok().filter(|count| (1..=16).contains(count)).ok_or_else(unknown)?;
    let all = h.layers.len() as u64;
    match rest {
        "all layers" => {}
        "half layers" => offload.layers = Some(all / 2),
        "n-cpu-moe all" => {
            let pattern = super::options::experts_pattern().clone();
            offload.overrides.push(Override { pattern, to: Where::Host });
        }
        _ => {
            let layers = rest.strip_prefix("ngl ").and_then(|layers| layers.parse().ok()).ok_or_else(unknown)?;
            offload.layers = Some(layers);
        }
    }
    Ok(offload)
}

/// Works a row out.
///
/// # Errors
/// [`Error`] when the file or the row cannot be understood.
pub fn made(row: &Value, gguf: &Gguf) -> Result<Made, Error> {
    let hparams = Hparams::read(gguf)?;
    let Case { asked, offload } = case(row, &hparams)?;
    let context = Context::new(&hparams, &asked, &Rules::of(Version::new(u16::MAX, 0, 0)));
    let placed = place(gguf, &hparams, &offload);
    Ok(Made { hparams, context, placed })
}

/// Compares a row with ours: caches, model buffers, output buffer and geometry to the printed digit.
///
/// # Errors
/// [`Error`] when the file or the row cannot be understood.
pub fn differences(row: &Value, gguf: &Gguf) -> Result<Vec<String>, Error> {
    let Made { hparams: h, context, placed } = made(row, gguf)?;
    let ok = row.get("ok").and_then(Value::as_bool).unwrap_or(true);
    let context = match (context, ok) {
        (Ok(context), true) => context,
        (Err(_), false) => return Ok(Vec::new()),
        (Ok(_), false) => return Ok(vec!["the engine refused it".to_owned()]),
        (Err(refusal), true) => return Ok(vec![format!("refused: {}", refusal.message)]),
    };
    let flash = row.get("fa_enabled").and_then(Value::as_bool).unwrap_or(true);
    let cache = cache(&h, &context, &placed.layers, flash);
    let mut wrong = Vec::new();
    for (key, ours) in [
        ("n_ctx", context.tokens),
        ("n_ctx_seq", context.tokens_seq),
        ("n_batch", context.batch),
        ("n_ubatch", context.ubatch),
    ] {
        let theirs = row.get(key).and_then(Value::as_u64);
        if theirs.is_some_and(|theirs| theirs != ours) {
            wrong.push(format!("{key} {ours} instead of {}", theirs.unwrap_or_default()));
        }
    }
    let recurrent = cache.part(Role::Recurrent);
    let window = cache.part(Role::Window);
    let bytes = |part: Option<&super::cache::Part>| part.map_or(0, |part| part.keys.saturating_add(part.values));
    if let (Some(theirs), Some(window)) = (row.get("kv_swa_cells").and_then(Value::as_u64), window)
        && theirs != window.cells
    {
        wrong.push(format!("kv_swa_cells {} instead of {theirs}", window.cells));
    }
    // The engine prints one line for each part; their sum is that of the printed numbers.
    let lines = cache.parts.iter().filter(|part| !matches!(part.role, Role::Recurrent | Role::Compressor));
    let total: f64 = lines.filter_map(|part| format!("{:.2}", mib(bytes(Some(part)))).parse::<f64>().ok()).sum();
    let theirs = row.get("kv_total_mib").and_then(Value::as_f64);
    if theirs.is_some_and(|theirs| (theirs - total).abs() > 0.001) {
        wrong.push(format!("kv_total_mib {total:.2} instead of {:.2}", theirs.unwrap_or_default()));
    }
    let printed = [
        ("/kv_swa_mib", bytes(window)),
        ("/rs_mib/total", bytes(recurrent)),
        ("/rs_mib/R", recurrent.map_or(0, |part| part.keys)),
        ("/rs_mib/S", recurrent.map_or(0, |part| part.values)),
        ("/output_buffer_mib", context.output_bytes(&h)),
    ];
    for (key, ours) in printed {
        let Some(theirs) = row.pointer(key).and_then(Value::as_f64) else { continue };
        if format!("{:.2}", mib(ours)) != format!("{theirs:.2}") {
            wrong.push(format!("{} {:.2} instead of {theirs:.2}", &key[1..], mib(ours)));
        }
    }
    wrong.extend(sums(row, "context_mib", &cache.sums()));
    wrong.extend(sums(row, "model_buffer_mib", &placed.sums));
    Ok(wrong)
}

/// A compute buffer beside the engine's, MiB.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Its name.
    pub name: String,
    /// Ours.
    pub ours: f64,
    /// The engine's.
    pub theirs: f64,
    /// Whether the architecture's graph was played through rather than estimated.
    pub played: bool,
}

impl Buffer {
    /// Whether ours is within two percent.
    pub fn is_close(&self) -> bool {
        (self.ours - self.theirs).abs() <= 0.02 * self.theirs.abs() + 1e-6
    }
}

/// Returns a row's compute buffers beside ours; none for a row that was refused.
///
/// # Errors
/// [`Error`] when the file or the row cannot be understood.
pub fn buffers(row: &Value, gguf: &Gguf) -> Result<Vec<Buffer>, Error> {
    let Some(theirs) = row.get("compute_buffer_mib").and_then(Value::as_object) else { return Ok(Vec::new()) };
    let Made { hparams: h, context: Ok(context), placed } = made(row, gguf)? else { return Ok(Vec::new()) };
    let command = row.get("layout").and_then(Value::as_str).unwrap_or_default();
    let offload = layout(command, &h)?;
    let gpus = vec![Some((8, 6)); offload.gpus];
    let pipeline = offload.overrides.is_empty();
    let rules = Rules::of(Version::new(u16::MAX, 0, 0));
    let ask =
        Ask { h: &h, gguf, placed: &placed, context: &context, rules: &rules, gpus: &gpus, pipeline, measured: true };
    let ours = compute(&ask);
    let played = ours.graph.is_some();
    let host = |name: &str| name == "CUDA_Host" || name == "CPU";
    let found = theirs.iter().map(|(name, value)| {
        let number = name.strip_prefix("CUDA").and_then(|number| number.parse::<usize>().ok());
        let size = number.and_then(|number| ours.gpus.get(number)).or_else(|| host(name).then_some(&ours.host));
        let ours = size.map_or(0.0, |size| mib(size.bytes.get()));
        Buffer { name: name.clone(), ours, theirs: value.as_f64().unwrap_or_default(), played }
    });
    Ok(found.collect())
}

/// Compares sums by the names of memories, to the last byte.
fn sums(row: &Value, key: &str, ours: &Sums) -> Vec<String> {
    let Some(theirs) = row.get(key).and_then(Value::as_object) else { return Vec::new() };
    let mut wrong = Vec::new();
    for (name, value) in theirs {
        let theirs = value.as_f64().unwrap_or_default();
        let found = ours.iter().find(|(place, _)| place.name() == *name).map_or(0, |(_, bytes)| bytes);
        if (mib(found) - theirs).abs() > 1e-6 {
            wrong.push(format!("{key} {name} {:.4} instead of {theirs:.4}", mib(found)));
        }
    }
    let unknown = ours.iter().filter(|(place, bytes)| *bytes > 0 && !theirs.contains_key(&place.name()));
    wrong.extend(unknown.map(|(place, bytes)| format!("{key} has {} {:.4}", place.name(), mib(bytes))));
    wrong
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
