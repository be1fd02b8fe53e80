//! A number over the steps of a run, in little memory, and drawn as a line of text.

/// Points of a run, by step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Curve(Vec<(u32, f32)>);

/// More points than are drawn in the widest column.
const MOST: usize = 128;

impl Curve {
    pub(super) fn add(&mut self, step: u64, value: Option<f64>) {
        let (Ok(step), Some(value)) = (u32::try_from(step), value.filter(|value| value.is_finite())) else { return };
        if self.0.len() == MOST {
            let mut keep = [true, false].into_iter().cycle();
            self.0.retain(|_| keep.next() == Some(true));
        }
        self.0.push((step, value as f32));
    }
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The mean of curves over the steps up to `last`, from its smallest value to its largest, in so many characters. Where there is
/// no point the one before is repeated; what has not been trained is blank.
pub(super) fn line<'c>(curves: impl Iterator<Item = &'c Curve>, last: u64, width: usize) -> String {
    let mut sums = vec![(0.0_f64, 0.0_f64); width];
    for (step, value) in curves.flat_map(|curve| &curve.0) {
        let at = (u64::from(*step) * width as u64 / (last + 1)) as usize;
        if let Some((sum, count)) = sums.get_mut(at) {
            (*sum, *count) = (*sum + f64::from(*value), *count + 1.0);
        }
    }
    let means: Vec<Option<f64>> = sums.iter().map(|(sum, count)| (*count > 0.0).then(|| sum / count)).collect();
    let known = || means.iter().flatten().copied();
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let Some(end) = means.iter().rposition(Option::is_some) else { return " ".repeat(width) };
    let bar = |value: f64| match high > low {
        true => BARS[((value - low) / (high - low) * 7.0).round() as usize],
        false => BARS[0],
    };
    let mut before = None;
    let drawn = means.iter().enumerate().map(|(at, mean)| {
        before = mean.or(before).filter(|_| at <= end);
        before.map_or(' ', bar)
    });
    drawn.collect()
}

#[cfg(test)]
mod tests {
    use super::{Curve, MOST, line};

    fn curve(points: &[(u64, f64)]) -> Curve {
        let mut curve = Curve::default();
        points.iter().for_each(|(step, value)| curve.add(*step, Some(*value)));
        curve
    }

    #[test]
    fn a_line_goes_from_the_smallest_to_the_largest_mean() {
        let one = curve(&[(0, 8.0), (10, 6.0), (20, 4.0), (39, 1.0)]);
        let other = curve(&[(0, 8.0), (10, 6.0)]);
        assert_eq!(line([&one, &other].into_iter(), 39, 4), "█▆▄▁");
        // Two of four quarters are trained; a gap repeats what was before.
        assert_eq!(line([&curve(&[(0, 2.0), (10, 1.0)])].into_iter(), 39, 4), "█▁  ");
        assert_eq!(line([&curve(&[(0, 2.0), (30, 1.0)])].into_iter(), 39, 4), "███▁");
        assert_eq!(line([&curve(&[(0, 3.0)])].into_iter(), 39, 3), "▁  ");
        assert_eq!(line(std::iter::empty(), 39, 3), "   ");
        assert_eq!(line([&one].into_iter(), 39, 0), "");
    }

    #[test]
    fn a_curve_keeps_few_points_and_the_last() {
        let mut long = Curve::default();
        (0..100_000).for_each(|step| long.add(step, Some(step as f64)));
        long.add(100_000, None);
        long.add(100_001, Some(f64::NAN));
        assert!(long.0.len() <= MOST && long.0.len() >= MOST / 2);
        assert_eq!((long.0.first(), long.0.last()), (Some(&(0, 0.0)), Some(&(99_999, 99_999.0))));
        assert!(long.0.is_sorted());
    }
}
