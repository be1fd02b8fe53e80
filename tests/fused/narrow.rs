//! Training with products in bf16.

use crate::support::{experiment, flex};
use basislab_config::RunSpec;
use basislab_data::Corpus;
use basislab_train::{Trainee, update};
use rayon::prelude::*;

/// The mean loss of the last 20 of 400 updates of the default model, by seed.
fn losses(compute: &str) -> Vec<f64> {
    let experiment = experiment(&[("model.compute_dtype", compute)]);
    let run: &RunSpec = &experiment.arm("adam").unwrap().run;
    assert_eq!(run.train.steps, 400);
    let corpus = Corpus::open(&run.corpus, run.model.n_ctx).unwrap();
    let of_seed = |seed: u64| {
        let mut trainee = Trainee::new(run, seed, corpus.d_vocab(), &flex());
        assert!(trainee.model.is_fused());
        let mut last = 0.0;
        for step in 1..=run.train.steps {
            let batch = corpus.batch(seed, step, run.train.batch_size, run.model.n_ctx + 1);
            let loss = update(&mut trainee, &run.train, run.lr_factor(step), &batch).unwrap().0;
            last += if step > run.train.steps - 20 { loss / 20.0 } else { 0.0 };
        }
        last
    };
    (0..6u64).into_par_iter().map(of_seed).collect()
}

#[test]
#[allow(clippy::print_stderr, reason = "the documents state these numbers")]
fn after_400_default_steps_the_loss_differs_less_than_between_seeds() {
    let [wide, narrow] = ["f32", "bf16"].map(losses);
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let spread = (wide.iter().map(|x| (x - mean(&wide)).powi(2)).sum::<f64>() / (wide.len() - 1) as f64).sqrt();
    let shifts: Vec<f64> = wide.iter().zip(&narrow).map(|(a, b)| b - a).collect();
    eprintln!("bf16 - f32 by seed: {shifts:.4?} nats; f32 by seed: {wide:.4?}, standard deviation {spread:.4}");
    assert!(shifts.iter().any(|shift| *shift != 0.0), "bf16 computes something else");
    assert!(mean(&shifts).abs() < spread, "mean shift {}, spread {spread}", mean(&shifts));
    assert!(shifts.iter().all(|shift| shift.abs() < 3.0 * spread), "{shifts:?}, spread {spread}");
}
