use crate::{
    Granularity, Kept, Levels, Purpose, gaussian, hadamard_rows, quantize, random_signs, relative_error, stream,
};
use serde_json::Value;

/// Independent standard normal values; `index` tells tests apart.
fn gaussians(index: u64, n: usize) -> Vec<f32> {
    let mut rng = stream(0, Purpose::Simulation, index);
    (0..n).map(|_| gaussian(&mut rng) as f32).collect()
}

fn quantized(x: &[f32], columns: usize, levels: Levels, granularity: Granularity, kept: Kept<'_>) -> Vec<f32> {
    let mut out = x.to_vec();
    quantize(&mut out, columns, levels, granularity, kept);
    out
}

fn each_way() -> impl Iterator<Item = (Levels, Granularity)> {
    Levels::ALL.iter().flat_map(|levels| Granularity::ALL.iter().map(|granularity| (*levels, *granularity)))
}

#[test]
fn it_rounds_as_numpy_does() {
    let fixture: Value = serde_json::from_str(include_str!("../../../../tests/parity/quantize.json")).expect("JSON");
    let (x, columns) = (floats(&fixture["values"]), fixture["columns"].as_u64().expect("a number") as usize);
    let mut seen = Vec::new();
    for case in fixture["cases"].as_array().expect("a list") {
        let levels = Levels::ALL.iter().find(|levels| case["levels"] == levels.name()).expect("a known name");
        let granularity = Granularity::ALL.iter().find(|g| case["granularity"] == g.name()).expect("a known name");
        let dims: Vec<usize> = floats(&case["kept"][1]).iter().map(|dim| *dim as usize).collect();
        let kept = match case["kept"][0].as_str() {
            None => Kept::Nothing,
            Some("rows") => Kept::Rows(&dims),
            Some(_) => Kept::Columns(&dims),
        };
        let found = quantized(&x, columns, *levels, *granularity, kept);
        for (at, (found, expected)) in found.iter().zip(floats(&case["values"])).enumerate() {
            assert_eq!(*found, expected, "value {at}, {levels} per {granularity}, {kept:?}");
        }
        let (error, expected) = (relative_error(&found, &x).expect("not 0"), case["error"].as_f64().expect("a number"));
        assert!(
            (error / expected - 1.0).abs() < 1e-12,
            "{error}, not {expected}: {levels} per {granularity}, {kept:?}"
        );
        seen.push((*levels, *granularity));
    }
    assert!(each_way().all(|way| seen.contains(&way)));
    for case in fixture["rotations"].as_array().expect("a list") {
        let mut row = floats(&case["values"]);
        hadamard_rows(&mut row, &floats(&case["signs"]));
        for (found, expected) in row.iter().zip(floats(&case["rotated"])) {
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}: d = {}", case["d"]);
        }
    }
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().into_iter().flatten().map(|v| v.as_f64().expect("a number") as f32).collect()
}

#[test]
fn no_value_moves_by_more_than_half_a_step() {
    let (rows, columns) = (150, 5);
    let x = gaussians(300, rows * columns);
    for (levels, granularity) in each_way() {
        let largest = if levels == Levels::Int8 { 127.0 } else { 7.0 };
        let out = quantized(&x, columns, levels, granularity, Kept::Nothing);
        let same_scale = |a: usize, b: usize| match granularity {
            Granularity::Tensor => true,
            Granularity::Channel => a % columns == b % columns,
            Granularity::Token => a / columns == b / columns,
            Granularity::Group32 => a % columns == b % columns && a / columns / 32 == b / columns / 32,
            Granularity::Group128 => a % columns == b % columns && a / columns / 128 == b / columns / 128,
        };
        for at in 0..x.len() {
            let max =
                (0..x.len()).filter(|other| same_scale(at, *other)).map(|other| x[other].abs()).fold(0.0, f32::max);
            let step = max / largest;
            assert!((out[at] - x[at]).abs() <= 0.50001 * step, "value {at}, {levels} per {granularity}");
            let level = out[at] / step;
            assert!((level - level.round()).abs() < 1e-4 && level.abs() < largest + 0.5, "{level} is no level");
        }
    }
}

#[test]
fn quantizing_again_and_scaling_change_nothing() {
    let x = gaussians(301, 150 * 5);
    let scaled: Vec<f32> = x.iter().map(|v| v * -0.125).collect();
    for (levels, granularity) in each_way() {
        let once = quantized(&x, 5, levels, granularity, Kept::Nothing);
        let twice = quantized(&once, 5, levels, granularity, Kept::Nothing);
        assert!(once.iter().zip(&twice).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs()), "{levels} per {granularity}");
        let other = quantized(&scaled, 5, levels, granularity, Kept::Nothing);
        assert!(once.iter().zip(&other).all(|(a, b)| a * -0.125 == *b), "{levels} per {granularity}");
    }
}

