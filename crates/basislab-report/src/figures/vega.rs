//! Figures as Vega-Lite: the same marks, axes, legend and titles as in the SVG file, with the numbers inside.

use super::frame::{ACROSS, BAR, INK, LOWER, NULL_GREY, SEED_INK, SOFT, UP, UPPER};
use super::mark::{Dash, Figure, Key, Mark, Weight, width};
use super::scale::{Scale, Spacing};
use super::thinning::{MOST_POINTS, Thinning, hex, rounded};
use serde_json::{Value, json};

const SCHEMA: &str = "https://vega.github.io/schema/vega-lite/v6.json";

/// The field of what the legend names.
const WHAT: &str = "what";

/// A figure as a specification of Vega-Lite, indented.
pub(super) fn vega(figure: &Figure) -> String {
    let Figure { labels, x, y, marks, keys, dots, below } = figure;
    let thinning = Thinning::of(figure, MOST_POINTS);
    let scene = Scene { x: axis("x", &labels.x, x), keys, dots: *dots, thinning };
    let thinned = if thinning.is_some() { "; thinned for this file, the CSV files have all" } else { "" };
    let mut specification = json!({
        "$schema": SCHEMA,
        "title": { "text": labels.title, "subtitle": format!("{}{thinned}", labels.subtitle), "anchor": "start" },
    });
    let upper = if below.is_some() { UPPER } else { UP };
    let panel = scene.panel(&labels.y, y, marks, upper);
    match below {
        None => merge(&mut specification, panel),
        Some(below) => {
            let lower = scene.panel(&below.label, &below.y, &below.marks, LOWER);
            specification["vconcat"] = json!([panel, lower]);
        }
    }
    format!("{specification:#}\n")
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// What the panels of a figure share.
struct Scene<'a> {
    x: Value,
    keys: &'a [Key],
    dots: bool,
    thinning: Thinning,
}

