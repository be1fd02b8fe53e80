//! Directories side by side, against numbers made by hand.

use crate::Beside;
use crate::fixture::{experiment_with, name};
use crate::*;
use basislab_config::{Basis, Experiment, Site, Tokens};
use basislab_stats::Verdict;
use basislab_tables::{DimensionRow, EvalRow, ResidualRow, Split, StepRow, VerdictRow, read_table, write_table};
use std::fs;
use std::path::{Path, PathBuf};

const LAST: u64 = 600;
const ARMS: [&str; 5] = ["adam", "adam-rotated", "sgd", "adam-identity", "adam-independent"];

/// Tables with `(metric, loss)` of each run at its last step, random bases around `null`, and numbers at other places.
fn write(dir: &Path, experiment: &Experiment, null: f64, of: impl Fn(&str, u64) -> Option<(f64, f64)>) {
    fs::create_dir_all(dir).unwrap();
    let cell = experiment.verdict.cell();
    let (mut evals, mut residual) = (Vec::new(), Vec::new());
    for arm in &experiment.arms {
        for &seed in &arm.seeds {
            let Some((value, loss)) = of(&arm.name, seed) else { continue };
            let (name, split, metric) = (arm.name.clone(), Split::HeldOut, cell.metric.clone());
            let eval =
                |step, loss| EvalRow { arm: name.clone(), seed, step, split, loss: Some(loss), loss_above_floor: None };
            evals.extend([eval(0, loss + 3.0), eval(arm.run.train.steps, loss)]);
            let site = experiment.site(&cell, arm);
            let mut row = |step, site: Site, basis, value| {
                let (arm, metric, layer, value) = (name.clone(), metric.clone(), site.layer(), Some(value));
                residual.push(ResidualRow {
                    arm,
                    seed,
                    step,
                    site,
                    layer,
                    tokens: cell.tokens,
                    tokens_used: 9,
                    basis,
                    metric,
                    value,
                });
            };
            row(0, site, Basis::Standard, value + 70.0);
            row(arm.run.train.steps, Site::Embed, Basis::Standard, value + 80.0);
            row(arm.run.train.steps, site, Basis::Standard, value);
            row(arm.run.train.steps, site, Basis::Optimizer, value + 90.0);
            for (k, off) in [(0, -0.5), (1, 0.5)] {
                row(arm.run.train.steps, site, Basis::Random(k), null + off);
            }
        }
    }
    write_table::<StepRow>(dir, &[]).unwrap();
    write_table::<DimensionRow>(dir, &[]).unwrap();
    write_table(dir, &evals).unwrap();
    write_table(dir, &residual).unwrap();
}

fn near(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() < 1e-4)
}

/// Two directories: the second is deeper for adam, has larger batches everywhere, more seeds of sgd, another claim, another
/// rule for a control, and no rotated Adam.
pub(crate) struct Pair {
    _folder: tempfile::TempDir,
    dirs: Vec<(PathBuf, Experiment)>,
}

impl Pair {
    pub(crate) fn compare(&self) -> Comparison {
        let dirs: Vec<(&Path, Experiment)> = self.dirs.iter().map(|(dir, one)| (dir.as_path(), one.clone())).collect();
        compare(&dirs).unwrap()
    }
}

