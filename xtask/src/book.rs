//! Is the documentation whole? Every page stands in the table of contents once and has one title, and every link, anchor
//! and picture of README.md, ARCHITECTURE.md and docs/ leads somewhere, and rows that a page quotes of another stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Where the book's pages lie.
const BOOK: &str = "docs";
/// Its table of contents.
const CONTENTS: &str = "docs/SUMMARY.md";
/// Pages beside the book.
const BESIDE: [&str; 2] = ["README.md", "ARCHITECTURE.md"];

/// What a page holds that others may point at, and where it points itself.
#[derive(Debug, Default)]
struct Page {
    /// Lines of its titles.
    titles: Vec<usize>,
    /// The names of its headings.
    anchors: BTreeSet<String>,
    /// Targets of links and pictures, with their lines.
    links: Vec<(usize, String)>,
    /// Rows of tables as they are written.
    rows: BTreeSet<String>,
    /// Rows quoted of another page, with their lines.
    quotes: Vec<(usize, Quote)>,
}

/// A table's row that stands on another page too: `<!-- rows of ../accuracy.md -->` before the table says so.
#[derive(Debug)]
struct Quote {
    of: String,
    row: String,
}

/// Checks the pages below the working directory; prints what is wrong.
pub fn check() -> Result<bool> {
    let mut paths: Vec<String> = BESIDE.map(str::to_owned).to_vec();
    list(Path::new(BOOK), &mut paths)?;
    let mut pages = BTreeMap::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        pages.insert(path, read(&text));
    }
    let faults = faults(&pages, |path| Path::new(path).is_file());
    for fault in &faults {
        eprintln!("{fault}");
    }
    eprintln!("{} pages, {} faults", pages.len(), faults.len());
    Ok(faults.is_empty())
}

/// Checks the pages and builds the site, where mdBook is installed.
pub fn build() -> Result<bool> {
    if !check()? {
        return Ok(false);
    }
    match Command::new("mdbook").args(["build", BOOK]).status() {
        Ok(status) => {
            if status.success() {
                eprintln!("the site is in target/book: open target/book/index.html");
            }
            Ok(status.success())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("mdbook is not installed: `cargo install mdbook --locked` (0.5 or later), then run this again");
            Ok(false)
        }
        Err(error) => Err(error).context("cannot run mdbook"),
    }
}

