//! What happens, one step after the other? The loop that every simulation is.

use std::ops::ControlFlow;

use plimsoll_units::Nanos;

use crate::cost::{Chunk, Cost, Shape};
use crate::load::Source;
use crate::schedule::{Batch, Occupancy, Scheduler};
use crate::{Error, Requests, Slot};

/// How a simulation is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether stretches without any event are gone through without asking the scheduler. Changes nothing but the speed.
    pub jumps: bool,
    /// Whether every conservation law is checked after every step; for tests.
    pub verify: bool,
    /// When a scheduler learns of requests.
    pub intake: Intake,
}

/// When a scheduler learns of requests that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// Whether a step is formed while the one before it runs: it cannot hold what arrives meanwhile.
    ///
    /// vLLM 0.19.0, `v1/engine/core.py` (`step_with_batch_queue`); SGLang 0.5.9, `srt/managers/scheduler.py`
    /// (`event_loop_overlap`); TensorRT-LLM 1.2, `_torch/pyexecutor/py_executor.py` (`_executor_loop_overlap`).
    pub ahead: bool,
    /// Steps of pure decoding between two looks at what arrived; prompts and pauses count as enough. 0 and 1: before every
    /// step.
    ///
    /// SGLang 0.5.9, `srt/managers/scheduler_recv_skipper.py`.
    pub interval: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { jumps: true, verify: false, intake: Intake::default() }
    }
}

/// A step that ran.
#[derive(Debug)]
pub struct Step<'a> {
    /// Which one, from 0; steps that did nothing are not counted.
    pub index: u64,
    /// When it began.
    pub start: Nanos,
    /// When it ended and its tokens were out.
    pub end: Nanos,
    /// What it did; empty within a stretch.
    pub batch: &'a Batch,
    /// What it computed.
    pub shape: &'a Shape,
    /// Whether it was gone through in a stretch; its requests are then updated when the stretch ends.
    pub stretched: bool,
    /// Requests that ended with it, in order; still known in `requests`.
    pub finished: &'a [Slot],
    /// The requests.
    pub requests: &'a Requests,
    /// The cache while it ran, before ended requests let go.
    pub occupancy: Occupancy,
    /// Requests waiting while it ran.
    pub waiting: usize,
    /// Requests running while it ran.
    pub running: usize,
    /// Tokens that it computed again for requests that had lost their blocks.
    pub recomputed: u64,
}

/// A span in which nothing ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// When it began.
    pub from: Nanos,
    /// When it ended.
    pub until: Nanos,
    /// The cache in it.
    pub occupancy: Occupancy,
    /// Requests that waited and could not be placed.
    pub waiting: usize,
    /// Requests that were running without a step.
    pub running: usize,
}

/// Looks on. Two that look on are a pair, one that may be absent is an [`Option`].
pub trait Watch {
    /// Whether each step is wanted as the scheduler formed it: no stretches then.
    fn wants_batches(&self) -> bool {
        false
    }

    /// Is told before anything happens how many requests will come, where that is known.
    fn begin(&mut self, _total: Option<u64>) {}

    /// Sees a request that arrived, or was refused at arrival with the reason.
    fn arrived(&mut self, _requests: &Requests, _slot: Slot, _refused: Option<&str>) {}