pub(crate) fn pair() -> Pair {
    let folder = tempfile::tempdir().unwrap();
    let first = experiment_with(2, "");
    let mut second = first.clone();
    second.arms.retain(|arm| arm.name != "adam-rotated");
    second.claims.retain(|claim| !claim.name.contains("rotated"));
    second
        .claims
        .iter_mut()
        .filter(|claim| claim.name == "sgd-equals-its-null")
        .for_each(|c| c.cell.tokens = Tokens::All);
    second
        .claims
        .iter_mut()
        .filter(|claim| claim.name == "adam-differs-from-sgd-at-matched-loss")
        .for_each(|c| c.name = name("new"));
    second.arms.iter_mut().for_each(|arm| arm.run.train.batch_size = 32);
    second.arms.iter_mut().for_each(|arm| arm.run.train.warmup_steps = 50);
    second.arms[3].run.train.batch_size = 64;
    second.arms[0].run.model.n_layers = 3;
    second.arms[1].seeds = vec![0, 1, 2];
    second.question = "Another question?".to_owned();
    second.arms.push(basislab_config::Arm { name: name("extra"), ..second.arms[0].clone() });
    let dirs = [folder.path().join("one"), folder.path().join("two")];
    write(&dirs[0], &first, 3.0, |arm, seed| match (arm, seed) {
        ("adam", 0) | ("adam-identity", 0) => Some((2.0, 2.5)),
        ("adam", 1) => Some((4.0, 2.75)),
        ("adam-independent", 0) => Some((2.0, 2.0)),
        ("adam-independent", 1) => None,
        _ => Some((3.0, 3.0)),
    });
    write(&dirs[1], &second, 2.5, |arm, seed| match (arm, seed) {
        ("adam", _) => Some((4.0, 2.25)),
        ("adam-independent", 0) => Some((3.0, 2.0)),
        ("adam-independent", 1) => Some((9.0, 2.0)),
        _ => Some((6.0, 3.0)),
    });
    let [one, two] = dirs;
    Pair { _folder: folder, dirs: vec![(one, first), (two, second)] }
}

#[test]
fn arms_stand_side_by_side_with_ratio_and_paired_log_ratio() {
    let comparison = pair().compare();
    assert_eq!(comparison.directories, ["one", "two"]);
    let names: Vec<&str> = comparison.arms.iter().map(|arm| arm.arm.as_str()).collect();
    assert_eq!(names, [&ARMS[..], &["extra"]].concat());
    let of = |arm: &str| &comparison.arms.iter().find(|one| one.arm == arm).unwrap().numbers;
    let [Some(one), Some(two)] = &of("adam")[..] else { panic!("adam is in both") };
    assert_eq!((one.n_seeds, one.seeds_planned, one.mean, one.loss), (2, 2, Some(3.0), Some(2.625)));
    assert!(near(one.sd, 2f64.sqrt()) && near(one.null_mean, 3.0) && near(two.null_mean, 2.5));
    assert_eq!((one.ratio, one.same_seeds, one.paired), (None, None, None));
    assert_eq!((two.mean, two.sd, two.loss), (Some(4.0), Some(0.0), Some(2.25)));
    assert_eq!((one.site, two.site), (Site::ResidPost(1), Site::ResidPost(2)), "each has its own last block");
    assert!(near(two.ratio, 4.0 / 3.0));
    // Log ratios ln 2 and 0: mean 0.34657, standard error 0.34657, t(0.975, 1) = 12.70620.
    let paired = two.paired.unwrap();
    assert_eq!((two.same_seeds, paired.n_seeds), (Some(true), 2));
    assert!(near(Some(paired.mean_log_ratio), 0.34657), "{paired:?}");
    assert!(near(paired.low, 0.34657 - 4.40363) && near(paired.high, 0.34657 + 4.40363), "{paired:?}");

    // Other seeds are not paired, but have a ratio of means.
    let sgd = of("sgd")[1].as_ref().unwrap();
    assert_eq!((sgd.n_seeds, sgd.ratio, sgd.same_seeds, sgd.paired), (3, Some(2.0), Some(false), None));
    // A run that is missing in one of them: its seed is left out of the pairs.
    let [Some(one), Some(two)] = &of("adam-independent")[..] else { panic!("it is in both") };
    assert_eq!((one.n_seeds, two.n_seeds, two.ratio), (1, 2, Some(3.0)));
    let paired = two.paired.unwrap();
    assert!(
        paired.n_seeds == 1 && near(Some(paired.mean_log_ratio), 1.5f64.ln()) && paired.low.is_none(),
        "{paired:?}"
    );
    // Arms of one directory alone.
    assert!(of("adam-rotated")[0].is_some() && of("adam-rotated")[1].is_none());
    let extra = of("extra")[1].as_ref().unwrap();
    assert!(of("extra")[0].is_none() && extra.ratio.is_none() && extra.same_seeds.is_none());
}

