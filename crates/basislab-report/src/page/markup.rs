//! HTML out of text: everything is escaped here.

use crate::answer::{VerdictLine, decimals, small};
use crate::figures::digits;
use basislab_tables::{OutlierRow, SummaryRow, VerdictRow};

/// The most rows of a table that the page shows; the files have all.
const MOST_ROWS: usize = 1000;

/// Text as HTML, in an element or in quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // A browser would turn what follows around.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            letter if letter.is_control() && letter != '\n' && letter != '\t' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

/// Text in which no number like 3.0e-5 is broken at its sign.
fn unbroken(text: &str) -> String {
    let word = |word: &str| match word.contains("e-") && word.starts_with(|first: char| first.is_ascii_digit()) {
        true => format!("<span class=\"whole\">{}</span>", escaped(word)),
        false => escaped(word),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The template with each `{{name}}` replaced, once: what is put in is not read again.
pub(super) fn filled(template: &str, parts: &[(&str, &str)]) -> String {
    let mut pieces = template.split("{{");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        let part = parts.iter().find(|(known, _)| *known == name);
        out.push_str(part.map_or("", |(_, part)| part));
        out.push_str(rest);
    }
    out
}

/// A paragraph for each text that is not empty.
pub(super) fn paragraphs(class: &str, texts: &[String]) -> String {
    let texts = texts.iter().filter(|text| !text.is_empty());
    texts.map(|text| format!("<p class=\"{class}\">{}</p>\n", escaped(text))).collect()
}

/// A section with a list, or nothing where there is nothing to list.
pub(super) fn list(class: &str, title: &str, texts: &[String]) -> String {
    if texts.is_empty() {
        return String::new();
    }
    let items: String = texts.iter().map(|text| format!("<li>{}</li>\n", escaped(text))).collect();
    format!("<section class=\"{class}\">\n<h2>{}</h2>\n<ul>\n{items}</ul>\n</section>\n", escaped(title))
}

/// A sentence and links to files of the directory, or nothing where there are none.
pub(super) fn links(sentence: &str, files: &[String]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let link = |file: &String| format!("<a href=\"{0}\">{0}</a>", escaped(file));
    format!("<p class=\"said\">{} {}</p>\n", escaped(sentence), files.iter().map(link).collect::<Vec<_>>().join(", "))
}

/// A table. `is_number` says of which columns the cells are numbers.
pub(super) fn table<R: AsRef<[String]>>(header: &[String], rows: &[R], is_number: impl Fn(usize) -> bool) -> String {
    let class = |place: usize| if is_number(place) { " class=\"number\"" } else { "" };
    let cell = |tag: &str, (place, text): (usize, &String)| {
        let scope = if tag == "th" { " scope=\"col\"" } else { "" };
        format!("<{tag}{scope}{}>{}</{tag}>", class(place), escaped(text))
    };
    let line = |tag: &str, cells: &[String]| {
        let cells: String = cells.iter().enumerate().map(|at| cell(tag, at)).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = rows.iter().take(MOST_ROWS).map(|row| line("td", row.as_ref())).collect();
    let more = match rows.len().saturating_sub(MOST_ROWS) {
        0 => String::new(),
        more => format!("<p class=\"said\">{more} more rows are in the file.</p>\n"),
    };
    let table = format!("<table>\n<thead>{}</thead>\n<tbody>\n{body}</tbody>\n</table>\n", line("th", header));
    format!("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"table\">\n{table}</div>\n{more}")
}

/// A table of a file, folded up.
pub(super) fn folded(file: &str, about: &str, table: &str) -> String {
    format!(
        "<details><summary><code>{}</code>: {}</summary>\n{table}</details>\n",
        escaped(file),
        escaped(about.trim().trim_end_matches('.'))
    )
}

/// An item for each claim: the verdict, the numbers, the claim, and the number of its rule in [`rules`].
pub(super) fn verdict_items(lines: &[VerdictLine]) -> String {
    let rules = distinct_rules(lines);
    let item = |line: &VerdictLine| {
        let verdict = escaped(&line.verdict.to_string());
        let rule = rules.iter().position(|rule| *rule == line.rule).unwrap_or(0) + 1;
        format!(
            "<li><strong class=\"verdict {verdict}\">{verdict}</strong>\n<div><p>{}</p>\n<p class=\"about\">Claim \
             <code>{}</code>: {} (rule {rule})</p></div></li>\n",
            unbroken(&line.sentence),
            escaped(&line.claim),
            escaped(&line.text),
        )
    };
    let items: String = lines.iter().map(item).collect();
    if items.is_empty() { String::new() } else { format!("<ul class=\"verdicts\">\n{items}</ul>\n") }
}

/// The rules by which the claims were decided, each once.
pub(super) fn rules(lines: &[VerdictLine]) -> String {
    let items: String = distinct_rules(lines).iter().map(|rule| format!("<li>{}</li>\n", escaped(rule))).collect();
    if items.is_empty() { String::new() } else { format!("<h3>Rules</h3>\n<ol class=\"about\">\n{items}</ol>\n") }
}

fn distinct_rules(lines: &[VerdictLine]) -> Vec<&str> {
    let mut rules: Vec<&str> = Vec::new();
    for line in lines {
        if !rules.contains(&line.rule.as_str()) {
            rules.push(&line.rule);
        }
    }
    rules
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), digits)
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `1.2 to 3.4`, or nothing.
fn interval(low: Option<f64>, high: Option<f64>) -> String {
    match (low, high) {
        (Some(low), Some(high)) => format!("{} to {}", digits(low), digits(high)),
        _ => "-".to_owned(),
    }
}

/// The rows of `summary.csv`.
pub(super) fn summary_table(rows: &[SummaryRow]) -> String {
    let header = [
        "arm",
        "metric",
        "site",
        "basis",
        "tokens",
        "step",
        "seeds",
        "mean",
        "sd",
        "95 % interval",
        "random bases",
        "sd of one",
        "ratio",
    ];
    let row = |row: &SummaryRow| {
        [
            row.arm.to_string(),
            row.metric.clone(),
            shown(row.site),
            shown(row.basis),
            shown(row.tokens),
            row.step.to_string(),
            format!("{}/{}", row.n_seeds, row.seeds_planned),
            number(row.mean),
            number(row.sd),
            interval(row.ci_low, row.ci_high),
            number(row.null_mean),
            number(row.null_sd),
            decimals(row.ratio, 2),
        ]
    };
    table(&header.map(str::to_owned), &rows.iter().map(row).collect::<Vec<_>>(), |place| place >= 5)
}

/// The rows of `verdicts.csv`.
pub(super) fn verdict_table(rows: &[VerdictRow]) -> String {
    let header =
        ["claim", "verdict", "comparison", "metric", "seeds", "estimate", "interval", "p", "p after Holm", "rule was"];
    let p = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), small);
    let row = |row: &VerdictRow| {
        // Of a log, the ratio.
        let (estimate, low, high) = match row.ratio {
            Some(_) => (row.ratio, row.ratio_low, row.ratio_high),
            None => (row.estimate, row.ci_low, row.ci_high),
        };
        [
            row.claim.to_string(),
            row.verdict.to_string(),
            row.comparison.clone(),
            row.metric.clone(),
            row.n_seeds.to_string(),
            number(estimate),
            interval(low, high),
            p(row.p),
            p(row.p_holm),
            shown(row.registration),
        ]
    };
    table(&header.map(str::to_owned), &rows.iter().map(row).collect::<Vec<_>>(), |place| place >= 4)
}

/// The rows of `outliers.csv`, folded up.
pub(super) fn outlier_table(rows: &[OutlierRow]) -> String {
    let header =
        ["arm", "basis", "site", "tokens", "seed", "dimension", "RMS / median", "limit", "random bases", "since step"];
    let row = |row: &OutlierRow| {
        [
            row.arm.to_string(),
            row.basis.to_string(),
            row.site.to_string(),
            row.tokens.to_string(),
            row.seed.to_string(),
            row.dim.to_string(),
            digits(row.ratio),
            digits(row.threshold),
            row.bases.to_string(),
            row.first_step.to_string(),
        ]
    };
    let table = table(&header.map(str::to_owned), &rows.iter().map(row).collect::<Vec<_>>(), |place| place >= 4);
    folded("outliers.csv", "dimensions that stand out of random bases at the last step", &table)
}
