//! How long does a step take? Flags that replace the catalogue's rates and what was measured.

use plimsoll_api::{CostRequest, Error};

use crate::arguments::CostArguments;

/// Turns flags into the part of a request that is about time.
pub(crate) fn request(arguments: &CostArguments) -> Result<CostRequest, Error> {
    let overhead = arguments.overhead.as_deref().map(|text| seconds("--overhead", text)).transpose()?;
    let giga = |rate: Option<f64>| rate.map(|rate| rate * 1e9);
    Ok(CostRequest {
        mfu: arguments.mfu,
        mbu: arguments.mbu,
        overhead_us: overhead.map(micros),
        peak_flops_per_s: arguments.peak_tflops.map(|peak| peak * 1e12),
        bandwidth_bytes_per_s: giga(arguments.bandwidth_gbs),
        link_bytes_per_s: giga(arguments.link_gbs),
        network_bytes_per_s: giga(arguments.network_gbs),
        fixed_us: None,
    })
}

/// Seconds in microseconds.
pub(crate) fn micros(seconds: f64) -> f64 {
    seconds * 1e6
}

/// Reads a time such as `500ms`; a bare number is no time.
pub(crate) fn seconds(flag: &str, text: &str) -> Result<f64, Error> {
    let text = text.trim();
    let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("min", 60.0), ("h", 3600.0), ("s", 1.0)];
    let time = units.iter().find_map(|(unit, scale)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * scale).filter(|time| time.is_finite() && *time >= 0.0)
    });
    time.ok_or_else(|| Error::Request(format!("{flag} {text}: expected a time with its unit, such as 500ms or 2s")))
}