#[test]
fn another_metric_has_no_ratio() {
    let mut pair = pair();
    pair.dirs[1].1.verdict.tokens = Tokens::All;
    let (dir, experiment) = (pair.dirs[1].0.clone(), pair.dirs[1].1.clone());
    write(&dir, &experiment, 2.0, |_, _| Some((6.0, 2.0)));
    let comparison = pair.compare();
    let adam = comparison.arms[0].numbers[1].as_ref().unwrap();
    assert_eq!((adam.mean, adam.ratio, adam.paired, adam.same_seeds), (Some(6.0), None, None, Some(true)));
}

#[test]
fn configurations_differ_key_by_key() {
    let comparison = pair().compare();
    let said: Vec<String> = comparison
        .differences
        .iter()
        .filter(|one| !one.key.starts_with("claim."))
        .map(|one| {
            let values: Vec<&str> = one.values.iter().map(|value| value.as_deref().unwrap_or("-")).collect();
            format!("{} [{}] {}: {}", one.key, one.arms.join(" "), one.every_arm, values.join(" | "))
        })
        .collect();
    let expected = [
        "question [] false: \"Does Adam, and not SGD, make some dimensions of the residual stream special?\" | \"Another question?\"",
        "arm [adam-rotated] false: present | -",
        "arm [extra] false: - | present",
        "model.n_layers [adam] false: 2 | 3",
        "seeds [sgd] false: - | [0, 1, 2]",
        "train.batch_size [adam sgd adam-identity] false: 16 | 32",
        "train.batch_size [adam-independent] false: 16 | 64",
        "train.warmup_steps [adam sgd adam-identity adam-independent] true: 100 | 50",
    ];
    assert_eq!(said, expected);
    let cell = comparison.differences.iter().find(|one| one.key == "claim.sgd-equals-its-null.cell.tokens").unwrap();
    assert_eq!(cell.values, [Some("\"rest\"".to_owned()), Some("\"all\"".to_owned())]);
    let of = |key: &str| comparison.differences.iter().filter(|one| one.key.starts_with(key)).collect::<Vec<_>>();
    assert_eq!(of("claim.new").len(), 1);
    assert_eq!(
        (of("claim.new")[0].key.as_str(), &of("claim.new")[0].values[1]),
        ("claim.new", &Some("present".to_owned()))
    );
    let twice = pair();
    let (dir, experiment) = &twice.dirs[0];
    let same = compare(&[(dir, experiment.clone()), (dir, experiment.clone())]).unwrap();
    assert!(same.differences.is_empty());
    assert_eq!(same.directories, [dir.display().to_string(), dir.display().to_string()]);
    assert!(same.verdicts.iter().all(|one| !one.differs && !one.rule_differs));
}

#[test]
fn verdicts_and_rules_that_differ_are_marked() {
    let comparison = pair().compare();
    let of = |claim: &str| comparison.verdicts.iter().find(|one| one.claim == claim).unwrap();
    let marks = |claim: &str| (of(claim).differs, of(claim).rule_differs);
    // In the second directory the copy of adam has other bits.
    let identity = of("identity-is-adam");
    let verdicts: Vec<Verdict> = identity.verdicts.iter().flatten().map(|one| one.verdict).collect();
    assert_eq!(verdicts, [Verdict::Control, Verdict::Refuted]);
    assert_eq!(marks("identity-is-adam"), (true, false));
    assert_eq!(marks("sgd-equals-its-null"), (false, true));
    // A control is in no family, so that it can go without changing the rule of the others.
    assert_eq!(marks("adam-differs-from-sgd"), (false, false));
    assert_eq!(marks("sgd-loss-equals-adam-loss"), (false, false));
    let gone = of("rotated-adam-equals-its-null");
    assert!(gone.verdicts[0].is_some() && gone.verdicts[1].is_none() && !gone.differs && !gone.rule_differs);
    assert!(of("new").verdicts[0].is_none() && of("new").verdicts[1].is_some());
    // adam / sgd in the first directory: ln(2/3) and ln(4/3), as a ratio.
    let ratio = of("adam-differs-from-sgd").verdicts[0].as_ref().unwrap().estimate;
    assert!(near(ratio, (8.0f64 / 9.0).sqrt()), "{ratio:?}");
}

