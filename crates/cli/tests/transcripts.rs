//! Does every documented command print what the documentation says? Each ```` ```console ```` block of README.md and
//! docs/**/*.md is run, and its text compared. `UPDATE_TRANSCRIPTS=1 cargo test -p plimsoll-cli` writes the blocks anew.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README.md and every Markdown file below docs/, in order of name.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    pages.retain(|page| page.is_file());
    pages.sort();
    pages
}

/// Runs one command line with the built binary first in the path, in the folder of the tests' own files. What goes to
/// stderr stands behind what goes to stdout, and a status other than 0 in a last line.
fn run(command: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_plimsoll"));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(root().join("crates/cli/tests/files"));
    shell.env("PATH", format!("{}:{path}", binary.parent().unwrap().display()));
    shell.env("HF_HUB_CACHE", "/nowhere").env("PLIMSOLL_PROFILE", "").env("COLUMNS", "80").env_remove("NO_COLOR");
    let output = shell.output().expect("sh runs");
    let mut text = String::from_utf8(output.stdout).expect("output is UTF-8");
    text.push_str(&String::from_utf8(output.stderr).expect("errors are UTF-8"));
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    match output.status.code() {
        Some(0) => text,
        Some(status) => text + &format!("[exit status {status}]\n"),
        None => text + "[killed]\n",
    }
}

/// Returns the page with every block's output replaced by what its commands print.
fn rewritten(page: &str) -> String {
    let mut out = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if line != "```console" {
            continue;
        }
        while let Some(line) = lines.next_if(|line| *line != "```") {
            let Some(command) = line.strip_prefix("$ ") else { continue };
            out.push_str(line);
            out.push('\n');
            let mut command = command.to_owned();
            while command.ends_with('\\') {
                let more = lines.next().expect("a command that is broken by a backslash goes on");
                out.push_str(more);
                out.push('\n');
                command.push('\n');
                command.push_str(more);
            }
            out.push_str(&run(&command));
        }
    }
    out
}

#[test]
fn documented_commands_print_what_is_documented() {
    let update = std::env::var_os("UPDATE_TRANSCRIPTS").is_some();
    let mut stale = Vec::new();
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        let fresh = rewritten(&page);
        if page == fresh {
            continue;
        }
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let differs = page.lines().zip(fresh.lines()).position(|(old, new)| old != new).unwrap_or(0);
        let at = |text: &str| text.lines().nth(differs).unwrap_or_default().to_owned();
        stale.push(format!("{name}:{}\n  says   {}\n  prints {}", differs + 1, at(&page), at(&fresh)));
        if update {
            fs::write(&path, fresh).unwrap();
        }
    }
    let many = stale.join("\n");
    assert!(
        update || stale.is_empty(),
        "these pages do not show what the commands print:\n{many}\n\
         If the new output is right: UPDATE_TRANSCRIPTS=1 cargo test -p plimsoll-cli --test transcripts"
    );
}
