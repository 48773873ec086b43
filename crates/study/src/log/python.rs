//! What do these arguments say? Python's way of printing dictionaries and calls, read into JSON; what is cut short counts
//! up to the cut.

use serde_json::{Map, Value};

/// Nesting that is read at most.
const DEPTH: usize = 24;
/// Values that are read at most.
const VALUES: usize = 4096;

/// Reads `{'model': 'x', 'enforce_eager': True, …}`, `ServerArgs(model_path='x', tp_size=4, …)`, `Namespace(…)` or a bare
/// `model='x', dtype=torch.bfloat16, …`. Returns what could be read.
///
/// Source: CPython's `repr` of dict, str, Enum, dataclass and `argparse.Namespace`.
pub fn arguments(text: &str) -> Map<String, Value> {
    let mut cursor = Cursor { text, at: 0, left: VALUES };
    cursor.blanks();
    match cursor.peek() {
        Some('{') => match cursor.value(0) {
            Some(Value::Object(map)) => map,
            Some(_) | None => Map::new(),
        },
        _ => {
            let word = cursor.word();
            let called = !word.is_empty() && cursor.peek() == Some('(');
            if called {
                cursor.at += 1
            } else {
                cursor.at = 0
            }
            cursor.pairs(if called { ')' } else { '\0' }, 0)
        }
    }
}

struct Cursor<'t> {
    text: &'t str,
    at: usize,
    left: usize,
}

impl<'t> Cursor<'t> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.bump();
        }
    }

    /// A name, dots included.
    fn word(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// `name=value, …` up to a closing letter.
    fn pairs(&mut self, close: char, depth: usize) -> Map<String, Value> {
        let mut map = Map::new();
        loop {
            self.blanks();
            match self.peek() {
                None => return map,
                Some(c) if c == close => {
                    self.bump();
                    return map;
                }
                Some(',') => {
                    self.bump();
                    continue;
                }
                Some(_) => {}
            }
            let start = self.at;
            let name = self.word();
            if !name.is_empty() && self.peek() == Some('=') {
                self.bump();
                match self.value(depth + 1) {
                    Some(value) => map.insert(name.to_owned(), value),
                    None => return map,
                };
            } else {
                self.at = start;
                if self.value(depth + 1).is_none() {
                    return map;
                }
            }
            if self.at == start {
                return map;
            }
        }
    }

    /// One value; `None` where nothing more can be read.
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        if depth > DEPTH {
            return None;
        }
        self.blanks();
        match self.peek()? {
            '{' => self.braces(depth),
            open @ ('[' | '(') => self.list(if open == '[' { ']' } else { ')' }, depth),
            quote @ ('\'' | '"') => self.string(quote).map(Value::from),
            '<' => self.angle(depth),
            _ => self.plain(depth),
        }
    }

    /// A dictionary or a set.
    fn braces(&mut self, depth: usize) -> Option<Value> {
        self.bump();
        let mut map = Map::new();
        loop {
            self.blanks();
            match self.peek() {
                None => return Some(Value::Object(map)),
                Some('}') => {
                    self.bump();
                    return Some(Value::Object(map));
                }
                Some(',') => self.bump(),
                Some(_) => {
                    let Some(key) = self.value(depth + 1) else { return Some(Value::Object(map)) };
                    self.blanks();
                    if self.peek() != Some(':') {
                        continue;
                    }
                    self.bump();
                    let Some(value) = self.value(depth + 1) else { return Some(Value::Object(map)) };
                    let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                    map.insert(key, value);
                }
            }
        }
    }

    fn list(&mut self, close: char, depth: usize) -> Option<Value> {
        self.bump();
        let mut list = Vec::new();
        loop {
            self.blanks();
            match self.peek() {
                None => return Some(Value::Array(list)),
                Some(c) if c == close => {
                    self.bump();
                    return Some(Value::Array(list));
                }
                Some(',') => self.bump(),
                Some(_) => match self.value(depth + 1) {
                    Some(value) => list.push(value),
                    None => return Some(Value::Array(list)),
                },
            }
        }
    }

    fn string(&mut self, quote: char) -> Option<String> {
        self.bump();
        let mut out = String::new();
        loop {
            let letter = self.peek()?;
            self.bump();
            match letter {
                '\\' => {
                    let escaped = self.peek()?;
                    self.bump();
                    out.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        other => other,
                    });
                }
                c if c == quote => return Some(out),
                c => out.push(c),
            }
        }
    }

    /// An enum's `<CompilationMode.VLLM_COMPILE: 3>`: its value; any other angle bracket is skipped as text.
    fn angle(&mut self, depth: usize) -> Option<Value> {
        let rest = &self.text[self.at..];
        let end = rest.find('>')?;
        let inner = &rest[1..end];
        self.at += end + 1;
        match inner.split_once(": ") {
            Some((_, value)) => Cursor { text: value, at: 0, left: 16 }.value(depth + 1),
            None => Some(Value::from(inner)),
        }
    }

    /// A number, `True`, `None`, a name, or a call.
    fn plain(&mut self, depth: usize) -> Option<Value> {
        let rest = &self.text[self.at..];
        let ends = |c: char| matches!(c, ',' | ')' | ']' | '}' | '(' | ':' | '=') || c.is_whitespace();
        let end = rest.find(ends).unwrap_or(rest.len());
        let word = &rest[..end];
        if word.is_empty() {
            return None;
        }
        self.at += end;
        if self.peek() == Some('(') {
            self.bump();
            return Some(Value::Object(self.pairs(')', depth + 1)));
        }
        Some(match word {
            "True" | "true" => Value::Bool(true),
            "False" | "false" => Value::Bool(false),
            "None" | "null" => Value::Null,
            _ => number(word).unwrap_or_else(|| Value::from(word)),
        })
    }
}

