//! The cases of the token threat table, each one fault in otherwise valid evidence.

mod answers;
mod certificates;
mod flips;
mod keys;
mod makers;
mod revocation;
mod section;
mod softhsm;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize,
};

use super::{sample::*, *};
use crate::{crypto::weak, evidence::Denied, reason::Reason, transcript};

/// The payload is refused for this reason, and nobody is blamed.
fn refuses(sample: &Sample, reason: Reason) {
    let denied = sample.examine().unwrap_err();
    assert_eq!((denied.reason, denied.attributable), (reason, false), "{denied}");
    assert!(denied.steps.last().is_some_and(|step| !step.passed));
    assert!(denied.steps.iter().rev().skip(1).all(|step| step.passed));
}

fn is(denied: Denied, reason: Reason) {
    assert_eq!((denied.reason, denied.attributable), (reason, false), "{denied}");
}

/// Valid but for what signs, or what is signed.
fn broken(answer: impl FnOnce(&Sample, &OpenChallenge) -> Response) -> Denied {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let response = answer(&sample, &challenge);
    sample.verify(challenge, &response).unwrap_err()
}
