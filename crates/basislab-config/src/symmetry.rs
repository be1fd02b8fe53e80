//! Claims that hold by symmetry: `docs/symmetry.md` has the argument.

use crate::basis::{BasisSpec, RotatedAxes, RotationSpec, Sharing};
use crate::cell::Basis;
use crate::claim::{Claim, ClaimKind};
use crate::experiment::Experiment;
use crate::merge::Rules;
use crate::name::RunName;
use crate::optimizer::OptimizerSpec;
use crate::run::RunSpec;
use std::fmt::{self, Display, Formatter};

/// Which orthogonal maps of the gradient a rule is equivariant to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commutes {
    /// With all of them, up to rounding.
    Rotations {
        /// Whether a signed permutation changes no bit. It does where sums run over coordinates.
        permutations_exactly: bool,
    },
    /// With permutations and changes of sign alone.
    SignedPermutations {
        /// Whether they change no bit.
        exactly: bool,
    },
}

impl Commutes {
    /// Whether every rotation of the residual stream leaves the rule what it is.
    pub fn with_rotations(self) -> bool {
        matches!(self, Self::Rotations { .. })
    }

    /// Whether a signed permutation changes no bit.
    pub fn with_permutations_exactly(self) -> bool {
        match self {
            Self::Rotations { permutations_exactly: exactly } | Self::SignedPermutations { exactly } => exactly,
        }
    }
}

/// Why a claim is settled before any run: its outcome follows from what the arms are, and the runs check the code and
/// the statistics. Initial weights are independent and Gaussian, so their law is the same in every basis; the model must
/// know no basis either, and arithmetic must be that of f32 at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Symmetry {
    /// Every rule of the arm commutes with rotations: no direction of its stream is special.
    EquivariantRule(RunName),
    /// The optimizer or the model of the arm works in a basis drawn by Haar's law: no direction of the standard basis is special.
    HaarBasis(RunName),
    /// In its own basis, the first arm has the law of the other one.
    SameLaw(RunName, RunName),
    /// Two ways to compute the same numbers.
    SameComputation,
}

impl Display for Symmetry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::EquivariantRule(arm) => write!(f, "the update rule of {arm} is the same in every basis"),
            Self::HaarBasis(arm) => write!(f, "the basis of {arm} is drawn at random"),
            Self::SameLaw(arm, other) => write!(f, "{arm} is {other} in another basis"),
            Self::SameComputation => f.write_str("both arms compute the same numbers"),
        }
    }
}

/// The symmetry by which a claim is a control, if there is one.
pub(crate) fn symmetry(experiment: &Experiment, claim: &Claim, rules: Rules<'_>) -> Option<Symmetry> {
    let run = |arm: &RunName| experiment.arm(arm).map(|arm| &arm.run);
    match &claim.test {
        ClaimKind::DiffersFromNull { arm, .. } | ClaimKind::EquivalentToNull { arm } => {
            let of_arm = run(arm)?;
            if claim.cell.basis == Basis::Optimizer {
                let twin = experiment.arms.iter().find(|twin| in_own_basis(of_arm, &twin.run))?;
                return Some(Symmetry::SameLaw(arm.clone(), twin.name.clone()));
            }
            isotropic(arm, of_arm, rules)
        }
        ClaimKind::EqualLoss { arm, other } => same_law(arm, other, run(arm)?, run(other)?, rules),
        ClaimKind::ArmsDiffer { arm, other, .. } if claim.cell.basis == Basis::Optimizer => {
            same_law(arm, other, run(arm)?, run(other)?, rules)
        }
        ClaimKind::BitEqual { .. } => Some(Symmetry::SameComputation),
        ClaimKind::ArmsDiffer { .. }
        | ClaimKind::Ordered { .. }
        | ClaimKind::Correlates { .. }
        | ClaimKind::NearValue { .. }
        | ClaimKind::AtMost { .. }
        | ClaimKind::AtLeast { .. } => None,
    }
}

/// Whether no direction of the standard basis is special in the law of the arm's stream.
fn isotropic(arm: &RunName, run: &RunSpec, rules: Rules<'_>) -> Option<Symmetry> {
    if !knows_no_basis(run) {
        return None;
    }
    let phases = || {
        let later = run.phases.iter().map(|phase| (&phase.optimizer, &phase.basis));
        std::iter::once((&run.optimizer, &run.basis)).chain(later)
    };
    if phases().all(|(optimizer, _)| commutes(optimizer, rules)) {
        return Some(Symmetry::EquivariantRule(arm.clone()));
    }
    let is_haar = |basis: &BasisSpec| matches!(basis.rotation(), Some(RotationSpec::Haar { .. }));
    phases().all(|(_, basis)| is_haar(basis)).then(|| Symmetry::HaarBasis(arm.clone()))
}

/// Whether two arms have one law of losses, and of streams each in its own basis.
fn same_law(arm: &RunName, other: &RunName, one: &RunSpec, two: &RunSpec, rules: Rules<'_>) -> Option<Symmetry> {
    let commuting = || {
        knows_no_basis(one)
            && commutes(&one.optimizer, rules)
            && in_basis(one, BasisSpec::Standard {}) == in_basis(two, BasisSpec::Standard {})
    };
    if in_own_basis(one, two) || commuting() {
        return Some(Symmetry::SameLaw(arm.clone(), other.clone()));
    }
    in_own_basis(two, one).then(|| Symmetry::SameLaw(other.clone(), arm.clone()))
}

/// Whether the first run is the second one seen in a basis of its own.
fn in_own_basis(run: &RunSpec, standard: &RunSpec) -> bool {
    let rotated = matches!(
        &run.basis,
        BasisSpec::RotatedOptimizer { sharing: Sharing::Shared, axes: RotatedAxes::Residual, .. }
            | BasisSpec::RotatedModel { sharing: Sharing::Shared, .. }
    );
    rotated && knows_no_basis(run) && run.phases.is_empty() && in_basis(run, BasisSpec::Standard {}) == *standard
}

fn in_basis(run: &RunSpec, basis: BasisSpec) -> RunSpec {
    RunSpec { basis, ..run.clone() }
}

/// Whether nothing in the model or its arithmetic tells one basis from another.
fn knows_no_basis(run: &RunSpec) -> bool {
    let model = &run.model;
    model.is_basis_free() && [model.param_dtype, model.compute_dtype].iter().all(|dtype| dtype.is_wide())
}

fn commutes(optimizer: &OptimizerSpec, rules: Rules<'_>) -> bool {
    let of_rule = |kind: &str| rules.find(kind).is_some_and(|rule| rule.commutes.with_rotations());
    optimizer.rules().into_iter().all(|(.., rule)| of_rule(&rule.kind))
}
