//! What the tests of MapReduce have in common: text with a known answer, clusters in one process.
#![allow(dead_code)] // Each test uses its own part of it.

pub mod embedded;
pub mod text;
