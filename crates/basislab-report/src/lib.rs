//! From tables to an answer: summary, verdicts, figures and sentences. Nothing here trains or measures.

mod answer;
mod atlas;
mod bit_compare;
mod compare;
mod evidence;
mod figures;
mod index;
mod measured;
mod narrative;
mod needed;
mod note;
mod outliers;
mod page;
mod privilege;
mod quantized;
mod recorded;
mod records;
mod registration;
mod report;
mod selection;
mod self_tests;
mod summary;
mod verdicts;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use answer::{Answer, ArmLine, Scale, VerdictLine};
pub use compare::{
    ArmComparison, ArmNumbers, Comparison, Difference, Paired, VerdictComparison, VerdictNumbers, compare,
};
pub use figures::{Beside, OVER_STEPS};
pub use measured::{
    CheckpointLine, DimensionLine, DominantLine, MeasuredAnswer, MeasuredModel, SiteLine, absent_page, read_measured,
    report_measured, seal_measured,
};
pub use narrative::{OutlierDimension, OutlierLine, OutlierSite};
pub use page::{PAGE, Page, Provenance};
pub use quantized::{QuantizedAnswer, QuantizedModel, report_quantized, seal_quantized};
pub use records::{Record, Records};
pub use report::{
    Written, answer_about, check_seal, is_finished, read_answer, read_unsealed, rebuild, report, report_so_far, seal,
};
pub use selection::{choice_sentences, choose, resolve};
pub use self_tests::SelfTest;
