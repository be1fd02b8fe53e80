//! From numbers to pixels, and where the ticks go.

/// How an axis spaces its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spacing {
    Linear,
    Log,
    /// `log(1 + x)`: logarithmic, with room for step 0.
    LogOnePlus,
}

impl Spacing {
    fn forward(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(f64::MIN_POSITIVE).ln(),
            Self::LogOnePlus => value.max(0.0).ln_1p(),
        }
    }
}

/// One axis.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    spacing: Spacing,
    low: f64,
    high: f64,
    first_pixel: f64,
    last_pixel: f64,
    /// `(value, label)`.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Scale {
    /// An axis that holds all `values`, with a margin of `margin` times their span at both ends.
    pub(crate) fn over(values: &[f64], spacing: Spacing, margin: f64, pixels: (i32, i32)) -> Option<Self> {
        let usable = |value: &f64| value.is_finite() && (spacing != Spacing::Log || *value > 0.0);
        let places: Vec<f64> = values.iter().copied().filter(usable).map(|value| spacing.forward(value)).collect();
        let low = places.iter().copied().reduce(f64::min)?;
        let high = places.iter().copied().reduce(f64::max)?;
        let span = if high > low { high - low } else { 1.0 };
        let (low, high) = (low - margin * span, high + margin * span);
        let mut scale = Self {
            spacing,
            low,
            high: if high > low { high } else { low + 1.0 },
            first_pixel: f64::from(pixels.0),
            last_pixel: f64::from(pixels.1),
            ticks: Vec::new(),
        };
        scale.ticks = match spacing {
            Spacing::Linear => linear_ticks(scale.low, scale.high),
            Spacing::Log => log_ticks(scale.low.exp(), scale.high.exp()),
            Spacing::LogOnePlus => step_ticks(values.iter().copied().fold(0.0, f64::max)),
        };
        Some(scale)
    }

    /// How it spaces its numbers, and where it begins and ends: the values themselves where it is linear, else their logs.
    pub(crate) fn domain(&self) -> (Spacing, f64, f64) {
        (self.spacing, self.low, self.high)
    }

    /// The same axis with its upper end at another pixel.
    pub(crate) fn ending_at(self, pixel: i32) -> Self {
        Self { last_pixel: f64::from(pixel), ..self }
    }

    /// The pixels of the lower and upper end.
    pub(crate) fn ends(&self) -> (i32, i32) {
        (self.first_pixel.round() as i32, self.last_pixel.round() as i32)
    }

    /// Leaves out ticks whose labels, `extent` pixels long in the axis's direction, would touch another. The first and the
    /// last tick stay.
    pub(crate) fn keep_apart(&mut self, extent: impl Fn(&str) -> f64) {
        let touches = |a: &(f64, String), b: &(f64, String)| {
            f64::from((self.pixel(b.0) - self.pixel(a.0)).abs()) < 0.5 * (extent(&a.1) + extent(&b.1))
        };
        let mut kept: Vec<(f64, String)> = Vec::new();
        for (place, tick) in self.ticks.iter().enumerate() {
            if place + 1 == self.ticks.len() {
                while kept.len() > 1 && kept.last().is_some_and(|last| touches(last, tick)) {
                    kept.pop();
                }
            }
            if kept.last().is_none_or(|last| !touches(last, tick)) {
                kept.push(tick.clone());
            }
        }
        self.ticks = kept;
    }

    /// The pixel of a value; the edge's for a value beyond it.
    pub(crate) fn pixel(&self, value: f64) -> i32 {
        let share = ((self.spacing.forward(value) - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        (self.first_pixel + share * (self.last_pixel - self.first_pixel)).round() as i32
    }
}

fn linear_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / 6.0;
    let decade = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|factor| factor * decade).find(|&step| step >= rough).unwrap_or(decade);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).map(|k| k as f64 * step).map(|value| (value, format!("{value:.decimals$}"))).collect()
}

fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    const FINE: &[f64] = &[1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    const MIDDLE: &[f64] = &[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0];
    const COARSE: &[f64] = &[1.0, 2.0, 5.0];
    const DECADES: &[f64] = &[1.0];
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let within = |set: &[f64]| -> Vec<f64> {
        let all = decades.clone().flat_map(|power| set.iter().map(move |factor| factor * 10f64.powi(power)));
        all.filter(|&value| value >= low && value <= high).collect()
    };
    let mut best = within(DECADES);
    for set in [COARSE, MIDDLE, FINE] {
        let finer = within(set);
        if best.len() < 4 && finer.len() <= 9 {
            best = finer;
        }
    }
    if best.len() < 4 {
        return linear_ticks(low, high);
    }
    best.into_iter().map(|value| (value, short(value))).collect()
}

/// 0, 1, 3, 10, 30, ... and the last step, without labels that would touch.
fn step_ticks(last: f64) -> Vec<(f64, String)> {
    let powers = (0..12).flat_map(|power| [1.0, 3.0].map(|factor| factor * 10f64.powi(power)));
    let mut ticks: Vec<f64> = std::iter::once(0.0).chain(powers.filter(|&step| step * 1.6 < last)).collect();
    if last > 0.0 {
        ticks.push(last);
    }
    ticks.into_iter().map(|value| (value, short(value))).collect()
}

/// Without trailing zeros, for ticks.
fn short(value: f64) -> String {
    let text = digits(value);
    if text.contains('.') && !text.contains('e') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

/// Three significant digits below 1000, all digits above.
pub(crate) fn digits(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 || (size > 0.0 && size < 1e-3) {
        return format!("{value:.1e}");
    }
    let decimals = if size >= 100.0 || size == 0.0 { 0 } else { (2.0 - size.log10().floor()) as usize };
    format!("{value:.decimals$}")
}
