//! The replicated store.

pub mod command;
