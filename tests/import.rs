//! Models in files against `transformers`: every site and the logits of tiny models of every family. The numbers come from
//! scripts/import_fixture.py; `tests/import/provenance.json` has its versions.

use crate::support::{everywhere, relative, root, values};
use basislab_config::Site;
use basislab_import::{ImportError, open};
use basislab_model::InParts;
use basislab_store::{NamedTensor, decode_any};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use std::collections::BTreeMap;

pub(crate) const FAMILIES: [&str; 10] = [
    "bert",
    "gpt2",
    "gpt_neox",
    "gpt_neox_sequential",
    "imagegpt",
    "llama",
    "llama_sharded",
    "mistral",
    "qwen2",
    "qwen3",
];

/// Numbers by name, and the tokens with their shape.
type Expected = (BTreeMap<String, Vec<f64>>, (Vec<i32>, [usize; 2]));

/// What `transformers` computed.
pub(crate) fn expected(family: &str) -> Expected {
    let file = root().join("tests/import").join(family).join("expected.safetensors");
    let (mut all, mut tokens) = (BTreeMap::new(), None);
    for NamedTensor { name, shape, bytes, dtype } in decode_any(&std::fs::read(file).unwrap()).unwrap() {
        if name == "tokens" {
            let width = bytes.len() / shape.iter().product::<usize>();
            let ids = bytes.chunks_exact(width).map(|id| i32::from_le_bytes(id[..4].try_into().unwrap())).collect();
            tokens = Some((ids, [shape[0], shape[1]]));
        } else {
            assert_eq!(format!("{dtype:?}"), "F32", "{name}");
            let numbers = bytes.as_chunks().0.iter().map(|number| f64::from(f32::from_le_bytes(*number)));
            all.insert(name, numbers.collect());
        }
    }
    (all, tokens.unwrap())
}

/// What we compute: every site, and the logits where there is a head.
fn found(family: &str, device: &Device) -> BTreeMap<String, Vec<f64>> {
    let source = open(&root().join("tests/import").join(family), None).unwrap();
    let (_, (tokens, shape)) = expected(family);
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), (device, DType::I32));
    let (spec, d_vocab, has_head) = (&source.spec, source.d_vocab, source.has_head);
    let mut read = |path: &str, shape: [usize; 2]| -> Result<Vec<f32>, ImportError> { source.read(path, shape) };
    let (mut sites, mut logits) = (BTreeMap::new(), Vec::new());
    let mut on_site = |site: Site, streams: &mut [Tensor<2>]| {
        sites.insert(site.to_string(), values(&streams[0]));
    };
    let parts = InParts { spec, d_vocab, has_head, device, rotation: None, rounding: None };
    parts.forward(vec![tokens], &mut read, &mut on_site, &mut |rows| logits.extend(values(&rows))).unwrap();
    if has_head {
        sites.insert("logits".to_owned(), logits);
    }
    sites
}

#[test]
fn every_site_of_every_family_is_that_of_transformers() {
    for family in FAMILIES {
        let (expected, _) = expected(family);
        for (name, device) in everywhere() {
            let found = found(family, &device);
            let names = |of: &BTreeMap<String, Vec<f64>>| of.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&found), names(&expected), "{family}");
            for (site, theirs) in &expected {
                let error = relative(&found[site], theirs);
                assert!(error < 1e-4, "{name} {family} {site}: off by {error:e}");
            }
        }
    }
}

#[test]
fn the_list_of_families_is_whole() {
    let folders =
        std::fs::read_dir(root().join("tests/import")).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, FAMILIES);
}