    /// Sees a step right after it ran, the finished requests still known. Its gaps were seen before.
    fn step(&mut self, _step: &Step<'_>) {}

    /// Sees what is left when the requests that ended with a step have let go. Only after steps that the scheduler formed.
    fn rest(&mut self, _rest: &Rest) {}

    /// Sees that `count` requests each waited `gap` between one token and the next; called before the step that generated
    /// the later one is seen.
    fn gap(&mut self, _gap: Nanos, _count: u32) {}

    /// Sees a request that just generated its last token.
    fn finished(&mut self, _requests: &Requests, _slot: Slot, _now: Nanos) {}

    /// Is asked now and then whether to go on.
    fn proceed(&mut self, _now: Nanos, _steps: u64, _finished: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Sees a span in which nothing ran.
    fn idle(&mut self, _idle: &Idle) {}

    /// Returns when it next wants to see who holds the cache: at the end of the first step that ends then or later. Changes
    /// only when it sees them, and when a request ended.
    fn holders_at(&self) -> Nanos {
        Nanos::MAX
    }

    /// Sees who holds the cache, at its own wish.
    fn holders(&mut self, _now: Nanos, _holders: &Holders<'_>) {}
}

/// Who holds the cache between two steps.
#[derive(Debug)]
pub struct Holders<'a> {
    /// Numbers of requests, in ascending order, with the tokens' worth of slots that each holds alone.
    pub alone: &'a [(u64, u64)],
    /// Where all of the room goes.
    pub occupancy: Occupancy,
}

/// What is left after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Blocks that could be handed out, where there are blocks.
    pub free_blocks: Option<u32>,
    /// Requests waiting.
    pub waiting: usize,
    /// Requests running.
    pub running: usize,
}

/// How a simulation went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that arrived, refused ones included.
    pub arrived: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that generated all their tokens.
    pub finished: u64,
    /// Requests that end earlier than they would, because prompt and output reach the engine's longest sequence.
    pub cut: u64,
    /// Steps that computed something.
    pub steps: u64,
    /// When the last step ended.
    pub end: Nanos,
    /// Time without a step before the end.
    pub idle: Nanos,
    /// Whether it was stopped before the workload's end.
    pub partial: bool,
}

/// Most requests that wait at once; each takes a few hundred bytes.
const MOST_WAITING: usize = 1 << 22;

/// How many steps, or arrivals, lie between two questions whether to go on.
const PATIENCE: u64 = 4096;

/// Runs a workload to its end.
///
/// # Errors
/// [`Error::Load`] from the source; [`Error::Stuck`] when requests wait that can never be placed; [`Error::Endless`] when
/// time runs over.
pub fn run<S: Scheduler, C: Cost, L: Source, W: Watch>(
    scheduler: &mut S,
    cost: &mut C,
    source: &mut L,
    watch: &mut W,
    settings: Settings,
) -> Result<Outcome, Error> {
    let jumps = settings.jumps && !watch.wants_batches();
    watch.begin(source.total());
    let mut run = Run { scheduler, cost, source, watch, intake: settings.intake, state: State::default() };
    let mut asked = 0;
    loop {
        let idle = run.scheduler.waiting() == 0 && run.scheduler.running() == 0;
        run.state.look(settings.intake, idle);
        run.admit()?;
        if run.state.outcome.partial {
            break;
        }
        if run.scheduler.waiting() == 0 && run.scheduler.running() == 0 {
            let Some(next) = run.source.peek()? else { break };
            run.wait_until(next);
            continue;
        }
        if run.state.now >= run.watch.holders_at() {
            run.show_holders();
        }
        if !jumps || !run.stretch()? {
            run.step()?;
        }
        if settings.verify {
            run.scheduler.verify(&run.state.requests);
        }
        if run.state.outcome.steps - asked >= PATIENCE {
            asked = run.state.outcome.steps;
            if run.watch.proceed(run.state.now, asked, run.state.outcome.finished).is_break() {
                run.state.outcome.partial = true;
                break;
            }
        }
        if run.state.now == Nanos::MAX {
            return Err(Error::Endless { steps: run.state.outcome.steps });
        }
    }
    Ok(run.state.outcome)
}

/// What changes while a simulation runs.
#[derive(Default)]
struct State {
    now: Nanos,
    requests: Requests,
    batch: Batch,
    shape: Shape,
    finished: Vec<Slot>,
    decoding: Vec<Slot>,
    /// What arrived until then is known to the scheduler when it forms the next step.
    seen: Nanos,
    /// When the step that ran last began, and whether only decoding happened in it; none once it was looked at.
    ran: Option<(Nanos, bool)>,
    /// Steps of pure decoding since the last look at what arrived.
    unseen: u32,
    /// Who holds what, while it is shown.
    alone: Vec<(u64, u64)>,
    /// Preemptions since the last token came out or a prompt got further than ever.
    barren: usize,
    outcome: Outcome,
}

impl State {
    /// Settles what the next step can hold.
    fn look(&mut self, intake: Intake, idle: bool) {
        let ran = self.ran.take();
        if idle {
            (self.seen, self.unseen) = (self.now, 0);
            return;
        }
        let Some((start, decoding)) = ran else { return };
        self.unseen = if decoding { self.unseen.saturating_add(1) } else { u32::MAX };
        if self.unseen >= intake.interval {
            (self.seen, self.unseen) = (if intake.ahead { start } else { self.now }, 0);
        }
    }
}

