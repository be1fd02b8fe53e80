use crate::cell::{Cell, Site};
use crate::claim::{Claim, ClaimKind, VerdictSpec};
use crate::hash::sha256_of;
use crate::keys::{Key, Kind, choice, keys, table};
use crate::name::RunName;
use crate::run::RunSpec;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// A question, the runs that answer it, and the rule by which they do.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// The question in one sentence.
    pub question: String,
    /// Paired replicates: every arm sees the same initial weights, batches and held-out tokens for a given seed.
    pub seeds: Vec<u64>,
    /// The tables that arms share.
    pub shared: RunSpec,
    /// What is compared.
    pub arms: Vec<Arm>,
    /// The rule by which claims are decided.
    pub verdict: VerdictSpec,
    /// What is to be decided.
    pub claims: Vec<Claim>,
    /// The grids, one entry for each arm that is swept.
    pub sweeps: Vec<Sweep>,
    /// Whether rounding is measured when all runs have ended.
    pub quantize: Option<QuantizeSpec>,
}

table! {
    /// What rounding costs the runs of an experiment, measured once all have ended: `basislab quantize` of each.
    pub struct QuantizeSpec {
        /// The arms whose runs are rounded, with the experiment's seeds.
        arms: Vec<RunName> = Kind::Names(1);
    }
}

/// One line of the final figure: a run for each of some seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// Its name in files, tables and `--set arm.NAME...`.
    pub name: RunName,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// What is run with each. Where a sweep chooses for the arm, this is the configuration before the choice.
    pub run: RunSpec,
}

/// An arm with other values of some keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// The arm that is swept.
    pub arm: RunName,
    /// The keys, e.g. `optimizer.lr`.
    pub keys: Vec<String>,
    /// The arms that were made of it.
    pub points: Vec<SweepPoint>,
    /// How the arm takes over one of the points, if it does.
    pub choose: Option<Choose>,
}

/// One arm of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepPoint {
    /// The arm.
    pub arm: RunName,
    /// Its values of the keys.
    pub values: Vec<Value>,
}

/// How an arm's values are chosen from a grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choose {
    /// What the best point has least of.
    pub by: Criterion,
    /// The selection seeds: no claim uses them.
    pub on_seeds: Vec<u64>,
}

impl Choose {
    pub(crate) const KEYS: &'static [Key] = keys! {
        /// What the best point has least of.
        by: Criterion = Criterion::KIND;
        /// The selection seeds: no claim uses them.
        on_seeds: Vec<u64> = Kind::Seeds;
    };
}

choice! {
    /// What is minimised by a choice.
    pub enum Criterion {
        /// The mean held-out loss at the last step.
        Loss = "loss",
    }
}

