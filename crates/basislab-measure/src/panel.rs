//! The quantization panel: one forward pass for each way to round weights or activations, compared with the model as it is.

use crate::fold::{Read, folded_spec, read_folded, turn_back, why_not_rotated};
use crate::intervention::{Ablation, Filling, Intervention};
use crate::pass::{Pass, Subject, mean, run};
use crate::site::Bases;
use anyhow::Result;
use basislab_config::{Basis, Site, Tokens};
use basislab_model::Rounding;
use basislab_stats::{Granularity, Kept, Levels, Purpose, quantize, random_signs, relative_error, stream};
use basislab_tables::{
    MeasuredTokens, QuantizationRow, Quantized, QuantizedModelRow, ResidualRow, SpecialDimensionRow, SpecialDimensions,
};
use std::fmt;

/// A variant is destroyed where its perplexity is above so many times that of the model as it is.
const DESTROYED: f64 = 10.0;

/// One forward pass of the panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// What is rounded.
    pub quantized: Quantized,
    /// To which integers, and which values share a scale; `None` where nothing is rounded.
    pub how: Option<(Levels, Granularity)>,
    /// Whether the stream is rotated.
    pub rotated: bool,
    /// What is done about special dimensions.
    pub special: SpecialDimensions,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.quantized)?;
        if let Some((levels, granularity)) = self.how {
            write!(f, " {levels} {granularity}")?;
        }
        match (self.rotated, self.special) {
            (true, _) => f.write_str(" rotated"),
            (false, SpecialDimensions::Plain) => Ok(()),
            (false, special) => write!(f, " special {special}"),
        }
    }
}

/// What a panel needs besides the model.
pub struct Plan<'a> {
    /// The model's name and the tokens' names.
    pub tokens: MeasuredTokens<'a>,
    /// Random bases, against which dimensions stand out.
    pub bases: &'a Bases,
    /// Seed of the signs of the rotation.
    pub seed: u64,
    /// Why no weights are rounded, where they are not.
    pub weights_left_out: Option<String>,
    /// Tells that a site was passed.
    pub progress: &'a dyn Fn(Site),
}

/// The panel of one model.
pub struct Panel<'a> {
    subject: &'a Subject<'a>,
    plan: &'a Plan<'a>,
    signs: Vec<f32>,
    special: Vec<usize>,
    /// The stream of the model as it is after the last block, `[tokens, d_model]`.
    stream: Vec<f32>,
    /// The losses with nothing rounded, nats per predicted token, in order, by rotation and treatment of special dimensions;
    /// the model as it is first. Empty without a head.
    references: Vec<((bool, SpecialDimensions), Vec<f32>)>,
    /// What its stream is like.
    pub model: QuantizedModelRow,
    /// The first site with a value that is not finite in the model as it is. Nothing else means anything there.
    pub not_finite: Option<Site>,
    /// A row for each variant that was run, the model as it is first.
    pub rows: Vec<QuantizationRow>,
}

