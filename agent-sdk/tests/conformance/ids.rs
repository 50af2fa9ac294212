use chancery_sdk::id::{
    IdError::{self, *},
    SpiffeId, TrustDomain,
};

use crate::support::{W, td};

fn fault(text: &str) -> IdError {
    match SpiffeId::parse(text) {
        Ok(id) => panic!("{text:?} was accepted as {id}"),
        Err(fault) => fault,
    }
}

/// Each `text` is refused with `expected`.
fn all_are(expected: IdError, texts: &[&str]) {
    for text in texts {
        assert_eq!(fault(text), expected, "{text:?}");
    }
}

fn all_parse(texts: &[&str]) {
    for text in texts {
        assert_eq!(SpiffeId::parse(text).map(|id| id.to_string()), Ok((*text).to_owned()));
    }
}

/// An ID of `len` bytes with the longest trust domain name.
fn id_of_len(len: usize) -> String {
    let head = format!("spiffe://{}/", "a".repeat(255));
    format!("{head}{}", "b".repeat(len - head.len()))
}

#[test]
fn id_01_scheme_is_exactly_spiffe() {
    all_are(
        WrongScheme,
        &["http://example.org/w", "spiffe:/example.org", "//example.org/w", "s", "spiffe:example.org"],
    );
    assert_eq!(fault(""), Empty);
}

#[test]
fn id_02_trust_domain_may_not_be_empty() {
    all_are(MissingTrustDomain, &["spiffe://", "spiffe:///", "spiffe:///w"]);
}

#[test]
fn id_03_query_is_refused_even_when_empty() {
    all_are(BadPathChar, &["spiffe://example.org/w?a=1", "spiffe://example.org/w?"]);
    all_are(BadTrustDomainChar, &["spiffe://example.org?a", "spiffe://example.org?"]);
}

#[test]
fn id_04_fragment_is_refused_even_when_empty() {
    all_are(BadPathChar, &["spiffe://example.org/w#f", "spiffe://example.org/w#"]);
    all_are(BadTrustDomainChar, &["spiffe://example.org#f"]);
}

#[test]
fn id_05_userinfo_is_refused() {
    all_are(BadTrustDomainChar, &["spiffe://u@example.org/w", "spiffe://@example.org/w", "spiffe://u:p@example.org/w"]);
}

#[test]
fn id_06_port_is_refused_even_when_empty() {
    all_are(BadTrustDomainChar, &["spiffe://example.org:443/w", "spiffe://example.org:/w"]);
}

#[test]
fn id_07_upper_case_host_is_refused_not_folded() {
    all_are(BadTrustDomainChar, &["spiffe://Example.org/w", "spiffe://example.orG"]);
    assert_eq!(TrustDomain::new("Example.org"), Err(BadTrustDomainChar));
}

