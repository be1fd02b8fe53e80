use basislab_config::RunSpec;
use basislab_tables::Identity;

/// The version of the numbers: raised by hand whenever a bit of what a run writes changes. A test holds it to the golden
/// files. Builds with the same number share runs; others never mix.
pub const NUMERICS: u32 = 4;

/// What decides the numbers of a run. Never its arm's name, a claim, the question, jobs or output.
pub fn identity(run: &RunSpec, seed: u64, corpus_sha256: &str, backend: &str) -> Identity {
    Identity {
        run: run.hash(),
        seed,
        corpus: corpus_sha256.to_owned(),
        backend: backend.to_owned(),
        numerics: NUMERICS,
    }
}
