use proptest::prelude::*;

use super::*;

fn error(text: &str) -> String {
    workload(text).expect_err(text).to_string()
}

#[test]
fn a_workload_is_said_again_in_its_canonical_form() {
    for (text, canonical) in [
        (
            "poisson 4/s, prompt lognormal 900 p99 4000, output 200",
            "poisson 4/s, prompt lognormal 900 p99 4000, output 200",
        ),
        ("all at once,prompt 1_000 tokens,output 5,requests 10", "batch, prompt 1000, output 5, requests 10"),
        ("output 5, prompt uniform 1..9, gamma 240/min cv 2", "gamma 4/s cv 2, prompt uniform 1..9, output 5"),
        (
            "clients 8 think 1500ms, prompt 10, output 5, turns 5 think exponential 10s, for 90 min",
            "clients 8 think 1500ms, prompt 10, output 5, turns 5 think exponential 10s, for 90m",
        ),
        (
            "ramp 0/s to 10/s over 60s, prompt lognormal mean 100 sigma 1 max 900, output zipf 1..100 s 1.2, prefix 8 x 1000 tokens",
            "ramp 0/s to 10/s over 1m, prompt lognormal mean 100 sigma 1 max 900, output zipf 1..100 s 1.2, prefix 8x1000",
        ),
        (
            "uniform 2/s, replay \"a b.csv\", prefix 4x500/8x200 zipf 1, samples 4, max_tokens = 512, priority 0:9 -1:1, seed 7",
            "uniform 2/s, replay \"a b.csv\", prefix 4x500/8x200 zipf 1, samples 4, max_tokens 512, priority 0:9 -1:1, seed 7",
        ),
        (
            "poisson .5/s, prompt normal 1e3 sd 10 min 5, output empirical ./x-1.csv.gz, max_tokens = output, priority 3",
            "poisson 0.5/s, prompt normal 1000 sd 10 min 5, output empirical ./x-1.csv.gz, max_tokens = output, priority 3:1",
        ),
    ] {
        let found = workload(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(found.to_string(), canonical);
        assert_eq!(workload(canonical).unwrap(), found);
    }
}

#[test]
fn complaints_name_the_place_and_the_nearest_word() {
    for (text, message) in [
        ("", "workload, at its end: expected an arrival process"),
        ("poison 4/s", "at character 1 (\"poison 4/s\"): expected an arrival process, lengths or a setting"),
        ("poison 4/s", "did you mean \"poisson\"?"),
        ("poisson 4", "at its end: expected a rate's `/s`"),
        ("poisson 4/fortnight", "at character 11 (\"fortnight\")"),
        ("poisson 0/s", "at character 9 (\"0/s\"): expected a rate above 0, such as 4/s or 240/min"),
        (
            "poisson 4/s, prompt lognorml 900 p99 4000, output 2",
            "at character 21 (\"lognorml 900 p99 4000\"): expected a length",
        ),
        ("poisson 4/s, prompt lognorml 900 p99 4000, output 2", "did you mean \"lognormal\"?"),
        ("poisson 4/s, prompt lognormal 900 p98 4000, output 2", "(p90, p95, p99, p999, sigma)"),
        ("poisson 4/s, prompt lognormal 900 p99 400, output 2", "p99 400 lies below 900"),
        (
            "poisson 4/s, prompt 0, output 2",
            "at character 21 (\"0\"): expected a length: a whole number from 1 to 1073741824, or",
        ),
        (
            "poisson 4/s, prompt 1e300, output 2",
            "expected a length: a whole number from 1 to 1073741824, or a distribution (unif",
        ),
        ("poisson 4/s, prompt 2000000000, output 2", "expected a length"),
        ("poisson 4/s, prompt 1", "says nothing of how long outputs are"),
        ("poisson 4/s", "says nothing of how long prompts are"),
        ("prompt 4, output 1", "says nothing of when requests arrive"),
        ("poisson 4/s, uniform 3/s, prompt 4, output 1", "at character 14 (\"uniform 3/s\"): it says a second time"),
        ("poisson 4/s, prompt uniform 9..1, output 1", "ends before it begins"),
        ("poisson 4/s, prompt 4 output 1", "at character 23 (\"output 1\"): expected a comma or the end"),
        (
            "poisson 4/s, replay x, prompt 4",
            "both by a file and by `prompt` or `output`: leave `prompt` and `output` out, or the file",
        ),
        ("batch, prompt 4, output 1, turns 3", "`batch` with `turns`"),
        ("batch, prompt 4, output 1, prefix 8", "a tree of prefixes"),
        ("batch, prompt 4, output 1, prefix 4000000000x1/4000000000x1", "2^40 leaves"),
        ("batch, prompt 4, output 1, prefix 1x1073741824/1x1073741824", "1073741824 tokens"),
        ("batch, prompt zipf 1..900000000 s 1, output 1", "weighs more than"),
        ("batch, replay \"x", "opens a quote"),
        ("batch, prompt 1, output 1, priority 0:0", "a weight above 0"),
        ("batch, prompt 1, output 1, requests 0", "a number of requests"),
        ("batch, prompt 1, output 1, for 9999999999999999d", "expected a time"),
        ("ramp 0/s to 0/s over 1s, prompt 1, output 1", "ramps between no requests"),
        ("gamma 1/s, prompt 1, output 1", "expected \"cv\""),
        ("batch, prompt é, output 1", "at character 15 (\"é\")"),
    ] {
        assert!(error(text).contains(message), "{text}\n  gave {}\n  not  {message}", error(text));
    }
}

fn length() -> impl Strategy<Value = Length> {
    let shape = prop_oneof![
        (1..=MOST_TOKENS).prop_map(Shape::Fixed),
        (1..1000_u32, 0..1000_u32).prop_map(|(low, more)| Shape::Uniform(low, low + more)),
        (1.0..1e6_f64, 0.0..3.0_f64)
            .prop_map(|(median, sigma)| Shape::Lognormal(Center::Median(median), Spread::Sigma(sigma))),
        (1.0..1e6_f64, 1.0..2.0_f64, 0..4_usize).prop_map(|(mean, more, which)| {
            Shape::Lognormal(Center::Mean(mean), Spread::Quantile(QUANTILES[which].1, mean * more * 0.7 + mean * 0.3))
        }),
        (0.1..1e6_f64, 0.0..1e5_f64).prop_map(|(mean, deviation)| Shape::Normal(mean, deviation)),
        (0.1..1e6_f64).prop_map(Shape::Exponential),
        (1..1000_u32, 0..1000_u32, 0.0..9.0_f64).prop_map(|(low, more, s)| Shape::Zipf(low, low + more, s)),
        "[a-z /.,-]{1,12}".prop_map(Shape::Empirical),
    ];
    let bounds = (proptest::option::of(1..100_u32), proptest::option::of(100..1000_u32));
    (shape, bounds).prop_map(|(shape, (min, max))| Length { shape, min, max })
}

fn think() -> impl Strategy<Value = Option<Think>> {
    let span = prop_oneof![any::<u64>(), (0..1_000_000_u64).prop_map(|seconds| seconds * 1_000_000_000)];
    proptest::option::of((span, any::<bool>()).prop_map(|(nanos, fixed)| {
        if fixed { Think::Fixed(Nanos::new(nanos)) } else { Think::Exponential(Nanos::new(nanos)) }
    }))
}

fn arrivals() -> impl Strategy<Value = Arrivals> {
    let rate = 1e-6..1e9_f64;
    prop_oneof![
        rate.clone().prop_map(Arrivals::Poisson),
        (rate.clone(), 0.01..10.0_f64).prop_map(|(rate, cv)| Arrivals::Gamma(rate, cv)),
        rate.clone().prop_map(Arrivals::Uniform),
        (1..1000_u32, think()).prop_map(|(count, think)| Arrivals::Clients(count, think)),
        (rate, 1..u64::MAX).prop_map(|(rate, over)| Arrivals::Ramp(rate, 0.0, Nanos::new(over))),
    ]
}

proptest! {
    #[test]
    fn round_trip(
        arrivals in arrivals(),
        drawn in (length(), length()),
        table in proptest::option::of("[a-z /.,-]{1,12}"),
        prefix in proptest::option::of((proptest::collection::vec((1..9_u32, 1..999_u32), 1..4), proptest::option::of(0.0..9.0_f64))),
        turns in proptest::option::of((length(), think())),
        rest in (proptest::option::of(1..9_u32), proptest::option::of(0..9_u32), proptest::collection::vec((any::<i16>(), 0.01..1e3_f64), 0..4)),
        end in (proptest::option::of(1..u64::MAX), proptest::option::of(any::<u64>()), proptest::option::of(any::<u64>())),
    ) {
        let workload = Workload {
            arrivals,
            lengths: table.map_or(Lengths::Drawn(drawn.0, drawn.1), Lengths::Replay),
            prefix: prefix.map(|(levels, zipf)| Prefix { levels, zipf }),
            turns: turns.map(|(count, think)| Turns { count, think }),
            samples: rest.0,
            max_tokens: rest.1.map(|most| NonZeroU32::new(most).map_or(MaxTokens::Output, MaxTokens::Tokens)),
            priority: rest.2.into_iter().map(|(priority, weight)| (i32::from(priority), weight)).collect(),
            requests: end.0,
            duration: end.1.map(Nanos::new),
            seed: end.2,
        };
        let text = workload.to_string();
        match super::workload(&text) {
            Ok(found) => prop_assert_eq!(found, workload, "{}", text),
            Err(error) => prop_assert!(false, "{}: {}", text, error),
        }
    }

    #[test]
    fn any_words_give_a_workload_or_a_complaint(text in "[a-z0-9 ,./=x:\"é-]{0,60}|(poisson|prompt|prefix|turns) ?[ -~]{0,20}") {
        let _ = workload(&text);
    }
}