#[test]
fn chosen_values_are_what_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let grid =
        "[[grid]]\narms = [\"adam\"]\n\"optimizer.lr\" = [1e-3, 3e-3]\nchoose = { by = \"loss\", on_seeds = [1000] }\n";
    let experiment = experiment_with(2, grid);
    let dirs = ["one", "two"].map(|dir| folder.path().join(dir));
    for (dir, best) in dirs.iter().zip(["adam-lr-0.001", "adam-lr-0.003"]) {
        write(dir, &experiment, 3.0, |arm, _| Some((4.0, if arm == best { 2.0 } else { 2.5 })));
    }
    let comparison = compare(&[(&dirs[0], experiment.clone()), (&dirs[1], experiment)]).unwrap();
    let [one] = &comparison.differences[..] else { panic!("{:?}", comparison.differences) };
    assert_eq!((one.key.as_str(), &one.arms[..]), ("optimizer.lr", &["adam".to_owned()][..]));
    assert_eq!(one.values, [Some("0.001".to_owned()), Some("0.003".to_owned())]);
}

#[test]
fn recorded_verdicts_count_and_nothing_is_written() {
    let pair = pair();
    let (dir, experiment) = &pair.dirs[0];
    let tables = basislab_tables::read_tables(dir).unwrap();
    let mut verdicts = super::rows_of_claims(experiment, &tables);
    verdicts[0].verdict = Verdict::Negligible;
    write_table(dir, &verdicts).unwrap();
    assert_eq!(read_table::<VerdictRow>(dir).unwrap()[0].verdict, Verdict::Negligible);
    let files = |dir: &Path| {
        let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        all.sort();
        all
    };
    let before = pair.dirs.iter().map(|(dir, _)| files(dir)).collect::<Vec<_>>();
    let comparison = pair.compare();
    assert_eq!(comparison.verdicts[0].verdicts[0].as_ref().unwrap().verdict, Verdict::Negligible);
    assert!(comparison.verdicts[0].differs);
    assert_eq!(pair.dirs.iter().map(|(dir, _)| files(dir)).collect::<Vec<_>>(), before);
    fs::write(pair.dirs[1].0.join("evals.csv"), "spoilt\n").unwrap();
    let dirs: Vec<(&Path, Experiment)> = pair.dirs.iter().map(|(dir, one)| (dir.as_path(), one.clone())).collect();
    assert!(compare(&dirs).unwrap_err().to_string().contains("evals.csv:1:1"));
}

#[test]
fn a_sealed_directory_that_was_edited_is_not_compared() {
    let pair = pair();
    let (dir, experiment) = &pair.dirs[0];
    rebuild(dir, experiment, Beside::default()).unwrap();
    seal(dir, experiment).unwrap();
    pair.compare();
    let evals = dir.join("evals.csv");
    let text = fs::read_to_string(&evals).unwrap();
    fs::write(&evals, text.replacen("2.5", "2.4", 1)).unwrap();
    let dirs: Vec<(&Path, Experiment)> = pair.dirs.iter().map(|(dir, one)| (dir.as_path(), one.clone())).collect();
    let error = compare(&dirs).unwrap_err().to_string();
    assert!(error.contains("evals.csv: changed since it was written"), "{error}");
}

