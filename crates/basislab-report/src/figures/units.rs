//! The units that stand at the axes.

use super::in_words;

/// The axis of training steps.
pub(super) const STEPS: &str = "optimizer step (updates), log(1 + step) axis";
/// The axis of sites.
pub(super) const SITES: &str = "site of the residual stream (block and point)";
/// The axis of losses.
pub(super) const LOSS: &str = "held-out loss (nats per token)";

/// A metric as an axis: `token kurtosis (dimensionless)`.
pub(super) fn of_metric(metric: &str) -> String {
    let unit = match metric {
        "token_rms" => "units of the stream",
        "outlier_dims_abs6" | "outlier_dims_abs6_normalised" | "outlier_dims_6x_rms" | "participation_ratio" => {
            "dimensions"
        }
        "dettmers_outlier_features" => "features",
        "massive_activations" | "massive_activations_normalised" => "values",
        _ => "dimensionless",
    };
    format!("{} ({unit})", in_words(metric))
}

/// A key of the configuration as an axis: `train.steps (updates)`.
pub(super) fn of_key(key: &str) -> String {
    let unit = match key.rsplit('.').next().unwrap_or(key) {
        "steps" | "warmup_steps" => "updates",
        "batch_size" | "loss_sequences" | "residual_sequences" => "sequences",
        "n_ctx" | "copy_length" | "burst_window" | "document_length" | "d_vocab" => "tokens",
        "d_model" | "d_mlp" | "d_head" | "dims" => "dimensions",
        "n_layers" => "blocks",
        "n_heads" | "n_kv_heads" => "heads",
        "random_bases" | "null_bases" | "band_bases" => "bases",
        _ => "dimensionless",
    };
    format!("{key} ({unit})")
}

#[cfg(test)]
mod tests {
    use super::of_metric;
    use basislab_stats::METRICS;

    #[test]
    fn what_depends_on_the_scale_or_counts_has_a_unit() {
        for metric in METRICS {
            let has_unit = !of_metric(metric.name).ends_with("(dimensionless)");
            let counts = metric.formula.starts_with("#{");
            assert!(has_unit || (metric.scale_invariant && !counts), "{}", metric.name);
            assert!(has_unit || !metric.ceiling_text.contains("d_model") || !counts, "{}", metric.name);
        }
    }
}
