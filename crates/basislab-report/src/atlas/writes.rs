//! What wrote into the stream between two sites.

use basislab_config::Site;

/// Places among the sites: what is added between them is the mean square at `to` less that at `from`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub(crate) label: String,
    /// `None` before everything.
    pub(crate) from: Option<usize>,
    pub(crate) to: usize,
}

/// The writes between sites in the order of the forward pass, one after the other from nothing to the last site of the
/// stream; and what cannot be told. `is_post` says that the stream is normalised after each branch.
pub(crate) fn writes(sites: &[Site], is_post: bool) -> (Vec<Write>, Vec<&'static str>) {
    let of_stream = |site: &Site| !site.is_branch() && !matches!(site, Site::Final | Site::EveryResidPost);
    let places: Vec<usize> = (0..sites.len()).filter(|&place| of_stream(&sites[place])).collect();
    let mut all = Vec::new();
    for (nth, &to) in places.iter().enumerate() {
        let from = nth.checked_sub(1).map(|before| places[before]);
        all.push(Write { label: label(from.map(|from| sites[from]), sites[to], is_post), from, to });
    }
    let pairs = || all.iter().map(|write| (write.from.map(|from| sites[from]), sites[write.to]));
    let mut lacking = Vec::new();
    if pairs().any(|(from, to)| matches!(from, Some(from) if is_whole_block(from, to))) {
        lacking.push("What attention and MLP of a block write cannot be told apart: no site lies between them.");
    }
    if is_post {
        lacking.push(
            "A norm acts on the stream after each branch, so that what is added is not what the branch wrote alone.",
        );
    }
    if pairs().any(|(from, to)| is_gap(from, to)) {
        lacking.push("Sites in between were not recorded: what is added there has no single write.");
    }
    (all, lacking)
}

/// Whether a block begins at that site.
fn begins(site: Site, block: usize) -> bool {
    match site {
        Site::Embed => block == 0,
        Site::ResidPost(before) => before + 1 == block,
        _ => false,
    }
}

fn is_whole_block(from: Site, to: Site) -> bool {
    matches!(to, Site::ResidPost(block) if begins(from, block))
}

fn is_gap(from: Option<Site>, to: Site) -> bool {
    match (from, to) {
        (None, Site::Embed | Site::EmbedSum) | (Some(Site::EmbedSum), Site::Embed) => false,
        (Some(from), Site::AttnSum(block) | Site::ResidMid(block)) if begins(from, block) => false,
        (Some(Site::AttnSum(before)), Site::ResidMid(block)) => before != block,
        (Some(Site::ResidMid(before)), Site::MlpSum(block) | Site::ResidPost(block)) => before != block,
        (Some(Site::MlpSum(before)), Site::ResidPost(block)) => before != block,
        (Some(from), to) => !is_whole_block(from, to),
        (None, _) => true,
    }
}

fn label(from: Option<Site>, to: Site, is_post: bool) -> String {
    let norm = if is_post { " and norm" } else { "" };
    match (from, to) {
        (None, to) if is_gap(None, to) => format!("all up to {to}"),
        (Some(from), to) if is_gap(Some(from), to) => format!("from {from} to {to}"),
        (None, Site::Embed) if is_post => "embeddings, positions and norm".to_owned(),
        (None, _) => "embeddings and positions".to_owned(),
        (Some(Site::EmbedSum), _) => "norm of the embeddings".to_owned(),
        (Some(Site::AttnSum(block)), _) => format!("block {block}: norm after attention"),
        (Some(Site::MlpSum(block)), _) => format!("block {block}: norm after MLP"),
        (_, Site::AttnSum(block)) => format!("block {block}: attention"),
        (_, Site::MlpSum(block)) => format!("block {block}: MLP"),
        (_, Site::ResidMid(block)) => format!("block {block}: attention{norm}"),
        (Some(Site::ResidMid(_)), Site::ResidPost(block)) => format!("block {block}: MLP{norm}"),
        (_, to) => to.layer().map_or_else(|| to.to_string(), |block| format!("block {block}: attention and MLP{norm}")),
    }
}
