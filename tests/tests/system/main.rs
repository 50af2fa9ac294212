//! Whole-system tests: real CA, attestors, software TPMs and databases; clients by others.

mod bring_up;
mod ceremony;
mod clients;
mod doors;
mod holds;
mod instances;
mod keys;
mod kills;
mod lines;
mod load;
mod nested;
mod record;
mod revocation;
mod rotation;
mod secrets;
mod servers;
mod support;
mod taint;
