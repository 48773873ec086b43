//! Ollama's decisions: the formulas against public logs, placement against the project's own tables, tags, Modelfiles.

use plimsoll_facts::gguf::FileType;
use plimsoll_plan::Version;
use plimsoll_plan::engine::ollama::estimate::{self, Gpu, MINIMUM, Request};
use plimsoll_plan::engine::ollama::graph::{Load, graph_size};
use plimsoll_plan::engine::ollama::layout::{self, Gpu as Room};
use plimsoll_plan::engine::ollama::predict::{self, Unfused};
use plimsoll_plan::engine::ollama::sizes::{More, Sizes};
use plimsoll_plan::engine::ollama::{modelfile, rules, show, tag};

const MIB: u64 = 1 << 20;
const OLD: Version = Version::new(0, 6, 6);

/// A file of equal layers.
fn sizes(arch: &str, layers: usize, layer: u64, embedding: u64, heads: u64, heads_kv: u64, width: u64) -> Sizes {
    Sizes {
        arch: arch.to_owned(),
        layers: vec![layer; layers],
        embedding,
        heads: vec![heads; layers],
        heads_kv: vec![heads_kv; layers],
        key: width,
        value: width,
        head: embedding / heads,
        ..Sizes::default()
    }
}

fn load(context: u64, element: f64) -> Load {
    Load { context, batch: 512.min(context), parallel: 1, element, flash: false }
}

/// The model of the project's own test: `llm/memory_test.go` of 0.12.10.
fn dummy() -> Sizes {
    Sizes { vocabulary: 1, output: Some(4), ..sizes("llama", 5, 4, 4096, 32, 32, 128) }
}

#[test]
fn graphs_and_caches_are_those_of_logs() {
    // The project's own test.
    let found = graph_size(&dummy(), &load(2048, 2.0), OLD);
    assert_eq!((found.full, found.partial), (171_968_512, 202_377_216));
    assert_eq!(found.kv[0] + 4, 33_554_436);
    // Mistral-Small-3.1, issue #10417: kv 640.0 MiB, graph 426.7 MiB.
    let found = graph_size(&sizes("mistral3", 40, 0, 5120, 32, 8, 128), &load(4096, 2.0), OLD);
    assert_eq!(show::human_binary(found.kv_total()), "640.0 MiB");
    assert_eq!(show::human_binary(found.full), "426.7 MiB");
    // gemma3-4b, issue #10765: kv 254.0 MiB, graph 517.0 MiB and 1.0 GiB.
    let mut gemma = sizes("gemma3", 34, 0, 2560, 8, 4, 256);
    (gemma.vocabulary, gemma.more) = (262_144, More { window: 1024, ..More::default() });
    let found = graph_size(&gemma, &load(4096, 2.0), OLD);
    assert_eq!(show::human_binary(found.kv_total()), "254.0 MiB");
    assert_eq!(show::human_binary(found.full), "517.0 MiB");
    assert_eq!(show::human_binary(found.partial), "1.0 GiB");
    // gpt-oss-20b, issue #11711: kv 300.0 MiB, graph 2.0 GiB of the cache without windows.
    let found = graph_size(&sizes("gptoss", 24, 0, 2880, 64, 8, 64), &load(8192, 2.0), Version::new(0, 11, 3));
    assert_eq!(show::human_binary(found.kv_total()), "300.0 MiB");
    assert_eq!(show::human_binary(found.full), "2.0 GiB");
    // Mistral-Small-22B at 49 152 with q8_0, issue #6160: 5376 MiB where 5712 are allocated, and a graph blind to attention.
    let found = graph_size(&sizes("llama", 56, 0, 6144, 48, 8, 128), &load(49_152, 1.0), OLD);
    assert_eq!(found.kv_total(), 5376 * MIB);
    assert_eq!(show::human_binary(found.full), "4.6 GiB");
}

