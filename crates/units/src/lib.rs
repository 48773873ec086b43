//! What do we count? Bytes, tokens and blocks as types that cannot be mixed up, and the source that every number
//! carries.
//!
//! ```
//! use plimsoll_units::{BlockSize, Bytes, Tokens};
//! assert_eq!(Bytes::gib(80.0).get(), 85_899_345_920);
//! assert_eq!(Tokens::new(17).in_blocks_of(BlockSize::new(16).unwrap()).get(), 2);
//! ```

mod bytes;
mod count;
mod source;
mod time;

pub use bytes::Bytes;
pub use count::{BlockSize, Blocks, Tokens, grouped};
pub use source::{Estimate, Source};
pub use time::Nanos;
