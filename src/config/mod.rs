//! The configuration file: as written ([`raw`]), as usable ([`Config`] and the rest of [`model`]).

mod model;

pub use model::*;
