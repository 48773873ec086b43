//! How is this launch written as a command?

use super::buffer::Where;
use super::context::Flash;
use super::layout::{Site, Trial};
use super::options::{GpuLayers, Options, SplitMode};
use plimsoll_facts::gguf::GgmlType;

/// Returns the command, one argument per item, with what was left open filled in.
pub fn command(file: [String; 2], site: &Site<'_>, options: &Options, trial: &Trial, flash: Flash) -> Vec<String> {
    let mut words = vec![if options.server { "llama-server" } else { "llama-cli" }.to_owned()];
    words.extend(file);
    let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
    let asked = &trial.asked;
    flag("-c", asked.tokens.unwrap_or(0).to_string());
    match &options.devices {
        _ if site.cards.is_empty() => flag("-dev", "none".to_owned()),
        Some(numbers) => flag("-dev", numbers.iter().map(|at| format!("CUDA{at}")).collect::<Vec<_>>().join(",")),
        None => {}
    }
    if !site.cards.is_empty() {
        // Builds that fit nothing know no word for all layers.
        let all = if site.rules.fits { "all".to_owned() } else { (site.h.layers.len() + 1).to_string() };
        flag("-ngl", trial.layers.map_or(all, |layers| layers.to_string()));
    }
    if options.server || asked.sequences > 1 {
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
    for rule in moved(options, trial) {
        words.extend(["--override-tensor".to_owned(), rule]);
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
        match draft.layers {
            GpuLayers::Auto => {}
            GpuLayers::All => words.extend(["-ngld".to_owned(), "all".to_owned()]),
            GpuLayers::Exact(layers) => words.extend(["-ngld".to_owned(), layers.to_string()]),
        }
        for (name, kind) in [("-ctkd", draft.kind_k), ("-ctvd", draft.kind_v)] {
            if kind != GgmlType::F16 {
                words.extend([name.to_owned(), kind.name().to_owned()]);
            }
        }
    }
    options.loras.iter().for_each(|lora| words.extend(["--lora".to_owned(), lora.clone()]));
    options.control_vectors.iter().for_each(|path| words.extend(["--control-vector".to_owned(), path.clone()]));
    if let Some(mmproj) = &options.mmproj {
        words.extend(["--mmproj".to_owned(), mmproj.clone()]);
        if !options.mmproj_offload {
            words.push("--no-mmproj-offload".to_owned());
        }
    }
    words
}

/// The tensors that `--fit` moved, as `-ot` takes them: layers of which the same part goes to the same memory together.
fn moved(options: &Options, trial: &Trial) -> Vec<String> {
    let mut groups: Vec<(String, Where, Vec<String>)> = Vec::new();
    for rule in trial.overrides.iter().skip(options.overrides.len()) {
        let pattern = rule.pattern.as_str();
        let Some((layer, part)) = pattern.strip_prefix(r"blk\.").and_then(|rest| rest.split_once('\\')) else {
            groups.push((pattern.to_owned(), rule.to, Vec::new()));
            continue;
        };
        match groups.iter_mut().find(|(found, to, layers)| found == part && *to == rule.to && !layers.is_empty()) {
            Some((_, _, layers)) => layers.push(layer.to_owned()),
            None => groups.push((part.to_owned(), rule.to, vec![layer.to_owned()])),
        }
    }
    let written = |(part, to, layers): (String, Where, Vec<String>)| match layers.as_slice() {
        [] => format!("{part}={}", to.name()),
        [layer] => format!(r"blk\.{layer}\{part}={}", to.name()),
        [_, ..] => format!(r"blk\.({})\{part}={}", layers.join("|"), to.name()),
    };
    groups.into_iter().map(written).collect()
}
