//! What is changed on the way through the model: `SITE:DIMS=zero|mean`, `SITE=haar:SEED|hadamard`, `SITE=FILE`.

use basislab_config::{Site, choice};
use basislab_model::Rounding;
use basislab_stats::{Purpose, Rotation, stream};
use burn::tensor::{Tensor, TensorData};
use std::fmt;
use std::str::FromStr;

choice! {
    /// What an ablated dimension holds instead.
    pub enum Filling {
        /// 0.
        Zero = "zero",
        /// Its mean over all tokens.
        Mean = "mean",
    }
}

/// Dimensions of a site that are overwritten: `blocks.3.resid_post:5,17,40-47=zero`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ablation {
    /// Where.
    pub site: Site,
    /// Which dimensions, in order, each once.
    pub dims: Vec<usize>,
    /// What they hold instead.
    pub filling: Filling,
}

/// A rotation from a site on: `embed=haar:7` or `embed=hadamard`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Where it begins.
    pub site: Site,
    /// The seed of a Haar rotation; `None` for a Hadamard matrix.
    pub haar: Option<u64>,
}

/// Changes of one forward pass. They are made in the order of the sites; at one site first the patch, then the ablations;
/// a rotation comes first of all.
#[derive(Debug, Clone, Default)]
pub struct Intervention {
    /// Overwritten dimensions.
    pub ablations: Vec<Ablation>,
    /// Sites whose values are replaced: `[tokens, width]`, row-major.
    pub patches: Vec<(Site, Vec<f32>)>,
    /// A change of basis.
    pub turn: Option<Turn>,
    /// How the inputs of the blocks' matrices are rounded.
    pub rounding: Option<Rounding>,
}

impl Intervention {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        self.ablations.is_empty() && self.patches.is_empty() && self.turn.is_none() && self.rounding.is_none()
    }

    /// The sites that are named.
    pub fn sites(&self) -> impl Iterator<Item = Site> {
        let ablated = self.ablations.iter().map(|ablation| ablation.site);
        let patched = self.patches.iter().map(|(site, _)| *site);
        ablated.chain(patched).chain(self.turn.iter().map(|turn| turn.site))
    }

    /// Changes the streams of all batches at a site, `[rows, width]` each.
    pub(crate) fn apply(&self, site: Site, streams: &mut [Tensor<2>]) {
        for (_, values) in self.patches.iter().filter(|(at, _)| *at == site) {
            let mut start = 0;
            for x in streams.iter_mut() {
                let count = x.dims()[0] * x.dims()[1];
                let data = TensorData::new(values[start..start + count].to_vec(), x.dims());
                *x = Tensor::from_data(data, (&x.device(), x.dtype()));
                start += count;
            }
        }
        for ablation in self.ablations.iter().filter(|ablation| ablation.site == site) {
            ablation.apply(streams);
        }
    }
}

impl Ablation {
    fn apply(&self, streams: &mut [Tensor<2>]) {
        let Some(first) = streams.first() else { return };
        let (width, device, dtype) = (first.dims()[1], first.device(), first.dtype());
        let mask: Vec<f32> = (0..width).map(|dim| f32::from(!self.dims.contains(&dim))).collect();
        let mask = Tensor::<2>::from_data(TensorData::new(mask, [1, width]), (&device, dtype));
        let filling = match self.filling {
            Filling::Zero => Tensor::zeros([1, width], (&device, dtype)),
            Filling::Mean => {
                let rows: usize = streams.iter().map(|x| x.dims()[0]).sum();
                let sums = streams.iter().map(|x| x.clone().sum_dim(0));
                let sum = sums.reduce(|a, b| a + b).expect("there is one");
                sum.div_scalar(rows as f64) * mask.clone().neg().add_scalar(1.0)
            }
        };
        // What is kept is multiplied by 1 and gets 0 added: no bit of it changes, but the sign of a 0.
        streams.iter_mut().for_each(|x| *x = x.clone() * mask.clone() + filling.clone());
    }
}

impl Turn {
    /// The orthogonal matrix, in a model of width `d`; `None` where a Hadamard matrix needs a power of two.
    pub fn rotation(&self, d: usize) -> Option<Rotation> {
        match self.haar {
            Some(seed) => Some(Rotation::haar(d, &mut stream(seed, Purpose::Rotation, 0))),
            None => Rotation::hadamard(d),
        }
    }
}

impl FromStr for Ablation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("found {text:?}, expected SITE:DIMS=zero or SITE:DIMS=mean, e.g. embed:5,17,40-47=zero");
        let (at, filling) = text.split_once('=').ok_or_else(expected)?;
        let (site, dims) = at.split_once(':').ok_or_else(expected)?;
        let known = Filling::ALL.iter().find(|known| known.name() == filling);
        let filling = *known.ok_or_else(expected)?;
        Ok(Self { site: site.parse()?, dims: dimensions(dims).ok_or_else(expected)?, filling })
    }
}

/// `5,17,40-47`, sorted, each once; of a range both ends count.
fn dimensions(text: &str) -> Option<Vec<usize>> {
    // No model is wider, and a range must not fill the memory.
    const MOST: usize = 1 << 20;
    let mut dims = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        dims.extend(first..=last);
    }
    dims.sort_unstable();
    dims.dedup();
    Some(dims)
}

impl FromStr for Turn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("found {text:?}, expected SITE=haar:SEED or SITE=hadamard, e.g. embed=haar:0");
        let (site, kind) = text.split_once('=').ok_or_else(expected)?;
        let haar = match kind {
            "hadamard" => None,
            _ => Some(kind.strip_prefix("haar:").and_then(|seed| seed.parse().ok()).ok_or_else(expected)?),
        };
        let site: Site = site.parse()?;
        match site {
            Site::Embed | Site::ResidMid(_) | Site::ResidPost(_) | Site::Final => Ok(Self { site, haar }),
            _ => Err(format!(
                "found {site}, expected embed, blocks.N.resid_mid, blocks.N.resid_post or final: the stream"
            )),
        }
    }
}

impl fmt::Display for Ablation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.dims.iter().map(usize::to_string).collect();
        write!(f, "{}:{}={}", self.site, dims.join(","), self.filling)
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.haar {
            Some(seed) => write!(f, "{}=haar:{seed}", self.site),
            None => write!(f, "{}=hadamard", self.site),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let ablation: Ablation = "blocks.3.resid_post:17,5,40-42,41=mean".parse().unwrap();
        assert_eq!((ablation.site, &ablation.dims[..]), (Site::ResidPost(3), &[5, 17, 40, 41, 42][..]));
        assert_eq!(ablation.to_string().parse(), Ok(ablation));
        for wrong in [
            "embed",
            "embed:=zero",
            "embed:5",
            "embed:5=one",
            "embed:7-5=zero",
            "nowhere:5=zero",
            "embed:1-99999999=zero",
        ] {
            assert!(wrong.parse::<Ablation>().is_err(), "{wrong}");
        }
        let turn: Turn = "embed=haar:7".parse().unwrap();
        assert_eq!((turn.to_string(), turn.haar), ("embed=haar:7".to_owned(), Some(7)));
        assert_eq!("final=hadamard".parse::<Turn>().unwrap().haar, None);
        for wrong in ["embed=haar", "embed=haar:x", "embed", "blocks.0.attn_out=hadamard", "blocks.0.mlp_sum=haar:0"] {
            assert!(wrong.parse::<Turn>().is_err(), "{wrong}");
        }
    }
}
