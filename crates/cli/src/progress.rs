//! How far is it, and may it go on? A bar on the terminal with the time that is left, and Ctrl-C, which ends a simulation
//! with what it has so far.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plimsoll_sim::Watch;
use plimsoll_units::Nanos;

/// How often the bar is drawn anew, in times a second.
const RATE: u8 = 5;

/// Shows how far a simulation is and stops it on Ctrl-C: looks on at it, or at several one after the other.
pub struct Progress {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Progress {
    /// Begins. `quiet` leaves the bar away, as does an error output that is no terminal.
    ///
    /// From now on the first Ctrl-C ends the simulation early, the second one ends the program.
    ///
    /// # Errors
    /// Those of the system when it takes no signal handler.
    pub fn new(quiet: bool) -> io::Result<Self> {
        Ok(Progress { bar: bar(target(quiet)), stop: on_interrupt()? })
    }

    /// Whether Ctrl-C was pressed: no further simulation should begin.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes the bar away, so that the answer stands alone.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

impl Watch for Progress {
    fn begin(&mut self, total: Option<u64>) {
        self.bar.reset();
        self.bar.set_style(style(total.is_some()));
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
    }

    fn proceed(&mut self, now: Nanos, steps: u64, finished: u64) -> ControlFlow<()> {
        self.bar.set_position(finished);
        self.bar.set_message(format!("{now} simulated, {} steps", short(steps)));
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Where bars are drawn: on a terminal, unless nothing is to be said.
pub(crate) fn target(quiet: bool) -> ProgressDrawTarget {
    if quiet || !io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr_with_hz(RATE)
    }
}

/// The bar.
fn bar(target: ProgressDrawTarget) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target).with_style(style(false));
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(1000 / u64::from(RATE)));
    }
    bar
}

/// What the bar shows: how far it is of how much, or without a total what is known without.
fn style(total: bool) -> ProgressStyle {
    let words = if total {
        "{bar:24} {human_pos} of {human_len} requests, {msg}, {eta} left"
    } else {
        "{spinner} {human_pos} requests, {msg}, {elapsed}"
    };
    let style = ProgressStyle::with_template(words).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("█▉▊▋▌▍▎▏ ")
}

/// A count in few characters.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..10_000_000 => format!("{} k", number / 1000),
        _ => format!("{} M", number / 1_000_000),
    }
}

/// Returns the flag that the first Ctrl-C sets. When it is set already, Ctrl-C ends the program with the status that
/// shells give to it.
pub(crate) fn on_interrupt() -> io::Result<Arc<AtomicBool>> {
    const INTERRUPTED: i32 = 130;
    let stop = Arc::new(AtomicBool::new(false));
    // In this order: the second press finds the flag set before it would set it.
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGINT, INTERRUPTED, Arc::clone(&stop))?;
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(total: Option<u64>) -> Progress {
        let mut progress = Progress { bar: bar(ProgressDrawTarget::hidden()), stop: Arc::default() };
        progress.begin(total);
        progress
    }

    #[test]
    fn it_goes_on_until_it_is_told_to_stop() {
        for total in [None, Some(10)] {
            let mut progress = progress(total);
            assert!(progress.proceed(Nanos::new(5), 4096, 3).is_continue());
            assert_eq!(progress.bar.position(), 3);
            assert_eq!(progress.bar.message(), "5 ns simulated, 4096 steps");
            progress.stop.store(true, Ordering::Relaxed);
            assert!(progress.proceed(Nanos::new(6), 8192, 4).is_break());
            assert!(progress.is_stopped());
        }
    }

    #[test]
    fn an_interrupt_sets_the_flag() {
        let stop = on_interrupt().unwrap();
        signal_hook::low_level::raise(signal_hook::consts::SIGINT).unwrap();
        assert!(stop.load(Ordering::Relaxed));
    }

    #[test]
    fn large_counts_are_short() {
        for (number, text) in [(9_999, "9999"), (10_000, "10 k"), (9_999_999, "9999 k"), (12_345_678, "12 M")] {
            assert_eq!(short(number), text);
        }
    }
}
