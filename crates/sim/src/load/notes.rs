//! What became of requests that are not played? Notes on what a source left out or changed, in words.

use super::trace::{Report, servegen};
use super::{AnySource, Shaped};

impl AnySource {
    /// Says what was left out or changed so far, a line each; complete when no request is left.
    pub fn notes(&self) -> Vec<String> {
        match self {
            AnySource::Trace(trace) => trace.report().notes(),
            AnySource::ServeGen(servegen) => of_servegen(servegen.report()),
            AnySource::Shaped(shaped) => of_shaped(shaped),
            AnySource::List(_) | AnySource::Synthetic(_) => Vec::new(),
        }
    }
}

impl Report {
    /// Says what was left out or changed, a line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let skipped = self.skipped();
        if skipped > 0 {
            let reasons: Vec<String> = self.bad.iter().map(|(why, rows)| format!("{rows} {why}")).collect();
            let first = self.first_bad.as_deref().map(|first| format!("; the first: {first}")).unwrap_or_default();
            let (rows, were) = (counted(self.rows, "row"), were(skipped));
            notes.push(format!("{skipped} of {rows} of the trace {were} left out: {}{first}", reasons.join(", ")));
        }
        notes.extend(said(self.no_output, "row", " without an output token", "left out"));
        notes.extend(said(self.no_prompt, "row", " without a prompt", "left out"));
        notes.extend(said(self.cut, "output", "", "cut to what the request asks for at most"));
        notes.extend(said(self.forgotten, "conversation", "", "forgotten because there were too many at once"));
        notes
    }
}

fn of_servegen(report: servegen::Report) -> Vec<String> {
    let no_dataset = said(report.no_dataset as u64, "client", " without a file of lengths", "left out");
    let no_lengths = said(report.no_lengths, "request", " of clients without lengths so far", "left out");
    let empty = said(report.empty, "request", " without a prompt or an output token", "left out");
    [no_dataset, no_lengths, empty].into_iter().flatten().collect()
}

fn of_shaped(shaped: &Shaped) -> Vec<String> {
    let mut notes = shaped.source().notes();
    notes.extend(said(shaped.dropped(), "request", " longer than the model takes", "left out"));
    notes.extend(said(shaped.clipped(), "request", " longer than the model takes", "cut to what it takes"));
    notes
}

/// Says what happened to so many; nothing where there are none.
fn said(count: u64, noun: &str, which: &str, what: &str) -> Option<String> {
    (count > 0).then(|| format!("{}{which} {} {what}", counted(count, noun), were(count)))
}

/// Counts things.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

const fn were(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::load::trace::{Options, open};
    use crate::load::{Longest, MaxTokens, Overlong, Source, Transform};

    fn ended(mut source: AnySource) -> Vec<String> {
        while source.take().unwrap().is_some() {}
        source.notes()
    }

    fn trace(text: &str) -> AnySource {
        let max_tokens = MaxTokens::Tokens(std::num::NonZeroU32::new(50).unwrap());
        let options = Options { skip_bad: true, max_tokens, ..Options::default() };
        AnySource::Trace(Box::new(open("t", Box::new(Cursor::new(text.as_bytes().to_vec())), &options).unwrap()))
    }

    fn shaped(source: AnySource, overlong: Overlong) -> AnySource {
        let longest = Some(Longest { tokens: 10, overlong });
        AnySource::Shaped(Box::new(Shaped::new(source, Transform { longest, ..Transform::default() }).unwrap()))
    }

    #[test]
    fn what_is_left_out_is_said() {
        let head = "arrived_s,prompt_tokens,output_tokens\n1,1,1\n";
        for (rows, notes) in [
            ("", &[][..]),
            ("1,1,0\n", &["1 row without an output token was left out"][..]),
            (
                "1,1,0\n1,1,0\n1,0,1\n",
                &["2 rows without an output token were left out", "1 row without a prompt was left out"],
            ),
            ("1,1,60\n", &["1 output was cut to what the request asks for at most"]),
            (
                "1,1\n",
                &[
                    "1 of 2 rows of the trace was left out: 1 wrong number of columns; the first: line 3: 2 columns where the header has 3",
                ],
            ),
        ] {
            assert_eq!(ended(trace(&format!("{head}{rows}"))), notes, "{rows}");
        }
    }

    #[test]
    fn what_is_too_long_is_said_behind_it() {
        let text = "arrived_s,prompt_tokens,output_tokens\n1,1,1\n1,1,0\n1,9,9\n";
        let left_out = "1 row without an output token was left out";
        for (overlong, note) in [
            (Overlong::Drop, "1 request longer than the model takes was left out"),
            (Overlong::Clip, "1 request longer than the model takes was cut to what it takes"),
        ] {
            assert_eq!(ended(shaped(trace(text), overlong)), [left_out, note]);
        }
    }

    #[test]
    fn clients_that_are_left_out_are_said() {
        let mut pool = servegen::Pool::default();
        for (path, text) in [
            ("chunk-0-trace.csv", "0,0.1,1,Gamma,1,1\n600,0.1,1,Gamma,1,1\n"),
            ("chunk-0-dataset.json", r#"{"600": {"input_tokens": "{0: 1.0}", "output_tokens": "{1: 1.0}"}}"#),
            ("chunk-1-trace.csv", "0,0.1,1,Gamma,1,1\n"),
        ] {
            assert!(pool.add(path, text.as_bytes()).unwrap());
        }
        let source = AnySource::ServeGen(Box::new(pool.source(servegen::Options::default(), 0).unwrap()));
        let notes = [
            "1 client without a file of lengths was left out",
            "59 requests of clients without lengths so far were left out",
            "59 requests without a prompt or an output token were left out",
        ];
        assert_eq!(ended(source), notes);
    }
}