impl Experiment {
    /// The keys of an experiment file, besides those of [`RunSpec`].
    pub(crate) const KEYS: &'static [Key] = keys! {
        /// The experiment that this file changes: the name of a built-in one, or a path.
        base: String = Kind::Text(4096), optional;
        /// The arms of the base that are kept.
        only: Vec<RunName> = Kind::Names(1), optional;
        /// The question in one sentence.
        question: String = Kind::Text(400);
        /// Seeds of the runs. With one seed, all arms share initial weights, batches and held-out tokens.
        seeds: Vec<u64> = Kind::Seeds;
        /// The rule by which claims are decided.
        verdict: VerdictSpec = Kind::Table(VerdictSpec::KEYS);
        /// The configurations to compare: a name, and the keys that differ from the shared tables.
        arm: Vec<Arm> = Kind::Arms;
        /// Arms made from other arms, one for each of several values of some keys.
        grid: Vec<Sweep> = Kind::Grids, optional;
        /// The claims to be decided from the tables.
        claim: Vec<Claim> = Kind::Named(Claim::KEYS), optional;
        /// What rounding costs the runs, measured once all have ended.
        quantize: QuantizeSpec = Kind::Table(QuantizeSpec::KEYS), optional;
    };

    /// The configuration as TOML, arms as changes to the shared tables: loading it gives the same experiment.
    pub fn to_toml(&self) -> String {
        let mut root = table_of(&self.shared);
        let listed = |items: Vec<Table>| Value::Array(items.into_iter().map(Value::Table).collect());
        root.insert("question".to_owned(), Value::String(self.question.clone()));
        root.insert("seeds".to_owned(), value_of(&self.seeds));
        root.insert("verdict".to_owned(), value_of(&self.verdict));
        let made = |arm: &&Arm| self.sweeps.iter().flat_map(|sweep| &sweep.points).any(|point| point.arm == arm.name);
        let own = self.arms.iter().filter(|arm| !made(arm));
        root.insert("arm".to_owned(), listed(own.map(|arm| self.arm_to_toml(arm)).collect()));
        if !self.sweeps.is_empty() {
            root.insert("grid".to_owned(), listed(self.sweeps.iter().map(Sweep::to_toml).collect()));
        }
        if !self.claims.is_empty() {
            root.insert(
                "claim".to_owned(),
                listed(self.claims.iter().map(|claim| self.claim_to_toml(claim)).collect()),
            );
        }
        if let Some(quantize) = &self.quantize {
            root.insert("quantize".to_owned(), value_of(quantize));
        }
        toml::to_string(&root).expect("strings, numbers, lists and tables")
    }

    fn arm_to_toml(&self, arm: &Arm) -> Table {
        let mut table = changes(&table_of(&self.shared), &table_of(&arm.run));
        // An arm without phases has to say so where the others have some.
        if arm.run.phases.is_empty() && !self.shared.phases.is_empty() {
            table.insert("phases".to_owned(), Value::Array(Vec::new()));
        }
        table.insert("name".to_owned(), value_of(&arm.name));
        if arm.seeds != self.seeds {
            table.insert("seeds".to_owned(), value_of(&arm.seeds));
        }
        table
    }

    fn claim_to_toml(&self, claim: &Claim) -> Table {
        let mut table = table_of(claim);
        let common = table_of(&self.verdict.cell());
        let cell = changes(&common, &table_of(&claim.cell));
        match cell.is_empty() {
            true => table.remove("cell"),
            false => table.insert("cell".to_owned(), Value::Table(cell)),
        };
        if let (ClaimKind::Correlates { with, .. }, Some(Value::Table(test))) = (&claim.test, table.get_mut("test")) {
            test.insert("with".to_owned(), Value::Table(changes(&common, &table_of(with))));
        }
        table
    }

    /// Adds the seeds of another version of this experiment that it lacks, in the experiment and in arms of both.
    pub fn add_seeds(&mut self, other: &Self) {
        let add = |own: &mut Vec<u64>, there: &[u64]| {
            let mut all = there.to_vec();
            all.extend(own.iter().filter(|seed| !there.contains(seed)));
            *own = all;
        };
        for arm in &mut self.arms {
            if let Some(there) = other.arm(&arm.name) {
                add(&mut arm.seeds, &there.seeds);
            } else if arm.seeds == self.seeds {
                add(&mut arm.seeds, &other.seeds);
            }
        }
        add(&mut self.seeds, &other.seeds);
    }

    /// The arm of that name.
    pub fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// The site of a cell in an arm's model.
    pub fn site(&self, cell: &Cell, arm: &Arm) -> Site {
        cell.site.resolve(arm.run.model.n_layers)
    }

    /// SHA-256 over what decides a claim: its test, with the runs of its arms instead of their names, its cell, and the
    /// numbers of `[verdict]`; for a primary claim also those of its family, in any order. Texts, the question and seeds are
    /// left out.
    pub fn rule_hash(&self, claim: &Claim) -> String {
        self.hash_of_rule(claim, true)
    }

    /// [`Experiment::rule_hash`] to compare experiments: with the names of arms in place of their runs, and without the margins
    /// that the claim does not use.
    pub fn rule_hash_by_name(&self, claim: &Claim) -> String {
        self.hash_of_rule(claim, false)
    }

    fn hash_of_rule(&self, claim: &Claim, by_run: bool) -> String {
        #[derive(Serialize)]
        struct Rule {
            alpha: f64,
            min_seeds: usize,
            smallest_effect: f64,
            equivalence_margin: f64,
            equal_loss_margin: f64,
            claim: String,
            family: Vec<String>,
        }
        let VerdictSpec { alpha, min_seeds, .. } = self.verdict;
        let if_used = |is_used: bool, margin: f64| if by_run || is_used { margin } else { 0.0 };
        let test = &claim.test;
        let smallest_effect = if_used(!test.is_equality(), self.verdict.smallest_effect);
        let of_metric = matches!(test, ClaimKind::EquivalentToNull { .. });
        let equivalence_margin = if_used(of_metric, self.verdict.equivalence_margin);
        let of_loss = matches!(test, ClaimKind::EqualLoss { .. });
        let equal_loss_margin = if_used(of_loss, self.verdict.equal_loss_margin);
        let in_family = |other: &&Claim| claim.is_in_family() && other.is_in_family() && other.name != claim.name;
        let others = self.claims.iter().filter(in_family);
        let mut family: Vec<String> = others.map(|other| self.decided_by(other, by_run)).collect();
        family.sort();
        let claim = self.decided_by(claim, by_run);
        sha256_of(&Rule { alpha, min_seeds, smallest_effect, equivalence_margin, equal_loss_margin, claim, family })
    }

    /// What a claim compares, and in which cell. What a published number is from decides nothing.
    fn decided_by(&self, claim: &Claim, by_run: bool) -> String {
        let mut test = table_of(&claim.test);
        test.remove("source");
        let mut test = Value::Table(test);
        if by_run {
            self.name_runs(&mut test);
        }
        format!("{test} {}", value_of(&claim.cell))
    }

    /// Puts the hash of an arm's runs in place of its name. Where its values are chosen from a grid, these are the hashes of
    /// the points and how they are chosen: a rule is the same before and after the choice.
    fn name_runs(&self, value: &mut Value) {
        match value {
            Value::Table(table) => {
                table.iter_mut().filter(|(key, _)| *key != "kind").for_each(|(_, value)| self.name_runs(value));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.name_runs(item)),
            Value::String(name) => {
                if let Some(arm) = self.arm(name) {
                    let grids = self.choices().filter(|(sweep, _)| sweep.arm == arm.name);
                    let grids: Vec<String> = grids.map(|(sweep, how)| self.points_by_run(sweep, how)).collect();
                    *name = if grids.is_empty() { arm.run.hash() } else { grids.join(" ") };
                }
            }
            _ => {}
        }
    }

    fn points_by_run(&self, sweep: &Sweep, how: &Choose) -> String {
        let points = sweep.points.iter().filter_map(|point| self.arm(&point.arm)).map(|point| point.run.hash());
        let mut points: Vec<String> = points.collect();
        points.sort();
        format!("{} {}", value_of(how), points.join(" "))
    }
}