#[test]
fn id_08_host_takes_39_bytes_and_no_other() {
    let host = |b: u8| format!("spiffe://example.org{}/w", char::from(b));
    let accepted = (0..=u8::MAX).filter(|b| *b != b'/' && SpiffeId::parse(&host(*b)).is_ok()).count();
    assert_eq!(accepted, 39);
    for b in (0..=u8::MAX).filter(|b| !matches!(b, b'/' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')) {
        assert_eq!(fault(&host(b)), BadTrustDomainChar, "byte {b:#04x}");
    }
}

#[test]
fn id_09_percent_encoded_host_is_refused() {
    all_are(BadTrustDomainChar, &["spiffe://%65xample.org/w", "spiffe://%F0%9F%A4%AF/w"]);
}

#[test]
fn id_10_dotted_quad_is_an_ordinary_name() {
    assert_eq!(SpiffeId::parse("spiffe://10.0.0.1/w").unwrap().trust_domain().name(), "10.0.0.1");
}

#[test]
fn id_11_ipv6_literal_is_refused() {
    all_are(BadTrustDomainChar, &["spiffe://[::1]/w", "spiffe://::1/w"]);
}

#[test]
fn id_12_names_that_look_like_dns_or_ip_are_compared_as_bytes() {
    all_parse(&["spiffe://a_b", "spiffe://-", "spiffe://.", "spiffe://..", "spiffe://xn--"]);
    assert_ne!(TrustDomain::new("1.2.3.4"), TrustDomain::new("001.2.3.4"));
    assert_ne!(TrustDomain::new("example.org.").unwrap(), td());
}

#[test]
fn id_13_bare_trust_domain_is_an_id_without_path() {
    let id = SpiffeId::parse("spiffe://example.org").unwrap();
    assert_eq!((id.path(), id.to_string().as_str()), ("", "spiffe://example.org"));
    assert_eq!(id, td().id());
    assert_eq!(id.segments().count(), 0);
}

#[test]
fn id_14_percent_encoded_path_is_refused() {
    all_are(BadPathChar, &["spiffe://example.org/%61", "spiffe://example.org/a%2Fb"]);
}

#[test]
fn id_15_empty_segments_are_refused() {
    all_are(
        EmptySegment,
        &["spiffe://example.org//", "spiffe://example.org//a", "spiffe://example.org/a//b", "spiffe://example.org/a//"],
    );
}

#[test]
fn id_16_dot_segments_are_refused_not_resolved() {
    for path in ["/.", "/..", "/./a", "/a/.", "/a/..", "/a/../b"] {
        assert_eq!(fault(&format!("spiffe://example.org{path}")), DotSegment, "{path}");
    }
}

#[test]
fn id_17_trailing_slash_is_refused() {
    all_are(TrailingSlash, &["spiffe://example.org/", "spiffe://example.org/a/", "spiffe://example.org/a/b/"]);
}

#[test]
fn id_18_path_takes_65_bytes_and_no_other() {
    let path = |b: u8| format!("spiffe://example.org/a{}b", char::from(b));
    let accepted = (0..=u8::MAX).filter(|b| *b != b'/' && SpiffeId::parse(&path(*b)).is_ok()).count();
    assert_eq!(accepted, 65);
    assert!(SpiffeId::parse(&path(b'/')).is_ok());
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/.-_".contains(&b);
    for b in (0..=u8::MAX).filter(|b| !allowed(*b)) {
        assert_eq!(fault(&path(b)), BadPathChar, "byte {b:#04x}");
    }
}

#[test]
fn id_19_non_ascii_is_refused_in_both_parts() {
    assert_eq!(fault("spiffe://exämple.org/w"), BadTrustDomainChar);
    assert_eq!(fault("spiffe://example.org/wé"), BadPathChar);
}

#[test]
fn id_20_segments_that_merely_hold_dots_are_legal() {
    for path in ["/.a", "/..a", "/...", "/a.", "/a..b"] {
        assert_eq!(SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap().path(), path);
    }
}

#[test]
fn id_21_paths_are_compared_in_case() {
    assert_ne!(SpiffeId::parse("spiffe://example.org/W"), SpiffeId::parse(W));
}

#[test]
fn id_22_upper_case_scheme_is_refused_not_folded() {
    all_are(WrongScheme, &["SPIFFE://example.org/w", "Spiffe://example.org/w", "Spiffe://"]);
}

#[test]
fn id_23_2048_bytes_with_a_255_byte_domain_are_accepted() {
    let text = id_of_len(2048);
    let id = SpiffeId::parse(&text).unwrap();
    assert_eq!((id.as_str(), id.trust_domain_name().len()), (text.as_str(), 255));
}

#[test]
fn id_24_an_id_is_never_built_longer_than_2048_bytes() {
    let domain = TrustDomain::new(&"a".repeat(255)).unwrap();
    let segment = "b".repeat(2049 - "spiffe:///".len() - 255);
    let too_long = Err(TooLong { len: 2049, max: 2048 });
    assert_eq!(SpiffeId::from_segments(&domain, &[&segment]), too_long);
    assert_eq!(SpiffeId::from_path(&domain, &format!("/{segment}")), too_long);
}

#[test]
fn id_25_trust_domain_name_has_at_most_255_bytes() {
    assert!(TrustDomain::new(&"a".repeat(255)).is_ok());
    let too_long = TooLong { len: 256, max: 255 };
    assert_eq!(TrustDomain::new(&"a".repeat(256)), Err(too_long));
    assert_eq!(fault(&format!("spiffe://{}/w", "a".repeat(256))), too_long);
}

#[test]
fn id_26_length_counts_the_whole_text() {
    assert!(SpiffeId::parse(&id_of_len(2047)).is_ok());
    assert!(SpiffeId::parse(&id_of_len(2048)).is_ok());
    assert_eq!(fault(&id_of_len(2049)), TooLong { len: 2049, max: 2048 });
}

#[test]
fn id_27_hierarchical_paths_carry_no_meaning() {
    let id = SpiffeId::parse("spiffe://example.org/ns/staging/sa/default").unwrap();
    assert_eq!(id.segments().collect::<Vec<_>>(), ["ns", "staging", "sa", "default"]);
}

#[test]
fn id_28_trust_domain_may_be_given_as_a_name_or_an_id() {
    for text in ["example.org", "spiffe://example.org", W] {
        assert_eq!(TrustDomain::from_name_or_id(text), Ok(td()), "{text}");
    }
    assert_eq!(TrustDomain::from_name_or_id("spiffe:/example.org"), Err(WrongScheme));
    assert_eq!(TrustDomain::from_name_or_id(""), Err(MissingTrustDomain));
    assert_eq!(TrustDomain::from_name_or_id("spiffe://example.org/a//b"), Err(EmptySegment));
}

#[test]
fn id_29_each_segment_is_checked_by_itself() {
    let built = |segments: &[&str]| SpiffeId::from_segments(&td(), segments);
    assert_eq!(built(&["a", "b"]).unwrap().path(), "/a/b");
    assert_eq!(built(&[""]), Err(EmptySegment));
    assert_eq!(built(&["/a"]), Err(BadPathChar));
    assert_eq!(built(&["a/b"]), Err(BadPathChar));
    assert_eq!(built(&[".."]), Err(DotSegment));
    assert_eq!(SpiffeId::from_path(&td(), "a"), Err(NoLeadingSlash));
}

/// Walks texts made of an alphabet that holds every byte a rule speaks of; the walk is the same each time.
#[test]
fn id_30_what_parses_prints_as_it_was_read() {
    const PIECES: [&str; 16] =
        ["a", "Z", "9", ".", "..", "-", "_", "/", "//", "%41", "é", ":", "@", "?", "spiffe://", "example.org"];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let mut accepted = 0;
    for round in 0..200_000 {
        let head = if round % 2 == 0 { "spiffe://" } else { "spiffe://example.org/" };
        let text: String =
            std::iter::once(head).chain((0..next() % 5).map(|_| PIECES[next() % PIECES.len()])).collect();
        if let Ok(id) = SpiffeId::parse(&text) {
            assert_eq!(id.to_string(), text);
            assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
            accepted += 1;
        }
    }
    assert!(accepted > 10_000, "only {accepted} texts were accepted: the walk does not reach the rule");
}

#[test]
fn cf_01_upper_case_is_refused_wherever_the_uri_rules_would_fold_it() {
    assert_eq!(fault("SPIFFE://example.org/w"), WrongScheme);
    assert_eq!(fault("spiffe://EXAMPLE.org/w"), BadTrustDomainChar);
}

#[test]
fn cf_18_ids_above_2048_bytes_are_refused_on_parse() {
    assert_eq!(fault(&id_of_len(4096)), TooLong { len: 4096, max: 2048 });
}