impl<'a> Panel<'a> {
    /// Runs the model as it is, and finds its special dimensions.
    ///
    /// # Errors
    /// Those of `read`, which gives the values of a parameter by its path and shape.
    pub fn begin(subject: &'a Subject<'a>, plan: &'a Plan<'a>, read: Read<'_>) -> Result<Self> {
        let (MeasuredTokens { model, step, .. }, spec) = (plan.tokens, subject.spec);
        let mut pass = Pass { measure: Some((plan.tokens, plan.bases)), ..Pass::default() };
        let (mut sizes, mut stream) = (Vec::new(), Vec::new());
        let mut on_end = |values: Vec<f32>| {
            sizes.push(first_token_size(&values, plan.tokens.n_ctx * spec.d_model, spec.d_model));
            stream = values;
        };
        run_with_ends(subject, plan, &Intervention::default(), read, &mut pass, &mut on_end)?;
        let Pass { measurements, losses, .. } = pass;
        let special = special(&measurements.special(model, step), spec.n_layers);
        let rotation_left_out = why_not_rotated(spec);
        let of_tokens = |tokens, metric| mean_at_ends(&measurements.residual, tokens, metric);
        let not_special = "no dimension stands out at more than half of the ends of blocks";
        let left_out = |why: Option<&str>| why.unwrap_or_default().to_owned();
        let model = QuantizedModelRow {
            model: model.clone(),
            step,
            kurtosis: of_tokens(Tokens::Rest, "token_kurtosis"),
            max_median: of_tokens(Tokens::Rest, "max_median_ratio"),
            first_token_size: mean(sizes.into_iter()),
            special_dimensions: special.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
            hadamard_block: rotation_left_out.is_none().then(|| 1 << spec.d_model.trailing_zeros()),
            weights_left_out: left_out(plan.weights_left_out.as_deref()),
            rotation_left_out: left_out(rotation_left_out),
            special_left_out: left_out(special.is_empty().then_some(not_special)),
        };
        let mut panel = Self {
            subject,
            plan,
            signs: random_signs(spec.d_model, &mut self::stream(plan.seed, Purpose::Rotation, 0)),
            special,
            stream: Vec::new(),
            references: Vec::new(),
            model,
            not_finite: measurements.not_finite,
            rows: Vec::new(),
        };
        let as_it_is =
            Variant { quantized: Quantized::Nothing, how: None, rotated: false, special: SpecialDimensions::Plain };
        panel.stream.clone_from(&stream);
        panel.push(as_it_is, &losses, &stream);
        Ok(panel)
    }

    /// The variants that make sense for this model, without the model as it is: first those in which nothing is rounded.
    pub fn variants(&self) -> Vec<Variant> {
        use Granularity::{Channel, Group32, Group128, Tensor, Token};
        use Quantized::{Activations, Nothing, Weights};
        use SpecialDimensions::{Ablated, Kept, Plain};
        let mut all = Vec::new();
        let mut add = |quantized, granularities: &[Granularity], rotated: bool, special: SpecialDimensions| {
            let how = Levels::ALL.iter().flat_map(|levels| granularities.iter().map(move |one| Some((*levels, *one))));
            let how: Vec<_> = if quantized == Nothing { vec![None] } else { how.collect() };
            all.extend(how.into_iter().map(|how| Variant { quantized, how, rotated, special }));
        };
        let (of_weights, of_activations) = ([Tensor, Channel, Group128, Group32], [Tensor, Channel, Token]);
        let rotations: &[bool] = if self.model.rotation_left_out.is_empty() { &[false, true] } else { &[false] };
        if rotations.len() > 1 {
            add(Nothing, &[], true, Plain);
        }
        if !self.special.is_empty() {
            add(Nothing, &[], false, Ablated);
        }
        for &rotated in rotations {
            add(Activations, &of_activations, rotated, Plain);
        }
        if !self.special.is_empty() {
            add(Activations, &of_activations, false, Ablated);
            add(Activations, &of_activations, false, Kept);
        }
        if self.model.weights_left_out.is_empty() {
            for &rotated in rotations {
                add(Weights, &of_weights, rotated, Plain);
            }
        }
        all
    }

    /// The losses of the model as it is, nats per predicted token, in order; empty without a head.
    pub fn losses(&self) -> &[f32] {
        self.references.first().map_or(&[], |(_, losses)| losses)
    }

    /// Their mean.
    pub fn loss(&self) -> Option<f64> {
        mean(self.losses().iter().map(|&loss| f64::from(loss)))
    }

