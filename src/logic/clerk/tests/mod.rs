//! Scripted tests of every rule, and random histories against a model server.

mod leader;
mod model;
mod rig;
mod sessions;
mod stateless;
