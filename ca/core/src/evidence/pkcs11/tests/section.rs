//! A token beside another attestor.

use super::*;

#[test]
fn a_token_beside_another_attestor_proves_itself_over_the_same_t2() {
    let sample = Sample::certified(&Profile::default());
    let svid = sample.svid.subject_public_key_info();
    let t2 = [7; 32];
    let base = transcript::base(transcript::LABEL_PKCS11, DOMAIN, &t2, &CHANNEL.exporter);
    let examined = examine_section(&sample.payload, &svid, Vec::new(), &sample.trust, false, NOW).unwrap();
    let steps = examined.steps.clone();
    let verified = verify_section(&examined, &t2, &signed(&sample.key, &base), &CHANNEL, steps.clone()).unwrap();
    assert_eq!(verified.applicant.selectors()[0], "device-cert");
    let denied = verify_section(&examined, &t2, &signed(&sample.svid, &base), &CHANNEL, steps).unwrap_err();
    assert_eq!((denied.reason, denied.attributable), (Reason::KeyProof, true), "its node signed all else");
}

#[test]
fn the_key_of_the_svid_is_never_the_tokens() {
    let sample = Sample::new();
    let denied = examine_section(&sample.payload, &sample.payload.key, Vec::new(), &sample.trust, true, NOW);
    is(denied.unwrap_err(), Reason::KeyReused);
}
