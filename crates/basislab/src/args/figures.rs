use basislab_report::Beside;
use clap::Args;

/// What is drawn beside each SVG figure.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct FigureArgs {
    /// Write each figure as PNG too, beside its SVG file
    #[arg(long)]
    pub(crate) png: bool,
    /// Write each figure as Vega-Lite too (NAME.vl.json), with its numbers
    #[arg(long)]
    pub(crate) vega: bool,
}

impl FigureArgs {
    pub(crate) fn beside(self) -> Beside {
        Beside { png: self.png, vega: self.vega }
    }
}
