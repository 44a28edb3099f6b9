//! How many rows an answer has.

use crate::failure::{Failure, FailureCode};

/// The rows asked for, `usual` when nothing is said, 1 to `most`.
pub(super) fn page(limit: Option<u32>, (usual, most): (u32, u32)) -> Result<usize, Failure> {
    let limit = limit.unwrap_or(usual);
    if limit == 0 || limit > most {
        let text = format!("limit is {limit}; it must be 1 to {most}");
        return Err(Failure::new(FailureCode::InvalidInput, text));
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}
