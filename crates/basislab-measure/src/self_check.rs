//! Whether the stream is the sum of what was written to it.

use basislab_config::Site;

/// A sum that is not what the stream holds.
#[derive(Debug, Clone, PartialEq)]
pub struct WrongSum {
    /// Where.
    pub site: Site,
    /// How many of its values differ.
    pub values: usize,
    /// The largest difference.
    pub largest: f32,
}

/// Adds what each branch writes to the stream before it, and compares the sum with the stream after it, bit for bit.
#[derive(Debug, Default)]
pub struct SelfCheck {
    /// The stream, and what was written to it since.
    stream: Vec<f32>,
    written: Vec<Vec<f32>>,
    /// Sums that were compared.
    pub compared: usize,
    /// Those that were wrong.
    pub wrong: Vec<WrongSum>,
}

impl SelfCheck {
    /// Takes the values at a site before anything is done to them there.
    pub(crate) fn before(&mut self, site: Site, values: &[f32]) {
        let is_sum = matches!(site, Site::AttnSum(_) | Site::MlpSum(_) | Site::ResidMid(_) | Site::ResidPost(_));
        // A post-norm model normalises the sum: what follows it is no sum.
        if !is_sum || self.written.is_empty() {
            return;
        }
        let mut sum = std::mem::take(&mut self.stream);
        for written in std::mem::take(&mut self.written) {
            sum.iter_mut().zip(&written).for_each(|(x, y)| *x += y);
        }
        let differing = || sum.iter().zip(values).filter(|(a, b)| a.to_bits() != b.to_bits());
        self.compared += 1;
        let count = differing().count() + sum.len().abs_diff(values.len());
        if count > 0 {
            let largest = differing().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            self.wrong.push(WrongSum { site, values: count, largest });
        }
    }

    /// Takes the values after the interventions at a site: the ones that the rest of the model reads.
    pub(crate) fn after(&mut self, site: Site, values: &[f32]) {
        if site.is_branch() {
            self.written.push(values.to_vec());
        } else {
            (self.stream, self.written) = (values.to_vec(), Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_no_sum_is_found() {
        let mut check = SelfCheck::default();
        let mut at = |site, values: &[f32]| {
            check.before(site, values);
            check.after(site, values);
        };
        at(Site::Embed, &[1.0, 2.0]);
        at(Site::AttnOut(0), &[0.5, 0.1]);
        at(Site::ResidMid(0), &[1.5, 2.0 + 0.1]);
        at(Site::MlpOut(0), &[1.0, 1.0]);
        at(Site::ResidPost(0), &[2.5, 3.0]);
        at(Site::AttnOut(1), &[0.25, 0.5]);
        at(Site::MlpOut(1), &[0.25, 0.5]);
        at(Site::ResidPost(1), &[3.0, 4.0]);
        assert_eq!(check.compared, 3);
        let [wrong] = &check.wrong[..] else { panic!("{:?}", check.wrong) };
        assert_eq!((wrong.site, wrong.values), (Site::ResidPost(0), 1));
        assert!((wrong.largest - 0.1).abs() < 1e-6);
    }
}
