//! The examples are separate programs beside this file; this library is empty.
