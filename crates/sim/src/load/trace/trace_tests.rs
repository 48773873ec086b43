use std::io::{BufReader, Cursor, Read};

use super::*;

fn opened(text: &str, options: &Options) -> Result<Trace, Error> {
    open("t", Box::new(Cursor::new(text.as_bytes().to_vec())), options)
}

fn read(text: &str, options: &Options) -> Result<(Vec<Arrival>, Report), Error> {
    let mut trace = opened(text, options)?;
    let mut all = Vec::new();
    while let Some(at) = trace.peek()? {
        let arrival = trace.take()?.expect("what was peeked at");
        assert_eq!(arrival.at, at);
        all.push(arrival);
    }
    Ok((all, trace.report))
}

/// Format, and of each request nanoseconds, prompt, output, most tokens and priority.
type Rows = (Format, Vec<(u64, u32, u32, u32, i32)>);

fn rows(text: &str) -> Rows {
    let (all, report) = read(text, &Options::default()).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let of = |arrival: Arrival| {
        (arrival.at.get(), arrival.prompt.len(), arrival.output_tokens, arrival.max_tokens, arrival.priority)
    };
    (report.format, all.into_iter().map(of).collect())
}

#[test]
fn each_form_is_recognised_and_read() {
    let same =
        |format, rows: &[(u64, u32, u32)]| (format, rows.iter().map(|r| (r.0, r.1, r.2, r.2, 0)).collect::<Vec<_>>());
    for (text, wanted) in [
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.0319600,3180,8\r\n",
            same(Format::Azure, &[(0, 4808, 10), (52_000_000, 3180, 8)]),
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-12 00:00:00+00:00,1,2\n2024-05-12 00:00:00.009930+00:00,3,4",
            same(Format::Azure, &[(0, 1, 2), (9_930_000, 3, 4)]),
        ),
        (
            "\u{feff}Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,\"GPT-4\",1087,230,1317,\"API log, old\"\n",
            same(Format::BurstGpt, &[(0, 472, 18), (40_000_000_000, 1087, 230)]),
        ),
        (
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n19440110.0,1722ac82,43,GPT-4,906,446,1352,Conversation log\n",
            same(Format::BurstGpt, &[(0, 906, 446)]),
        ),
        (
            "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,4808,10\n\n0.098189,110,27\n",
            same(Format::Vidur, &[(0, 4808, 10), (98_189_000, 110, 27)]),
        ),
        (
            "{\"timestamp\": 27, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [0, 1]}\n{\"timestamp\": 28.5, \"input_length\": 9, \"output_length\": 6}\n",
            same(Format::Mooncake, &[(0, 600, 5), (1_500_000, 9, 6)]),
        ),
        (
            "{\"chat_id\": 159, \"parent_chat_id\": -1, \"timestamp\": 61.25, \"input_length\": 20, \"output_length\": 2, \"type\": \"text\", \"turn\": 1, \"hash_ids\": [7, 8]}",
            same(Format::Bailian, &[(0, 20, 2)]),
        ),
        (
            "request,arrival_s,prompt_tokens,output_tokens,queued_s\nbench-0,0.5,2358,531,0.0\n",
            same(Format::Table, &[(500_000_000, 2358, 531)]),
        ),
        (
            "output_tokens,prompt_tokens,arrived_s,max_tokens,priority\n10,20,1,30,-2\n10,20,1,,\n10,20,1,4,0\n",
            (
                Format::Table,
                vec![(1_000_000_000, 20, 10, 30, -2), (1_000_000_000, 20, 10, 10, 0), (1_000_000_000, 20, 4, 4, 0)],
            ),
        ),
        (
            "{\"arrived_s\": 0.25, \"prompt_tokens\": 20, \"output_tokens\": 10, \"max_tokens\": 30, \"priority\": 1}\n{\"arrived_s\": 0.5, \"segments\": [[1, 30], [2, 5]], \"output_tokens\": 1}",
            (Format::Lines, vec![(250_000_000, 20, 10, 30, 1), (500_000_000, 35, 1, 1, 0)]),
        ),
        (
            "{\n \"config\": {}, \"requests\": [{\"id\": \"r1\", \"arrival_step\": 3, \"prompt\": [[4, 64], [1000, 44]], \"max_tokens\": 50},\n {\"id\": \"r0\", \"arrival_step\": 0, \"prompt\": [[4, 9]], \"max_tokens\": 5, \"priority\": 2}], \"steps\": []}",
            (Format::VllmSched, vec![(0, 9, 5, 5, 2), (3_000_000, 108, 50, 50, 0)]),
        ),
    ] {
        assert_eq!(rows(text), wanted, "{text}");
    }
}