#[test]
fn a_zero_range_stays_and_a_large_one_is_finite() {
    let tiny = [0.0, f32::from_bits(190), f32::from_bits(3), 0.0];
    for (levels, granularity) in each_way() {
        for values in [[0.0; 4], tiny] {
            assert_eq!(quantized(&values, 2, levels, granularity, Kept::Nothing), values);
        }
        let large = quantized(&[3e38, -1.0, 2.0, 3e38], 2, levels, granularity, Kept::Nothing);
        assert!(large.iter().all(|value| value.is_finite()));
        assert!(quantized(&[], 2, levels, granularity, Kept::Nothing).is_empty());
    }
}

#[test]
fn a_scale_per_token_survives_a_large_token() {
    let (rows, columns) = (64, 48);
    let mut x = gaussians(302, rows * columns);
    x[..columns].iter_mut().for_each(|value| *value *= 1000.0);
    let rest = |granularity| {
        let out = quantized(&x, columns, Levels::Int8, granularity, Kept::Nothing);
        relative_error(&out[columns..], &x[columns..]).expect("not 0")
    };
    let (tensor, token) = (rest(Granularity::Tensor), rest(Granularity::Token));
    assert!(tensor > 0.9 && token < 0.01, "{tensor} with one scale, {token} with one per token");
}

#[test]
fn kept_dimensions_have_11_bits_and_leave_the_others_alone() {
    let (rows, columns) = (40, 8);
    let mut x = gaussians(303, rows * columns);
    x.iter_mut().skip(3).step_by(columns).for_each(|value| *value *= 1000.0);
    let out = quantized(&x, columns, Levels::Int4, Granularity::Token, Kept::Columns(&[3]));
    let mut without = x.clone();
    without.iter_mut().skip(3).step_by(columns).for_each(|value| *value = 0.0);
    quantize(&mut without, columns, Levels::Int4, Granularity::Token, Kept::Nothing);
    for at in 0..x.len() {
        match at % columns {
            3 => assert!((out[at] - x[at]).abs() <= x[at].abs() * 2f32.powi(-11)),
            _ => assert_eq!(out[at], without[at]),
        }
    }
    // Values of f16 and ties between them, by IEEE 754: subnormal numbers, the largest one, and what is larger.
    let half = |value| quantized(&[value], 1, Levels::Int8, Granularity::Tensor, Kept::Rows(&[0]))[0];
    let ulp = 2f32.powi(-24);
    for (value, expected) in [(0.0, 0.0), (1.5 * ulp, 2.0 * ulp), (-0.5 * ulp, 0.0), (2.5 * ulp, 2.0 * ulp)] {
        assert_eq!(half(value), expected);
    }
    for (value, expected) in
        [(2049.0, 2048.0), (-2051.0, -2052.0), (65504.0, 65504.0), (1e30, 65504.0), (-7e4, -65504.0)]
    {
        assert_eq!(half(value), expected);
    }
}

#[test]
#[should_panic = "a kept column does not exist"]
fn a_kept_column_must_exist() {
    quantize(&mut [0.0; 4], 2, Levels::Int8, Granularity::Tensor, Kept::Columns(&[2]));
}

#[test]
fn a_hadamard_rotation_keeps_lengths_and_makes_one_large_dimension_cheap() {
    let (rows, d) = (64, 64);
    let mut x = gaussians(304, rows * d);
    x.iter_mut().step_by(d).for_each(|value| *value += 300.0);
    let mut rotated = x.clone();
    hadamard_rows(&mut rotated, &vec![1.0; d]);
    let norm = |row: &[f32]| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    assert!(x.chunks(d).zip(rotated.chunks(d)).all(|(a, b)| (norm(a) / norm(b) - 1.0).abs() < 1e-6));
    let error = |x: &[f32]| {
        let out = quantized(x, d, Levels::Int8, Granularity::Token, Kept::Nothing);
        relative_error(&out, x).expect("not 0")
    };
    let (before, after) = (error(&x), error(&rotated));
    assert!(before > 2.0 * after, "{before} before, {after} after");
    // H is its own inverse; with signs the inverse is H, then the signs.
    let signs = random_signs(d, &mut stream(0, Purpose::Simulation, 305));
    let mut back = x.clone();
    hadamard_rows(&mut back, &signs);
    assert!(relative_error(&back, &rotated).expect("not 0") > 0.1, "signs matter");
    hadamard_rows(&mut back, &vec![1.0; d]);
    back.chunks_mut(d).for_each(|row| row.iter_mut().zip(&signs).for_each(|(value, sign)| *value *= sign));
    assert!(relative_error(&back, &x).expect("not 0") < 1e-6);
}

#[test]
fn signs_are_fair_and_drawn_once() {
    let signs = random_signs(10_000, &mut stream(1, Purpose::Simulation, 306));
    assert!(signs.iter().all(|sign| sign.abs() == 1.0) && signs.iter().sum::<f32>().abs() < 500.0);
    assert_eq!(signs, random_signs(10_000, &mut stream(1, Purpose::Simulation, 306)));
}

#[test]
fn an_error_relative_to_nothing_is_undefined() {
    assert_eq!(relative_error(&[1.0], &[0.0]), None);
    assert_eq!(relative_error(&[3.0, 0.0], &[0.0, -4.0]), Some(1.25));
}
