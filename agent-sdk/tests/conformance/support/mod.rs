//! Sample builders: each makes something valid, and takes a closure that puts one fault in.

pub mod jwt;
pub mod x509;

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};

/// 2027-01-15T08:00:00Z; the samples are valid for an hour around it.
pub const NOW: UnixTime = UnixTime(1_800_000_000);
/// The workload that most samples are about.
pub const W: &str = "spiffe://example.org/w";

/// `example.org`.
pub fn td() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

/// `other.test`.
pub fn td2() -> TrustDomain {
    TrustDomain::new("other.test").unwrap()
}

/// [`W`], parsed.
pub fn w() -> SpiffeId {
    SpiffeId::parse(W).unwrap()
}