    /// Runs a variant. Those in which nothing is rounded come first.
    ///
    /// # Errors
    /// As for [`Panel::begin`].
    pub fn run(&mut self, variant: Variant, read: Read<'_>) -> Result<()> {
        let spec = self.subject.spec;
        let folded = if variant.rotated { folded_spec(spec) } else { spec.clone() };
        let of_weights = variant.how.filter(|_| variant.quantized == Quantized::Weights);
        let of_inputs = variant.how.filter(|_| variant.quantized == Quantized::Activations);
        let mut read = |path: &str, shape: [usize; 2]| {
            let mut values = match variant.rotated {
                true => read_folded(spec, &self.signs, read, path, shape)?,
                false => read(path, shape)?,
            };
            if let Some((levels, granularity)) = of_weights.filter(|_| is_matrix_of_block(path)) {
                quantize(&mut values, shape[1], levels, granularity, Kept::Nothing);
            }
            Ok(values)
        };
        let kept = if variant.special == SpecialDimensions::Kept { self.special.clone() } else { Vec::new() };
        let intervention = Intervention {
            rounding: of_inputs.map(|(levels, granularity)| Rounding { levels, granularity, kept }),
            ablations: if variant.special == SpecialDimensions::Ablated { self.ablations() } else { Vec::new() },
            ..Intervention::default()
        };
        let mut pass = Pass::default();
        let subject = Subject { spec: &folded, ..*self.subject };
        let mut stream = Vec::new();
        run_with_ends(&subject, self.plan, &intervention, &mut read, &mut pass, &mut |values| stream = values)?;
        if variant.rotated {
            turn_back(&mut stream, &self.signs);
        }
        self.push(variant, &pass.losses, &stream);
        Ok(())
    }

    /// By how much the rotated model with nothing rounded differs from the model as it is: the largest of its relative errors
    /// and of the relative change of its loss. It is a rounding error, or the weights were folded wrongly. `None` where it was
    /// not run; infinite where something in it is not finite.
    pub fn difference_of_rotated(&self) -> Option<f64> {
        let [as_it_is, rotated] = [false, true].map(|rotated| self.nothing_rounded(rotated, SpecialDimensions::Plain));
        let (as_it_is, rotated) = (as_it_is?, rotated?);
        let of_loss = as_it_is.loss.map(|loss| Some((rotated.loss? - loss).abs() / loss.abs()));
        let all = [rotated.relative_error, rotated.relative_error_later].into_iter().chain(of_loss);
        Some(all.map(|one| one.filter(|one| one.is_finite()).unwrap_or(f64::INFINITY)).fold(0.0, f64::max))
    }

    fn nothing_rounded(&self, rotated: bool, special: SpecialDimensions) -> Option<&QuantizationRow> {
        let is_it = |row: &&QuantizationRow| {
            row.quantized == Quantized::Nothing && row.rotated == rotated && row.special == special
        };
        self.rows.iter().find(is_it)
    }

    fn push(&mut self, variant: Variant, losses: &[f32], stream: &[f32]) {
        let (MeasuredTokens { model, step, n_ctx, .. }, d) = (self.plan.tokens, self.subject.spec.d_model);
        let alike = match variant.special {
            SpecialDimensions::Kept => SpecialDimensions::Plain,
            special => special,
        };
        let increase = |rotated: bool, special: SpecialDimensions| {
            let before =
                self.references.iter().find(|(at, _)| *at == (rotated, special)).map(|(_, losses)| &losses[..]);
            paired_increase(losses, before.unwrap_or(losses))
        };
        let loss = mean(losses.iter().map(|&loss| f64::from(loss)));
        let loss_increase = increase(false, SpecialDimensions::Plain).map(|increase| increase.0);
        let of_alike = increase(variant.rotated, alike);
        let later = |values: &[f32]| values.chunks(n_ctx * d).flat_map(|all| &all[d..]).copied().collect::<Vec<f32>>();
        let row = QuantizationRow {
            model: model.clone(),
            step,
            quantized: variant.quantized,
            levels: variant.how.map(|how| how.0),
            granularity: variant.how.map(|how| how.1),
            rotated: variant.rotated,
            special: variant.special,
            loss,
            perplexity: loss.map(f64::exp),
            loss_increase,
            loss_increase_alike: of_alike.map(|increase| increase.0),
            standard_error: of_alike.map(|increase| increase.1),
            relative_error: relative_error(stream, &self.stream),
            relative_error_later: relative_error(&later(stream), &later(&self.stream)),
            destroyed: !losses.is_empty() && loss_increase.is_none_or(|increase| increase > DESTROYED.ln()),
        };
        if variant.quantized == Quantized::Nothing {
            self.references.push(((variant.rotated, variant.special), losses.to_vec()));
        }
        self.rows.push(row);
    }

