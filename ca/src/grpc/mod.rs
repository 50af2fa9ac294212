//! The protocol front: converts, calls one use case, converts. gRPC statuses are made here only.

pub mod peer;
