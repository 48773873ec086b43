//! Was the model right? What an engine's log says about memory, and how it compares with the plan for the same launch.
//!
//! ```
//! use plimsoll_study::log::{EngineKind, Reader, What};
//!
//! let mut reader = Reader::new();
//! reader.feed(b"(EngineCore_DP0 pid=9) INFO 11-21 10:00:00 [gpu_worker.py:298] Available KV cache memory: 54.07 GiB\n");
//! let log = reader.finish();
//! assert_eq!(log.engine, Some(EngineKind::Vllm));
//! assert_eq!(log.sheet.last(What::KvBudget).and_then(|reading| reading.bytes), Some(58_057_220_424));
//! ```

pub mod log;
pub mod profile;
pub mod reconcile;
