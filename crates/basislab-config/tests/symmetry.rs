//! Which claims are controls: settled by what their arms are, before any run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod support;

use basislab_config::{Experiment, Library, Symmetry, load};
use support::{BASE, RULES};

const ARMS: &str = r#"
[[arm]]
name = "adam"
optimizer = { kind = "adam", lr = 0.01 }

[[arm]]
name = "shared"
optimizer = { kind = "adam", lr = 0.01 }
basis = { kind = "rotated-optimizer", rotation = { kind = "haar", seed = 7 }, sharing = "shared", axes = "residual" }

[[arm]]
name = "independent"
optimizer = { kind = "adam", lr = 0.01 }
basis = { kind = "rotated-optimizer", rotation = { kind = "haar", seed = 7 }, sharing = "independent", axes = "residual" }

[[arm]]
name = "both"
optimizer = { kind = "adam", lr = 0.01 }
basis = { kind = "rotated-optimizer", rotation = { kind = "haar", seed = 7 }, sharing = "shared", axes = "both" }

[[arm]]
name = "hadamard"
optimizer = { kind = "adam", lr = 0.01 }
basis = { kind = "rotated-optimizer", rotation = { kind = "hadamard" }, sharing = "shared", axes = "residual" }

[[arm]]
name = "model"
optimizer = { kind = "adam", lr = 0.01 }
basis = { kind = "rotated-model", rotation = { kind = "haar", seed = 7 }, sharing = "shared" }

[[arm]]
name = "faster"
optimizer = { kind = "adam", lr = 0.02 }
basis = { kind = "rotated-optimizer", rotation = { kind = "haar", seed = 7 }, sharing = "shared", axes = "residual" }

[[arm]]
name = "sgd"
optimizer = { kind = "sgd", lr = 0.5, momentum = 0.9 }

[[arm]]
name = "turned-sgd"
optimizer = { kind = "sgd", lr = 0.5, momentum = 0.9 }
basis = { kind = "rotated-optimizer", rotation = { kind = "hadamard" }, sharing = "independent", axes = "residual" }

[[arm]]
name = "sgd-gains"
model.norm = "rms-gain"
optimizer = { kind = "sgd", lr = 0.5, momentum = 0.9 }

[[arm]]
name = "shared-gains"
model.norm = "layernorm"
optimizer = { kind = "adam", lr = 0.01 }
basis = { kind = "rotated-optimizer", rotation = { kind = "haar", seed = 7 }, sharing = "shared", axes = "residual" }

[[arm]]
name = "sgd-narrow"
model.compute_dtype = "bf16"
optimizer = { kind = "sgd", lr = 0.5, momentum = 0.9 }

[[arm]]
name = "sgd-then-adam"
optimizer = { kind = "sgd", lr = 0.5, momentum = 0.9 }
phases = [{ from = 5, optimizer = { kind = "adam", lr = 0.01 }, moments = "reset" }]

[[arm]]
name = "mixed"
optimizer = { groups = { matrices = { roles = ["read", "write"], kind = "muon" }, rest = { roles = ["embedding", "vector", "head", "other"], kind = "adam" } } }
"#;

/// The experiment with these tests as claims, by `test` and `cell` as TOML.
fn experiment(claims: &[(&str, &str)]) -> Experiment {
    let (head, _) = BASE.split_once("[[arm]]").unwrap();
    let claim = |(number, (test, cell)): (usize, &(&str, &str))| {
        format!(
            "[[claim]]\nname = \"c{number}\"\ntext = \"It is so\"\nprimary = false\ntest = {{ {test} }}\ncell = {{ {cell} }}\n"
        )
    };
    let claims: String = claims.iter().enumerate().map(claim).collect();
    let library = Library { rules: RULES, base: &|name| Err(format!("found {name:?}, expected none")) };
    load(&format!("{head}{ARMS}{claims}"), "f.toml", &[], library).unwrap_or_else(|error| panic!("{error}")).experiment
}

