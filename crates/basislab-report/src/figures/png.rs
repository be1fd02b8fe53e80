//! Figures as PNG: what is drawn is the SVG file, by resvg, with the one font that is built in. Equal files give equal pixels.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

/// Roboto Regular 2.137, Copyright 2015 Google Inc., Apache License 2.0 (`font/LICENSE`).
const FONT: &[u8] = include_bytes!("font/Roboto-Regular.ttf");
const FAMILY: &str = "Roboto";

/// Pixels of the image for each pixel of the figure.
const SCALE: f32 = 2.0;

/// A figure as PNG, twice as wide and high as its SVG says.
///
/// # Errors
/// What is wrong with the SVG.
pub(super) fn png(svg: &str) -> Result<Vec<u8>, String> {
    let mut options = Options { font_family: FAMILY.to_owned(), ..Options::default() };
    let fonts = options.fontdb_mut();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family(FAMILY);
    let tree = Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let pixels = |length: f32| (SCALE * length).round() as u32;
    let size = tree.size();
    let mut image = Pixmap::new(pixels(size.width()), pixels(size.height())).ok_or("an image without pixels")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut image.as_mut());
    image.encode_png().map_err(|error| error.to_string())
}
