use crate::norm::Norm;
use crate::part::Part;
use crate::weight::Weight;
use basislab_config::{ModelSpec, Positions, Role};

/// An attention branch and an MLP branch.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) norm_1: Norm,
    pub(crate) w_q: Weight,
    pub(crate) w_k: Weight,
    pub(crate) w_v: Weight,
    pub(crate) qk_norms: Option<[Norm; 2]>,
    pub(crate) w_o: Weight,
    pub(crate) norm_2: Norm,
    pub(crate) w_gate: Option<Weight>,
    pub(crate) w_in: Weight,
    pub(crate) w_out: Weight,
    pub(crate) biases: Biases,
}

/// The biases that there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Biases {
    pub(crate) q: Option<Weight>,
    pub(crate) k: Option<Weight>,
    pub(crate) v: Option<Weight>,
    pub(crate) o: Option<Weight>,
    pub(crate) inner: Option<Weight>,
    pub(crate) outer: Option<Weight>,
}

impl Block {
    /// From what attention reads to what it writes.
    pub(crate) fn attention(&self, spec: &ModelSpec) -> Vec<Part<'_>> {
        let Biases { q, k, v, o, .. } = &self.biases;
        let mut parts =
            vec![Part::Read(vec![(&self.w_q, q.as_ref()), (&self.w_k, k.as_ref()), (&self.w_v, v.as_ref())])];
        parts.extend(self.qk_norms.as_ref().map(Part::HeadNorms));
        parts.extend(matches!(spec.positions, Positions::Rope { .. }).then_some(Part::Rope));
        parts.extend([Part::Attention, Part::Write(&self.w_o, o.as_ref())]);
        parts
    }

    /// From what the MLP reads to what it writes.
    pub(crate) fn mlp(&self) -> Vec<Part<'_>> {
        let Biases { inner, outer, .. } = &self.biases;
        let gate = self.w_gate.iter().map(|w_gate| (w_gate, None));
        let hidden = gate.chain([(&self.w_in, inner.as_ref())]).collect();
        vec![Part::Read(hidden), Part::Activation, Part::Write(&self.w_out, outer.as_ref())]
    }

    /// Calls `visit` with every parameter, in a fixed order: its name in the block, its role, and the parameter.
    pub(crate) fn for_each(&mut self, visit: &mut dyn FnMut(&str, Role, &mut Weight)) {
        self.norm_1.for_each("norm_1", visit);
        visit("w_q", Role::Read, &mut self.w_q);
        visit("w_k", Role::Read, &mut self.w_k);
        visit("w_v", Role::Read, &mut self.w_v);
        if let Some([q_norm, k_norm]) = &mut self.qk_norms {
            // Their gains are coordinates of heads, not of the stream.
            q_norm.for_each("q_norm", &mut |name, _, gain| visit(name, Role::Other, gain));
            k_norm.for_each("k_norm", &mut |name, _, gain| visit(name, Role::Other, gain));
        }
        visit("w_o", Role::Write, &mut self.w_o);
        self.norm_2.for_each("norm_2", visit);
        if let Some(w_gate) = &mut self.w_gate {
            visit("w_gate", Role::Read, w_gate);
        }
        visit("w_in", Role::Read, &mut self.w_in);
        visit("w_out", Role::Write, &mut self.w_out);
        let Biases { q, k, v, o, inner, outer } = &mut self.biases;
        for (name, role, bias) in [
            ("b_q", Role::Other, q),
            ("b_k", Role::Other, k),
            ("b_v", Role::Other, v),
            ("b_o", Role::Vector, o),
            ("b_in", Role::Other, inner),
            ("b_out", Role::Vector, outer),
        ] {
            if let Some(bias) = bias {
                visit(name, role, bias);
            }
        }
    }
}
