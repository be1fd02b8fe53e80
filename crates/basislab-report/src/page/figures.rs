//! The figures as data for the script: the same marks and axes as in the SVG files.

use crate::figures::{
    Dash, Figure, Key, MOST_POINTS, Mark, Moment, OVER_LAYERS, Scale, Spacing, Thinning, Weight, hex, rounded,
};
use plotters::style::RGBColor;
use serde_json::{Value, json};

/// A figure of the page: one drawing, or several with a slider.
pub(super) struct Shown {
    name: String,
    moments: Vec<Moment>,
}

impl Shown {
    /// The files' figures, that over depth at each moment, and after it the one that only the page has.
    pub(super) fn of(figures: Vec<(String, Figure)>, moments: Vec<Moment>, at_loss: Option<Figure>) -> Vec<Self> {
        let alone = |figure| vec![Moment { when: String::new(), figure, places: Vec::new() }];
        let (mut moments, mut all) = (Some(moments).filter(|moments| !moments.is_empty()), Vec::new());
        for (file, figure) in figures {
            let of_depth = if file == OVER_LAYERS { moments.take() } else { None };
            let name = file.trim_end_matches(".svg").to_owned();
            all.push(Self { name, moments: of_depth.unwrap_or_else(|| alone(figure)) });
        }
        if let Some(figure) = at_loss {
            let place = all.len().min(2);
            all.insert(place, Self { name: "kurtosis_at_loss".to_owned(), moments: alone(figure) });
        }
        all
    }
}

/// All figures as JSON that is safe within a script element.
pub(super) fn data(shown: &[Shown]) -> String {
    let of = |shown: &Shown| {
        let most = MOST_POINTS / shown.moments.len().max(1);
        let moments: Vec<Value> = shown.moments.iter().map(|one| moment(one, most)).collect();
        json!({ "name": shown.name, "moments": moments })
    };
    for_script(&json!({ "figures": shown.iter().map(of).collect::<Vec<_>>() }).to_string())
}

/// JSON has these characters in strings alone, where they may be written as numbers.
pub(super) fn for_script(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out
}

fn moment(moment: &Moment, most: usize) -> Value {
    let Figure { labels, x, y, marks, keys, dots, below } = &moment.figure;
    let thinning = Thinning::of(&moment.figure, most);
    let panel = |label: &str, y: &Scale, marks: &[Mark]| {
        let marks: Vec<Value> = marks.iter().filter_map(|mark| drawn(thinning, mark, keys)).collect();
        json!({ "y": axis(label, y), "marks": marks })
    };
    let lower = below.iter().map(|below| panel(&below.label, &below.y, &below.marks));
    let panels: Vec<Value> = std::iter::once(panel(&labels.y, y, marks)).chain(lower).collect();
    let mut value = json!({
        "title": labels.title,
        "about": labels.subtitle,
        "x": axis(&labels.x, x),
        "panels": panels,
        "keys": keys.iter().map(key).collect::<Vec<_>>(),
        "dots": dots,
    });
    if !moment.when.is_empty() {
        value["when"] = moment.when.clone().into();
    }
    if !moment.places.is_empty() {
        value["places"] = moment.places.clone().into();
    }
    if thinning.is_some() {
        value["thinned"] = true.into();
    }
    value
}

fn axis(label: &str, scale: &Scale) -> Value {
    let (spacing, low, high) = scale.domain();
    let spacing = match spacing {
        Spacing::Linear => "linear",
        Spacing::Log => "log",
        Spacing::LogOnePlus => "log1p",
    };
    let ticks: Vec<Value> = scale.ticks.iter().map(|(value, label)| json!([rounded(*value), label])).collect();
    json!({ "label": label, "spacing": spacing, "low": low, "high": high, "ticks": ticks })
}

/// How a colour looks on white and on black paper.
fn ink(colour: RGBColor) -> Value {
    json!([hex(colour), hex(on_dark(colour))])
}

