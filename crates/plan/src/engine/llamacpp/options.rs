//! What was asked for?

use std::sync::LazyLock;

use regex_lite::Regex;

/// The experts' weights, as `--cpu-moe` finds them (`LLM_FFN_EXPS_REGEX` of `common/common.h`).
pub const EXPERTS: &str = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps";

/// Returns the pattern of the experts' weights.
pub fn experts_pattern() -> &'static Regex {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        #[expect(clippy::expect_used, reason = "a constant")]
        Regex::new(EXPERTS).expect("a pattern")
    });
    &PATTERN
}
