//! How does it behave under traffic? The answer; its figures are measured in `plimsoll_sim::metrics`.

pub mod answer;
mod figures;