fn settled(test: &str, cell: &str) -> Option<String> {
    experiment(&[(test, cell)]).claims[0].symmetry.as_ref().map(Symmetry::to_string)
}

#[test]
fn an_arm_without_a_special_direction_is_a_control_against_its_null() {
    for (arm, why) in [
        ("adam", None),
        ("shared", Some("the basis of shared is drawn at random")),
        ("independent", Some("the basis of independent is drawn at random")),
        ("both", Some("the basis of both is drawn at random")),
        ("model", Some("the basis of model is drawn at random")),
        // A fixed basis lies somewhere.
        ("hadamard", None),
        ("sgd", Some("the update rule of sgd is the same in every basis")),
        ("turned-sgd", Some("the update rule of turned-sgd is the same in every basis")),
        // Gains, centring and narrow numbers know the standard basis.
        ("sgd-gains", None),
        ("shared-gains", None),
        ("sgd-narrow", None),
        ("sgd-then-adam", None),
        ("mixed", None),
    ] {
        for kind in ["differs-from-null", "equivalent-to-null"] {
            let found = settled(&format!("kind = \"{kind}\", arm = \"{arm}\""), "");
            assert_eq!(found.as_deref(), why, "{kind} {arm}");
        }
    }
}

#[test]
fn in_its_own_basis_an_arm_is_the_one_that_is_not_rotated() {
    let own = "basis = \"optimizer\"";
    for (arm, why) in [
        ("shared", Some("shared is adam in another basis")),
        ("hadamard", Some("hadamard is adam in another basis")),
        ("model", Some("model is adam in another basis")),
        // No arm is the same but for the basis.
        ("faster", None),
        ("shared-gains", None),
    ] {
        let found = settled(&format!("kind = \"differs-from-null\", arm = \"{arm}\""), own);
        assert_eq!(found.as_deref(), why, "{arm}");
        let found =
            settled(&format!("kind = \"arms-differ\", arm = \"{arm}\", other = \"adam\", reading = \"final\""), own);
        assert_eq!(found.as_deref(), why, "{arm} against adam");
    }
    // In the standard basis the two differ.
    let test = "kind = \"arms-differ\", arm = \"shared\", other = \"adam\", reading = \"final\"";
    assert_eq!(settled(test, ""), None);
}

#[test]
fn losses_of_one_law_are_controls() {
    for (arm, other, why) in [
        ("shared", "adam", Some("shared is adam in another basis")),
        ("adam", "model", Some("model is adam in another basis")),
        ("turned-sgd", "sgd", Some("turned-sgd is sgd in another basis")),
        ("independent", "adam", None),
        ("both", "adam", None),
        ("faster", "adam", None),
        ("sgd", "adam", None),
        ("shared-gains", "adam", None),
    ] {
        let found = settled(&format!("kind = \"equal-loss\", arm = \"{arm}\", other = \"{other}\""), "");
        assert_eq!(found.as_deref(), why, "{arm} {other}");
    }
    let bits = settled("kind = \"bit-equal\", arm = \"shared\", other = \"adam\"", "");
    assert_eq!(bits.as_deref(), Some("both arms compute the same numbers"));
    assert_eq!(settled("kind = \"at-most\", arm = \"sgd\", threshold = 3.0", ""), None);
}

#[test]
fn a_control_is_in_no_family() {
    let primary = |experiment: &mut Experiment| experiment.claims.iter_mut().for_each(|claim| claim.primary = true);
    let mut both = experiment(&[
        ("kind = \"differs-from-null\", arm = \"adam\"", ""),
        ("kind = \"differs-from-null\", arm = \"sgd\"", ""),
    ]);
    primary(&mut both);
    assert_eq!(both.claims.iter().map(|claim| claim.is_in_family()).collect::<Vec<_>>(), [true, false]);
    // The rule of the other claim is what it is without the control.
    let mut alone = experiment(&[("kind = \"differs-from-null\", arm = \"adam\"", "")]);
    primary(&mut alone);
    assert_eq!(both.rule_hash(&both.claims[0]), alone.rule_hash(&alone.claims[0]));
}