struct Run<'a, S, C, L, W> {
    scheduler: &'a mut S,
    cost: &'a mut C,
    source: &'a mut L,
    watch: &'a mut W,
    intake: Intake,
    state: State,
}

impl<S: Scheduler, C: Cost, L: Source, W: Watch> Run<'_, S, C, L, W> {
    /// Takes in what has arrived.
    fn admit(&mut self) -> Result<(), Error> {
        while self.source.peek()?.is_some_and(|at| at <= self.state.seen) {
            let Some(mut arrival) = self.source.take()? else { break };
            // A sequence ends where the engine's longest does, after one token at least.
            let room = self.scheduler.longest().saturating_sub(arrival.prompt.len()).max(1);
            self.state.outcome.cut += u64::from(arrival.output_tokens > room);
            arrival.output_tokens = arrival.output_tokens.min(room);
            if self.scheduler.waiting() >= MOST_WAITING {
                return Err(Error::Crowd { at: self.state.now, waiting: MOST_WAITING });
            }
            if self.state.outcome.arrived % PATIENCE == PATIENCE - 1 {
                let outcome = &mut self.state.outcome;
                if self.watch.proceed(self.state.now, outcome.steps, outcome.finished).is_break() {
                    outcome.partial = true;
                    return Ok(());
                }
            }
            let requests = &mut self.state.requests;
            let mark = arrival.mark;
            let slot = requests.insert(arrival);
            self.state.outcome.arrived += 1;
            match self.scheduler.add(slot, requests) {
                Ok(()) => self.watch.arrived(requests, slot, None),
                Err(refusal) => {
                    self.state.outcome.refused += 1;
                    self.watch.arrived(requests, slot, Some(&refusal.why));
                    requests.remove(slot);
                    self.source.finished(mark, self.state.now);
                }
            }
        }
        Ok(())
    }

    /// Shows who holds the cache.
    fn show_holders(&mut self) {
        let State { alone, requests, now, .. } = &mut self.state;
        alone.clear();
        self.scheduler.holders(requests, &mut |slot, tokens| alone.push((requests[slot].number, tokens)));
        alone.sort_unstable();
        self.watch.holders(*now, &Holders { alone, occupancy: self.scheduler.occupancy() });
    }

    /// Lets time pass without a step.
    fn wait_until(&mut self, until: Nanos) {
        // Who waits for something to happen looks at what arrives.
        self.state.seen = self.state.seen.max(until).max(self.state.now);
        if until > self.state.now {
            self.watch.idle(&Idle {
                from: self.state.now,
                until,
                occupancy: self.scheduler.occupancy(),
                waiting: self.scheduler.waiting(),
                running: self.scheduler.running(),
            });
            self.state.outcome.idle += until - self.state.now;
            self.state.now = until;
        }
    }

    /// Runs one step as the scheduler forms it, or waits for the next arrival where it forms none.
    fn step(&mut self) -> Result<(), Error> {
        let state = &mut self.state;
        state.batch.clear();
        self.scheduler.schedule(state.now, &mut state.requests, &mut state.batch);
        if state.batch.entries.is_empty() && state.batch.preempted.is_empty() {
            if self.scheduler.again() {
                return Ok(());
            }
            let wake = self.scheduler.wake().filter(|&wake| wake > state.now);
            return match self.source.peek()?.into_iter().chain(wake).min() {
                Some(next) => {
                    self.wait_until(next);
                    Ok(())
                }
                None => Err(self.stuck()),
            };
        }
        state.ran = Some((state.now, state.batch.entries.iter().all(|entry| entry.tokens == 1)));
        state.shape.clear();
        shape(&state.batch, &state.requests, self.cost.window(), &mut state.shape);
        let start = state.now;
        let end = start + self.cost.step(&state.shape).max(Nanos::new(1));
        state.now = end;
        let (occupancy, waiting, running) =
            (self.scheduler.occupancy(), self.scheduler.waiting(), self.scheduler.running());
        let recomputed = self.generate(start, end);
        let state = &mut self.state;
        self.watch.step(&Step {
            index: state.outcome.steps,
            start,
            end,
            batch: &state.batch,
            shape: &state.shape,
            stretched: false,
            finished: &state.finished,
            requests: &state.requests,
            occupancy,
            waiting,
            running,
            recomputed,
        });
        state.outcome.steps += 1;
        state.outcome.end = end;
        self.let_go(end);
        self.scheduler.complete(&self.state.requests, &self.state.batch);
        self.watch.rest(&Rest {
            free_blocks: self.scheduler.free_blocks(),
            waiting: self.scheduler.waiting(),
            running: self.scheduler.running(),
        });
        // An engine would take blocks away and begin again for ever.
        if self.state.barren > 100 + 10 * self.state.requests.len() {
            return Err(self.stuck());
        }
        Ok(())
    }

    /// Adds the tokens that a step generated, and notes who ended; returns the tokens that were computed again.
    fn generate(&mut self, start: Nanos, end: Nanos) -> u64 {
        let state = &mut self.state;
        state.finished.clear();
        state.barren += state.batch.preempted.len();
        let (mut alike, mut recomputed) = (0, 0);
        for entry in &state.batch.entries {
            let request = &mut state.requests[entry.slot];
            let reached = entry.context + entry.tokens;
            // Most of what happens: one more token, right after the last one.
            let next = request.last_token == start && request.first_token.is_some();
            if next && reached >= request.content.len() && entry.context >= request.computed_before {
                alike += 1;
                state.barren = 0;
                request.last_token = end;
                request.generate(1);
                if request.is_done() {
                    state.finished.push(entry.slot);
                }
                continue;
            }
            request.scheduled.get_or_insert(start);
            if entry.context < request.computed_before {
                let again = u64::from(reached.min(request.computed_before) - entry.context);
                request.recomputed_tokens += again;
                recomputed += again;
            }
            if reached < request.content.len() {
                // A prompt that gets further than it ever did is no standstill, however many steps it takes.
                if state.barren > 0 && reached > request.computed_before && !state.batch.preempted.contains(&entry.slot)
                {
                    state.barren = 0;
                }
                continue;
            }
            match request.first_token {
                None => request.first_token = Some(end),
                Some(_) if request.last_token == start => alike += 1,
                Some(_) => self.watch.gap(end - request.last_token, 1),
            }
            request.last_token = end;
            request.generate(1);
            // A token that it lost with its place and generates again is no progress.
            if reached > request.computed_before {
                state.barren = 0;
            }
            if request.is_done() {
                state.finished.push(entry.slot);
            }
        }
        if alike > 0 {
            self.watch.gap(end - start, alike);
        }
        recomputed
    }

    /// Lets go of the requests that ended.
    fn let_go(&mut self, now: Nanos) {
        let state = &mut self.state;
        for &slot in &state.finished {
            self.watch.finished(&state.requests, slot, now);
            self.scheduler.finish(slot, &state.requests);
            let mark = state.requests[slot].mark;
            if !self.scheduler.keeps_ended() {
                state.requests.remove(slot);
            }
            state.outcome.finished += 1;
            self.source.finished(mark, now);
        }
    }

    /// Goes through a stretch of pure decoding; false when there is none.
    fn stretch(&mut self) -> Result<bool, Error> {
        let state = &mut self.state;
        state.decoding.clear();
        let most = self.scheduler.stretch(&state.requests, &mut state.decoding);
        if most == 0 {
            return Ok(false);
        }
        let begin = state.now;
        let next = self.source.peek()?.unwrap_or(Nanos::MAX);
        let shown = self.watch.holders_at();
        decode_shape(&state.decoding, &state.requests, self.cost.window(), &mut state.shape);
        state.shape.padding = self.scheduler.padding();
        state.batch.clear();
        state.finished.clear();
        let (waiting, running) = (self.scheduler.waiting(), self.scheduler.running());
        let mut window = Windowed::new(&state.decoding, &state.requests, self.cost.window());
        let decodes = state.shape.decodes;
        let mut steps = 0;
        while steps < most {
            if steps > 0 {
                state.look(self.intake, false);
            }
            // Who looks on sees who holds what between two stretches.
            if next <= state.seen || steps > 0 && state.now >= shown || !self.scheduler.tick() {
                break;
            }
            let start = state.now;
            state.ran = Some((start, true));
            let end = start + self.cost.step(&state.shape).max(Nanos::new(1));
            state.now = end;
            if steps > 0 {
                self.watch.gap(end - start, decodes);
            } else {
                first_gaps(self.watch, &state.decoding, &state.requests, start, end);
            }
            self.watch.step(&Step {
                index: state.outcome.steps,
                start,
                end,
                batch: &state.batch,
                shape: &state.shape,
                stretched: true,
                finished: &[],
                requests: &state.requests,
                occupancy: self.scheduler.occupancy(),
                waiting,
                running,
                recomputed: 0,
            });
            state.outcome.steps += 1;
            steps += 1;
            state.shape.decode_context += u64::from(decodes);
            state.shape.decode_windowed += window.grown();
        }
        if steps == 0 {
            self.scheduler.settle(&state.requests, 0);
            return Ok(false);
        }
        debug_assert!(state.now > begin);
        state.outcome.end = state.now;
        state.barren = 0;
        for &slot in &state.decoding {
            let request = &mut state.requests[slot];
            request.generate(steps);
            request.last_token = state.now;
        }
        self.scheduler.settle(&state.requests, steps);
        Ok(true)
    }

    /// Says why nothing can happen any more.
    fn stuck(&mut self) -> Error {
        let shortage = self.scheduler.shortage(&self.state.requests).map_or_else(String::new, |of| format!("; {of}"));
        let first = self.scheduler.head().map(|slot| &self.state.requests[slot]);
        Error::Stuck {
            at: self.state.now,
            waiting: self.scheduler.waiting(),
            first: first.map_or(0, |request| request.number),
            why: first.map_or_else(String::new, |request| {
                format!(
                    "prompt of {} tokens, {} generated, {} asked for{shortage}",
                    request.prompt_tokens, request.generated, request.max_tokens
                )
            }),
        }
    }
}

