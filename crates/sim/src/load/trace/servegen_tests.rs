use super::*;

const TRACE: &str = "0,2,1,Gamma,1,0.5\n600,0.005,1.5,Weibull,0.7,1\n1200,0,0,,0,0\n1800,0.5,2,Gamma,0.25,1\n";
const DATASET: &str = r#"{"0": {"input_tokens": "{10: 0.5, 20: 0.5}", "output_tokens": "{1: 0.5, 2: 0.5}"},
    "600": {"input_tokens": "{}", "output_tokens": "{}"},
    "1800": {"input_tokens": "{0: 0.5, 30: 0.5}", "output_tokens": "{3: 1.0}"}}"#;

fn pool(trace: &str, dataset: &str) -> Result<Pool, Error> {
    let mut pool = Pool::default();
    assert!(pool.add("m/chunk-3-trace.csv", trace.as_bytes())?);
    assert!(pool.add("m/chunk-3-dataset.json", dataset.as_bytes())?);
    assert!(!pool.add("m/README.md", b"")?);
    Ok(pool)
}

fn all(options: Options) -> (Vec<Arrival>, Report) {
    let mut source = pool(TRACE, DATASET).unwrap().source(options, 1).unwrap();
    let mut all = Vec::new();
    while let Some(arrival) = source.take().unwrap() {
        all.push(arrival);
    }
    assert!(all.is_sorted_by_key(|arrival| arrival.at));
    (all, source.report())
}

#[test]
fn each_window_has_the_requests_of_its_rate() {
    let (found, report) = all(Options::default());
    let within = |from: u64, until: u64| {
        found.iter().filter(|arrival| (from..until).contains(&(arrival.at.get() / 1_000_000_000))).count()
    };
    // ceil(2 · 600) − 1, ceil(0.005 · 600) − 1, nothing, and ceil(0.5 · 600) − 1 with those without a prompt left out.
    assert_eq!((within(0, 600), within(600, 1200), within(1200, 1800)), (1199, 2, 0));
    assert_eq!(within(1800, 2400) as u64 + report.empty, 299);
    assert!((100..200).contains(&report.empty));
    let first = &found[..1199];
    assert!(
        first.iter().all(|arrival| arrival.prompt.len() == 10 * arrival.output_tokens),
        "one number chooses both lengths"
    );
    assert!(first.iter().filter(|arrival| arrival.output_tokens == 1).count().abs_diff(600) < 90);
    assert!(
        found[1199..1201].iter().all(|arrival| arrival.output_tokens < 3),
        "lengths hold until the next that are known"
    );
}

#[test]
fn a_part_and_another_rate() {
    let (part, _) = all(Options { from: 300, until: 600, ..Options::default() });
    assert_eq!(part.len(), 599, "a cut window has its rate's requests");
    assert!(part.iter().all(|arrival| arrival.at.get() < 300_000_000_000));
    let (total, _) = all(Options { until: 1200, rate: Rate::Total(1.0), ..Options::default() });
    assert_eq!(total.len(), 599 + 599);
    let (double, _) = all(Options { until: 600, rate: Rate::Times(2.0), ..Options::default() });
    assert_eq!(double.len(), 2399);
}

#[test]
fn faults_are_named() {
    for (trace, dataset, message) in [
        ("0,1,1,Gamma,1", "{}", "chunk-3-trace.csv:1: not six columns"),
        ("0,1,1,Gamma,1,1\n0,1,1,Gamma,1,1", "{}", "chunk-3-trace.csv:2: time goes backwards"),
        ("0,-1,1,Gamma,1,1", "{}", "no number from 0"),
        ("0,nan,1,Gamma,1,1", "{}", "no number from 0"),
        ("0,1,1,Pareto,1,1", "{}", "neither Gamma nor Weibull"),
        ("0,1,1,Gamma,0,1", "{}", "shape is not above 0"),
        (TRACE, "[]", "chunk-3-dataset.json: invalid type"),
        (TRACE, r#"{"0": {"input_tokens": "{}"}}"#, "has no output_tokens"),
        (TRACE, r#"{"0": {"input_tokens": "{1: 0.5}", "output_tokens": "{}"}}"#, "add up to 0.5"),
        (TRACE, r#"{"0": {"input_tokens": "__import__('os')", "output_tokens": "{}"}}"#, "is no dictionary"),
        (TRACE, r#"{"0": {"input_tokens": "{-1: 1.0}", "output_tokens": "{}"}}"#, "is no entry"),
        (TRACE, r#"{"0": {"image_count": "{}", "input_tokens": "{}", "output_tokens": "{}"}}"#, "has image_count"),
    ] {
        let error = pool(trace, dataset).expect_err(message).to_string();
        assert!(error.contains(message), "{error}\nnot {message}");
    }
    assert!(Pool::default().source(Options::default(), 0).is_err());
    let mut one = Pool::default().called("p.tar").source(Options::default(), 0).unwrap_err().to_string();
    assert!(one.starts_with("p.tar: no ServeGen client"), "{one}");
    for (rate, message) in [
        ("1e9", "p.tar: ServeGen's clients would send 600000000000 requests from 0 s until 600 s, more than the 2^22"),
        ("1e300", "e302 requests"),
        ("1e307", "would send endlessly many requests"),
    ] {
        let pool = pool(&format!("0,{rate},1,Gamma,1,1"), DATASET).unwrap().called("p.tar");
        one = pool.source(Options::default(), 0).unwrap().peek().unwrap_err().to_string();
        assert!(one.contains(message), "{one}");
    }
}

#[test]
fn all_clients_of_a_window_are_bounded_together() {
    for (clients, fits) in [(2, true), (60, false)] {
        let mut pool = Pool::default();
        for client in 0..clients {
            pool.add(&format!("chunk-{client}-trace.csv"), b"0,150,1,Gamma,1,1").unwrap();
            pool.add(&format!("chunk-{client}-dataset.json"), DATASET.as_bytes()).unwrap();
        }
        assert_eq!(pool.source(Options::default(), 0).unwrap().peek().is_ok(), fits, "{clients} clients");
    }
}
