//! Who holds which block? A paged KV cache as inference engines keep it: a pool of equal blocks with reference counts,
//! block tables, prefix caches by chained hashes and by radix tree; and the allocators that it replaced, to measure what
//! it saves. It knows no model, no scheduler and no clock; an engine could use it as it stands.
//!
//! Tokens are known by identity, not by value: a [`Content`] says which runs of which streams a sequence consists of.
//!
//! ```
//! use plimsoll_kv::{Chain, Content};
//! let system_prompt = 7;
//! let (mut one, mut other) = (Content::new(), Content::new());
//! for (content, question) in [(&mut one, 100), (&mut other, 101)] {
//!     content.push(system_prompt, 0, 32);
//!     content.push(question, 0, 20);
//! }
//! // Two blocks of 16 are equal, the third differs.
//! let (mut a, mut b) = (Chain::new(16), Chain::new(16));
//! assert_eq!(a.next(&one), b.next(&other));
//! assert_eq!(a.next(&one), b.next(&other));
//! assert_ne!(a.next(&one), b.next(&other));
//! assert_eq!(a.next(&one), None, "the fourth block is not full");
//! ```

mod buddy;
mod content;
mod contiguous;
mod fork;
mod groups;
mod holes;
mod host;
mod index;
mod pool;
pub mod radix;

pub use buddy::Buddy;
pub use content::{BlockHash, Chain, Content, Follow, Run};
pub use contiguous::{Contiguous, Fit, Span};
pub use fork::{BlockCopy, Full, Table, reorder_beams};
pub use groups::{Group, Hit, Joint, Manner, Paged, Reach, Seat};
pub use host::{Host, SwapCopy};
pub use pool::{BlockId, FreeOrder, Key, Pool, State};
