//! One test per row of the SPIFFE conformance checklist that parsing and verification answer for.
//!
//! Names begin with the row's id. Every sample is valid but for the one fault its test puts in.

mod bundle_document;
mod bundle_map;
mod differential;
mod flips;
mod ids;
#[cfg(feature = "spiffe")]
mod interop;
mod jwt_bundle;
mod jwt_form;
mod jwt_trust;
mod support;
mod x509_leaf;
mod x509_loader;
mod x509_path;
