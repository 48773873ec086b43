//! What does a report look like? One file without anything from outside: figures for light and dark pages, tables,
//! assumptions, and the request that makes it again.

use pulldown_cmark::{Event, Options, Parser, html::push_html};

use crate::figure::{Error, Figure, Theme, svg};
use crate::{Show, page};

/// What made an answer, so that it can be made again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The command, as it was typed.
    pub command: String,
    /// The request as JSON, where the verb has one.
    pub request: Option<String>,
    /// The program's version.
    pub version: String,
}

const STYLE: &str = include_str!("html.css");

/// Returns an answer as a page.
///
/// # Errors
/// [`Error`] when a figure cannot be drawn.
pub fn html<A: Show>(answer: &A, origin: &Origin) -> Result<String, Error> {
    let title = escaped(&answer.question());
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    let figures = answer.figures();
    if figures.len() > 2 {
        // A page of several pictures begins with what can be seen on it.
        let link = |figure: &Figure| format!("<a href=\"#{}\">{}</a>", escaped(&figure.name), escaped(&figure.title));
        let links = figures.iter().map(link).chain(["<a href=\"#numbers\">In numbers</a>".to_owned()]);
        out.push_str(&format!("<nav>{}</nav>\n", links.collect::<Vec<_>>().join("\n")));
    }
    for figure in figures {
        let (name, title) = (escaped(&figure.name), escaped(&figure.title));
        out.push_str(&format!("<figure id=\"{name}\" role=\"img\" aria-label=\"{title}\">\n"));
        for (theme, class) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
            // One of the two is shown; the other is out of the way of readers, too.
            out.push_str(&format!("<div class=\"{class}\">{}</div>\n", svg(&figure, theme)?));
        }
        out.push_str("</figure>\n");
    }
    out.push_str("<section class=\"tables\" id=\"numbers\">\n<h2>In numbers</h2>\n");
    out.push_str(&rendered(&answer.markdown()));
    out.push_str("</section>\n<section id=\"again\">\n<h2>The same again</h2>\n");
    out.push_str(&format!("<pre><code>{}</code></pre>\n", escaped(&origin.command)));
    if let Some(request) = &origin.request {
        out.push_str(&format!(
            "<details><summary>The request, for a file or the server</summary><pre><code>{}</code></pre></details>\n",
            escaped(request)
        ));
    }
    out.push_str("</section>\n");
    out.push_str(&format!("<footer>Plimsoll {}</footer>\n</main>\n</body>\n</html>\n", escaped(&origin.version)));
    Ok(out)
}

/// Markdown as HTML. Names come from files that may hold anything: what looks like HTML is shown as text.
fn rendered(markdown: &str) -> String {
    let events = Parser::new_ext(markdown, Options::ENABLE_TABLES)
        .map(|event| if let Event::Html(text) | Event::InlineHtml(text) = event { Event::Text(text) } else { event });
    let mut out = String::new();
    push_html(&mut out, events);
    // Wide tables scroll by themselves, not the page.
    out.replace("<table>", "<div class=\"wide\"><table>").replace("</table>", "</table></div>")
}

/// A text within HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in page::clean_lines(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_html_is_text() {
        let page = rendered("| a | b |\n| --- | ---: |\n| <script>x</script> | 1 |\n\n<b>bold</b> [x](javascript:1)\n");
        assert!(!page.contains("<script>") && !page.contains("<b>"), "{page}");
        assert!(page.contains("<div class=\"wide\"><table>"), "{page}");
    }
}
