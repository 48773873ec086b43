//! What is this model, as text? Facts, runs of equal layers, the inventory.

use plimsoll_api::InspectAnswer;
use plimsoll_api::answer::TensorLine;

use crate::csv;
use crate::number::{count, percent, short, size};
use crate::page::{Style, clean, columns, left, markdown_row, markdown_rule, width, wrap};

/// Shows a model; `tensors` lists the inventory pattern by pattern instead of block by block.
pub fn inspect_table(answer: &InspectAnswer, tensors: bool, style: Style) -> String {
    let mut out = format!("{}\n\n", style.bold(&clean(&format!("{} ({})", answer.model.id, answer.architecture))));
    for (name, value) in facts(answer) {
        out.push_str(&wrap(&format!("  {}", left(name, 20)), &value, style.width));
    }
    out.push_str(&format!("\n{}\n", style.bold("Layers")));
    for run in &answer.layers {
        let words = format!("{}; {}", run.mixer, run.ffn);
        out.push_str(&wrap(
            &format!("  {} × ", count(run.count)),
            &format!("{words} ({} {})", if run.count == 1 { "layer" } else { "layers" }, few(&run.layers)),
            style.width,
        ));
    }
    let mut rows = if tensors { patterns(&answer.tensors) } else { blocks(answer) };
    let mut shown = rows.first().map_or(0, Vec::len);
    if rows.iter().skip(1).all(|row| row.last().is_none_or(String::is_empty)) {
        shown = shown.saturating_sub(1);
        rows.iter_mut().for_each(|row| row.truncate(shown));
    }
    shorten_names(&mut rows, style.width.saturating_sub(2));
    let numeric: &[bool] =
        if tensors { &[false, false, true, true, false, true] } else { &[false, true, true, true, true] };
    out.push_str(&format!("\n{}\n", style.bold("Tensors")));
    for line in columns(&rows, &numeric[..shown.min(numeric.len())], style.width.saturating_sub(2)) {
        out.push_str(&format!("  {line}\n"));
    }
    if !answer.notes.is_empty() {
        let notes: String = answer.notes.iter().map(|note| wrap("  - ", note, style.width)).collect();
        out.push_str(&format!("\n{}\n{notes}", style.bold("Notes")));
    }
    out
}

/// Writes the inventory as comma-separated values, one pattern a line.
pub fn inspect_csv(answer: &InspectAnswer) -> String {
    let mut out = csv::line(&["name", "shape", "count", "layers", "part", "parameters", "format", "bytes"]);
    for tensor in &answer.tensors {
        let bytes = tensor.bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
        let (shape, many, parameters) = (shape(tensor), tensor.count.to_string(), tensor.parameters.to_string());
        let cells =
            [&tensor.name, shape.as_str(), &many, &tensor.layers, &tensor.part, &parameters, &tensor.format, &bytes];
        out.push_str(&csv::line(&cells));
    }
    out
}

/// Writes a model as Markdown.
pub fn inspect_markdown(answer: &InspectAnswer) -> String {
    let mut out = format!("### {} ({})\n\n", clean(&answer.model.id), clean(&answer.architecture));
    out.push_str(&markdown_row(&["fact", "value"]));
    out.push_str(&markdown_rule(&[false, false]));
    for (name, value) in facts(answer) {
        out.push_str(&markdown_row(&[name, &value]));
    }
    out.push('\n');
    out.push_str(&markdown_row(&["layers", "count", "mixer", "feed-forward"]));
    out.push_str(&markdown_rule(&[false, true, false, false]));
    for run in &answer.layers {
        out.push_str(&markdown_row(&[run.layers.as_str(), &count(run.count), &run.mixer, &run.ffn]));
    }
    out.push('\n');
    for (at, row) in patterns(&answer.tensors).iter().enumerate() {
        out.push_str(&markdown_row(row));
        if at == 0 {
            out.push_str(&markdown_rule(&[false, false, true, true, false, true]));
        }
    }
    for note in &answer.notes {
        out.push_str(&format!("\n> {}\n", clean(note)));
    }
    out
}