/// Adds up what a batch computes.
fn shape(batch: &Batch, requests: &Requests, window: Option<u32>, shape: &mut Shape) {
    shape.padding = batch.padding;
    for entry in &batch.entries {
        if entry.tokens == 1 {
            shape.decodes += 1;
            shape.decode_context += u64::from(entry.context);
            shape.decode_windowed += u64::from(entry.context.min(window.unwrap_or(u32::MAX)));
        } else {
            shape.chunks.push(Chunk { tokens: entry.tokens, context: entry.context });
        }
        shape.sampled += u32::from(entry.context + entry.tokens >= requests[entry.slot].content.len());
    }
}

/// Adds up what the first step of a stretch computes: each request's newest token, all before it being in the cache.
fn decode_shape(decoding: &[Slot], requests: &Requests, window: Option<u32>, shape: &mut Shape) {
    shape.clear();
    for &slot in decoding {
        let context = requests[slot].content.len() - 1;
        shape.decodes += 1;
        shape.decode_context += u64::from(context);
        shape.decode_windowed += u64::from(context.min(window.unwrap_or(u32::MAX)));
        shape.sampled += 1;
    }
}

/// Notes how long each request waited for the first token of a stretch.
fn first_gaps<W: Watch>(watch: &mut W, decoding: &[Slot], requests: &Requests, start: Nanos, end: Nanos) {
    let mut alike = 0;
    for &slot in decoding {
        match requests[slot].last_token {
            last if last == start => alike += 1,
            last => watch.gap(end - last, 1),
        }
    }
    if alike > 0 {
        watch.gap(end - start, alike);
    }
}

/// How many sequences of a stretch are still shorter than the window, step by step.
struct Windowed {
    /// Steps after which each short sequence reaches the window, ascending.
    reach: Vec<u32>,
    step: u32,
    passed: usize,
    all: u64,
}

impl Windowed {
    fn new(decoding: &[Slot], requests: &Requests, window: Option<u32>) -> Self {
        let mut reach = Vec::new();
        if let Some(window) = window {
            let contexts = decoding.iter().map(|&slot| requests[slot].content.len() - 1);
            reach.extend(contexts.filter(|&context| context < window).map(|context| window - context));
            reach.sort_unstable();
        }
        let all = if window.is_some() { reach.len() } else { decoding.len() } as u64;
        Windowed { reach, step: 0, passed: 0, all }
    }

    /// Returns by how many tokens the windowed context grows after this step.
    fn grown(&mut self) -> u64 {
        self.step += 1;
        let grown = self.all - self.passed as u64;
        while self.reach.get(self.passed).is_some_and(|&reach| reach <= self.step) {
            self.passed += 1;
        }
        grown
    }
}
