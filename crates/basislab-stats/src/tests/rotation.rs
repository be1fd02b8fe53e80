use super::{gaussian_residuals, mean_and_error};
use crate::{Purpose, Rotation, gaussian, hadamard_rows, random_signs, stream};

fn each_kind(d: usize) -> Vec<(&'static str, Rotation)> {
    let mut rng = stream(3, Purpose::Rotation, d as u64);
    let mut kinds = vec![
        ("identity", Rotation::identity(d)),
        ("signed permutation", Rotation::signed_permutation(d, &mut rng)),
        ("haar", Rotation::haar(d, &mut rng)),
    ];
    kinds.push(("block hadamard", Rotation::block_hadamard(&random_signs(d, &mut rng))));
    kinds.extend(Rotation::hadamard(d).map(|q| ("hadamard", q)));
    kinds
}

#[test]
fn every_kind_is_orthogonal() {
    for d in [1, 4, 6, 32, 48] {
        for (kind, q) in each_kind(d) {
            assert_eq!(q.d(), d);
            assert!(Rotation::new(q.as_slice().to_vec(), d).is_some(), "{kind} {d}");
        }
    }
    assert!(Rotation::hadamard(12).is_none() && Rotation::hadamard(0).is_none());
}

#[test]
fn what_is_not_orthogonal_is_refused() {
    let close_by = |error: f64| Rotation::new(vec![1.0 + error, 0.0, 0.0, 1.0], 2);
    assert!(close_by(4e-13).is_some());
    assert!(close_by(1e-12).is_none());
    assert!(close_by(f64::NAN).is_none());
    assert!(Rotation::new(vec![1.0, 1.0, 0.0, 1.0], 2).is_none(), "a shear");
    assert!(Rotation::new(vec![1.0, 0.0, 0.0], 2).is_none(), "not square");
    assert!(Rotation::new(Vec::new(), 0).is_none());
}

#[test]
fn rows_are_multiplied_from_the_left() {
    let d = 6;
    let x = gaussian_residuals(200, 5, d);
    for (kind, q) in each_kind(d) {
        let rotated = q.apply_rows(x.values());
        for (row, out) in x.rows().zip(rotated.chunks(d)) {
            for (q_row, found) in q.as_slice().chunks(d).zip(out) {
                let expected: f64 = q_row.iter().zip(row).map(|(a, b)| a * b).sum();
                assert!((found - expected).abs() < 1e-14, "{kind}");
            }
        }
        let back = q.transpose().apply_rows(&rotated);
        assert!(back.iter().zip(x.values()).all(|(a, b)| (a - b).abs() < 1e-14), "{kind}");
    }
}

#[test]
fn a_signed_permutation_moves_bits_unchanged() {
    let x = gaussian_residuals(201, 3, 16);
    let q = Rotation::signed_permutation(16, &mut stream(5, Purpose::Rotation, 0));
    for (row, out) in x.rows().zip(x.rotated(&q).rows()) {
        let sorted = |row: &[f64]| {
            let mut bits: Vec<u64> = row.iter().map(|v| v.abs().to_bits()).collect();
            bits.sort_unstable();
            bits
        };
        assert_eq!(sorted(row), sorted(out));
    }
}

#[test]
fn hadamard_spreads_one_coordinate_evenly() {
    let q = Rotation::hadamard(8).expect("a power of two");
    assert!(q.as_slice().iter().all(|v| (v.abs() - 1.0 / 8f64.sqrt()).abs() < 1e-16));
    assert!(q.as_slice()[..8].iter().all(|v| *v > 0.0));
}

#[test]
fn the_matrix_of_a_block_hadamard_is_the_fast_transform() {
    for d in [1, 6, 8, 12, 40, 64] {
        let signs = random_signs(d, &mut stream(9, Purpose::Rotation, d as u64));
        let q = Rotation::block_hadamard(&signs);
        assert!(Rotation::new(q.as_slice().to_vec(), d).is_some(), "{d}");
        let x = gaussian_residuals(204, 3, d.max(4));
        let rows = &x.values()[..d * (x.values().len() / d)];
        let mut fast: Vec<f32> = rows.iter().map(|value| *value as f32).collect();
        hadamard_rows(&mut fast, &signs);
        let worst = q.apply_rows(rows).iter().zip(&fast).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-6, "{d}: {worst}");
    }
}