/// Name and value of each fact.
fn facts(answer: &InspectAnswer) -> Vec<(&'static str, String)> {
    let model = &answer.model;
    let full = |number: u64| format!("{} ({})", short(number), count(number));
    let bits = answer.bits_per_weight.map_or_else(String::new, |bits| format!(", {bits:.2} bits per weight"));
    let stored = answer.checkpoint_bytes.map_or_else(|| "not known".to_owned(), size) + &bits;
    let output = if answer.tied { "tied to the embedding" } else { "a matrix of its own" };
    let mut facts = vec![
        ("type", model.model_type.clone()),
        ("parameters", full(model.parameters)),
        ("active per token", full(model.active_parameters)),
        (
            "format",
            model.quantization.as_ref().map_or(model.dtype.to_string(), |m| format!("{m} over {}", model.dtype)),
        ),
        ("as stored", stored),
        ("KV cache per token", format!("{}, all layers, before any window is full", size(answer.kv_bytes_per_token))),
        ("hidden size", count(answer.hidden)),
        ("vocabulary", format!("{}, output {output}", count(answer.vocabulary))),
        ("longest sequence", count(answer.max_positions)),
        ("source", model.source.clone()),
    ];
    if answer.state_bytes_per_sequence > 0 {
        facts.insert(
            6,
            ("state per sequence", format!("{}, whatever its length", size(answer.state_bytes_per_sequence))),
        );
    }
    if answer.tower_parameters > 0 {
        facts.insert(3, ("towers", format!("{} of these", full(answer.tower_parameters))));
    }
    if answer.draft_parameters > 0 {
        facts.insert(3, ("drafting layers", format!("{} beside these", full(answer.draft_parameters))));
    }
    facts
}

/// The runs of a list of layers, the middle ones left out where there are many: `1-2,4-6,8-10,…,88-90`.
fn few(layers: &str) -> String {
    let runs: Vec<&str> = layers.split(',').collect();
    match runs.as_slice() {
        [first, second, third, .., last] if runs.len() > 6 => format!("{first},{second},{third},…,{last}"),
        _ => layers.to_owned(),
    }
}

fn shape(tensor: &TensorLine) -> String {
    tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join("×")
}

/// Cuts the names of the first column in front, where they are alike, so that the row fits.
fn shorten_names(rows: &mut [Vec<String>], to: usize) {
    let count = rows.first().map_or(0, Vec::len);
    let longest = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0);
    let others: usize = (1..count).map(|at| longest(at) + 2).sum();
    let room = to.saturating_sub(others).max(12);
    for name in rows.iter_mut().filter_map(|row| row.first_mut()) {
        let over = width(name).saturating_sub(room);
        if over > 0 {
            *name = format!("…{}", name.chars().skip(over + 1).collect::<String>());
        }
    }
}

/// The inventory pattern by pattern.
fn patterns(tensors: &[TensorLine]) -> Vec<Vec<String>> {
    let mut rows = vec![["name", "shape", "count", "parameters", "format", "bytes"].map(str::to_owned).to_vec()];
    rows.extend(tensors.iter().map(|tensor| {
        let bytes = tensor.bytes.map(size).unwrap_or_default();
        let format = clean(&tensor.format);
        vec![clean(&tensor.name), shape(tensor), count(tensor.count), short(tensor.parameters), format, bytes]
    }));
    rows
}

/// The inventory block by block: what stands behind the layer's number, or the tensor itself.
fn blocks(answer: &InspectAnswer) -> Vec<Vec<String>> {
    let mut sums: Vec<(String, u64, u64, Option<u64>)> = Vec::new();
    for tensor in &answer.tensors {
        let name = block(tensor);
        let at = sums.iter().position(|sum| sum.0 == name).unwrap_or_else(|| {
            sums.push((name, 0, 0, Some(0)));
            sums.len() - 1
        });
        let sum = &mut sums[at];
        sum.1 = sum.1.saturating_add(tensor.count);
        sum.2 = sum.2.saturating_add(tensor.parameters);
        sum.3 = sum.3.zip(tensor.bytes).map(|(all, bytes)| all.saturating_add(bytes));
    }
    let mut rows = vec![["block", "tensors", "parameters", "share", "bytes"].map(str::to_owned).to_vec()];
    rows.extend(sums.into_iter().map(|(name, tensors, parameters, bytes)| {
        let share = percent(parameters, answer.model.parameters);
        vec![clean(&name), count(tensors), short(parameters), share, bytes.map(size).unwrap_or_default()]
    }));
    rows
}