/// The colour, mixed with white until it is light enough on a dark page: half as light as white, by Rec. 601's weights.
fn on_dark(RGBColor(r, g, b): RGBColor) -> RGBColor {
    let luma = |share: u32| {
        let mixed = |part: u8| (u32::from(part) * (16 - share) + 255 * share) / 16;
        (299 * mixed(r) + 587 * mixed(g) + 114 * mixed(b)) / 1000
    };
    let share = (0..16).find(|&share| luma(share) >= 128).unwrap_or(16);
    let mixed = |part: u8| ((u32::from(part) * (16 - share) + 255 * share) / 16) as u8;
    RGBColor(mixed(r), mixed(g), mixed(b))
}

fn dashes(weight: Weight) -> Value {
    match weight {
        Weight::Thin | Weight::Thick(Dash(_, 0)) => Value::Null,
        Weight::Thick(Dash(on, off)) | Weight::Reference(Dash(on, off)) => json!([on, off]),
    }
}

fn key(key: &Key) -> Value {
    let (label, detail) = key.label();
    let mut value = json!({ "kind": kind(key), "label": label });
    if !detail.is_empty() {
        value["detail"] = detail.into();
    }
    match key {
        Key::Line { colour, weight, .. } => {
            (value["ink"], value["dash"], value["width"]) = (ink(*colour), dashes(*weight), weight.pixels().into());
        }
        Key::Dots { colour, hollow, .. } => (value["ink"], value["hollow"]) = (ink(*colour), (*hollow).into()),
        Key::Band { .. } | Key::Level { .. } | Key::Ring { .. } | Key::Square { .. } | Key::Cross { .. } => {}
    }
    value
}

fn kind(key: &Key) -> &'static str {
    match key {
        Key::Line { .. } => "line",
        Key::Band { .. } => "band",
        Key::Level { .. } => "level",
        Key::Dots { .. } => "dots",
        Key::Ring { .. } => "ring",
        Key::Square { .. } => "square",
        Key::Cross { .. } => "cross",
    }
}

/// A mark with the places in the legend that it belongs to.
fn drawn(thinning: Thinning, mark: &Mark, keys: &[Key]) -> Option<Value> {
    let of_kind = |wanted: &str| keys.iter().position(|key| kind(key) == wanted);
    let pairs =
        |points: &[(f64, f64)]| -> Vec<[f64; 2]> { points.iter().map(|&(x, y)| [rounded(x), rounded(y)]).collect() };
    let plain = |what: &str, points: Value| json!({ "kind": what, "of": of_kind(what).into_iter().collect::<Vec<_>>(), "points": points });
    Some(match mark {
        Mark::Line { points, colour, weight, of } => {
            let points = thinning.points(points, of.seed.is_some());
            if points.is_empty() {
                return None;
            }
            let mut value = json!({ "kind": "line", "of": [of.key], "points": pairs(&points), "ink": ink(*colour) });
            if *weight != Weight::Thin {
                (value["width"], value["dash"]) = (weight.pixels().into(), dashes(*weight));
            }
            if let Weight::Reference(_) = weight {
                value["reference"] = true.into();
            }
            if let Some(seed) = of.seed {
                value["seed"] = seed.into();
            }
            value
        }
        Mark::Dots { points, colour, hollow, of } => {
            let points = thinning.points(points, true);
            // A key of dots may stand for those of all lines.
            let also = of_kind("dots").filter(|_| keys.get(of.key).is_some_and(|key| kind(key) == "line"));
            let keys: Vec<usize> = std::iter::once(of.key).chain(also).collect();
            let mut value = json!({ "kind": "dots", "of": keys, "points": pairs(&points), "ink": ink(*colour) });
            if *hollow {
                value["hollow"] = true.into();
            }
            if let Some(seed) = of.seed {
                value["seed"] = seed.into();
            }
            value
        }
        Mark::Band { points, middle, bars } => {
            let band: Vec<[f64; 3]> =
                points.iter().map(|&(x, low, high)| [rounded(x), rounded(low), rounded(high)]).collect();
            let mut value = plain("band", json!(band));
            (value["middle"], value["bars"]) = (json!(pairs(middle)), (*bars).into());
            value
        }
        Mark::Level { y } => plain("level", json!([[null, rounded(*y)]])),
        Mark::Ring { points } => plain("ring", json!(pairs(points))),
        Mark::Square { points } => plain("square", json!(pairs(points))),
        Mark::Cross { at } => plain("cross", at.iter().map(|x| json!([rounded(*x), null])).collect()),
    })
}