impl Sweep {
    fn to_toml(&self) -> Table {
        let mut grid = Table::new();
        grid.insert("arms".to_owned(), value_of(&[&self.arm]));
        let at = |place: usize| self.points.iter().map(|point| point.values[place].clone()).collect();
        let lists = self.keys.iter().enumerate().map(|(place, key)| (key.clone(), Value::Array(at(place))));
        grid.insert("zip".to_owned(), Value::Table(lists.collect()));
        if let Some(choose) = &self.choose {
            grid.insert("choose".to_owned(), value_of(choose));
        }
        grid
    }
}

fn value_of(value: &impl Serialize) -> Value {
    Value::try_from(value).expect("strings, numbers, lists and tables")
}

fn table_of(value: &impl Serialize) -> Table {
    Table::try_from(value).expect("a table")
}

/// What `patch` has to say so that `base` becomes `wanted`. A table of another kind is said in full.
fn changes(base: &Table, wanted: &Table) -> Table {
    let mut patch = Table::new();
    for (key, value) in wanted {
        match (base.get(key), value) {
            (Some(before), value) if before == value => {}
            (Some(Value::Table(before)), Value::Table(after)) if before.get("kind") == after.get("kind") => {
                let mut inner = changes(before, after);
                // Groups that went can only be said in full.
                if before.keys().any(|key| !after.contains_key(key)) {
                    inner = after.clone();
                }
                patch.insert(key.clone(), Value::Table(inner));
            }
            _ => _ = patch.insert(key.clone(), value.clone()),
        }
    }
    patch
}
