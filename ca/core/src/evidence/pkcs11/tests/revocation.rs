//! Case 39: what an enrolment CA took back, and lists that do not say.

use super::*;

/// A vouched key whose enrolment CA's list, begun a day ago, ends in a week and names `revoked`.
fn listed(revoked: impl FnOnce(&Sample) -> Vec<Vec<u8>>) -> Sample {
    let mut sample = Sample::certified(&Profile::default());
    let revoked = revoked(&sample);
    let list = sample.enroller.crl((-DAY, 7 * DAY), &revoked);
    sample.trust.enrolment_crls = Some(crls(&[list]).into());
    sample
}

fn crls(lists: &[Vec<u8>]) -> Crls {
    let mut crls = Crls::default();
    lists.iter().for_each(|list| crls.add(list).unwrap());
    crls
}

/// The sample's evidence under these lists.
fn under(sample: &mut Sample, lists: &[Vec<u8>]) -> Result<Applicant, Denied> {
    sample.trust.enrolment_crls = Some(crls(lists).into());
    sample.examine()
}

#[test]
fn a_certificate_that_the_list_does_not_name_is_vouched_for() {
    let sample = listed(|_| vec![]);
    assert_eq!(sample.examine().unwrap().vouched.unwrap().ca, sample.enroller.trusted().fingerprint);
    let other = Enroller::new().issue(&KeyPair::generate().unwrap(), &Profile::default());
    listed(|_| vec![other]).examine().unwrap();
}

#[test]
fn case_39_a_revoked_certificate_is_device_cert_revoked_also_for_an_enrolled_key() {
    let mut sample = listed(|s| s.payload.certificates.clone());
    refuses(&sample, Reason::DeviceCertRevoked);
    sample.enrolled = true;
    refuses(&sample, Reason::DeviceCertRevoked);
    // Without the certificate only possession is left, and that is the operator's to enrol.
    sample.payload.certificates.clear();
    assert_eq!(sample.examine().unwrap().selectors()[0], "pop-only");
}

#[test]
fn case_39_a_list_past_its_end_or_before_its_begin_is_device_cert_crl() {
    for span in [(-2 * DAY, 0), (-2 * DAY, -DAY), (1, DAY)] {
        let mut sample = Sample::certified(&Profile::default());
        let list = sample.enroller.crl(span, &[]);
        let denied = under(&mut sample, &[list]).unwrap_err();
        assert_eq!((denied.reason, denied.attributable), (Reason::DeviceCertCrl, false), "{span:?}");
    }
    let mut sample = Sample::certified(&Profile::default());
    let list = sample.enroller.crl((0, 1), &[]);
    under(&mut sample, &[list]).unwrap();
}

#[test]
fn case_39_no_list_of_the_issuer_is_device_cert_crl() {
    let mut sample = Sample::certified(&Profile::default());
    is(under(&mut sample, &[]).unwrap_err(), Reason::DeviceCertCrl);
    let other = Enroller::named("Another CA").crl((-DAY, DAY), &[]);
    is(under(&mut sample, &[other]).unwrap_err(), Reason::DeviceCertCrl);
}

#[test]
fn case_39_a_list_that_another_signed_in_the_issuers_name_is_device_cert_crl() {
    let mut sample = Sample::certified(&Profile::default());
    let forged = Enroller::new().crl((-DAY, DAY), &[]);
    is(under(&mut sample, &[forged]).unwrap_err(), Reason::DeviceCertCrl);
}

#[test]
fn case_39_every_ca_of_the_path_needs_its_list_and_may_be_revoked() {
    let mut sample = Sample::certified(&Profile::default());
    let site = sample.enroller.intermediate();
    sample.payload.certificates = vec![site.issue(&sample.key, &Profile::default()), site.der.clone()];
    let (top, below) = (sample.enroller.crl((-DAY, DAY), &[]), site.crl((-DAY, DAY), &[]));
    under(&mut sample, &[top.clone(), below.clone()]).unwrap();
    is(under(&mut sample, std::slice::from_ref(&top)).unwrap_err(), Reason::DeviceCertCrl);
    is(under(&mut sample, std::slice::from_ref(&below)).unwrap_err(), Reason::DeviceCertCrl);
    let without_site = sample.enroller.crl((-DAY, DAY), std::slice::from_ref(&site.der));
    is(under(&mut sample, &[without_site, below]).unwrap_err(), Reason::DeviceCertRevoked);
    let without_leaf = site.crl((-DAY, DAY), &sample.payload.certificates[..1]);
    is(under(&mut sample, &[top, without_leaf]).unwrap_err(), Reason::DeviceCertRevoked);
}

#[test]
fn a_key_without_certificate_asks_no_list() {
    let mut sample = Sample::new();
    under(&mut sample, &[]).unwrap();
}

#[test]
fn lists_are_bounded_whole_and_one_for_each_issuer() {
    let list = Enroller::new().crl((-DAY, DAY), &[]);
    let mut crls = Crls::default();
    crls.add(&list).unwrap();
    assert_eq!(crls.add(&Enroller::new().crl((0, DAY), &[])), Err(CrlError::Second));
    let long = vec![0; crl::MAX_CRL_BYTES + 1];
    assert_eq!(crls.add(&long), Err(CrlError::TooLarge(long.len())));
    for wrong in [&list[..list.len() - 1], &[&list[..], &[0]].concat(), b"", &Enroller::new().der] {
        assert!(matches!(crls.add(wrong), Err(CrlError::Malformed(_))));
    }
    assert_eq!(crls.len(), 1);
    for number in 1..crl::MAX_CRLS {
        crls.add(&Enroller::named(&format!("CA {number}")).crl((-DAY, DAY), &[])).unwrap();
    }
    assert_eq!(crls.add(&Enroller::named("one more").crl((-DAY, DAY), &[])), Err(CrlError::TooMany));
}

#[test]
fn case_39_every_flipped_bit_of_a_list_is_refused() {
    let mut sample = listed(|s| s.payload.certificates.clone());
    let good = sample.enroller.crl((-DAY, DAY), &sample.payload.certificates);
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut crls = Crls::default();
        let _ = crls.add(&flipped); // one that cannot be read leaves none, and that is refused too
        sample.trust.enrolment_crls = Some(crls.into());
        assert!(sample.examine().is_err(), "bit {bit}");
    }
}