/// Adds every Markdown file of a folder, in order of name.
fn list(folder: &Path, into: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut inside: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    inside.sort();
    for path in inside {
        if path.is_dir() {
            list(&path, into)?;
        } else if path.extension().is_some_and(|end| end == "md") {
            into.push(path.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}

/// Reads a page's headings, links and pictures.
fn read(text: &str) -> Page {
    let mut page = Page { quotes: quotes(text), ..Page::default() };
    page.rows.extend(text.lines().filter(|line| line.starts_with('|')).map(str::to_owned));
    let line = |range: &Range<usize>| text[..range.start].matches('\n').count() + 1;
    let mut heading: Option<String> = None;
    let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        if let Event::Start(Tag::Heading { level, .. }) = &event {
            heading = Some(String::new());
            if *level == HeadingLevel::H1 {
                page.titles.push(line(&range));
            }
        } else if let Event::End(TagEnd::Heading(_)) = &event {
            let name = anchor(&heading.take().unwrap_or_default());
            let mut unique = name.clone();
            let mut number = 0;
            while !page.anchors.insert(unique) {
                number += 1;
                unique = format!("{name}-{number}");
            }
        } else if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = &event {
            page.links.push((line(&range), dest_url.to_string()));
        } else if let Event::Html(html) | Event::InlineHtml(html) = &event {
            page.links.extend(attributes(html).map(|target| (line(&range), target)));
        }
        if let (Some(name), Event::Text(words) | Event::Code(words)) = (&mut heading, &event) {
            name.push_str(words);
        }
    }
    page
}

/// The rows below each table's head that a comment says are quoted.
fn quotes(text: &str) -> Vec<(usize, Quote)> {
    let mut quotes = Vec::new();
    let mut of: Option<&str> = None;
    let mut below_head = false;
    for (at, line) in text.lines().enumerate() {
        if let Some(page) = line.strip_prefix("<!-- rows of ").and_then(|rest| rest.strip_suffix(" -->")) {
            (of, below_head) = (Some(page), false);
        } else if !line.starts_with('|') {
            // A blank line stands between the comment and the table.
            of = of.filter(|_| line.is_empty() && !below_head);
        } else if line.starts_with("| -") {
            below_head = true;
        } else if let (Some(page), true) = (of, below_head) {
            quotes.push((at + 1, Quote { of: page.to_owned(), row: line.to_owned() }));
        }
    }
    quotes
}

/// What HTML points at.
fn attributes(html: &str) -> impl Iterator<Item = String> + '_ {
    ["src=\"", "srcset=\"", "href=\""].into_iter().flat_map(move |name| {
        // `src` ends `srcset`'s name nowhere, since an equals sign follows both.
        html.split(name).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
    })
}

/// A heading's name, as mdBook and GitHub make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|character| match character {
        '_' | '-' => Some(character),
        _ if character.is_alphanumeric() => Some(character),
        _ if character.is_whitespace() => Some('-'),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// Says what is wrong, page by page.
fn faults(pages: &BTreeMap<String, Page>, is_file: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, page) in pages {
        if path != CONTENTS {
            match page.titles.as_slice() {
                [_] => {}
                [] => faults.push(format!("{path}:1: the page has no title (`# …`)")),
                [_, second, ..] => faults.push(format!("{path}:{second}: the page has a title already")),
            }
        }
        for (line, target) in &page.links {
            if let Some(why) = broken(pages, path, target, &is_file) {
                faults.push(format!("{path}:{line}: `{target}` {why}"));
            }
        }
        for (line, Quote { of, row }) in &page.quotes {
            let there = resolved(path, of).and_then(|of| pages.get(&of)).is_some_and(|page| page.rows.contains(row));
            if !there {
                faults.push(format!("{path}:{line}: this row does not stand in {of}"));
            }
        }
    }
    faults.extend(unlisted(pages));
    faults
}

/// Why a link of a page leads nowhere.
fn broken(
    pages: &BTreeMap<String, Page>,
    from: &str,
    target: &str,
    is_file: &impl Fn(&str) -> bool,
) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let to = if path.is_empty() { from.to_owned() } else { resolved(from, path)? };
    if !is_file(&to) && !pages.contains_key(&to) {
        return Some("is no file");
    }
    let inside = |path: &str| path.starts_with(&format!("{BOOK}/"));
    if inside(from) && !inside(&to) {
        return Some("leads out of the book");
    }
    let anchor = anchor?;
    match pages.get(&to) {
        Some(page) if page.anchors.contains(anchor) => None,
        Some(_) => Some("names a heading that is not there"),
        None => Some("names a heading of a file that is no page"),
    }
}

/// The path of a link's target from the workspace's root; one that climbs out of it is as it was written.
fn resolved(from: &str, link: &str) -> Option<String> {
    let joined = Path::new(from).parent()?.join(link);
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.components() {
        match part {
            Component::ParentDir if parts.pop().is_none() => return Some(link.to_owned()),
            Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            Component::Normal(name) => parts.push(name.to_str()?),
        }
    }
    Some(parts.join("/"))
}