#[test]
fn the_estimator_deals_layers_as_its_own_test_says() {
    let request = Request {
        load: load(2048, 2.0),
        layers: None,
        overhead: 0,
        projector: 0,
        metal: false,
        version: Version::new(0, 12, 10),
    };
    let layer = 33_554_436;
    for (space, expected) in [
        ([1, 1], [1, 1]),
        ([2, 1], [2, 1]),
        ([2, 2], [2, 2]),
        ([1, 2], [1, 2]),
        ([3, 3], [3, 3]),
        ([4, 4], [3, 3]),
        ([6, 6], [3, 3]),
        ([0, 3], [0, 3]),
    ] {
        let mut gpus =
            space.map(|layers| Gpu { free: MINIMUM + layer * (layers + 1) + 1 + 202_377_216, minimum: MINIMUM });
        gpus[usize::from(space[0] == 0)].free += 4;
        let found = estimate::estimate(&dummy(), &gpus, &request);
        assert_eq!(found.split, expected, "{space:?}");
        assert_eq!(found.layers, expected.iter().sum::<u64>());
        assert_eq!(found.partial, found.allocations.iter().sum::<u64>());
        assert_eq!(found.partial < found.full, found.layers < 6, "{space:?}");
    }
    assert_eq!(estimate::estimate(&dummy(), &[], &request).layers, 0);
}

#[test]
fn the_layout_loop_places_as_its_own_test_says() {
    let gpu = |mib: u64, integrated: bool| Room { free: mib * MIB, integrated };
    // GPUs as they are sorted: discrete ones first, then by free memory.
    let (one, two) = (vec![gpu(256, false)], vec![gpu(256, false), gpu(128, false)]);
    let mixed = vec![gpu(128, false), gpu(256, true)];
    for (gpus, layers, requested, expected) in [
        (&one, vec![50, 50, 50], None, vec![vec![0, 1, 2]]),
        (&one, vec![100; 4], None, vec![vec![1, 2]]),
        (&one, vec![50, 50, 50], Some(1), vec![vec![1]]),
        (&one, vec![50, 50, 50], Some(0), vec![vec![]]),
        (&one, vec![100; 4], Some(999), vec![vec![0, 1, 2, 3]]),
        (&two, vec![50, 50, 50], None, vec![vec![0, 1, 2], vec![]]),
        (&two, vec![256, 50, 50], None, vec![vec![0], vec![1, 2]]),
        (&two, vec![256, 256, 50], None, vec![vec![1], vec![]]),
        (&two, vec![50, 50, 50], Some(1), vec![vec![1], vec![]]),
        (&two, vec![256, 50, 50], Some(2), vec![vec![0], vec![1]]),
        (&two, vec![256, 256, 50], Some(999), vec![vec![0, 1], vec![2]]),
        (&mixed, vec![50, 50, 50], None, vec![vec![1, 2], vec![0]]),
        (&mixed, vec![50, 50], None, vec![vec![0, 1], vec![]]),
        (&mixed, vec![100; 4], None, vec![vec![2], vec![0, 1]]),
        (&mixed, vec![100; 4], Some(1), vec![vec![2], vec![]]),
        (&mixed, vec![100; 4], Some(999), vec![vec![0], vec![1, 2, 3]]),
    ] {
        let bytes: Vec<u64> = layers.iter().map(|mib| mib * MIB).collect();
        let found = layout::assign(&bytes, gpus, requested, false);
        let same = found == expected;
        assert!(same, "{layers:?} {requested:?}: {found:?} instead of {expected:?}");
    }
}

#[test]
fn the_context_follows_the_cards_and_the_release() {
    let newest = Version::new(0, 33, 0);
    let gib = |gib: f64| (gib * f64::from(1 << 30)) as u64;
    for (version, arch, total, expected) in [
        (newest, "llama", gib(2.0 * 23.6), 262_144),
        (newest, "llama", gib(23.6), 32_768),
        (newest, "llama", gib(16.0), 4096),
        (newest, "llama", gib(22.9), 4096),
        (Version::new(0, 15, 4), "llama", gib(80.0), 4096),
        (Version::new(0, 6, 6), "llama", gib(80.0), 2048),
        (Version::new(0, 12, 0), "gptoss", gib(80.0), 8192),
    ] {
        assert_eq!(rules::default_context(version, arch, total).0, expected, "{version} {total}");
    }
}