#[test]
fn equal_blocks_are_equal_tokens() {
    let text = "{\"timestamp\": 0, \"input_length\": 1100, \"output_length\": 5, \"hash_ids\": [0, 1, 2]}\n\
        {\"timestamp\": 0, \"input_length\": 1536, \"output_length\": 5, \"hash_ids\": [0, 1, 3]}\n";
    let (all, _) = read(text, &Options::default()).unwrap();
    let runs = |index: usize| all[index].prompt.runs().iter().map(|run| (run.stream, run.len)).collect::<Vec<_>>();
    assert_eq!(runs(0)[..2], runs(1)[..2]);
    assert_eq!((runs(0)[2].1, runs(1)[2].1), (76, 512), "the last block is what is left");
    assert_ne!(runs(0)[2].0, runs(1)[2].0);
    let bad = read(&text.replace("1536", "9999"), &Options::default()).unwrap_err().to_string();
    assert!(bad.contains("t:2: 3 hash_ids for 9999 tokens, which are 20 blocks of 512"), "{bad}");
    let other = Options { block_tokens: NonZeroU32::new(550), ..Options::default() };
    assert!(read(text, &other).is_err());
    let bad = read(&text.replace("[0, 1, 2]", "[0, 1]"), &Options::default()).unwrap_err().to_string();
    assert!(bad.contains("t:1: 2 hash_ids for 1100 tokens, which are 3 blocks of 512"), "{bad}");
    let text = r#"{"chat_id": 1, "timestamp": 0, "input_length": 20, "output_length": 2, "hash_ids": [7]}"#;
    let prompt = &read(text, &Options::default()).unwrap().0[0].prompt;
    assert_eq!(prompt.runs()[1].len, 4, "Bailian's full blocks may stand alone; the rest is the request's own");
}

#[test]
fn conversations_and_prefixes_are_shared() {
    let text = "arrived_s,prompt_tokens,output_tokens,prefix,prefix_tokens,conversation\n\
        0,100,10,system,60,a\n1,80,10,system,60,\n2,150,10,,,a\n3,50,10,,,a\n4,100,5,other,60,b\n";
    let (all, report) = read(text, &Options::default()).unwrap();
    let runs = |index: usize| all[index].prompt.runs().iter().map(|run| (run.stream, run.len)).collect::<Vec<_>>();
    assert_eq!(runs(0)[0], runs(1)[0], "the same prefix");
    assert_eq!(runs(2)[..2], runs(0)[..], "the earlier prompt,");
    assert_eq!(runs(2)[2], (all[0].output_stream, 10), "its answer,");
    assert_eq!(runs(2)[3].1, 40, "and new text");
    assert_eq!(runs(3), [runs(0)[0]].map(|run| (run.0, 50)), "a shorter prompt is a beginning of what was said");
    assert_ne!(runs(4)[0].0, runs(0)[0].0);
    assert_eq!((report.requests, report.forgotten), (5, 0));
}

