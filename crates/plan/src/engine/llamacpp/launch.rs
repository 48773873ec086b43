//! How is this launch written as a command?

use super::context::Flash;
use super::layout::{Site, Trial};
use super::options::{Options, SplitMode};
use plimsoll_facts::gguf::GgmlType;

/// Returns the command, one argument per item, with what was left open filled in.
pub fn command(file: [String; 2], site: &Site<'_>, options: &Options, trial: &Trial, flash: Flash) -> Vec<String> {
    let mut words = vec![if options.server { "llama-server" } else { "llama-cli" }.to_owned()];
    words.extend(file);
    let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
    let asked = &trial.asked;
    flag("-c", asked.tokens.unwrap_or(0).to_string());
    if site.cards.is_empty() {
        flag("-dev", "none".to_owned());
    } else {
        flag("-ngl", trial.layers.map_or_else(|| "all".to_owned(), |layers| layers.to_string()));
    }
    if options.server {
        flag("-np", asked.sequences.to_string());
    }
    if asked.batch != 2048 {
        flag("-b", asked.batch.to_string());
    }
    if asked.ubatch != 512 {
        flag("-ub", asked.ubatch.to_string());
    }
    for (name, kind) in [("-ctk", asked.kind_k), ("-ctv", asked.kind_v)] {
        if kind != GgmlType::F16 {
            flag(name, kind.name().to_owned());
        }
    }
    match flash {
        Flash::Off => flag("-fa", "off".to_owned()),
        Flash::On => flag("-fa", "on".to_owned()),
        Flash::Auto => {}
    }
    match options.split {
        SplitMode::Layer => {}
        SplitMode::None => flag("-sm", "none".to_owned()),
        SplitMode::Row => flag("-sm", "row".to_owned()),
        SplitMode::Tensor => flag("-sm", "tensor".to_owned()),
    }
    if !trial.shares.is_empty() {
        let shares: Vec<String> = trial.shares.iter().map(ToString::to_string).collect();
        flag("-ts", shares.join(","));
    }
    if options.main_gpu > 0 {
        flag("-mg", options.main_gpu.to_string());
    }
    for (name, value) in &options.override_flags {
        let name = format!("--{}", name.replace('_', "-"));
        if value.is_empty() { words.push(name) } else { words.extend([name, value.clone()]) }
    }
    let mut switch = |on: bool, name: &str| {
        if on {
            words.push(name.to_owned())
        }
    };
    switch(asked.unified, "-kvu");
    switch(asked.swa_full, "--swa-full");
    switch(!asked.offload_kv, "-nkvo");
    switch(!asked.offload_ops, "--no-op-offload");
    switch(asked.embeddings, "--embeddings");
    switch(!site.host.mapped, "--no-mmap");
    switch(!site.host.repack, "--no-repack");
    switch(!site.host.pinned, "--no-host");
    if let Some(draft) = &options.draft {
        match &draft.model {
            Some(model) => words.extend(["-md".to_owned(), model.clone()]),
            None => words.extend(["--spec-type".to_owned(), "draft-mtp".to_owned()]),
        }
        words.extend(["--spec-draft-n-max".to_owned(), draft.tokens.to_string()]);
    }
    options.loras.iter().for_each(|lora| words.extend(["--lora".to_owned(), lora.clone()]));
    options.control_vectors.iter().for_each(|path| words.extend(["--control-vector".to_owned(), path.clone()]));
    if let Some(mmproj) = &options.mmproj {
        words.extend(["--mmproj".to_owned(), mmproj.clone()]);
    }
    words
}
