//! What is true of the world? Models with their tensors and number formats, GPUs, and the built-in catalogues of both.
//!
//! ```
//! let config = serde_json::json!({
//!     "model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16",
//!     "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
//!     "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
//! });
//! let model = plimsoll_facts::model::read("my-llama", &config, None)?;
//! assert_eq!(model.parameters(), 8_030_261_248);
//! # Ok::<(), plimsoll_facts::Error>(())
//! ```

pub mod catalogue;
pub mod checkpoint;
mod error;
pub mod gguf;
pub mod gpu;
pub mod model;
pub mod quant;
pub mod tensor;

pub use error::Error;
