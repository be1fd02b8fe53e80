use super::sgd::{SGD, slots};
use crate::rule::{Rule, decoupled_weight_decay, epsilon, lr, momentum, nesterov, number};
use basislab_config::{Commutes, Key, Kind, Role, RuleKeys};
use burn::tensor::Tensor;

/// Momentum whose singular values are brought near 1 by Newton-Schulz iterations. For matrices only.
pub(crate) static MUON: Rule = Rule {
    keys: RuleKeys {
        name: "muon",
        keys: &[
            lr("2e-2"),
            momentum("0.95"),
            nesterov("true"),
            number("ns_steps", Kind::Integer(1, 20), "5", "Newton-Schulz iterations"),
            coefficient("ns_a", "3.4445"),
            coefficient("ns_b", "-4.775"),
            coefficient("ns_c", "2.0315"),
            epsilon("1e-7", "Added to the Frobenius norm that the momentum is divided by"),
            decoupled_weight_decay("0.0"),
        ],
        roles: &[Role::Read, Role::Write],
        commutes: Commutes::Rotations { permutations_exactly: false },
        slots,
        check: |spec| {
            let wrong = spec.flag("nesterov") && spec.number("momentum") == 0.0;
            wrong.then_some(("nesterov", "found true with momentum 0, expected a momentum above 0"))
        },
    },
    about: "Jordan et al. 2024 (kellerjordan.github.io/posts/muon), in at least f32 where the original has bf16",
    // Momentum as of `sgd`, whose keys and slot these are. Then a polynomial in the matrix and its transpose: rotating
    // either side rotates the result. Sums run over rows and columns, so a permutation changes their order and with it the
    // last bits.
    update: |step, grad| {
        let direction = SGD.change(step, grad);
        let coefficients = ["ns_a", "ns_b", "ns_c"].map(|key| step.number(key));
        let [rows, columns] = step.parameter.shape;
        let scale = (columns as f64 / rows as f64).max(1.0).sqrt();
        orthogonalised(direction, coefficients, step.spec.integer("ns_steps"), step.number("epsilon")).mul_scalar(scale)
    },
    one_pass: None,
};

const fn coefficient(name: &'static str, preset: &'static str) -> Key {
    number(name, Kind::Finite, preset, "A coefficient of the Newton-Schulz polynomial a X + b X^3 + c X^5")
}

/// `steps` times `X <- a X + (b A + c A A) X` with `A = X Xᵀ`, from `X = G / |G|`; wide matrices, tall ones transposed.
fn orthogonalised(x: Tensor<2>, [a, b, c]: [f64; 3], steps: u64, epsilon: f64) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let is_tall = rows > columns;
    let x = if is_tall { x.transpose() } else { x };
    let norm = x.clone().square().sum().sqrt().add_scalar(epsilon).reshape([1, 1]);
    let mut x = x / norm;
    for _ in 0..steps {
        let gram = x.clone().matmul(x.clone().transpose());
        let polynomial = gram.clone().mul_scalar(b) + gram.clone().matmul(gram).mul_scalar(c);
        x = x.clone().mul_scalar(a) + polynomial.matmul(x);
    }
    if is_tall { x.transpose() } else { x }
}
