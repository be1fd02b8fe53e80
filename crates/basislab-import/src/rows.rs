use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Rows that are read at a time: 256 bytes of each column are written together where the matrix is transposed.
const ROWS: usize = 64;

/// A stored matrix [rows, columns], transposed to [columns, rows] where `transposed`, without a second copy of it.
/// `fill` writes the values of a range of rows into a buffer of their size.
///
/// # Errors
/// Those of `fill`; a value that is not finite, by its row and column as stored.
pub(crate) fn assemble(
    [rows, columns]: [usize; 2],
    transposed: bool,
    mut fill: impl FnMut(Range<usize>, &mut [f32]) -> Result<(), String>,
) -> Result<Vec<f32>, String> {
    let mut all = vec![0.0; rows * columns];
    let mut block = Vec::new();
    for first in (0..rows).step_by(ROWS) {
        let range = first..rows.min(first + ROWS);
        let place = first * columns..range.end * columns;
        let values = if transposed {
            block.resize(place.len(), 0.0);
            &mut block[..]
        } else {
            &mut all[place]
        };
        fill(range.clone(), values)?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let (row, column, value) = (first + index / columns, index % columns, values[index]);
            return Err(format!("holds {value} at [{row}, {column}]; expected finite numbers"));
        }
        if transposed {
            for column in 0..columns {
                let line = &mut all[column * rows..][range.clone()];
                for (value, row) in line.iter_mut().zip(block.chunks_exact(columns)) {
                    *value = row[column];
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::*;

    /// Value of row r and column c: 1000 r + c.
    fn matrix(shape: [usize; 2], transposed: bool) -> Vec<f32> {
        let value = |index: usize| (index / shape[1] * 1000 + index % shape[1]) as f32;
        let fill = |rows: Range<usize>, out: &mut [f32]| {
            assert_eq!(out.len(), rows.len() * shape[1]);
            out.iter_mut().enumerate().for_each(|(index, out)| *out = value(rows.start * shape[1] + index));
            Ok(())
        };
        assemble(shape, transposed, fill).unwrap()
    }

    #[test]
    fn transposes_matrices_that_are_no_multiple_of_a_block() {
        for shape in [[1, 1], [1, 7], [64, 3], [65, 3], [200, 130]] {
            let (plain, turned) = (matrix(shape, false), matrix(shape, true));
            for row in 0..shape[0] {
                for column in 0..shape[1] {
                    let expected = (row * 1000 + column) as f32;
                    assert_eq!(plain[row * shape[1] + column], expected);
                    assert_eq!(turned[column * shape[0] + row], expected);
                }
            }
        }
    }

    #[test]
    fn names_the_first_value_that_is_not_finite() {
        let fill = |rows: Range<usize>, out: &mut [f32]| {
            if rows.contains(&70) {
                out[(70 - rows.start) * 5 + 2] = f32::NAN;
            }
            Ok(())
        };
        for transposed in [false, true] {
            let error = assemble([100, 5], transposed, fill).unwrap_err();
            assert_eq!(error, "holds NaN at [70, 2]; expected finite numbers");
        }
    }
}

/// Fills `bytes` from a place in a file.
pub(crate) fn read_at(mut file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}