fn block(tensor: &TensorLine) -> String {
    let part = if tensor.part == "text" { String::new() } else { format!("{}: ", tensor.part) };
    let name = match tensor.name.split_once(".{i}.") {
        Some((_, rest)) => rest.split('.').next().unwrap_or(rest),
        None => tensor.name.trim_end_matches(".weight").trim_end_matches(".bias"),
    };
    format!("{part}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_api::answer::{LayerRun, ModelHead};

    fn tensor(name: &str, shape: [u64; 2], count: u64, part: &'static str) -> TensorLine {
        let parameters = shape[0] * shape[1] * count;
        TensorLine {
            name: name.into(),
            shape: shape.to_vec(),
            count,
            layers: if count > 1 { "0-31".into() } else { String::new() },
            part: part.into(),
            role: "attention".into(),
            parameters,
            format: "bfloat16".into(),
            bytes: Some(parameters * 2),
        }
    }

    fn example() -> InspectAnswer {
        InspectAnswer {
            model: ModelHead {
                id: "meta-llama/Llama-3.1-8B".into(),
                model_type: "llama".into(),
                parameters: 8_030_261_248,
                active_parameters: 8_030_261_248,
                dtype: "bfloat16".into(),
                quantization: None,
                source: "built in".into(),
            },
            architecture: "LlamaForCausalLM".into(),
            hidden: 4096,
            vocabulary: 128_256,
            max_positions: 131_072,
            tied: false,
            tower_parameters: 0,
            draft_parameters: 0,
            checkpoint_bytes: Some(16_060_522_496),
            bits_per_weight: None,
            kv_bytes_per_token: 131_072,
            state_bytes_per_sequence: 0,
            kv_growth: Vec::new(),
            layers: vec![LayerRun {
                layers: "0-31".into(),
                count: 32,
                mixer: "attention, 32 heads over 8 KV heads of 128".into(),
                ffn: "gated MLP of 14336".into(),
            }],
            files: None,
            tensors: vec![
                tensor("model.embed_tokens.weight", [128_256, 4096], 1, "text"),
                tensor("model.layers.{i}.self_attn.q_proj.weight", [4096, 4096], 32, "text"),
                tensor("model.layers.{i}.self_attn.k_proj.weight", [1024, 4096], 32, "text"),
                tensor("model.layers.{i}.mlp.up_proj.weight", [14_336, 4096], 32, "text"),
                tensor("lm_head.weight", [128_256, 4096], 1, "text"),
            ],
            notes: vec!["a note".into()],
        }
    }

    #[test]
    fn a_model_block_by_block() {
        insta::assert_snapshot!(inspect_table(&example(), false, Style::PLAIN), @r"
        meta-llama/Llama-3.1-8B (LlamaForCausalLM)

          type                llama
          parameters          8.03 B (8 030 261 248)
          active per token    8.03 B (8 030 261 248)
          format              bfloat16
          as stored           15.0 GiB
          KV cache per token  128 KiB, all layers, before any window is full
          hidden size         4 096
          vocabulary          128 256, output a matrix of its own
          longest sequence    131 072
          source              built in

        Layers
          32 × attention, 32 heads over 8 KV heads of 128; gated MLP of 14336 (layers
               0-31)

        Tensors
          block               tensors  parameters  share     bytes
          model.embed_tokens        1       525 M   6.5%  0.98 GiB
          self_attn                64       671 M   8.4%  1.25 GiB
          mlp                      32      1.88 B  23.4%  3.50 GiB
          lm_head                   1       525 M   6.5%  0.98 GiB

        Notes
          - a note
        ");
    }

    #[test]
    fn a_model_tensor_by_tensor() {
        let table = inspect_table(&example(), true, Style::PLAIN);
        insta::assert_snapshot!(&table[table.find("Tensors").unwrap()..], @r"
        Tensors
          name                        shape        count  parameters  format       bytes
          model.embed_tokens.weight   128256×4096      1       525 M  bfloat16  0.98 GiB
          …}.self_attn.q_proj.weight  4096×4096       32       537 M  bfloat16  1.00 GiB
          …}.self_attn.k_proj.weight  1024×4096       32       134 M  bfloat16   256 MiB
          …rs.{i}.mlp.up_proj.weight  14336×4096      32      1.88 B  bfloat16  3.50 GiB
          lm_head.weight              128256×4096      1       525 M  bfloat16  0.98 GiB

        Notes
          - a note
        ");
        insta::assert_snapshot!(inspect_markdown(&example()), @r"
        ### meta-llama/Llama-3.1-8B (LlamaForCausalLM)

        | fact | value |
        | --- | --- |
        | type | llama |
        | parameters | 8.03 B (8 030 261 248) |
        | active per token | 8.03 B (8 030 261 248) |
        | format | bfloat16 |
        | as stored | 15.0 GiB |
        | KV cache per token | 128 KiB, all layers, before any window is full |
        | hidden size | 4 096 |
        | vocabulary | 128 256, output a matrix of its own |
        | longest sequence | 131 072 |
        | source | built in |

        | layers | count | mixer | feed-forward |
        | --- | ---: | --- | --- |
        | 0-31 | 32 | attention, 32 heads over 8 KV heads of 128 | gated MLP of 14336 |

        | name | shape | count | parameters | format | bytes |
        | --- | --- | ---: | ---: | --- | ---: |
        | model.embed_tokens.weight | 128256×4096 | 1 | 525 M | bfloat16 | 0.98 GiB |
        | model.layers.{i}.self_attn.q_proj.weight | 4096×4096 | 32 | 537 M | bfloat16 | 1.00 GiB |
        | model.layers.{i}.self_attn.k_proj.weight | 1024×4096 | 32 | 134 M | bfloat16 | 256 MiB |
        | model.layers.{i}.mlp.up_proj.weight | 14336×4096 | 32 | 1.88 B | bfloat16 | 3.50 GiB |
        | lm_head.weight | 128256×4096 | 1 | 525 M | bfloat16 | 0.98 GiB |

        > a note
        ");
        assert_eq!(inspect_csv(&example()).lines().count(), 6);
    }
}
