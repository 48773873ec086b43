//! Rows as text: CSV and JSON lines. Times are exact decimals.

use std::io::{self, Write};

use super::{Column, Sink, Unit};

/// Comma-separated values with a head; what a row lacks is empty.
pub(super) struct Csv<W> {
    out: W,
    columns: &'static [Column],
}

impl<W: Write> Csv<W> {
    pub(super) fn begin(mut out: W, columns: &'static [Column]) -> io::Result<Self> {
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        writeln!(out, "{}", names.join(","))?;
        Ok(Csv { out, columns })
    }
}

impl<W: Write> Sink for Csv<W> {
    fn row(&mut self, cells: &[Option<u64>]) -> io::Result<()> {
        for (at, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            if at > 0 {
                self.out.write_all(b",")?;
            }
            if let Some(number) = *cell {
                self.out.write_all(Text::of(number, column.unit).as_bytes())?;
            }
        }
        self.out.write_all(b"\n")
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}

/// One object a line; what a row lacks is null.
pub(super) struct Jsonl<W> {
    out: W,
    columns: &'static [Column],
}

impl<W: Write> Jsonl<W> {
    pub(super) const fn begin(out: W, columns: &'static [Column]) -> Self {
        Jsonl { out, columns }
    }
}

impl<W: Write> Sink for Jsonl<W> {
    fn row(&mut self, cells: &[Option<u64>]) -> io::Result<()> {
        for (at, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            let lead = if at == 0 { "{\"" } else { ",\"" };
            self.out.write_all(lead.as_bytes())?;
            self.out.write_all(column.name.as_bytes())?;
            self.out.write_all(b"\":")?;
            match *cell {
                Some(number) => self.out.write_all(Text::of(number, column.unit).as_bytes())?,
                None => self.out.write_all(b"null")?,
            }
        }
        self.out.write_all(b"}\n")
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}

/// A number's digits, with a point where its unit has one; no zeros at the end of a fraction.
struct Text {
    /// Written from the end.
    digits: [u8; 24],
    from: usize,
    until: usize,
}

impl Text {
    fn of(mut number: u64, unit: Unit) -> Self {
        let point = match unit {
            Unit::Count => 0,
            Unit::Seconds => 9,
            Unit::Millis => 6,
        };
        let mut text = Text { digits: [b'0'; 24], from: 24, until: 24 };
        let mut fraction = 0;
        while fraction < point {
            text.push((number % 10) as u8 + b'0');
            number /= 10;
            fraction += 1;
            if text.digits[text.from] == b'0' && text.from + 1 == text.until {
                text.until = text.from;
            }
        }
        if text.until > text.from {
            text.push(b'.');
        }
        loop {
            text.push((number % 10) as u8 + b'0');
            number /= 10;
            if number == 0 {
                return text;
            }
        }
    }

    const fn push(&mut self, byte: u8) {
        self.from -= 1;
        self.digits[self.from] = byte;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.digits[self.from..self.until]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_decimals() {
        for (number, unit, text) in [
            (0, Unit::Count, "0"),
            (u64::MAX, Unit::Count, "18446744073709551615"),
            (0, Unit::Seconds, "0"),
            (1, Unit::Seconds, "0.000000001"),
            (1_500_000_000, Unit::Seconds, "1.5"),
            (12_000_000_000, Unit::Seconds, "12"),
            (10_000_000, Unit::Millis, "10"),
            (1_234_567, Unit::Millis, "1.234567"),
            (u64::MAX, Unit::Seconds, "18446744073.709551615"),
        ] {
            assert_eq!(std::str::from_utf8(Text::of(number, unit).as_bytes()).unwrap(), text);
        }
    }
}