// A Haar matrix has E tr Q = 0 and E (tr Q)^2 = 1. Householder QR without the sign fix has a diagonal of one sign.
#[test]
fn haar_follows_haars_law() {
    let d = 6;
    let mut rng = stream(0, Purpose::Simulation, 202);
    let draws: Vec<Rotation> = (0..1000).map(|_| Rotation::haar(d, &mut rng)).collect();
    let traces: Vec<f64> = draws.iter().map(|q| (0..d).map(|i| q.as_slice()[i * d + i]).sum()).collect();
    let squares: Vec<f64> = traces.iter().map(|t| t * t).collect();
    for (what, values, expected) in [("mean", &traces, 0.0), ("square", &squares, 1.0)] {
        let (mean, error) = mean_and_error(values);
        assert!((mean - expected).abs() < 5.0 * error, "{what} of the trace: {mean} +- {error}");
    }
    for at in [0, 7, d * d - 1] {
        let entries: Vec<f64> = draws.iter().map(|q| q.as_slice()[at]).collect();
        let (mean, error) = mean_and_error(&entries);
        assert!(mean.abs() < 5.0 * error, "entry {at}: {mean} +- {error}");
        let (fourth, error) = mean_and_error(&entries.iter().map(|v| v.powi(4)).collect::<Vec<_>>());
        assert!((fourth - 3.0 / (d * (d + 2)) as f64).abs() < 5.0 * error, "entry {at}: {fourth} +- {error}");
    }
}

#[test]
fn a_haar_matrix_has_the_bits_of_the_plain_decomposition() {
    for d in [4, 6, 33, 64, 300] {
        let mut rng = stream(7, Purpose::Rotation, d as u64);
        let gaussians: Vec<f64> = (0..d * d).map(|_| gaussian(&mut rng)).collect();
        let qr = faer::MatRef::from_row_major_slice(&gaussians, d, d).to_owned().qr();
        let (q, r) = (qr.compute_thin_Q(), qr.thin_R());
        let found = Rotation::haar(d, &mut stream(7, Purpose::Rotation, d as u64));
        for (at, value) in found.as_slice().iter().enumerate() {
            let expected = if r[(at % d, at % d)] < 0.0 { -q[(at / d, at % d)] } else { q[(at / d, at % d)] };
            assert_eq!(value.to_bits(), expected.to_bits(), "{at} of {d}");
        }
    }
}

#[test]
fn rotating_in_place_is_rotating() {
    // One row, one block, and several blocks with a rest.
    for (n, d) in [(2, 6), (500, 48), (70_001, 8), (1500, 1100)] {
        let x = gaussian_residuals(203, n, d);
        let q = Rotation::haar(d, &mut stream(8, Purpose::Rotation, 0));
        let (apart, in_place) = (x.rotated(&q), x.clone().into_rotated(&q));
        let worst = apart.values().iter().zip(in_place.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-13, "{n} x {d}: {worst}");
    }
}

// The literals are NumPy's QR, signs fixed, of the same stream drawn in Python.
#[test]
fn drawn_rotations_keep_their_values() {
    let q = Rotation::haar(4, &mut stream(1, Purpose::Rotation, 2));
    let expected = [-0.9317822273704532, 0.11237398291172686, 0.33071764295780537, 0.09889291864205986];
    assert!(q.as_slice()[..4].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{:?}", &q.as_slice()[..4]);
    let q = Rotation::signed_permutation(4, &mut stream(1, Purpose::Rotation, 2));
    let expected = [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]];
    assert_eq!(q.as_slice(), expected.as_flattened());
}
