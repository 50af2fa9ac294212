//! Every bit counts.

use super::*;

#[test]
fn case_25_every_flipped_bit_of_a_device_certificate_is_refused() {
    let mut sample = Sample::certified(&Profile::default());
    let good = sample.payload.certificates[0].clone();
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        sample.payload.certificates = vec![flipped];
        assert!(sample.examine().is_err(), "bit {bit}");
    }
}

#[test]
fn case_25_every_flipped_bit_of_key_and_signature_is_refused() {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let (applicant, response) = (sample.examine().unwrap(), sample.response(&challenge));
    for bit in 0..response.signature.len() * 8 {
        let mut flipped = response.clone();
        flipped.signature[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_response(&applicant, challenge.clone(), &flipped, &CHANNEL, NOW).is_err(), "bit {bit}");
    }
    for bit in 0..sample.payload.key.len() * 8 {
        let mut flipped = sample.payload.key.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(AttestationKey::parse(&flipped).is_err(), "bit {bit}");
    }
}
