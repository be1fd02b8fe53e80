//! Names are drawn whole and inside the figure, and lines of different arms can be told apart.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use super::mark::{colour, dash};
use super::outliers_tests::standing_out;
use super::tests::svgs;
use super::{OUTLIERS, figures};
use crate::fixture::{Outcome, effect, experiment_with, name, tables};
use crate::tests::rows_of_claims;
use basislab_config::{Arm, Experiment};

/// Texts of an SVG, with the pixels of their left and right end in a wide font; upright ones with those of their top and
/// bottom.
fn texts(svg: &str) -> Vec<(String, f64, f64, bool)> {
    let mut found = Vec::new();
    for (tag, text) in svg.lines().zip(svg.lines().skip(1)).filter(|(tag, _)| tag.starts_with("<text")) {
        let of = |key: &str| tag.split(&format!(" {key}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        let number = |key: &str| of(key).unwrap().parse::<f64>().unwrap();
        let wide = 0.62 * number("font-size") * text.trim().chars().count() as f64;
        let upright = of("transform").is_some();
        let at = if upright { number("y") } else { number("x") };
        let start = match of("text-anchor").unwrap_or("start") {
            "end" => at - wide,
            "middle" => at - wide / 2.0,
            _ => at,
        };
        found.push((text.trim().to_owned(), start, start + wide, upright));
    }
    found
}

fn assert_inside(svg: &str, what: &str) {
    let of = |key: &str| svg.split(&format!(" {key}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let (width, height): (f64, f64) = (of("width").parse().unwrap(), of("height").parse().unwrap());
    assert!(svg.contains(&format!("viewBox=\"0 0 {width} {height}\"")), "{what}");
    for (text, start, end, upright) in texts(svg) {
        let most = if upright { height } else { width };
        assert!(start >= 0.0 && end <= most, "{what}: {text:?} from {start:.0} to {end:.0} of {most}");
    }
    for tag in svg.lines().filter(|line| line.starts_with("<text")) {
        let y: f64 = tag.split(" y=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().parse().unwrap();
        assert!(y > 0.0 && y < height, "{what}: {tag}");
    }
}

/// So many arms with names of that length, the first with a basis of its own.
pub(super) fn with_arms(n_arms: usize, length: usize, n_seeds: u64) -> Experiment {
    let mut experiment = experiment_with(n_seeds, "");
    let like = experiment.arm("adam-rotated").unwrap().clone();
    let named = |at: usize| {
        let text = format!("{:x<length$}", format!("arm-{at:02}-"));
        Arm { name: name(&text[..length.max(6)]), ..like.clone() }
    };
    experiment.arms = (0..n_arms).map(named).collect();
    experiment.claims.retain(|claim| matches!(claim.name.as_str(), "adam-differs-from-its-null"));
    experiment.claims[0].test =
        basislab_config::ClaimKind::DiffersFromNull { arm: experiment.arms[0].name.clone(), direction: None };
    experiment
}

pub(super) fn outcome(arm: &str, seed: u64) -> Outcome {
    let number: f64 = arm[4..6].parse().unwrap();
    let like = effect("adam", seed);
    let optimizer = (number == 0.0).then_some(like.standard * 1.2);
    Outcome {
        standard: 2.9 + 0.1 * number + 0.1 * (like.standard - 5.1),
        optimizer,
        loss: like.loss + 0.01 * number,
        ..like
    }
}

#[test]
fn names_of_any_length_are_whole_and_inside() {
    for (n_arms, length) in [(1, 6), (3, 14), (3, 40), (9, 20), (9, 40), (16, 40), (24, 64), (20, 6)] {
        let experiment = with_arms(n_arms, length, 2);
        let tables = tables(&experiment, outcome);
        let verdicts = rows_of_claims(&experiment, &tables);
        let stand_out = standing_out(&experiment, 3);
        for (file, svg) in svgs(&figures(&experiment, &tables, &verdicts, &[], Some(&stand_out))).unwrap() {
            let (svg, what) = (svg.unwrap(), format!("{file} of {n_arms} arms with {length} letters"));
            assert_inside(&svg, &what);
            let texts: Vec<String> = texts(&svg).into_iter().map(|text| text.0).collect();
            // Of the dimensions that stand out ten matrices are drawn.
            let is_head = |text: &str, arm: &str| file == OUTLIERS && text.starts_with(&format!("{arm}: in "));
            for arm in experiment.arms.iter().take(if file == OUTLIERS { 8 } else { usize::MAX }) {
                let is_there = |text: &String| *text == *arm.name || is_head(text, &arm.name);
                assert!(texts.iter().any(is_there), "{what}: no {} in {texts:?}", arm.name);
            }
        }
    }
}

#[test]
fn long_keys_and_names_of_a_sweep_are_inside() {
    let long = "[[arm]]\nname = \"an-arm-whose-name-has-forty-letters-in-it\"\n[[grid]]\narms = \
                [\"an-arm-whose-name-has-forty-letters-in-it\"]\nzip = { \"optimizer.lr\" = [1e-3, 1e-2], \
                \"optimizer.beta_1\" = [0.5, 0.9] }\n";
    let experiment = experiment_with(2, long);
    let tables = tables(&experiment, |arm, seed| effect(if arm.contains("lr") { "adam" } else { arm }, seed));
    let mut sweeps = 0;
    for (file, svg) in
        svgs(&figures(&experiment, &tables, &[], &[], None)).unwrap().into_iter().filter(|(_, svg)| svg.is_some())
    {
        assert_inside(&svg.clone().unwrap(), &file);
        if file.starts_with("sweep") {
            assert!(svg.unwrap().contains("an-arm-whose-name-has-forty-letters-in-it"), "{file}");
            sweeps += 1;
        }
    }
    assert_eq!(sweeps, 2);
}

#[test]
fn twenty_four_arms_have_lines_of_their_own() {
    let mut drawn = Vec::new();
    for index in 0..24 {
        for own_basis in [false, true] {
            let line = (colour(index), dash(index, own_basis));
            assert!(!drawn.contains(&line), "arm {index}, own basis {own_basis}");
            drawn.push(line);
        }
    }
    // What is drawn, too: the dashes of a line of the legend are pieces of it.
    let experiment = with_arms(24, 8, 1);
    let all = svgs(&figures(&experiment, &tables(&experiment, outcome), &[], &[], None)).unwrap();
    let svg = all.into_iter().find(|(name, _)| name == "loss_curves.svg").and_then(|(_, svg)| svg).unwrap();
    let mut styles = std::collections::BTreeSet::new();
    for (swatch, label) in svg.split("<text").collect::<Vec<_>>().windows(2).map(|pair| (pair[0], pair[1])) {
        let Some(arm) = experiment.arms.iter().find(|arm| label.contains(arm.name.as_str())) else { continue };
        let lines: Vec<&str> = swatch.lines().filter(|line| line.starts_with("<polyline")).collect();
        let colour = lines.last().unwrap().split("stroke=\"").nth(1).unwrap()[..7].to_owned();
        // The legend's swatch is 28 pixels long.
        let dashes = lines.iter().filter(|line| line.contains(&colour)).count();
        assert!(styles.insert((colour, dashes)), "{}: {swatch}", arm.name);
    }
    assert_eq!(styles.len(), 24);
}
