//! Where does the cache's room go, and how fast is it, by layout of memory and by batching? Reads a trace from standard
//! input and plays it through the plain schedulers on a Llama-3.1-8B in bfloat16 on an H100.
//!
//! ```text
//! gzip -dc azure_llm_2023_code.csv.gz | cargo run --release -p plimsoll-sim --example waste -- azure
//! gzip -dc mooncake_fast25_conversation.jsonl.gz | cargo run --release -p plimsoll-sim --example waste -- mooncake
//! gzip -dc vidur_arxiv_summarization_lengths.csv.gz | cargo run --release -p plimsoll-sim --example waste -- lengths
//! ```
//!
//! A step takes the time of its operations or of its bytes at the card's peak, whichever is longer: a lower bound that is the
//! same for every row. Every request waits from the start, so that memory is what limits: shares at a low rate say how idle
//! the machine is, not what the layout wastes. Shares are of the whole cache and weighted by time.

#![expect(clippy::print_stdout, reason = "an example prints its table")]

use std::error::Error;
use std::io::Read;

use plimsoll_kv::{Content, Fit};
use plimsoll_sim::cost::{Cost, Shape};
use plimsoll_sim::load::List;
use plimsoll_sim::schedule::plain::{Batching, Config, Layout, Plain, Prefill};
use plimsoll_sim::{Arrival, Settings, Step, Watch, run};
use plimsoll_units::Nanos;

/// Slots for tokens that 80 GB leave beside the weights at 0.9 of the card: 56 GB of 131 072 bytes.
const SLOTS: u32 = 430_000;

/// H100 SXM, datasheet: 989 Tflop/s dense in bfloat16, 3.35 TB/s. Llama-3.1-8B: 8.03 billion parameters, 32 layers, hidden
/// size 4 096, 131 072 bytes of cache a token.
struct Peak;

impl Cost for Peak {
    fn step(&mut self, shape: &Shape) -> Nanos {
        let (parameters, attention) = (8.03e9, 4.0 * 32.0 * 4096.0);
        let chunks = shape.chunks.iter();
        let pairs: f64 =
            chunks.clone().map(|of| f64::from(of.tokens) * (f64::from(of.context) + f64::from(of.tokens) / 2.0)).sum();
        let read: u64 = chunks.map(|of| u64::from(of.context)).sum::<u64>() + shape.decode_context;
        let tokens = shape.tokens() as f64 + f64::from(shape.padding);
        let operations = 2.0 * parameters * tokens + attention * (pairs + shape.decode_context as f64);
        let bytes = 2.0 * parameters + 131_072.0 * read as f64;
        Nanos::new((1e9 * (operations / 989e12).max(bytes / 3.35e12)) as u64)
    }
}

/// Sums of slots times nanoseconds.
#[derive(Default)]
struct Shares {
    time: u128,
    capacity: u128,
    tokens: u128,
    reserved: u128,
    wasted: u128,
    stranded: u128,
    running: u128,
    output: u64,
    preempted: u64,
}

impl Watch for Shares {
    fn step(&mut self, step: &Step<'_>) {
        let (time, of) = (u128::from((step.end - step.start).get()), step.occupancy);
        self.time += time;
        self.capacity += time * u128::from(of.capacity);
        self.tokens += time * u128::from(of.used - of.wasted - of.reserved);
        self.reserved += time * u128::from(of.reserved);
        self.wasted += time * u128::from(of.wasted);
        self.stranded += time * u128::from(of.stranded);
        self.running += time * step.running as u128;
        self.output += u64::from(step.shape.sampled);
        self.preempted += step.batch.preempted.len() as u64;
    }
}

/// Prompt and output tokens of each request.
fn read(kind: &str, text: &str) -> Result<Vec<(u32, u32)>, Box<dyn Error>> {
    let field = |line: &str, name: &str| -> Result<u32, Box<dyn Error>> {
        let (_, rest) = line.split_once(name).ok_or_else(|| format!("no {name} in {line}"))?;
        Ok(rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap_or("").parse()?)
    };
    let column = |line: &str, at: usize| -> Result<u32, Box<dyn Error>> {
        let text = line.split(',').nth(at).ok_or_else(|| format!("no column {at} in {line}"))?;
        Ok(text.trim().parse::<f64>()? as u32)
    };
    let row = |line: &str| match kind {
        "azure" => Ok((column(line, 1)?, column(line, 2)?)),
        "lengths" => Ok((column(line, 0)?, column(line, 1)?)),
        "mooncake" => Ok((field(line, "\"input_length\":")?, field(line, "\"output_length\":")?)),
        other => Err(format!("unknown trace {other}: azure, mooncake or lengths").into()),
    };
    let head = usize::from(kind != "mooncake");
    text.lines().skip(head).map(|line| row(line).map(|(prompt, output)| (prompt.max(1), output.max(1)))).collect()
}

/// Every request waiting from the start, asking for `factor` times what it will generate.
fn arrivals(rows: &[(u32, u32)], max_model_len: u32, factor: u32) -> List {
    let fit = rows.iter().filter(|&&(prompt, output)| prompt.saturating_add(output) <= max_model_len);
    let arrival = |(number, &(len, output_tokens)): (u64, &(u32, u32))| {
        let mut prompt = Content::new();
        prompt.push(2 * number, 0, len);
        let (max_tokens, output_stream) = (output_tokens.saturating_mul(factor), 2 * number + 1);
        Arrival {
            at: Nanos::ZERO,
            prompt,
            output_tokens,
            max_tokens,
            output_stream,
            priority: 0,
            sample_of: None,
            mark: 0,
        }
    };
    List::new((0..).zip(fit).map(arrival).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let kind = std::env::args().nth(1).ok_or("name the trace: azure, mooncake or lengths")?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let rows = read(&kind, &text)?;
    println!(
        "{} requests; {SLOTS} slots; 256 requests at once; chunks within 8192 tokens where continuous",
        rows.len()
    );
    println!(
        "max_model_len  asks  layout        batching    taken  running  tokens  reserved  wasted  stranded  output/s"
    );
    for max_model_len in [8192, 32_768, 131_072] {
        for factor in [1, 4] {
            for (name, layout) in [
                ("longest", Layout::Longest(Fit::First)),
                ("asked", Layout::Asked(Fit::First)),
                ("asked, best", Layout::Asked(Fit::Best)),
                ("buddy", Layout::Buddy),
                ("paged 16", Layout::Paged { block_tokens: 16 }),
            ] {
                for (way, batching) in [
                    ("static", Batching::Static { wait: Nanos::ZERO }),
                    ("continuous", Batching::Continuous(Prefill::Chunked { budget: 8192 })),
                ] {
                    let config = Config { batching, layout, slots: SLOTS, max_model_len, max_num_seqs: 256 };
                    let mut shares = Shares::default();
                    let mut source = arrivals(&rows, max_model_len, factor);
                    let outcome =
                        run(&mut Plain::new(config)?, &mut Peak, &mut source, &mut shares, Settings::default())?;
                    let share = |part: u128| 100.0 * part as f64 / shares.capacity as f64;
                    println!(
                        "{max_model_len:>13}  {factor:>3}x  {name:<12}  {way:<10} {:>6}  {:>7.1}  {:>5.1}%  {:>7.1}%  {:>5.1}%  {:>7.1}%  {:>8.0}",
                        outcome.finished,
                        shares.running as f64 / shares.time as f64,
                        share(shares.tokens),
                        share(shares.reserved),
                        share(shares.wasted),
                        share(shares.stranded),
                        shares.output as f64 / outcome.end.as_seconds(),
                    );
                }
            }
        }
    }
    Ok(())
}