    /// The special dimensions are 0 wherever the stream is written.
    fn ablations(&self) -> Vec<Ablation> {
        let is_written = |site: &Site| matches!(site, Site::Embed | Site::ResidMid(_) | Site::ResidPost(_));
        let sites = self.subject.spec.sites().into_iter().filter(is_written);
        sites.map(|site| Ablation { site, dims: self.special.clone(), filling: Filling::Zero }).collect()
    }
}

/// Runs the model. `on_end` gets its stream after each block, `[tokens, d_model]`.
fn run_with_ends(
    subject: &Subject<'_>,
    plan: &Plan<'_>,
    intervention: &Intervention,
    read: Read<'_>,
    pass: &mut Pass<'_>,
    on_end: &mut dyn FnMut(Vec<f32>),
) -> Result<()> {
    let mut on_saved = |_: Site, values: &[f32], _: usize| {
        on_end(values.to_vec());
        Ok(())
    };
    let mut whole = Pass {
        save: (0..subject.spec.n_layers).map(Site::ResidPost).collect(),
        on_saved: Some(&mut on_saved),
        measure: pass.measure.take(),
        progress: Some(plan.progress),
        ..Pass::default()
    };
    run(subject, intervention, read, &mut whole)?;
    let Pass { measurements, losses, .. } = whole;
    (pass.measurements, pass.losses) = (measurements, losses);
    Ok(())
}

/// Root mean square of the first tokens of sequences over that of the other tokens. A sequence is `sequence` values.
fn first_token_size(values: &[f32], sequence: usize, d: usize) -> f64 {
    let squares = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
    let [first, other] = [0..d, d..sequence].map(|part| {
        let sum: f64 = values.chunks(sequence).map(|all| squares(&all[part.clone()])).sum();
        sum / part.len() as f64
    });
    (first / other).sqrt()
}

/// The mean of `after - before` and its standard error; `None` where there is nothing to compare or it is not finite.
fn paired_increase(after: &[f32], before: &[f32]) -> Option<(f64, f64)> {
    let differences = || after.iter().zip(before).map(|(after, before)| f64::from(*after) - f64::from(*before));
    let (mean, n) = (mean(differences())?, after.len() as f64);
    let variance = differences().map(|one| (one - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Some((mean, (variance / n).sqrt()))
}

/// Whether a parameter is a matrix of a block.
fn is_matrix_of_block(path: &str) -> bool {
    path.starts_with("blocks.") && path.rsplit('.').next().is_some_and(|name| name.starts_with("w_"))
}

/// Dimensions that stand out at more than half of the ends of blocks, those at the most first.
fn special(rows: &[SpecialDimensionRow], n_layers: usize) -> Vec<usize> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for row in rows.iter().filter(|row| 2 * row.persistence > n_layers) {
        if found.iter().all(|(_, dim)| *dim != row.dim) {
            found.push((row.persistence, row.dim));
        }
    }
    found.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, dim)| dim).collect()
}

/// Mean of a metric over the ends of blocks, in the standard basis.
fn mean_at_ends(rows: &[ResidualRow], tokens: Tokens, metric: &str) -> Option<f64> {
    let is_it = |row: &&ResidualRow| {
        matches!(row.site, Site::ResidPost(_))
            && row.tokens == tokens
            && row.basis == Basis::Standard
            && row.metric == metric
    };
    let values: Vec<f64> = rows.iter().filter(is_it).filter_map(|row| row.value).collect();
    mean(values.into_iter())
}