#[test]
fn the_batch_is_as_large_as_leaves_room() {
    // Llama-3.1-8B at 32 768: 4.0 GiB beside a file of 4.9 GB.
    let file = Sizes { file: 4_920_000_000, ..sizes("llama", 32, 0, 4096, 32, 8, 128) };
    let predicted = predict::predicted(&file, 32_768);
    assert_eq!(predicted, 4_920_000_000 + (4 << 30));
    let gib = |gib: f64| (gib * f64::from(1 << 30)) as u64;
    let on = Unfused::default();
    assert_eq!(predict::batch(32_768, predicted, gib(11.4), on), 512);
    assert_eq!(predict::batch(32_768, predicted, gib(11.8), on), 1024);
    assert_eq!(predict::batch(32_769, predicted, gib(80.0), on), 2048);
    assert_eq!(predict::batch(4096, predicted, gib(80.0), on), 512);
    let off = Unfused { disabled: true, small_card: true };
    assert_eq!(predict::batch(8192, predicted, gib(8.0), off), 256);
    // Onto the largest card that it fills to four fifths.
    assert_eq!(predict::single(8_000_000_000, &[10_000_000_000, 20_000_000_000]), Some(1));
    assert_eq!(predict::single(30_000_000_000, &[10_000_000_000, 18_000_000_000]), None);
}

#[test]
fn the_processor_column_is_rounded_as_ollama_does() {
    for (total, on_gpu, expected) in [
        (100, 0, "100% CPU"),
        (100, 100, "100% GPU"),
        (29_000, 24_360, "16%/84% CPU/GPU"),
        (1000, 995, "1%/99% CPU/GPU"),
        (1000, 1001, "Unknown"),
    ] {
        assert_eq!(show::processor(total, on_gpu), expected);
    }
}

#[test]
fn a_runner_holds_what_its_log_adds_up_to() {
    let lines = [
        "load_tensors: offloaded 20/33 layers to GPU",
        "load_tensors:   CPU_Mapped model buffer size =  4000.00 MiB",
        "load_tensors:        CUDA0 model buffer size =  3000.00 MiB",
        "llama_kv_cache:      CUDA0 KV buffer size =   500.00 MiB",
        "sched_reserve:       CUDA0 compute buffer size =   200.00 MiB",
        "sched_reserve:   CUDA_Host compute buffer size =    20.00 MiB",
    ]
    .map(str::to_owned);
    let held = show::held(&lines);
    assert_eq!((held.on_gpu, held.total, held.layers), (3700 * MIB, 7720 * MIB, Some((20, 33))));
    // The mapping spans 2500 MiB that lie on the GPU.
    assert_eq!(held.shown(4500 * MIB, true), (5220 * MIB, 3700 * MIB));
    let whole = show::held(&[lines[1].clone(), lines[2].clone(), "offloaded 33/33 layers to GPU".to_owned()]);
    assert_eq!(whole.shown(4500 * MIB, true), (3000 * MIB, 3000 * MIB));
    assert_eq!(whole.shown(4500 * MIB, false), (4500 * MIB, 3000 * MIB));
}

