//! GGUF files that are not what they should be: each gets an error that names the place and what to do; nothing panics,
//! and nothing is allocated by a number that the file does not back.

use plimsoll_facts::gguf::{self, FileType, GgmlType, Gguf, Input};
use plimsoll_facts::{Error, catalogue};
use proptest::prelude::*;

/// Writes files byte by byte.
#[derive(Clone, Default)]
struct File(Vec<u8>);

impl File {
    /// Magic, version 3, counts.
    fn new(tensors: u64, keys: u64) -> Self {
        File::default().raw(b"GGUF").u32(3).u64(tensors).u64(keys)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    fn key_text(self, key: &str, value: &str) -> Self {
        self.text(key).u32(8).text(value)
    }

    fn key_u32(self, key: &str, value: u32) -> Self {
        self.text(key).u32(4).u32(value)
    }

    fn tensor(self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let file = self.text(name).u32(shape.len() as u32);
        shape.iter().fold(file, |file, side| file.u64(*side)).u32(kind).u64(offset)
    }

    /// A key of a split file, a 16-bit number.
    fn split(self, key: &str, value: u16) -> Self {
        self.text(key).u32(2).raw(&value.to_le_bytes())
    }
}

/// A small Llama with `with` keys after the usual ones.
fn llama(tensors: u64, keys: u64) -> File {
    File::new(tensors, keys + 1).key_text("general.architecture", "llama")
}

fn read(files: &[(&str, &[u8])]) -> Result<Gguf, Error> {
    let mut readers: Vec<(&str, &[u8])> = files.to_vec();
    let inputs = readers.iter_mut().map(|(name, bytes)| Input {
        name: (*name).to_owned(),
        length: Some(bytes.len() as u64),
        bytes,
    });
    gguf::read(inputs.collect())
}

/// Reads one file and shows the error.
fn error(file: File) -> String {
    match read(&[("x.gguf", &file.0)]) {
        Ok(gguf) => format!("read: {} tensors, {} keys", gguf.tensors.len(), gguf.metadata.len()),
        Err(error) => error.to_string(),
    }
}

/// Reads one file as a model and shows the error.
fn model_error(file: File) -> String {
    match read(&[("x.gguf", &file.0)]).and_then(|gguf| gguf::model(&gguf, "x")) {
        Ok(model) => format!("read: {} parameters", model.parameters()),
        Err(error) => error.to_string(),
    }
}

/// Compares every row, and shows all that differ at once.
fn check(rows: Vec<(&str, String, &str)>) {
    let wrong: Vec<String> = rows
        .iter()
        .filter(|(_, found, expected)| found != expected)
        .map(|(name, found, expected)| format!("{name}\n  found    {found}\n  expected {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn beginnings() {
    let raw = |bytes: &[u8]| error(File::default().raw(bytes));
    check(vec![
        ("whole", error(llama(1, 0).tensor("a.weight", &[64, 2], 8, 0)), "read: 1 tensors, 1 keys"),
        (
            "empty",
            raw(b""),
            "x.gguf, byte 0, the first bytes: the file ends at byte 0, inside its header, which needs at least 4 bytes more; fetch more of it (a header with its vocabulary takes 1 to 20 MiB), or all of it again",
        ),
        (
            "two bytes",
            raw(b"GG"),
            "x.gguf, byte 0, the first bytes: the file ends at byte 2, inside its header, which needs at least 2 bytes more; fetch more of it (a header with its vocabulary takes 1 to 20 MiB), or all of it again",
        ),
        (
            "an error page",
            raw(b"<!DOCTYPE html><html>"),
            "x.gguf, byte 0: the file begins with `<!DO`, not `GGUF`; is it another format, or an error page?",
        ),
        (
            "a pointer of Git LFS",
            raw(b"version https://git-lfs.github.com/spec/v1\n"),
            "x.gguf, byte 0: a Git LFS pointer, not the file; fetch the file itself (`git lfs pull`)",
        ),
        (
            "a zip archive",
            raw(b"PK\x03\x04........................"),
            "x.gguf, byte 0: a zip archive (a PyTorch checkpoint?), not GGUF",
        ),
        (
            "GGML of 2023",
            raw(b"tjgg\x03\0\0\0aaaaaaaaaaaaaaaaaaaaaa"),
            "x.gguf, byte 0: a GGML file from before GGUF (2023); convert the model again",
        ),
        (
            "version 1",
            error(File::default().raw(b"GGUF").u32(1).u32(1).u32(1)),
            "x.gguf, byte 4: GGUF version 1, whose counts have 32 bits, is not read (nor by llama.cpp since 2023); convert the model again",
        ),
        (
            "version 4",
            error(File::default().raw(b"GGUF").u32(4).u64(0).u64(0)),
            "x.gguf, byte 4: GGUF version 4 is unknown; versions 2 and 3 are read",
        ),
        (
            "version 0",
            error(File::default().raw(b"GGUF").u32(0).u64(0).u64(0)),
            "x.gguf, byte 4: GGUF version 0 is unknown; versions 2 and 3 are read",
        ),
        (
            "big-endian",
            error(File::default().raw(b"GGUF\0\0\0\x03\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x01")),
            "x.gguf, byte 4: a big-endian GGUF (version 3 with its bytes reversed); engines on x86 and ARM do not load it: turn it with gguf-py's `gguf_convert_endian.py FILE little`",
        ),
        (
            "a negative count",
            error(File::new(u64::MAX, 0)),
            "x.gguf, byte 8: -1 tensors; up to 1048576 are taken for true: the file is damaged",
        ),
        (
            "too many tensors",
            error(File::new(1 << 40, 0)),
            "x.gguf, byte 8: 1099511627776 tensors; up to 1048576 are taken for true: the file is damaged",
        ),
        (
            "too many keys",
            error(File::new(0, 1 << 40)),
            "x.gguf, byte 16: 1099511627776 metadata keys; up to 131072 are taken for true: the file is damaged",
        ),
        (
            "counts beyond the file",
            error(File::new(1000, 1000)),
            "x.gguf, byte 24, metadata key 1 of 1000: the file ends at byte 24, inside its header, which needs at least 45994 bytes more; fetch more of it (a header with its vocabulary takes 1 to 20 MiB), or all of it again",
        ),
    ]);
}

#[test]
fn metadata() {
    let key = |bytes: File| error(File::new(0, 1).raw(&bytes.0).raw(&[0; 40]));
    let start = File::default;
    check(vec![
        (
            "a key without end",
            error(File::new(0, 1).u64(500).raw(&[b'a'; 20])),
            "x.gguf, byte 32, metadata key 1 of 1: the file ends at byte 52, inside its header, which needs at least 480 bytes more; fetch more of it (a header with its vocabulary takes 1 to 20 MiB), or all of it again",
        ),
        (
            "an empty key",
            key(start().text("").u32(4).u32(1)),
            "x.gguf, byte 32, metadata key 1 of 1: the key is empty; the file is damaged",
        ),
        (
            "a huge key",
            key(start().u64(1 << 50)),
            "x.gguf, byte 32, metadata key 1 of 1: a key of 1125899906842624 bytes; the format allows 65535: the file is damaged",
        ),
        (
            "a key that is no text",
            key(start().u64(2).raw(b"\xff\xfe").u32(4).u32(1)),
            "x.gguf, byte 34, metadata key 1 of 1: the key is not UTF-8; the file is damaged",
        ),
        (
            "an unknown type",
            key(start().text("a.b").u32(13).u32(1)),
            "x.gguf, byte 39, metadata key 1 of 1 (`a.b`): value type 13 is unknown; the types are 0 to 12",
        ),
        (
            "a key twice",
            error(File::new(0, 2).key_u32("a", 1).key_u32("a", 2)),
            "x.gguf, byte 50, metadata key 2 of 2 (`a`): the key stands there twice; the file is damaged",
        ),
        (
            "a text beyond the file",
            key(start().text("a.b").u32(8).u64(10_000)),
            "x.gguf, byte 47, metadata key 1 of 1 (`a.b`): the file ends at byte 87, inside its header, which needs at least 9960 bytes more; fetch more of it (a header with its vocabulary takes 1 to 20 MiB), or all of it again",
        ),
        (
            "a text beyond reason",
            key(start().text("a.b").u32(8).u64(u64::MAX)),
            "x.gguf, byte 47, metadata key 1 of 1 (`a.b`): a text of 18446744073709551615 bytes; up to 2^30 are taken for true: the file is damaged",
        ),
        (
            "an array of arrays",
            key(start().text("a.b").u32(9).u32(9).u64(1).u32(4).u64(0)),
            "x.gguf, byte 51, metadata key 1 of 1 (`a.b`): an array of arrays; the format has none that engines read",
        ),
        (
            "an array of an unknown type",
            key(start().text("a.b").u32(9).u32(77).u64(1)),
            "x.gguf, byte 43, metadata key 1 of 1 (`a.b`): value type 77 is unknown; the types are 0 to 12",
        ),
        (
            "an array beyond the file",
            key(start().text("a.b").u32(9).u32(4).u64(1 << 20)),
            "x.gguf, byte 51, metadata key 1 of 1 (`a.b`): the file ends at byte 91, inside its header, which needs at least 4194264 bytes more; fetch more of it (a header with its vocabulary takes 1 to 20 MiB), or all of it again",
        ),
        (
            "an array beyond reason",
            key(start().text("a.b").u32(9).u32(0).u64(u64::MAX)),
            "x.gguf, byte 51, metadata key 1 of 1 (`a.b`): an array of 18446744073709551615 values; up to 2^30 are taken for true: the file is damaged",
        ),
        (
            "texts beyond the file",
            key(start().text("tokenizer.ggml.tokens").u32(9).u32(8).u64(100_000)),
            "x.gguf, byte 69, metadata key 1 of 1 (`tokenizer.ggml.tokens`): the file ends at byte 109, inside its header, which needs at least 799960 bytes more; fetch more of it (a header with its vocabulary takes 1 to 20 MiB), or all of it again",
        ),
        (
            "alignment zero",
            error(File::new(0, 1).key_u32("general.alignment", 0)),
            "x.gguf, key `general.alignment`: it is 0, expected a power of two up to 2^20",
        ),
        (
            "alignment 48",
            error(File::new(0, 1).key_u32("general.alignment", 48)),
            "x.gguf, key `general.alignment`: it is 48, expected a power of two up to 2^20",
        ),
        (
            "alignment 2^31",
            error(File::new(0, 1).key_u32("general.alignment", 1 << 31)),
            "x.gguf, key `general.alignment`: it is 2147483648, expected a power of two up to 2^20",
        ),
        (
            "alignment as text",
            error(File::new(0, 1).key_text("general.alignment", "32")),
            "x.gguf, key `general.alignment`: it is \"32\", expected a power of two as u32",
        ),
    ]);
}

#[test]
fn tensors() {
    let one = |name: &str, shape: &[u64], kind, offset| error(llama(1, 0).tensor(name, shape, kind, offset));
    let two = |offset| error(llama(2, 0).tensor("a", &[64], 8, 0).tensor("b", &[64], 8, offset));
    check(vec![
        ("a scalar", one("a", &[], 0, 0), "read: 1 tensors, 1 keys"),
        (
            "a list that ends",
            error(llama(2, 0).tensor("a", &[32], 0, 0)),
            "x.gguf, byte 102, tensor 2 of 2: the file ends at byte 102, inside its header, which needs at least 8 bytes more; fetch more of it (a header with its vocabulary takes 1 to 20 MiB), or all of it again",
        ),
        (
            "a name of 200 bytes",
            one(&"a".repeat(200), &[32], 0, 0),
            "x.gguf, byte 77, tensor 1 of 1: a name of 200 bytes; llama.cpp allows 63: the file is damaged",
        ),
        (
            "a name twice",
            error(llama(2, 0).tensor("a", &[32], 0, 0).tensor("a", &[32], 0, 128)),
            "x.gguf, byte 111, tensor 2 of 2 (`a`): the name stands there twice; the file is damaged",
        ),
        (
            "five dimensions",
            one("a", &[1, 1, 1, 1, 1], 0, 0),
            "x.gguf, byte 82, tensor 1 of 1 (`a`): 5 dimensions; ggml has up to 4: the file is damaged",
        ),
        (
            "a negative side",
            one("a", &[u64::MAX], 0, 0),
            "x.gguf, byte 90, tensor 1 of 1 (`a`): a side of -1; the file is damaged",
        ),
        (
            "more numbers than any file",
            one("a", &[1 << 40, 1 << 40], 0, 0),
            "x.gguf, byte 102, tensor 1 of 1 (`a`): shape [1099511627776, 1099511627776] has more numbers than any file; the file is damaged",
        ),
        (
            "more bytes than any file",
            one("a", &[1 << 40, 1 << 22], 28, 0),
            "x.gguf, tensor `a`: shape [1099511627776, 4194304] of f64 ends beyond any file",
        ),
        (
            "a removed type",
            one("a", &[32], 4, 0),
            "x.gguf, byte 94, tensor 1 of 1 (`a`): tensor type 4 (q4_2) was removed from GGUF; take a file in q4_0 or quantise it again",
        ),
        (
            "a repacked type",
            one("a", &[32], 31, 0),
            "x.gguf, byte 94, tensor 1 of 1 (`a`): tensor type 31 (q4_0_4_4) was removed from GGUF; take a file in q4_0 or quantise it again",
        ),
        (
            "a type of tomorrow",
            one("a", &[32], 99, 0),
            "x.gguf, byte 94, tensor 1 of 1 (`a`): tensor type 99 is unknown; the types known are 0 to 42: the file is newer, or damaged",
        ),
        (
            "rows that do not fill blocks",
            one("a", &[100, 4], 12, 0),
            "x.gguf, byte 102, tensor 1 of 1 (`a`): rows of 100 numbers do not fill blocks of 256 (q4_K); the file is damaged",
        ),
        (
            "an offset elsewhere",
            one("a", &[32], 0, 32),
            "x.gguf, tensor `a`: its offset is 32, expected 0, where the tensor before it ends",
        ),
        ("an overlap", two(0), "x.gguf, tensor `b`: its offset is 0, expected 96, where the tensor before it ends"),
        ("a gap", two(128), "x.gguf, tensor `b`: its offset is 128, expected 96, where the tensor before it ends"),
        ("aligned", two(96), "read: 2 tensors, 1 keys"),
    ]);
}

#[test]
fn models() {
    let base =
        |keys: u64| llama(0, keys + 3).key_u32("llama.context_length", 2048).key_u32("llama.embedding_length", 64);
    check(vec![
        (
            "no architecture",
            model_error(File::new(0, 0)),
            "x.gguf: the metadata lack `general.architecture`; a file of the converter's has it",
        ),
        (
            "an architecture that is a number",
            model_error(File::new(0, 1).key_u32("general.architecture", 1)),
            "x.gguf, key `general.architecture`: it is 1, expected a text",
        ),
        (
            "a projector",
            model_error(File::new(0, 1).key_text("general.architecture", "clip")),
            "x.gguf: it is a projector (architecture clip), which has no language model; give the model's own file, and this one as --mmproj",
        ),
        (
            "no width",
            model_error(llama(0, 0)),
            "x.gguf: the metadata lack `llama.embedding_length`; a file of the converter's has it",
        ),
        (
            "no layers",
            model_error(base(0).key_u32("llama.block_count", 0)),
            "x.gguf, key `llama.block_count`: it is 0, expected 1 to 512 layers",
        ),
        (
            "a billion layers",
            model_error(base(0).key_u32("llama.block_count", 1_000_000_000)),
            "x.gguf, key `llama.block_count`: it is 1000000000, expected 1 to 512 layers",
        ),
        (
            "layers as text",
            model_error(base(0).key_text("llama.block_count", "32")),
            "x.gguf, key `llama.block_count`: it is \"32\", expected a whole number",
        ),
        (
            "no vocabulary",
            model_error(base(0).key_u32("llama.block_count", 2)),
            "x.gguf: neither `token_embd.weight` nor a vocabulary is in the file",
        ),
        (
            "a tensor of a layer beyond",
            model_error(
                llama(1, 3)
                    .key_u32("llama.context_length", 2048)
                    .key_u32("llama.embedding_length", 64)
                    .key_u32("llama.block_count", 2)
                    .tensor("blk.7.attn_q.weight", &[64, 64], 0, 0),
            ),
            "x.gguf, tensor `blk.7.attn_q.weight`: `llama.block_count` counts 2 layers",
        ),
        (
            "heads of too few layers",
            model_error(
                base(1).key_u32("llama.block_count", 2).text("llama.attention.head_count").u32(9).u32(4).u64(1).u32(8),
            ),
            "x.gguf, key `llama.attention.head_count`: it is [8], expected one value for each of 2 layers",
        ),
        (
            "heads as a fraction",
            model_error(
                base(1).key_u32("llama.block_count", 2).text("llama.attention.head_count").u32(6).u32(0x40e0_0000),
            ),
            "x.gguf, key `llama.attention.head_count`: it is 7.0, expected a whole number, or an array of them",
        ),
    ]);
}

#[test]
fn parts() {
    let part = |no: u16, count: u16, name: &str| {
        llama(1, 2).split("split.no", no).split("split.count", count).tensor(name, &[32], 0, 0).0
    };
    let counted = |promised: u32| {
        llama(1, 3)
            .split("split.no", 0)
            .split("split.count", 2)
            .key_u32("split.tensors.count", promised)
            .tensor("a", &[32], 0, 0)
            .0
    };
    let show = |files: &[(&str, &[u8])]| match read(files) {
        Ok(gguf) => format!("read: {} tensors in {} parts", gguf.tensors.len(), gguf.parts.len()),
        Err(error) => error.to_string(),
    };
    let (one, two, three) = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "m-00001-of-00003.gguf");
    check(vec![
        (
            "both, in the wrong order",
            show(&[(two, &part(1, 2, "b")), (one, &part(0, 2, "a"))]),
            "read: 2 tensors in 2 parts",
        ),
        (
            "the first alone",
            show(&[(one, &counted(9))]),
            "m-00001-of-00002.gguf: one of 2 parts; missing: m-00002-of-00002.gguf (1 of 9 tensors are here); put them, or their first megabytes, beside it",
        ),
        (
            "the second alone",
            show(&[(two, &part(1, 2, "b"))]),
            "m-00002-of-00002.gguf: one of 2 parts; missing: m-00001-of-00002.gguf; put them, or their first megabytes, beside it",
        ),
        (
            "one twice",
            show(&[(one, &part(0, 2, "a")), (two, &part(0, 2, "b"))]),
            "m-00002-of-00002.gguf: part 1 is there twice",
        ),
        (
            "of different splits",
            show(&[(one, &part(0, 2, "a")), (three, &part(1, 3, "b"))]),
            "m-00001-of-00003.gguf: it is part 2 of 3, the first file says 2 parts",
        ),
        (
            "a tensor in both",
            show(&[(one, &part(0, 2, "a")), (two, &part(1, 2, "a"))]),
            "m-00002-of-00002.gguf, tensor `a`: an earlier part has a tensor of that name; do the parts belong together?",
        ),
        (
            "a count that is not theirs",
            show(&[(one, &counted(9)), (two, &part(1, 2, "b"))]),
            "m-00001-of-00002.gguf, key `split.tensors.count`: 9 tensors, but the 2 parts hold 2; do they belong together?",
        ),
        (
            "two whole files",
            show(&[("a.gguf", &llama(0, 0).0), ("b.gguf", &llama(0, 0).0)]),
            "a.gguf: it is whole by its own metadata, but comes with b.gguf",
        ),
        ("none", show(&[]), "GGUF: no file was given"),
    ]);
}

/// A real model's header as bytes: what a conversion of a built-in model would hold.
fn real() -> Vec<u8> {
    let model = catalogue::model("Qwen/Qwen3-0.6B").expect("built in").model;
    let gguf = gguf::from_model(&model, FileType::Q4KM).expect("a conversion");
    let mut file = File::new(gguf.tensors.len() as u64, 5)
        .key_text("general.architecture", "qwen3")
        .key_u32("qwen3.block_count", 28)
        .key_u32("qwen3.context_length", 40960)
        .key_u32("qwen3.embedding_length", 1024)
        .key_u32("qwen3.attention.head_count", 16);
    for tensor in &gguf.tensors {
        file = file.tensor(&tensor.name, &tensor.shape, tensor.kind.id(), tensor.offset);
    }
    file.0
}

/// Everything that is done with a file, and what must hold of one that is read.
fn survive(bytes: &[u8], length: Option<u64>) {
    let Ok(gguf) = gguf::read(vec![Input { name: "x".to_owned(), bytes: &mut { bytes }, length }]) else { return };
    assert!(gguf.parts[0].data_bytes >= gguf.bytes());
    if let Ok(model) = gguf::model(&gguf, "x") {
        let _ = (model.parameters(), model.active_parameters(), model.kv_bytes_per_token(), model.state_bytes());
        let _ = model.checkpoint_bytes();
    }
}

#[test]
fn a_header_cut_anywhere_says_where() {
    let whole = real();
    survive(&whole, None);
    assert!(read(&[("x", &whole)]).is_ok_and(|gguf| gguf.tensors.iter().any(|t| t.kind == GgmlType::Q6K)));
    for end in (0..whole.len()).step_by(61) {
        let error = read(&[("x", &whole[..end])]).expect_err("cut short").to_string();
        assert!(error.contains("more of it") || end < 28, "{end}: {error}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        let mut file = if magic { b"GGUF\x03\0\0\0".to_vec() } else { Vec::new() };
        file.extend(bytes);
        survive(&file, None);
        survive(&file, Some(file.len() as u64));
    }

    #[test]
    fn changed_headers_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut file = real();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        survive(&file, None);
    }
}
