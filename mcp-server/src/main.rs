//! x
#![expect(missing_docs, reason = "a program")]
fn main() {}