#[test]
fn tags_name_a_model_and_a_file_type() {
    for (text, first, kind, said) in [
        ("llama3.1:8b", "llama3.1 8b", FileType::Q4KM, false),
        ("llama3.1", "llama3.1 8b", FileType::Q4KM, false),
        ("llama3.1:latest", "llama3.1 8b", FileType::Q4KM, false),
        ("llama3.1:8b-instruct-q8_0", "llama3.1 8b-instruct", FileType::Q8_0, true),
        ("qwen3:30b-a3b-q4_K_M", "qwen3 30b-a3b", FileType::Q4KM, true),
        ("qwen2.5:7b-instruct-fp16", "qwen2.5 7b-instruct", FileType::F16, true),
        ("gpt-oss:20b", "gpt-oss 20b", FileType::Mxfp4Moe, false),
        ("gemma3:4b", "gemma3 4b", FileType::Q4KM, false),
        ("phi4", "microsoft/phi-4", FileType::Q4KM, false),
        ("hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q6_K", "bartowski/Llama-3.2-3B-Instruct", FileType::Q6K, true),
    ] {
        let tag = tag::read(text).unwrap();
        assert_eq!((tag.names[0].as_str(), tag.file_type, tag.said), (first, kind, said), "{text}");
    }
    for text in ["", "./model.gguf", "/models/x.gguf", "a\\b"] {
        assert_eq!(tag::read(text), None, "{text}");
    }
}

#[test]
fn modelfiles_are_read_with_their_line_numbers() {
    let file = modelfile::read(
        "# a comment\nFROM ./model.gguf\nPARAMETER num_ctx 8192\nparameter temperature 0.7\nPARAMETER stop \"<eos>\"\n\
         SYSTEM \"\"\"You are\nkind.\"\"\"\nADAPTER ./lora.gguf\nPARAMETER use_mmap false\n",
    )
    .unwrap();
    assert_eq!(file.from, "./model.gguf");
    assert_eq!(file.adapters, ["./lora.gguf"]);
    assert_eq!(file.parameters["num_ctx"], 8192);
    assert_eq!(file.parameters["use_mmap"], false);
    for (text, message) in [
        ("PARAMETER num_ctx 1", "no FROM line"),
        ("FROM", "line 1: FROM names nothing"),
        ("FROM x\nPARAMETER num_ctx many", "line 2: num_ctx is many, expected a whole number"),
        ("FROM x\n\nPARAMETER colour red", "line 3: `colour` is no parameter"),
        ("FROM x\nPARAMETER num_ctx", "line 2: PARAMETER num_ctx has no value"),
        ("FROM x\nFORM y", "line 2: `FORM` is no command; expected FROM, PARAMETER, ADAPTER, "),
        ("FROM x\nSYSTEM \"\"\"never ends", "line 2: a text in three quotation marks does not end"),
    ] {
        let error = modelfile::read(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert!(modelfile::read(&"#\n".repeat(600_000)).is_err());
}

mod laws {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// More free memory never takes fewer layers, and no card is filled beyond what is free.
        #[test]
        fn more_room_takes_no_fewer_layers(
            layers in prop::collection::vec(1_u64..500, 1..40),
            first in 0_u64..8000,
            second in 0_u64..8000,
            more in 0_u64..4000,
        ) {
            let bytes: Vec<u64> = layers.iter().map(|mib| mib * MIB).collect();
            let mut free = [first, second];
            free.sort_unstable_by(|a, b| b.cmp(a));
            let gpus = |free: &[u64]| -> Vec<Room> {
                free.iter().map(|mib| Room { free: mib * MIB, integrated: false }).collect()
            };
            let found = layout::assign(&bytes, &gpus(&free), None, false);
            for (layers, free) in found.iter().zip(free) {
                prop_assert!(layers.iter().map(|at| bytes[*at]).sum::<u64>() <= free * MIB);
            }
            let larger = layout::assign(&bytes, &gpus(&[free[0] + more]), None, false);
            let smaller = layout::assign(&bytes, &gpus(&[free[0]]), None, false);
            prop_assert!(layout::count(&larger) >= layout::count(&smaller));
        }

        /// No Modelfile makes the reader panic; what it reads names a model.
        #[test]
        fn any_modelfile_is_read_or_refused(text in "(?s).{0,400}") {
            if let Ok(file) = modelfile::read(&text) {
                prop_assert!(!file.from.is_empty());
            }
        }

        /// No name makes the tag's reader panic.
        #[test]
        fn any_tag_is_read_or_refused(text in ".{0,80}") {
            let _ = tag::read(&text);
        }
    }
}