impl Scene<'_> {
    fn panel(&self, label: &str, y: &Scale, marks: &[Mark], (bottom, top): (i32, i32)) -> Value {
        let y = axis("y", label, y);
        let layers: Vec<Value> = marks.iter().flat_map(|mark| self.layers(mark, &y)).collect();
        json!({ "width": ACROSS.1 - ACROSS.0, "height": bottom - top, "layer": layers })
    }

    /// The layers of a mark: one, and for a band another one for what is in its middle.
    fn layers(&self, mark: &Mark, y: &Value) -> Vec<Value> {
        let of_kind = |wanted: fn(&Key) -> bool| self.keys.iter().position(wanted);
        let points = |points: &[(f64, f64)]| -> Vec<Value> {
            points.iter().map(|&(x, y)| json!({ "x": rounded(x), "y": rounded(y) })).collect()
        };
        match mark {
            Mark::Line { points: all, weight, of, .. } => {
                let mut values = points(&self.thinning.points(all, of.seed.is_some()));
                if values.is_empty() {
                    return Vec::new();
                }
                for value in values.iter_mut().filter(|_| of.seed.is_some()) {
                    value["seed"] = of.seed.into();
                }
                let mut look =
                    json!({ "type": "line", "strokeWidth": weight.pixels(), "tooltip": { "content": "data" } });
                match weight {
                    Weight::Thin => look["opacity"] = SEED_INK.into(),
                    Weight::Thick(_) => look["point"] = self.dots.into(),
                    Weight::Reference(_) => {}
                }
                let mut layer = self.layer(look, values, Some(of.key), y);
                if *weight != Weight::Thin {
                    layer["encoding"]["strokeDash"] = self.dashes();
                }
                vec![layer]
            }
            Mark::Band { points: all, middle, bars } => {
                let value = |&(x, low, high): &(f64, f64, f64)| json!({ "x": rounded(x), "low": rounded(low), "high": rounded(high) });
                let (mut area, mut line) = (json!({ "type": "area" }), json!({ "type": "line" }));
                if *bars {
                    area = json!({ "type": "bar", "size": 2 * BAR });
                    line = json!({ "type": "tick", "orient": "horizontal", "size": 2 * BAR });
                }
                let thickness = if *bars { "thickness" } else { "strokeWidth" };
                (area["opacity"], area["tooltip"]) = (0.35.into(), json!({ "content": "data" }));
                (line["color"], line[thickness]) = (hex(SOFT).into(), width::MIDDLE.into());
                let key = of_kind(|key| matches!(key, Key::Band { .. }));
                let mut area = self.layer(area, all.iter().map(value).collect(), key, y);
                area["encoding"]["y"]["field"] = "low".into();
                area["encoding"]["y2"] = json!({ "field": "high" });
                vec![area, self.layer(line, points(middle), None, y)]
            }
            Mark::Level { y: level } => {
                let look = json!({ "type": "rule", "strokeDash": [3, 4], "strokeWidth": Weight::LEVEL.pixels() });
                let key = of_kind(|key| matches!(key, Key::Level { .. }));
                let mut layer = self.layer(look, vec![json!({ "y": rounded(*level) })], key, y);
                if let Some(encoding) = layer["encoding"].as_object_mut() {
                    encoding.shift_remove("x");
                }
                vec![layer]
            }
            Mark::Dots { points: all, hollow, of, .. } => {
                let mut values = points(&self.thinning.points(all, true));
                for value in values.iter_mut().filter(|_| of.seed.is_some()) {
                    value["seed"] = of.seed.into();
                }
                let look =
                    json!({ "type": "point", "filled": !hollow, "opacity": 0.7, "tooltip": { "content": "data" } });
                vec![self.layer(look, values, Some(of.key), y)]
            }
            Mark::Ring { points: all } => {
                let key = of_kind(|key| matches!(key, Key::Ring { .. }));
                vec![self.layer(outline("circle", 254), points(all), key, y)]
            }
            Mark::Square { points: all } => {
                let key = of_kind(|key| matches!(key, Key::Square { .. }));
                vec![self.layer(outline("square", 144), points(all), key, y)]
            }
            Mark::Cross { at } => {
                let key = of_kind(|key| matches!(key, Key::Cross { .. }));
                let values: Vec<Value> = at.iter().map(|&x| json!({ "x": rounded(x) })).collect();
                let mut layer = self.layer(outline("cross", 100), values, key, y);
                layer["encoding"]["y"] = json!({ "value": 8 });
                if at.is_empty() { Vec::new() } else { vec![layer] }
            }
        }
    }

    /// What a key names is a field that is the same in the whole layer: a datum has no scale of its own in the schema.
    fn layer(&self, look: Value, values: Vec<Value>, key: Option<usize>, y: &Value) -> Value {
        let mut encoding = json!({ "x": self.x, "y": y });
        let mut layer = json!({ "data": { "values": values }, "mark": look });
        if let Some(key) = key.and_then(|key| self.keys.get(key)) {
            let inks: Vec<String> = self.keys.iter().map(ink).collect();
            layer["transform"] = json!([{ "calculate": json!(key.label().0).to_string(), "as": WHAT }]);
            encoding["color"] = self.scaled(&json!(inks));
        }
        layer["encoding"] = encoding;
        layer
    }

    /// A channel that is decided by what the legend names, in the order of the legend.
    fn scaled(&self, range: &Value) -> Value {
        let names: Vec<&str> = self.keys.iter().map(|key| key.label().0).collect();
        let scale = json!({ "domain": names, "range": range });
        json!({ "field": WHAT, "type": "nominal", "scale": scale, "legend": { "title": null } })
    }

    /// The dashes of lines, in a legend that is that of the colours.
    fn dashes(&self) -> Value {
        let of = |key: &Key| match key {
            Key::Line { weight: Weight::Thick(Dash(on, off)) | Weight::Reference(Dash(on, off)), .. } if *off > 0 => {
                json!([on, off])
            }
            Key::Level { .. } => json!([3, 4]),
            _ => json!([1, 0]),
        };
        self.scaled(&self.keys.iter().map(of).collect())
    }
}

fn outline(shape: &str, size: u32) -> Value {
    json!({ "type": "point", "shape": shape, "size": size, "filled": false, "strokeWidth": width::OUTLINE })
}

fn ink(key: &Key) -> String {
    hex(match key {
        Key::Line { colour, .. } | Key::Dots { colour, .. } => *colour,
        Key::Band { .. } => NULL_GREY,
        Key::Level { .. } => SOFT,
        Key::Ring { .. } | Key::Square { .. } | Key::Cross { .. } => INK,
    })
}

/// The axis of a field: its label, its ends, and its ticks with what stands there.
fn axis(field: &str, label: &str, scale: &Scale) -> Value {
    let (spacing, low, high) = scale.domain();
    let (kind, [low, high]) = match spacing {
        Spacing::Linear => ("linear", [low, high]),
        Spacing::Log => ("log", [low, high].map(f64::exp)),
        // The symmetric logarithm with the constant 1 is `log(1 + x)` for what is not below 0.
        Spacing::LogOnePlus => ("symlog", [low, high].map(f64::exp_m1)),
    };
    let (values, labels): (Vec<f64>, Vec<&str>) =
        scale.ticks.iter().map(|(value, label)| (rounded(*value), label.as_str())).unzip();
    json!({
        "field": field,
        "type": "quantitative",
        "title": label,
        "scale": { "type": kind, "domain": [rounded(low), rounded(high)], "nice": false, "zero": false },
        "axis": { "values": values, "labelExpr": format!("{}[indexof({}, datum.value)]", json!(labels), json!(values)) },
    })
}
