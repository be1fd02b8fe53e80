//! Sites that are saved, ablated, patched and rotated.

use super::{Row, change, copy, fixture, folder, measured, measured_run, number, only, saved, table, text};
use crate::cli::refuses;
use crate::sharing::{lab, run};
use std::fs;
use std::path::Path;

/// Two batches of the forward pass, so that a mean over one of them is another number.
const SEQUENCES: usize = 180;
const D: usize = 24;

/// The saved embeddings of the Llama of `tests/import`, without and with an ablation: values, and the loss.
fn ablated(at: &Path, extra: &[&str]) -> (Vec<f64>, Row) {
    let model = fixture("llama");
    let fixed = ["--out", "o", "--tokens", "2160", "--bases", "0", "--save", "embed=embed.npy"];
    let _ = fs::remove_dir_all(at.join("o"));
    let args =
        ["measure", model.to_str().unwrap(), "--text", "long.txt", "--tokenizer", "tokenizer.json", "--window", "12"];
    let output = crate::cli::basislab(at, &[&args[..], &fixed, extra, &["-q"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", crate::cli::stderr(&output));
    (saved(&at.join("embed.npy")), only(&at.join("o/models.csv")))
}

#[test]
fn an_ablation_changes_its_dimensions_alone() {
    let dir = folder();
    let at = dir.path();
    fs::write(at.join("long.txt"), text((0..2160).map(|place| place * (place + 7) / 5 % 61))).unwrap();
    let (plain, before) = ablated(at, &[]);
    assert_eq!(plain.len(), SEQUENCES * 12 * D);
    assert!(!at.join("o/interventions.csv").exists());
    // Each batch gets its own rows of a patch.
    fs::copy(at.join("embed.npy"), at.join("patch.npy")).unwrap();
    let (patched, _) = ablated(at, &["--patch", "embed=patch.npy"]);
    assert_eq!(patched, plain);
    assert_eq!(number(&only(&at.join("o/interventions.csv")), "largest_change"), 0.0);
    let means: Vec<f64> =
        (0..D).map(|dim| plain.iter().skip(dim).step_by(D).sum::<f64>() / (SEQUENCES * 12) as f64).collect();
    for filling in ["zero", "mean"] {
        let (changed, model) = ablated(at, &["--ablate", &format!("embed:3,20-22={filling}")]);
        for (place, (was, is)) in plain.iter().zip(&changed).enumerate() {
            let dim = place % D;
            let is_ablated = [3, 20, 21, 22].contains(&dim);
            let expected = if is_ablated && filling == "mean" {
                means[dim]
            } else if is_ablated {
                0.0
            } else {
                *was
            };
            let tolerance = if is_ablated && filling == "mean" { 1e-6 } else { 0.0 };
            assert!((is - expected).abs() <= tolerance, "{filling} dimension {dim}: {is}, expected {expected}");
        }
        let row = only(&at.join("o/interventions.csv"));
        // What a spreadsheet may take for a formula begins with an apostrophe.
        assert_eq!(row["interventions"], format!("ablate embed:3,20,21,22={filling}"));
        assert_eq!((&row["loss_before"], &row["loss"]), (&before["loss"], &model["loss"]));
        assert_ne!(row["loss"], row["loss_before"]);
        assert!(number(&row, "relative_change") > 0.01 && number(&row, "largest_change") > number(&row, "mean_change"));
    }
}

#[test]
fn what_a_branch_writes_is_ablated_before_it_is_added() {
    let dir = folder();
    let at = dir.path();
    for family in ["llama", "gpt_neox", "bert"] {
        let model = fixture(family);
        let sum = match family {
            "gpt_neox" => "blocks.1.resid_post",
            "bert" => "blocks.1.attn_sum",
            _ => "blocks.1.resid_mid",
        };
        let save = [format!("blocks.0.resid_post=stream-{family}.npy"), format!("{sum}=sum-{family}.npy")];
        // With nothing written, the stream stays what it is.
        let mut args = vec!["--out", family, "--self-check", "--save", &save[0], "--save", &save[1]];
        args.extend(["--ablate", "blocks.1.attn_out:0-23=zero", "--ablate", "blocks.1.mlp_out:0-23=zero"]);
        let (said, _) = measured(at, &[model.to_str().unwrap()], &args);
        assert!(said.contains("all equal bit for bit"), "{said}");
        let (stream, sum) =
            (saved(&at.join(format!("stream-{family}.npy"))), saved(&at.join(format!("sum-{family}.npy"))));
        let width = if family == "gpt_neox" { 32 } else { 24 };
        for (place, (stream, sum)) in stream.iter().zip(&sum).enumerate().filter(|(place, _)| place % width < 24) {
            assert!(stream == sum, "{family} at {place}: {stream}, {sum}");
        }
    }
}

#[test]
fn a_patch_of_the_same_values_changes_nothing_and_one_of_another_text_gives_its_loss() {
    let dir = folder();
    let at = dir.path();
    let words: Vec<u32> = (0..96).map(|place| place * place / 3 % 61).collect();
    // First tokens are not predicted: another one at the start of each sequence leaves all targets.
    let other = words.iter().enumerate().map(|(place, word)| if place % 12 == 0 { (word + 5) % 61 } else { *word });
    let other = text(other);
    fs::write(at.join("text.txt"), text(words.iter().copied())).unwrap();
    for family in ["llama", "gpt2", "gpt_neox", "bert"] {
        let model = fixture(family);
        let model = model.to_str().unwrap();
        let last = if family == "bert" { "blocks.1.resid_post" } else { "final" };
        let sites = ["embed", "blocks.0.attn_out", "blocks.0.resid_post", "blocks.1.mlp_out", last];
        let saves: Vec<String> = sites.iter().map(|site| format!("{site}={site}.npy")).collect();
        let save: Vec<&str> = saves.iter().flat_map(|save| ["--save", save]).collect();
        measured(at, &[model], &[&["--out", &format!("{family}-plain")], &save[..]].concat());
        let plain = only(&at.join(format!("{family}-plain/models.csv")));
        for site in sites {
            let out = format!("{family}-{site}");
            measured(at, &[model], &["--out", &out, "--patch", &format!("{site}={site}.npy")]);
            let row = only(&at.join(&out).join("interventions.csv"));
            assert_eq!(number(&row, "relative_change"), 0.0, "{family} {site}");
            assert_eq!(row["loss"], plain["loss"], "{family} {site}");
            assert_eq!(row["interventions"], format!("patch {site}={site}.npy"));
        }
        let all = saves.iter().map(|save| save.replace(".npy", ".safetensors").replacen('=', "=other-", 1));
        let all: Vec<String> = all.collect();
        let save: Vec<&str> = all.iter().flat_map(|save| ["--save", save]).collect();
        let same = fs::read(at.join("text.txt")).unwrap();
        fs::write(at.join("text.txt"), &other).unwrap();
        measured(at, &[model], &[&["--out", &format!("{family}-other")], &save[..]].concat());
        let expected = only(&at.join(format!("{family}-other/models.csv")));
        fs::write(at.join("text.txt"), same).unwrap();
        for site in ["embed", last] {
            let out = format!("{family}-patched-{site}");
            let patch = format!("{site}=other-{site}.safetensors");
            measured(at, &[model], &["--out", &out, "--patch", &patch, "--save", &format!("{last}=last.npy")]);
            let row = only(&at.join(&out).join("interventions.csv"));
            assert_eq!((&row["loss"], &row["loss_before"]), (&expected["loss"], &plain["loss"]), "{family} {site}");
            assert!(number(&row, "relative_change") > 1e-3, "{family} {site}");
            let expected = basislab_store::decode_any(&fs::read(at.join(format!("other-{last}.safetensors"))).unwrap());
            assert_eq!(saved(&at.join("last.npy")), super::floats(&expected.unwrap()[0].bytes), "{family} {site}");
        }
    }
}

#[test]
fn a_rotation_changes_no_logit_where_no_coordinate_is_singled_out() {
    let dir = lab(&[("seeds", "[0]"), ("train.steps", "6")]);
    let at = dir.path();
    run(at, "r", &["--only", "adam"]);
    measured_run(at, "r/parts/adam/0", &["--out", "plain", "--save", "blocks.0.resid_post=plain.npy"]);
    let plain = saved(&at.join("plain.npy"));
    for (number_of, turn) in
        ["embed=haar:0", "embed=hadamard", "blocks.0.resid_mid=haar:1", "blocks.1.resid_post=hadamard", "final=haar:2"]
            .into_iter()
            .enumerate()
    {
        let out = format!("turned-{number_of}");
        let save = ["--out", &out, "--rotate", turn, "--save", "blocks.0.resid_post=turned.npy", "--self-check"];
        measured_run(at, "r/parts/adam/0", &save);
        let row = only(&at.join(&out).join("interventions.csv"));
        let (before, after) = (number(&row, "loss_before"), number(&row, "loss"));
        assert!((before - after).abs() < 1e-5 * before && number(&row, "relative_change") < 1e-5, "{turn}: {row:?}");
        assert_eq!(row["interventions"], format!("rotate {turn}"));
        let turned = saved(&at.join("turned.npy"));
        let is_turned = number_of < 3;
        for (was, is) in plain.chunks(16).zip(turned.chunks(16)) {
            let norm = |row: &[f64]| row.iter().map(|value| value * value).sum::<f64>().sqrt();
            let apart = norm(&was.iter().zip(is).map(|(a, b)| a - b).collect::<Vec<_>>());
            assert!((norm(was) - norm(is)).abs() < 1e-5 * norm(was), "{turn}");
            assert_eq!(apart > 0.1 * norm(was), is_turned, "{turn}: {apart}");
        }
    }
}

#[test]
fn a_rotation_changes_a_model_with_gains_and_this_is_reported() {
    let dir = folder();
    let at = dir.path();
    for family in ["llama", "gpt2", "bert"] {
        let model = fixture(family);
        measured(at, &[model.to_str().unwrap()], &["--out", family, "--rotate", "embed=haar:0"]);
        let row = only(&at.join(family).join("interventions.csv"));
        assert!(number(&row, "relative_change") > 0.01, "{family}: {row:?}");
        assert_eq!(row["loss"] == row["loss_before"], family == "bert", "{family}: {row:?}");
    }
    // Behind the last norm nothing is per dimension.
    measured(at, &[fixture("llama").to_str().unwrap()], &["--out", "last", "--rotate", "final=haar:0"]);
    assert!(number(&only(&at.join("last/interventions.csv")), "relative_change") < 1e-5);
    // Nor anywhere, where all gains are alike.
    copy("llama", &at.join("level"));
    for layer in 0..2 {
        for name in ["input_layernorm", "post_attention_layernorm"] {
            change(&at.join("level"), &format!("model.layers.{layer}.{name}.weight"), |_, gain| *gain = 1.5);
        }
    }
    change(&at.join("level"), "model.norm.weight", |_, gain| *gain = 0.5);
    measured(at, &["level"], &["--out", "o", "--rotate", "embed=haar:0"]);
    let row = only(&at.join("o/interventions.csv"));
    assert!(number(&row, "relative_change") < 1e-5, "{row:?}");
}

#[test]
fn a_huge_dimension_is_named_and_in_a_rotated_basis_none_is() {
    let dir = folder();
    let at = dir.path();
    copy("llama", &at.join("huge"));
    change(&at.join("huge"), "model.embed_tokens.weight", |place, value| {
        if place % D == 5 {
            *value *= 40.0;
        }
    });
    measured(at, &["huge"], &["--out", "plain", "--save", "embed=embed.npy"]);
    let at_embed = |out: &str| {
        let all = table(&at.join(out).join("special_dimensions.csv")).into_iter();
        all.filter(|row| row["site"] == "embed").collect::<Vec<_>>()
    };
    let found = at_embed("plain");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["dim"][..], &found[0]["rank"][..]), ("5", "1"));
    // All tokens but the first of each sequence, which are fewer than the sample may have; each counts as much as another.
    let embed = saved(&at.join("embed.npy"));
    let rest: Vec<&[f64]> =
        embed.chunks(D).enumerate().filter(|(token, _)| token % 12 > 0).map(|(_, row)| row).collect();
    // Each scaled to an RMS of 1.
    let mean_square = |row: &[f64]| row.iter().map(|value| value.powi(2)).sum::<f64>() / D as f64;
    let share = |row: &[f64], dim: usize| row[dim].powi(2) / mean_square(row);
    let size = |dim: usize| (rest.iter().map(|row| share(row, dim)).sum::<f64>() / rest.len() as f64).sqrt();
    let mut all: Vec<f64> = (0..D).map(size).collect();
    all.sort_by(f64::total_cmp);
    let median = (all[D / 2 - 1] + all[D / 2]) / 2.0;
    assert!((number(&found[0], "size") - size(5)).abs() < 1e-6 * size(5), "{found:?}");
    assert!((number(&found[0], "ratio") - size(5) / median).abs() < 1e-6 * size(5) / median, "{found:?}");
    measured(at, &["huge"], &["--out", "turned", "--rotate", "embed=haar:1"]);
    assert!(at_embed("turned").is_empty(), "{:?}", at_embed("turned"));
    // Without it nothing stands out: it is not one that always does.
    measured(at, &["huge"], &["--out", "ablated", "--ablate", "embed:5=zero"]);
    assert!(at_embed("ablated").is_empty(), "{:?}", at_embed("ablated"));
}

#[test]
fn interventions_that_do_not_fit_the_model_are_refused() {
    let dir = folder();
    let at = dir.path();
    let (llama, bert) = (fixture("llama"), fixture("bert"));
    let (llama, bert) = (llama.to_str().unwrap(), bert.to_str().unwrap());
    let refused = |models: &[&str], extra: &[&str], code: i32, parts: &[&str]| {
        refuses(at, &super::arguments(models, &[extra, &["--out", "refused"]].concat()), code, parts);
    };
    for (extra, part) in [
        (["--ablate", "embed:24=zero"], "found dimension 24, expected one below d_model = 24"),
        (["--ablate", "embed:3-9000000=zero"], "expected SITE:DIMS=zero"),
        (["--ablate", "embed=zero"], "expected SITE:DIMS=zero"),
        (["--ablate", "blocks.2.resid_post:1=zero"], "found blocks.2.resid_post, which llama does not have"),
        (["--save", "blocks.0.attn_sum=x.npy"], "found blocks.0.attn_sum, which llama does not have"),
        (["--save", "embed=x.csv"], "expected a name that ends with .npy or .safetensors"),
        (["--save", "embed"], "expected SITE=FILE"),
        (["--patch", "tokens=x.npy"], "tokens cannot be patched"),
        (["--rotate", "embed=hadamard"], "a Hadamard matrix needs a power of two, and d_model is 24"),
        (["--rotate", "blocks.0.attn_out=haar:1"], "the stream"),
        (["--rotate", "embed=haar"], "expected SITE=haar:SEED"),
    ] {
        refused(&[llama], &extra, 2, &[part]);
    }
    refused(&[bert], &["--save", "final=x.npy"], 2, &["found final, which bert does not have"]);
    refused(&[llama, bert], &["--save", "embed=x.npy"], 2, &["for one model at a time"]);
    refused(&[llama], &["--patch", "embed=absent.npy"], 3, &["absent.npy: cannot read"]);
    measured(at, &[llama], &["--out", "o", "--save", "embed=x.npy"]);
    let mut short = fs::read(at.join("x.npy")).unwrap();
    let fewer: Vec<&str> = super::arguments(&[llama], &["--patch", "embed=x.npy"])
        .into_iter()
        .map(|word| if word == "96" { "84" } else { word })
        .collect();
    refuses(at, &fewer, 3, &["found shape [96, 24], expected [84, 24]"]);
    let last = short.len() - 4;
    short[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(at.join("nan.npy"), &short).unwrap();
    refused(&[llama], &["--patch", "embed=nan.npy"], 3, &["found NaN at index 2303, expected finite numbers"]);
    fs::write(at.join("short.npy"), &short[..last]).unwrap();
    refused(&[llama], &["--patch", "embed=short.npy"], 3, &["short.npy"]);
    assert!(!at.join("refused").exists());
}
