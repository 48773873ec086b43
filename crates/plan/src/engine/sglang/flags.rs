//! Which flags does SGLang's server take? Every name from 0.4.6 to 0.5.23, so that a command of any of these releases is read.
//!
//! Source: SGLang 0.4.6.post5 to 0.5.13, `srt/server_args.py` (`ServerArgs.add_cli_args`); 0.5.14 to 0.5.19, the fields of the
//! same class; 0.5.20 to 0.5.23, `srt/arg_groups/fields/*.py`.

mod idle;
mod memory;

use crate::engine::flag::{Flag, Flags, Style};

/// The flags of `sglang serve` and `python -m sglang.launch_server`.
pub const FLAGS: Flags = Flags { engine: super::NAME, style: Style::Flexible, rows: &ROWS, foreign: &FOREIGN };

/// What other engines call it.
const FOREIGN: [(&str, &str); 16] = [
    ("max_model_len", "context_length"),
    ("ctx_size", "context_length"),
    ("max_seq_len", "context_length"),
    ("gpu_memory_utilization", "mem_fraction_static"),
    ("free_gpu_memory_fraction", "mem_fraction_static"),
    ("kv_cache_free_gpu_memory_fraction", "mem_fraction_static"),
    ("max_num_seqs", "max_running_requests"),
    ("max_batch_size", "max_running_requests"),
    ("max_num_batched_tokens", "chunked_prefill_size"),
    ("max_num_tokens", "chunked_prefill_size"),
    ("block_size", "page_size"),
    ("enforce_eager", "disable_cuda_graph"),
    ("enable_expert_parallel", "ep_size"),
    ("tensor_parallel", "tp_size"),
    ("kv_cache_memory_bytes", "max_total_tokens"),
    ("num_speculative_tokens", "speculative_num_draft_tokens"),
];

/// All flags.
static ROWS: [Flag; idle::ROWS.len() + memory::ROWS.len()] = merged();

/// Merges two sorted tables.
const fn merged() -> [Flag; idle::ROWS.len() + memory::ROWS.len()] {
    let mut all = [idle::ROWS[0]; idle::ROWS.len() + memory::ROWS.len()];
    let (mut left, mut right) = (0, 0);
    while left + right < all.len() {
        let take_left = right == memory::ROWS.len()
            || (left < idle::ROWS.len()
                && before(idle::ROWS[left].name.as_bytes(), memory::ROWS[right].name.as_bytes()));
        if take_left {
            all[left + right] = idle::ROWS[left];
            left += 1;
        } else {
            all[left + right] = memory::ROWS[right];
            right += 1;
        }
    }
    all
}

/// Whether one name sorts before another.
const fn before(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() {
        if one[at] != other[at] {
            return one[at] < other[at];
        }
        at += 1;
    }
    one.len() < other.len()
}
