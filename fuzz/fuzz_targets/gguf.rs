//! No bytes panic, hang or eat memory as the header of a GGUF file, whole or split; what is read adds up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_facts::gguf::{self, Input};

fuzz_target!(|bytes: &[u8]| {
    // The first byte says where the second part begins (zero: there is one), and how much longer the file is said to be.
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let (mut first, mut second) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    let whole = first.is_empty();
    if whole {
        (first, second) = (second, first);
    }
    let length = first.len() as u64 + (u64::from(*cut) << 8);
    let mut inputs = vec![Input { name: "fuzz-00001-of-00002.gguf".into(), bytes: &mut first, length: Some(length) }];
    if !whole {
        inputs.push(Input { name: "fuzz-00002-of-00002.gguf".into(), bytes: &mut second, length: None });
    }
    let Ok(gguf) = gguf::read(inputs) else { return };
    let data: u64 = gguf.parts.iter().map(|part| part.data_bytes).sum();
    assert!(data >= gguf.bytes());
    if let Ok(model) = gguf::model(&gguf, "fuzz") {
        assert!(model.checkpoint_bytes().model.get() <= gguf.bytes());
        let _ = (model.parameters(), model.active_parameters(), model.kv_bytes_per_token(), model.state_bytes());
    }
});