#[test]
fn faults_are_named_with_file_and_line() {
    const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,4808,10\n";
    for (text, message) in [
        (String::new(), "t: is empty"),
        ("\n\n".into(), "t: is empty"),
        (
            "a,b,c\n1,2,3\n".into(),
            "t:1: begins with \"a,b,c\", which no known trace does; known are the headers TIMESTAMP",
        ),
        ("[1]".into(), "is a JSON array; write one object a line"),
        ("\0\0\0\0".into(), "t:1: is not text"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n".into(), "t: holds no request: 0 rows"),
        ("num_prefill_tokens,num_decode_tokens\n1,2\n".into(), "t: has lengths but no times; combine it"),
        (format!("{AZURE}2023-11-16 18:17:02,1,1\n"), "t:3: 1.00 s before the row before it: time goes backwards"),
        (format!("{AZURE}2023-11-16 18:17:04,-1,1\n"), "t:3: contexttokens is \"-1\": negative number"),
        (format!("{AZURE}2023-11-16 18:17:04,NaN,1\n"), "contexttokens is \"NaN\": not a number"),
        (format!("{AZURE}2023-11-16 18:17:04,1.5,1\n"), "tokens not whole"),
        (format!("{AZURE}2023-11-16 18:17:04,1073741825,1\n"), "number too large (at most 1073741824 tokens)"),
        (format!("{AZURE}yesterday,1,1\n"), "timestamp is \"yesterday\": not a date and time"),
        (format!("{AZURE}2023-11-16 18:17:04,\"1\"99,1\n"), "t:3: neither a comma nor the end behind a closing quote"),
        (format!("{AZURE}2023-11-16 18:17:04,1,\"1\"9\n"), "t:3: neither a comma nor the end behind a closing quote"),
        (format!("{AZURE}2023-11-16 18:17:04,\"2\"\"3\",1\n"), "t:3: contexttokens is \"2\\\"\\\"3\": not a number"),
        (format!("{AZURE}2023-11-16 18:17:04,1\n"), "t:3: 2 columns where the header has 3"),
        (format!("{AZURE}2023-11-16 18:17:04,1,1,1\n"), "t:3: 4 columns where the header has 3"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n-1,1,1\n".into(), "t:2: arrived_at is \"-1\": negative"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\nnan,1,1\n".into(), "not a number of seconds"),
        ("{\"timestamp\": 1, \"input_length\": 5, \"output_length\"".into(), "t:1: EOF while parsing"),
        ("{\"timestamp\": 1, \"input_length\": -5, \"output_length\": 1}".into(), "input_length is \"-5\": negative"),
        (
            "{\"timestamp\": 1, \"input_length\": 1e300, \"output_length\": 1}".into(),
            "input_length is \"1e300\": number too large (at most 1073741824 tokens)",
        ),
        (
            "{\"timestamp\": 1e300, \"input_length\": 1, \"output_length\": 1}".into(),
            "t:1: timestamp is \"1e300\": beyond 584 years",
        ),
        ("{\"timestamp\": -1, \"input_length\": 1, \"output_length\": 1}".into(), "timestamp is \"-1\": negative"),
        (
            "arrived_at,num_prefill_tokens,num_decode_tokens\n1e30,1,1\n".into(),
            "arrived_at is \"1e30\": beyond 584 years",
        ),
        ("{\"timestamp\": 1, \"input_length\": 5}".into(), "t:1: output_length is missing"),
        (
            "{\"arrived_s\": 1, \"prompt_tokens\": 5, \"output_tokens\": 5, \"prioriti\": 5}".into(),
            "unknown field `prioriti`",
        ),
        ("arrived_s,prompt_tokens,output_tokens,prefix\n1,1,1,a\n".into(), "prefix_tokens is missing"),
        ("{\"requests\": [".into(), "t: EOF while parsing"),
    ] {
        let error = read(&text, &Options::default()).expect_err(&text).to_string();
        assert!(error.contains(message), "{text}\n  gave {error}\n  not  {message}");
    }
    let named = Options { format: Some(Format::Vidur), ..Options::default() };
    assert!(read(AZURE, &named).unwrap_err().to_string().contains("not what a vidur trace begins with"));
    let azure = Options { format: Some(Format::Azure), ..named };
    assert!(read("a,b\n", &azure).unwrap_err().to_string().contains("not what an azure trace begins with"));
    assert_eq!(read(AZURE, &Options { format: Some(Format::Azure), ..named }).unwrap().1.requests, 1);
}

#[test]
fn bad_rows_are_skipped_and_counted() {
    let text = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
        5,a,1,1,2,x\n4,a,1,1,2,x\n6,a,-1,1,2,x\n7,a,0,0,0,x\n8,a,9,0,9,x\n9,a,0,9,9,x\n9,a\n10,a,1,1,2,x\n\u{0}\n";
    let (all, report) = read(text, &Options { skip_bad: true, ..Options::default() }).unwrap();
    assert_eq!((all.len(), report.rows, report.requests), (2, 9, 2));
    assert_eq!((report.no_output, report.no_prompt, report.skipped()), (2, 1, 4));
    assert_eq!(
        report.bad.into_iter().collect::<Vec<_>>(),
        [("negative number", 1), ("not a time", 1), ("time goes backwards", 1), ("wrong number of columns", 1)]
    );
    assert_eq!(report.first_bad.unwrap(), "line 3: 1.00 s before the row before it: time goes backwards");
}

/// Gives its bytes, and then what a cut-off packed file gives.
struct Cut(Cursor<Vec<u8>>);

impl Read for Cut {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "unexpected end of file")),
            read => Ok(read),
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_an_error_or_an_end() {
    let text = b"arrived_s,prompt_tokens,output_tokens\n1,1,1\n2,2,";
    let cut = || Box::new(BufReader::new(Cut(Cursor::new(text.to_vec()))));
    let mut trace = open("t.gz", cut(), &Options::default()).unwrap();
    assert!(trace.take().unwrap().is_some());
    let error = trace.take().unwrap_err().to_string();
    assert!(error.starts_with("t.gz:3: cannot be read further: unexpected end of file"), "{error}");
    assert_eq!(trace.take().unwrap(), None);
    let mut trace = open("t.gz", cut(), &Options { skip_bad: true, ..Options::default() }).unwrap();
    assert!(trace.take().unwrap().is_some());
    assert_eq!(trace.take().unwrap(), None);
    assert_eq!(trace.report().bad.iter().next(), Some((&"the rest is unreadable", &1)));
    assert_eq!((trace.report().rows, trace.report().requests), (2, 1), "the broken row is one of the rows");
}

#[test]
fn endless_lines_end() {
    let mut text = b"arrived_s,prompt_tokens,output_tokens\n1,1,1\n".to_vec();
    text.extend(std::iter::repeat_n(b'9', MOST_BYTES as usize + 10));
    text.extend(b"\n2,1,1\n");
    let options = Options { skip_bad: true, ..Options::default() };
    let mut trace = open("t", Box::new(Cursor::new(text)), &options).unwrap();
    let mut count = 0;
    while trace.take().unwrap().is_some() {
        count += 1;
    }
    assert_eq!((count, trace.report().bad["line too long"]), (2, 1));
}

#[test]
fn endless_streams_end() {
    const HEAD: &[u8] = b"arrived_s,prompt_tokens,output_tokens\n1,1,1\n";
    let endless = |head: &'static [u8], byte: u8| Box::new(BufReader::new(head.chain(std::io::repeat(byte))));
    let error = open("t", endless(b"", 0), &Options::default()).err().unwrap().to_string();
    assert!(error.contains("t:1: begins with a line of more than 16 MiB"), "{error}");
    let error = open("t", endless(b"", b'\n'), &Options::default()).err().unwrap().to_string();
    assert!(error.contains("blank ones in a row"), "{error}");
    let mut trace = open("t", endless(HEAD, b'9'), &Options::default()).unwrap();
    assert!(trace.take().unwrap().is_some());
    assert!(trace.take().unwrap_err().to_string().contains("t:3: a line of more than 16777216 bytes"));
    let mut trace = open("t", endless(HEAD, b'9'), &Options { skip_bad: true, ..Options::default() }).unwrap();
    assert!(trace.take().unwrap().is_some());
    assert_eq!(trace.take().unwrap(), None);
    let bad: Vec<&str> = trace.report().bad.keys().copied().collect();
    assert_eq!(bad, ["line too long", "the rest is unreadable"]);
}

#[test]
fn json_is_recognised_by_its_outermost_keys() {
    const MOONCAKE: &str = "\"timestamp\": 0, \"input_length\": 5, \"output_length\": 1";
    const STEPS: &str = "[{\"arrival_step\": 0, \"prompt\": [[1, 5]], \"max_tokens\": 1}]";
    for (text, format) in [
        (format!("{{{MOONCAKE}}}"), Format::Mooncake),
        (format!("  {{{MOONCAKE}}}"), Format::Mooncake),
        (format!("\n\t {{{MOONCAKE}}}"), Format::Mooncake),
        (format!("\u{feff}{{{MOONCAKE}}}"), Format::Mooncake),
        (format!(" \u{feff} {{{MOONCAKE}}}"), Format::Mooncake),
        (format!("\u{feff}\n{{{MOONCAKE}}}"), Format::Mooncake),
        (format!("{{{MOONCAKE}, \"requests\": 3}}"), Format::Mooncake),
        (format!("{{\"requests\": [1, 2], {MOONCAKE}}}"), Format::Mooncake),
        (format!("{{{MOONCAKE}, \"said\": \"\\\"requests\\\": [{{\"}}"), Format::Mooncake),
        (format!("{{\"more\": {{\"requests\": [{{}}], \"chat_id\": 1}}, {MOONCAKE}}}"), Format::Mooncake),
        (format!("{{\"requests\": {STEPS}}}"), Format::VllmSched),
        (format!("  {{\"config\": {{}}, \"requests\" :{STEPS}}}"), Format::VllmSched),
        (format!(" {{\n\"requests\": {STEPS}}}"), Format::VllmSched),
        (format!("{{\"requests\": [\n{}", &STEPS[1..]) + "}", Format::VllmSched),
    ] {
        let found = rows(&text);
        assert_eq!(found, (format, vec![(0, 5, 1, 1, 0)]), "{text}");
    }
}

#[test]
fn quoted_fields_are_read() {
    let text = "arrived_s,\"prompt_tokens\",output_tokens,said\n\"1\",\"7\",2,\"a, \"\"b\"\"\"\n2,3,\"4\",\"\"\n";
    assert_eq!(rows(text).1, [(1_000_000_000, 7, 2, 2, 0), (2_000_000_000, 3, 4, 4, 0)]);
}

#[test]
fn lengths_of_any_trace() {
    let text = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n3772,54,3826,69.85\n2015,156,2171,12.9\n5,0,5,1\n";
    let (rows, report) = lengths("t", Box::new(Cursor::new(text)), &Options::default()).unwrap();
    assert_eq!((&rows[..], report.no_output), (&[(3772, 54), (2015, 156)][..], 1));
    assert_eq!(report.unused, ["num_total_tokens", "pd_ratio"]);
    let text = "{\"timestamp\": 27, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [0, 1]}";
    assert_eq!(lengths("t", Box::new(Cursor::new(text)), &Options::default()).unwrap().0[..], [(600, 5)]);
}
