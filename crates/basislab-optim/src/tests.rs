//! Updates in one pass over memory against burn's operations.

use crate::rule::{Slots, Step, coupled_decay, decoupled_decay};
use crate::{Optimizer, RULES, Rule, fused, rule};
use basislab_config::{OptimizerSpec, Parameter, Role, RuleSpec};
use basislab_stats::{Purpose, below, gaussian, stream};
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde_json::{Value, json};

/// A rule with its presets and these keys changed.
fn spec(rule: &Rule, changes: &[(&str, Value)]) -> RuleSpec {
    let mut all = json!({ "kind": rule.keys.name });
    for key in rule.keys.keys {
        let preset = key.preset.unwrap();
        all[key.name] = serde_json::from_str(preset).unwrap_or_else(|_| json!(preset));
    }
    for (key, value) in changes {
        all[*key] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

/// Each rule by its presets, with each flag set, without momentum, and with each decay.
fn specs() -> Vec<RuleSpec> {
    let mut all = Vec::new();
    for rule in RULES {
        let has = |name: &str| rule.keys.keys.iter().any(|key| key.name == name);
        let decays = ["weight_decay", "decoupled_weight_decay"].into_iter().filter(|name| has(name));
        let decayed: Vec<(&str, Value)> = decays.map(|name| (name, json!(0.3))).collect();
        all.extend([spec(rule, &[]), spec(rule, &decayed)]);
        if has("nesterov") {
            let of = |key, value| [&[(key, value)], &decayed[..]].concat();
            all.extend([true, false].map(|nesterov| spec(rule, &of("nesterov", json!(nesterov)))));
            let without = [("momentum", json!(0.0)), ("nesterov", json!(false))];
            all.push(spec(rule, &[&without, &decayed[..]].concat()));
        }
    }
    all
}

fn parameter(shape: [usize; 2]) -> Parameter {
    Parameter { path: "w".to_owned(), role: Role::Read, shape }
}

fn noise(shape: [usize; 2], number: u64) -> Tensor<2> {
    let mut rng = stream(17, Purpose::Simulation, number);
    let values: Vec<f64> = (0..shape[0] * shape[1]).map(|_| gaussian(&mut rng)).collect();
    Tensor::from_data(TensorData::new(values, shape), (&Device::flex(), DType::F32))
}

fn values(x: &Tensor<2>) -> Vec<f32> {
    x.clone().into_data().try_into_vec().unwrap()
}

fn assert_close(found: &Tensor<2>, expected: &Tensor<2>, what: &str) {
    let (found, expected) = (values(found), values(expected));
    let squares = |of: &dyn Fn(usize) -> f32| (0..expected.len()).map(|i| f64::from(of(i)).powi(2)).sum::<f64>();
    let error = (squares(&|i| found[i] - expected[i]) / squares(&|i| expected[i])).sqrt();
    assert!(error <= 1e-6, "{what}: off by {error:e}");
}

/// `w' = (1 - lr d) w - lr update(g + c w)` in burn's operations.
fn by_hand(spec: &RuleSpec, step: &mut Step<'_>, w: Tensor<2>, grad: Tensor<2>) -> Tensor<2> {
    let grad = grad + w.clone().mul_scalar(coupled_decay(spec));
    let change = (rule(spec).update)(step, grad);
    w.mul_scalar(1.0 - spec.lr() * decoupled_decay(spec)) - change.mul_scalar(spec.lr())
}

/// Weights and state after each of three updates.
fn trained(spec: &RuleSpec, shape: [usize; 2]) -> Vec<(Tensor<2>, Vec<Tensor<2>>)> {
    let mut optimizer =
        Optimizer::new(&OptimizerSpec::One(spec.clone()), vec![parameter(shape)], vec![Default::default()]);
    let mut w = noise(shape, 0);
    let mut step = |number| {
        w = optimizer.step(1.0, vec![w.clone()], vec![noise(shape, number)]).remove(0);
        (w.clone(), optimizer.state().into_iter().map(|(.., state)| state).collect())
    };
    (1..=3).map(&mut step).collect()
}

#[test]
fn an_update_in_one_pass_is_that_in_burns_operations() {
    let mut rng = stream(18, Purpose::Simulation, 0);
    for spec in specs() {
        let shape = [(); 2].map(|()| 1 + below(&mut rng, 190) as usize);
        assert!(fused::available(&noise(shape, 0)));
        let (mut w, mut state) = (noise(shape, 0), Slots::default());
        for (count, (found, slots)) in (1..).zip(trained(&spec, shape)) {
            let parameter = &parameter(shape);
            let mut step = Step { spec: &spec, parameter, count, state: &mut state };
            w = by_hand(&spec, &mut step, w, noise(shape, count));
            let what = format!("{spec:?} {shape:?}, update {count}");
            assert_close(&found, &w, &what);
            let names = (rule(&spec).keys.slots)(&spec);
            assert_eq!(slots.len(), names.len(), "{what}");
            for (slot, found) in names.iter().zip(slots) {
                assert_close(&found, state.get(slot).unwrap(), &format!("{what}: {slot}"));
            }
        }
    }
}

#[test]
fn an_update_is_the_same_bits_on_any_thread_count() {
    for spec in specs() {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let all = pool.install(|| trained(&spec, [150, 333]));
            all.iter().map(|(w, state)| (values(w), state.iter().map(values).collect())).collect::<Vec<(_, Vec<_>)>>()
        };
        let alone = on(1);
        assert!([2, 3].into_iter().all(|threads| on(threads) == alone), "{spec:?}");
    }
}

/// Element by element is what commutes with every reordering of the elements.
#[test]
fn a_rule_has_one_pass_where_it_is_element_by_element() {
    let shape = [5, 8];
    let grad = values(&noise(shape, 1));
    // 40 and 7 have no common factor.
    let reordered = |x: &[f32]| -> Vec<f32> { (0..40).map(|i| x[7 * i % 40]).collect() };
    for rule in RULES {
        let spec = spec(rule, &[]);
        let update = |grad: Vec<f32>| {
            let parameter = &parameter(shape);
            let mut step = Step { spec: &spec, parameter, count: 1, state: &mut Slots::default() };
            let grad = Tensor::from_data(TensorData::new(grad, shape), &Device::flex());
            values(&(rule.update)(&mut step, grad))
        };
        let is_element_wise = update(reordered(&grad)) == reordered(&update(grad.clone()));
        assert_eq!(rule.one_pass.is_some(), is_element_wise, "{}", rule.keys.name);
    }
}
