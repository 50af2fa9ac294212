//! Whole-system tests: real CA, attestors, software TPMs and databases; clients by others.

mod bring_up;
mod clients;
mod support;