#[test]
fn text_and_json_say_the_same_numbers() {
    let comparison = pair().compare();
    let text = comparison.to_string();
    let words: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "A one",
        "B two",
        "key A B",
        "train.batch_size (adam, sgd, adam-identity) 16 32",
        "train.warmup_steps (every arm) 100 50",
        "model.n_layers (adam) 2 3",
        "arm seeds token kurtosis null loss",
        "adam A 2/2 3.00 ± 1.41 3.00 2.625",
        "B 2/2 4.00 ± 0.00 2.50 2.250",
        "B no arm",
        "arm ratio mean log ratio, paired 95 % interval n",
        "adam B 1.333 +0.347 -4.057 to +4.750 2",
        "B 2.000 other seeds",
        "identity-is-adam A control -",
        "(verdicts differ) B refuted -",
        "rotated-adam-equals-its-null A control 1.00 times",
        "B no claim",
        "adam-differs-from-sgd A exploratory 0.94 times",
        "B exploratory 0.67 times",
    ] {
        assert!(
            words.iter().any(|line| line == expected || line.ends_with(&format!(" {expected}"))),
            "no line {expected:?} in\n{text}"
        );
    }
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["arms"][0]["numbers"][1]["mean"], 4.0);
    assert_eq!(json["arms"][0]["numbers"][1]["paired"]["n_seeds"], 2);
    assert_eq!(json["arms"][1]["numbers"][1], serde_json::Value::Null);
    assert_eq!(json["verdicts"][0]["verdicts"][0]["verdict"], "exploratory");
    for word in ["NaN", "inf", "None", "Some"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    let none = compare(&[]).unwrap();
    assert!(none.to_string().contains("no difference") && none.arms.is_empty());
}

#[test]
fn the_last_step_is_that_of_each_arm() {
    let pair = pair();
    assert!(pair.dirs.iter().all(|(_, one)| one.arms.iter().all(|arm| arm.run.train.steps == LAST)));
    let (dir, mut shorter) = (pair.dirs[1].0.clone(), pair.dirs[0].1.clone());
    shorter.arms.iter_mut().for_each(|arm| arm.run.train.steps = 10);
    write(&dir, &shorter, 3.0, |_, _| Some((6.0, 2.0)));
    let comparison = compare(&[(&pair.dirs[0].0, pair.dirs[0].1.clone()), (&dir, shorter)]).unwrap();
    let adam = comparison.arms[0].numbers[1].as_ref().unwrap();
    // Ratios 3 and 3/2.
    assert_eq!((adam.mean, adam.ratio), (Some(6.0), Some(2.0)));
    assert!(near(adam.paired.map(|paired| paired.mean_log_ratio), 0.5 * 4.5f64.ln()), "{adam:?}");
}

/// Long paths, long names of arms, differing metrics and many arms that differ: no line but the legend is wide.
#[test]
fn two_directories_fit_into_100_columns() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = experiment_with(8, "");
    for number in 0..8 {
        let arm =
            basislab_config::Arm { name: name(&format!("adam-with-long-name-{number:04}")), ..first.arms[0].clone() };
        first.arms.push(arm);
    }
    let mut second = first.clone();
    second.verdict.metric = "max_median_ratio".to_owned();
    second.verdict.alpha = 0.01;
    second.arms.iter_mut().skip(1).for_each(|arm| arm.run.train.batch_size = 32);
    let path = |end: &str| folder.path().join("a-directory-with-a-long-name/and-another-one").join(end).join("run");
    let dirs = [(path("first"), first), (path("second"), second)];
    for (at, (dir, experiment)) in dirs.iter().enumerate() {
        write(dir, experiment, 3.0, |_, seed| Some((1234.5 + seed as f64 + at as f64, 2.5)));
    }
    let all: Vec<(&Path, Experiment)> = dirs.iter().map(|(dir, one)| (dir.as_path(), one.clone())).collect();
    for text in [compare(&all).unwrap().to_string(), compare(&all[..1]).unwrap().to_string()] {
        let legend = text.lines().take_while(|line| !line.is_empty()).count();
        let widest = text.lines().skip(legend).map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{widest} columns:\n{text}");
        assert!(
            text.contains("adam-with-long-name-0007") && text.contains("adam-differs-from-sgd-at-matched-loss"),
            "{text}"
        );
    }
}
