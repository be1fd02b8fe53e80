use super::gaussian_residuals;
use crate::{Purpose, Residuals, ResidualsError, Rotation, stream};

#[test]
fn shape_and_numbers_are_checked_once() {
    assert_eq!(Residuals::new(vec![0.0; 4], 4), Err(ResidualsError::TooSmall(1, 4)));
    assert_eq!(Residuals::new(vec![0.0; 12], 3), Err(ResidualsError::TooSmall(4, 3)));
    assert!(Residuals::new(vec![0.0; 9], 4).is_err(), "a broken row");
    assert!(Residuals::new(vec![0.0; 9], 0).is_err());
    assert!(Residuals::new(Vec::new(), 4).is_err());
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut values = vec![0.0; 12];
        values[6] = bad;
        let error = Residuals::new(values, 4).expect_err("not finite");
        let message = error.to_string();
        assert!(message.contains("token 1, dimension 2") && message.contains(&bad.to_string()), "{message}");
    }
    let x = Residuals::new(vec![1.0; 12], 4).expect("3 x 4");
    assert_eq!((x.n_tokens(), x.d_model(), x.rows().len()), (3, 4, 3));
}

#[test]
fn subsets_keep_order_and_rows() {
    let x = gaussian_residuals(300, 5, 4);
    let chosen = x.subset(&[3, 0, 3]);
    let rows: Vec<&[f64]> = x.rows().collect();
    assert_eq!(chosen.rows().collect::<Vec<_>>(), [rows[3], rows[0], rows[3]]);
}

#[test]
fn rotating_back_restores() {
    let x = gaussian_residuals(301, 7, 12);
    let q = Rotation::haar(12, &mut stream(0, Purpose::Rotation, 0));
    let back = x.rotated(&q).rotated(&q.transpose());
    assert!(back.values().iter().zip(x.values()).all(|(a, b)| (a - b).abs() < 1e-13));
}
