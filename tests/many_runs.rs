//! What commands cost that read very many runs.

use crate::support::many_runs::{Shape, write};
use std::path::Path;

/// Not a test: writes the directories that `scripts/many_runs.sh` measures.
#[test]
#[ignore = "writes a directory for scripts/many_runs.sh"]
fn write_many_runs() {
    let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let shape = if of("BASISLAB_SHAPE") == "seeds" { Shape::ManySeeds } else { Shape::ManyArms };
    write(Path::new(&of("BASISLAB_DIR")), shape, of("BASISLAB_RUNS").parse().unwrap());
}