fn number(word: &str) -> Option<Value> {
    if let Ok(whole) = word.parse::<i64>() {
        return Some(Value::from(whole));
    }
    let first = word.trim_start_matches('-').chars().next()?;
    if !first.is_ascii_digit() && first != '.' {
        return None;
    }
    word.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: &str) {
        assert_eq!(Value::Object(arguments(text)).to_string(), wanted, "{text}");
    }

    #[test]
    fn pythons_own_way_of_printing() {
        check(
            "{'model_tag': 'org/m', 'max_model_len': 1024, 'enforce_eager': True, 'x': None}",
            r#"{"enforce_eager":true,"max_model_len":1024,"model_tag":"org/m","x":null}"#,
        );
        check(
            "ServerArgs(model_path='m', tp_size=4, mem_fraction_static=0.835, cuda_graph_bs=[1, 2])",
            r#"{"cuda_graph_bs":[1,2],"mem_fraction_static":0.835,"model_path":"m","tp_size":4}"#,
        );
        check(
            "model='m', speculative_config=SpeculativeConfig(method='mtp', n=2), dtype=torch.bfloat16, max_seq_len=4096",
            r#"{"dtype":"torch.bfloat16","max_seq_len":4096,"model":"m","speculative_config":{"method":"mtp","n":2}}"#,
        );
        check(
            "{'mode': <CompilationMode.VLLM_COMPILE: 3>, 'f': <function f at 0x7f>}",
            r#"{"f":"function f at 0x7f","mode":3}"#,
        );
        check("{'a': 'it\\'s', \"b\": {'c': (1, 2)}, 'd': {'set'}}", r#"{"a":"it's","b":{"c":[1,2]},"d":{}}"#);
    }

    #[test]
    fn what_is_cut_short_counts_up_to_the_cut() {
        check("{'model': 'm', 'max_model_len': 10", r#"{"max_model_len":10,"model":"m"}"#);
        check("ServerArgs(model_path='m', tokenizer='cut", r#"{"model_path":"m"}"#);
        check("", "{}");
        check("{{{{", "{}");
        check(&"[".repeat(100_000), "{}");
        check("a=, b=1", "{}");
        check("Namespace(é='ü', b=-1.5)", r#"{"b":-1.5,"é":"ü"}"#);
    }
}