/// Pages that the table of contents lacks or has twice.
fn unlisted(pages: &BTreeMap<String, Page>) -> Vec<String> {
    let Some(contents) = pages.get(CONTENTS) else { return vec![format!("{CONTENTS} is not there")] };
    let mut listed: BTreeMap<String, usize> = BTreeMap::new();
    for path in contents.links.iter().filter_map(|(_, target)| resolved(CONTENTS, target)) {
        *listed.entry(path).or_default() += 1;
    }
    let inside = pages.keys().filter(|path| path.starts_with(&format!("{BOOK}/")) && *path != CONTENTS);
    let fault = |path: &String| match listed.get(path).copied().unwrap_or(0) {
        1 => None,
        0 => Some(format!("{path}:1: the page stands in no line of {CONTENTS}")),
        many => Some(format!("{path}:1: the page stands in {many} lines of {CONTENTS}")),
    };
    inside.filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks pages that are given as path and text.
    fn check(texts: &[(&str, &str)]) -> Vec<String> {
        let pages = texts.iter().map(|(path, text)| ((*path).to_owned(), read(text))).collect();
        faults(&pages, |path| path == "docs/figures/a.svg")
    }

    #[test]
    fn anchors_are_named_as_by_mdbook_and_github() {
        for (heading, name) in [
            ("What is exact, and what is not", "what-is-exact-and-what-is-not"),
            ("`--out`: files", "--out-files"),
            ("KV cache", "kv-cache"),
            ("b₁ & é", "b₁--é"),
        ] {
            assert_eq!(read(&format!("# {heading}")).anchors.into_iter().collect::<Vec<_>>(), [name]);
        }
        let page = read("# One\n## Same\n## Same\n");
        assert_eq!(page.anchors.into_iter().collect::<Vec<_>>(), ["one", "same", "same-1"]);
    }

    #[test]
    fn a_whole_book_has_no_faults() {
        let contents = "# Book\n- [One](one.md)\n- [Two](deep/two.md)\n";
        let one = "# One\n[two](deep/two.md#part-of-it) ![figure](figures/a.svg) [away](https://example.org/#x) [self](#one)\n\n\
                   ```console\n$ [no](link.md)\n```\n";
        let readme = "# Us\n[book](docs/one.md#one)\n\n<img src=\"docs/figures/a.svg\">\n";
        let two = "# Two\n## Part of it\n[one](../one.md)\n";
        let pages =
            [("docs/SUMMARY.md", contents), ("docs/one.md", one), ("docs/deep/two.md", two), ("README.md", readme)];
        assert_eq!(check(&pages), Vec::<String>::new());
    }

    #[test]
    fn quoted_rows_stand_where_they_are_quoted_from() {
        let table = |rows: &str| format!("| a | b |\n| --- | --- |\n{rows}\n");
        let two = format!(
            "# Two\n\n<!-- rows of ../one.md -->\n\n{}\nend\n\n{}",
            table("| x | 1 |\n| y | 2 |"),
            table("| z | 3 |")
        );
        let one = format!("# One\n\n{}", table("| x | 1 |"));
        let contents = "[One](one.md)\n[Two](deep/two.md)\n";
        let pages = [("docs/SUMMARY.md", contents), ("docs/one.md", one.as_str()), ("docs/deep/two.md", two.as_str())];
        assert_eq!(check(&pages), ["docs/deep/two.md:8: this row does not stand in ../one.md"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let contents = "- [One](one.md)\n- [One again](one.md)\n- [Gone](gone.md)\n";
        let one = "# One\n\n# Two\n[a](b.md) [c](#d)\n[out](../README.md)\n";
        let pages = [
            ("docs/SUMMARY.md", contents),
            ("docs/one.md", one),
            ("docs/two.md", "text"),
            ("README.md", "# Us\n<img src=\"x.png\">"),
        ];
        assert_eq!(
            check(&pages),
            [
                "README.md:2: `x.png` is no file",
                "docs/SUMMARY.md:3: `gone.md` is no file",
                "docs/one.md:3: the page has a title already",
                "docs/one.md:4: `b.md` is no file",
                "docs/one.md:4: `#d` names a heading that is not there",
                "docs/one.md:5: `../README.md` leads out of the book",
                "docs/two.md:1: the page has no title (`# …`)",
                "docs/one.md:1: the page stands in 2 lines of docs/SUMMARY.md",
                "docs/two.md:1: the page stands in no line of docs/SUMMARY.md",
            ]
        );
    }
}
