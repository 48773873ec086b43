//! What changed between builds? Numbers of builds and the rules that hold from them on.
//!
//! llama.cpp has no releases but builds: `b` and the count of commits. The changes below are dated in its history; a
//! date becomes a build number by the builds around it.

use crate::Version;

/// Builds whose day is known, by which the builds of other days are reckoned: days since 2023-01-01, and the build. From
/// tags of the project and from projects that name the build they took.
const DAYS: [(u32, u32); 17] = [
    (229, 1000),    // 2023-08-18
    (393, 2000),    // 2024-01-29
    (511, 3000),    // 2024-05-26
    (669, 4000),    // 2024-10-31
    (819, 5000),    // 2025-03-30
    (937, 6000),    // 2025-07-26
    (1043, 7000),   // 2025-11-09
    (1079, 7407),   // 2025-12-15
    (1188, 8651),   // 2026-04-03
    (1206, 8864),   // 2026-04-21
    (1231, 9174),   // 2026-05-16
    (1251, 9525),   // 2026-06-05
    (1290, 9986),   // 2026-07-14
    (1300, 10_103), // 2026-07-24
    (1329, 10_573), // 2026-08-22
    (1346, 10_864), // 2026-09-08
    (1369, 11_258), // 2026-10-01
];

/// The rules of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The build.
    pub build: u32,
    /// Contexts come in multiples of 256 whatever the attention (2025-11-07, 16bcc1259).
    pub pads_256: bool,
    /// Caches can be apart for each sequence (`--kv-unified` exists, 2025-07-16); before, one cache served all.
    pub always_unified: bool,
    /// Each sequence's context is rounded (2025-11-07); before, the whole one.
    pub context_per_sequence: bool,
    /// A server without `--parallel` takes four slots and one cache (2025-11-02).
    pub auto_parallel: bool,
    /// Layers, context and experts are fitted to free memory unless said otherwise (2025-12-15, b1f3a6e5d).
    pub fits: bool,
    /// A server bounds the rows of logits by its slots (2026-05-16).
    pub bounds_outputs: bool,
    /// Masks of fused attention are 16-bit from the start (2026-05-29, 031ddb2e0).
    pub half_masks: bool,
    /// CUDA converts a quantised cache inside the compute buffer (2026-06-03, f8f0a47a5).
    pub converts_in_buffer: bool,
    /// A quantised cache is rotated (2026-04-01).
    pub rotates: bool,
    /// The input may be embeddings in the same graph (early 2026).
    pub embedding_input: bool,
    /// Cache rows are written at indices (2025-07-03).
    pub set_rows: bool,
    /// Windowed layers have a cache of their own (2025-05-20).
    pub swa_cache: bool,
    /// Fused attention is `auto` unless said otherwise (2025-08-30); before, off.
    pub auto_flash: bool,
}

impl Rules {
    /// Returns the rules of a build.
    pub fn of(version: Version) -> Rules {
        let build = u32::from(version.major);
        let since = |year, month, day| build >= build_of(year, month, day);
        Rules {
            build,
            pads_256: since(2025, 11, 7),
            always_unified: !since(2025, 7, 16),
            context_per_sequence: since(2025, 11, 7),
            auto_parallel: since(2025, 11, 2),
            fits: since(2025, 12, 15),
            bounds_outputs: since(2026, 5, 16),
            half_masks: since(2026, 5, 29),
            converts_in_buffer: since(2026, 6, 3),
            rotates: since(2026, 4, 1),
            embedding_input: since(2026, 2, 1),
            set_rows: since(2025, 7, 3),
            swa_cache: since(2025, 5, 20),
            auto_flash: since(2025, 8, 30),
        }
    }

    /// Returns the multiple in which contexts come.
    pub fn context_pad(&self, flash: bool) -> u64 {
        if self.pads_256 || flash { 256 } else { 32 }
    }
}

/// Days from 2023-01-01.
fn days(year: u32, month: u32, day: u32) -> u32 {
    // Months begin with March, so that the leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let count = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    let start = 365 * 2022 + 2022 / 4 - 2022 / 100 + 2022 / 400 + (153 * 10 + 2) / 5;
    count - start
}

/// Returns about the first build of a day.
pub fn build_of(year: u32, month: u32, day: u32) -> u32 {
    let day = days(year, month, day);
    let after = DAYS.iter().position(|(known, _)| *known >= day).unwrap_or(DAYS.len() - 1);
    let (from, to) = (DAYS[after.saturating_sub(1)], DAYS[after]);
    if after == 0 || to.0 == from.0 {
        return to.1;
    }
    from.1 + (to.1 - from.1) * day.saturating_sub(from.0) / (to.0 - from.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_builds() {
        for ((year, month, day), count) in
            [((2023, 1, 1), 0), ((2024, 3, 1), 425), ((2025, 12, 15), 1079), ((2026, 8, 22), 1329)]
        {
            assert_eq!(days(year, month, day), count);
        }
        assert_eq!(build_of(2026, 8, 22), 10_573);
        assert_eq!(build_of(2025, 12, 15), 7407);
        assert!(Rules::of(Version::new(10_573, 0, 0)).bounds_outputs);
        assert!(!Rules::of(Version::new(7000, 0, 0)).fits);
    }
}
