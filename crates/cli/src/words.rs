//! Whose flag is it? `plimsoll plan MODEL --gpu … --max-model-len …` mixes Plimsoll's flags with the engine's, and so do
//! `roofline` and `simulate`; this sorts them before the argument parser sees them.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// The verbs that take an engine's flags beside their own.
const LAUNCHING: [&str; 6] = ["plan", "grow", "roofline", "compare", "simulate", "sweep"];

/// Moves every word of such a verb that is not one of Plimsoll's own flags behind a `--`, in order; a launch command keeps its
/// own `--` in front. Other verbs are left as they are.
pub fn arrange(command: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let Some(name) = words.get(1).and_then(|word| LAUNCHING.into_iter().find(|verb| word == verb)) else {
        return words;
    };
    let Some(verb) = command.find_subcommand(name) else { return words };
    let mut own: Vec<OsString> = words[..2].to_vec();
    let mut rest: Vec<OsString> = Vec::new();
    let mut words = words.into_iter().skip(2).peekable();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        if text == "--" {
            rest.push(word);
            rest.extend(words.by_ref());
            break;
        }
        match own_flag(verb, &text) {
            Some(takes_value) => {
                own.push(word);
                if takes_value && !text.contains('=') {
                    own.extend(words.next());
                }
            }
            None => rest.push(word),
        }
    }
    if !rest.is_empty() {
        own.push("--".into());
        own.extend(rest);
    }
    own
}

/// Whether a word is one of Plimsoll's flags, and then whether it takes a value.
fn own_flag(verb: &Command, word: &str) -> Option<bool> {
    if matches!(word, "-h" | "--help") {
        return Some(false);
    }
    let name = word.strip_prefix("--")?.split('=').next()?;
    let flag = verb.get_arguments().find(|flag: &&Arg| flag.get_long() == Some(name))?;
    let takes = matches!(flag.get_action(), ArgAction::Set | ArgAction::Append);
    Some(takes && !flag.is_require_equals_set())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::arguments::Arguments;

    fn check(line: &str, arranged: &str) {
        let words = line.split(' ').map(OsString::from).collect();
        let got: Vec<String> =
            arrange(&Arguments::command(), words).into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(got.join(" "), arranged);
    }

    #[test]
    fn each_flag_finds_its_owner() {
        check("plimsoll inspect x --json", "plimsoll inspect x --json");
        check(
            "plimsoll plan ./dir --gpu rtx-4090 --engine vllm --max-model-len 16384 --check",
            "plimsoll plan --gpu rtx-4090 --engine vllm --check -- ./dir --max-model-len 16384",
        );
        check(
            "plimsoll roofline m --gpu h100 --tp 4 --batch 1,8 --explain --pp=2 --context 4096",
            "plimsoll roofline --gpu h100 --batch 1,8 --explain --context 4096 -- m --tp 4 --pp=2",
        );
        check(
            "plimsoll grow m --gpu h100 --tp 1,2 --context 1k..8k --enforce-eager --batch 4",
            "plimsoll grow --gpu h100 --tp 1,2 --context 1k..8k --batch 4 -- m --enforce-eager",
        );
        check(
            "plimsoll plan --gpu=h100 --json -- vllm serve m --gpu-memory-utilization 0.9",
            "plimsoll plan --gpu=h100 --json -- -- vllm serve m --gpu-memory-utilization 0.9",
        );
    }
}
