//! The matrix as one HTML page: a picture, the table, and nothing that has to be fetched. Pure.

use std::fmt::Write as _;

use super::reach::{Matrix, Reach};
use super::text::{cell, legend, name};

/// The side of one pair in the picture.
const SIDE: usize = 20;
/// About the width of a letter in the picture.
const LETTER: usize = 8;

const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --line: #c8ced6; --all: #1f6fb2; --some: #d98b1c; --none: #e6e9ed; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --paper: #14171b; --line: #454c55; --all: #5aa9e6; --some: #e8a33d; --none: #2a2f36; }
}
body { margin: 2rem; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
.wide { overflow-x: auto; }
svg text { fill: var(--ink); font: 13px ui-monospace, monospace; }
.none { fill: var(--none); } .all { fill: var(--all); } .some { fill: var(--some); }
.unknown { fill: none; stroke: var(--line); stroke-dasharray: 3 2; pointer-events: all; }
table { border-collapse: collapse; }
th, td { padding: .3rem .6rem; border: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th, tbody th { position: sticky; background: var(--paper); }
thead th { top: 0; } tbody th { left: 0; font-weight: 600; }
td.all { border-left: 4px solid var(--all); } td.some { border-left: 4px solid var(--some); }
";

/// The page.
pub(super) fn render(matrix: &Matrix, namespace: Option<&str>) -> String {
    let names: Vec<String> = matrix.pods.iter().map(|pod| escape(&name(pod, namespace))).collect();
    let whose = namespace.map_or_else(|| "all namespaces".to_owned(), |namespace| format!("namespace {namespace}"));
    let title = escape(&format!("Who reaches whom in {whose}"));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <p>What the network policies say of a connection from each pod (rows) to each pod (columns), for the ports that its \
         containers declare and those that were asked for.</p>\n"
    );
    page += &picture(matrix, &names);
    page += &table(matrix, &names);
    if !matrix.not_shown.is_empty() {
        page.push_str("<h2>Not shown</h2>\n<ul>\n");
        for (pod, why) in &matrix.not_shown {
            let _ = writeln!(page, "<li>{}: {}</li>", escape(&name(pod, namespace)), escape(why));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// A grid: full squares reach everything, half ones something. Names come escaped.
fn picture(matrix: &Matrix, names: &[String]) -> String {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let margin = longest * LETTER + LETTER;
    let size = margin + names.len() * SIDE;
    let mut svg = format!(
        "<div class=\"wide\"><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{size}\" height=\"{size}\" \
         viewBox=\"0 0 {size} {size}\" role=\"img\" aria-label=\"Grid of sources and destinations\">\n"
    );
    for (index, name) in names.iter().enumerate() {
        let middle = margin + index * SIDE + SIDE * 3 / 4;
        let end = margin - LETTER;
        let _ = writeln!(svg, "<text x=\"{end}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>");
        let _ = writeln!(svg, "<text transform=\"translate({middle} {end}) rotate(-90)\">{name}</text>");
    }
    for (row, cells) in matrix.rows.iter().enumerate() {
        for (column, content) in cells.iter().enumerate() {
            let (x, y) = (margin + column * SIDE + 1, margin + row * SIDE + 1);
            let inner = SIDE - 2;
            let square = |class: &str| {
                format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{inner}\" height=\"{inner}\"/>")
            };
            let shape = match content.reach() {
                Reach::All => square("all"),
                Reach::Nothing => square("none"),
                Reach::NoFamily => square("unknown"),
                Reach::Some(_) => {
                    let (right, bottom) = (x + inner, y + inner);
                    let half = format!("M{x} {y}V{bottom}H{right}Z");
                    format!("{}<path class=\"some\" d=\"{half}\"/>", square("none"))
                }
            };
            let (from, to) = (&names[row], &names[column]);
            let ports = escape(&cell(content, usize::MAX));
            // What a pointer over the shape shows is the first child of its group.
            let _ = writeln!(svg, "<g><title>{from} to {to}: {ports}</title>{shape}</g>");
        }
    }
    svg.push_str(
        "</svg></div>\n<p>Full square: every port. Half square: some. Pale square: none. Dashed: no address family in common.</p>\n",
    );
    svg
}

fn table(matrix: &Matrix, names: &[String]) -> String {
    let mut table = "<div class=\"wide\"><table>\n<thead><tr><th>from \\ to</th>".to_owned();
    for name in names {
        let _ = write!(table, "<th scope=\"col\">{name}</th>");
    }
    table.push_str("</tr></thead>\n<tbody>\n");
    for (name, row) in names.iter().zip(&matrix.rows) {
        let _ = write!(table, "<tr><th scope=\"row\">{name}</th>");
        for content in row {
            let class = match content.reach() {
                Reach::All => "all",
                Reach::Some(_) => "some",
                Reach::Nothing | Reach::NoFamily => "none",
            };
            let _ = write!(table, "<td class=\"{class}\">{}</td>", escape(&cell(content, usize::MAX)));
        }
        table.push_str("</tr>\n");
    }
    table.push_str("</tbody>\n</table></div>\n<ul>\n");
    for line in legend(matrix) {
        let _ = writeln!(table, "<li>{}</li>", escape(&line));
    }
    table + "</ul>\n"
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use minipod_model::PodKey;

    use super::super::reach::tests::shop;
    use super::render;

    #[test]
    fn the_page_has_every_pair_in_picture_and_table_and_fetches_nothing() {
        let page = render(&shop(), Some("shop"));
        assert!(page.contains("<title>client to web: 80/TCP, 81/TCP IPv6</title>"), "{page}");
        assert!(page.contains("<td class=\"some\">80/TCP, 81/TCP IPv6</td>"), "{page}");
        assert!(page.contains("<li>new: no address yet</li>"), "{page}");
        assert_eq!((page.matches("<g>").count(), page.matches("<td").count()), (9, 9), "{page}");
        for fetching in ["src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(fetching), "{fetching}\n{page}");
        }
    }

    #[test]
    fn a_name_is_text_wherever_it_stands() {
        let mut matrix = shop();
        matrix.pods[0] = PodKey::new("<i>", "</title><script>'\"&");
        matrix.not_shown[0].0 = PodKey::new("n", "<b>");
        let page = render(&matrix, None);
        assert!(!page.contains("<script") && !page.contains("<i>") && !page.contains("<b>"), "{page}");
        assert!(
            page.contains("<th scope=\"row\">&lt;i&gt;/&lt;/title&gt;&lt;script&gt;&#39;&quot;&amp;</th>"),
            "{page}"
        );
    }
}
