//! The making of keys: what is asked for, and what must be read back before a key is believed.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cryptoki::{
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectHandle},
    session::Session,
};

use super::{
    error::{Fault, TokenError, ckr},
    find::{self, P256, P384, Pair},
    signature,
};
use crate::{key_type::KeyType, public_key::PublicKey};

/// Signed by a key before it is believed, and to see whether it is still there. No other protocol signs this.
pub(super) const PROBE: &[u8] = b"chancery key probe v1";

/// Makes a pair and examines it. `again` says that an earlier try ended without an answer.
pub(super) fn generate(session: &Session, label: &str, kind: KeyType, again: bool) -> Result<Pair, Fault> {
    if let Some(pair) = find::pair(session, label)? {
        // An unclear answer may have been a success: what is there under the label is then ours, if it is right.
        if !again {
            return Err(Fault::Final(TokenError::Exists(label.into())));
        }
        examine(session, label, &pair, Some(kind))?;
        return Ok(pair);
    }
    let (public, private) = make(session, label, kind)?;
    let made = read(session, label, public, private, kind);
    if let Err(Fault::Final(_)) = &made {
        // Not what was asked for: not left behind.
        for handle in [private, public] {
            if let Err(problem) = session.destroy_object(handle) {
                tracing::error!(%problem, label, "half of a refused pair stays in the token");
            }
        }
    }
    made
}

fn read(
    session: &Session,
    label: &str,
    public: ObjectHandle,
    private: ObjectHandle,
    kind: KeyType,
) -> Result<Pair, Fault> {
    let key = find::public_key(session, public, label)?;
    let pair = find::pair(session, label)?.filter(|pair| pair.public.spki() == key.spki() && pair.private == private);
    let pair = pair.ok_or_else(|| Fault::Final(TokenError::KeyMissing(label.into())))?;
    examine(session, label, &pair, Some(kind))?;
    Ok(pair)
}

/// Whether a key may be believed to be made in the token and to stay there; the attributes present and right, and a
/// signature that verifies.
pub(super) fn examine(session: &Session, label: &str, pair: &Pair, kind: Option<KeyType>) -> Result<(), Fault> {
    let wrong = |attribute| Fault::Final(TokenError::Attribute { label: label.into(), attribute });
    if kind.is_some_and(|kind| kind != pair.public.kind()) {
        return Err(wrong("its kind"));
    }
    protected(session, label, pair)?;
    let kept = [
        (AttributeType::AlwaysSensitive, Attribute::AlwaysSensitive(true), "CKA_ALWAYS_SENSITIVE"),
        (AttributeType::NeverExtractable, Attribute::NeverExtractable(true), "CKA_NEVER_EXTRACTABLE"),
        (AttributeType::Local, Attribute::Local(true), "CKA_LOCAL"),
    ];
    required(session, label, pair.private, &kept)?;
    probe(session, label, pair.private, &pair.public)
}

/// The least that a key of ours must say each time it is found.
pub(super) fn protected(session: &Session, label: &str, pair: &Pair) -> Result<(), Fault> {
    let must = [
        (AttributeType::Token, Attribute::Token(true), "CKA_TOKEN"),
        (AttributeType::Sensitive, Attribute::Sensitive(true), "CKA_SENSITIVE"),
        (AttributeType::Extractable, Attribute::Extractable(false), "CKA_EXTRACTABLE"),
    ];
    required(session, label, pair.private, &must)
}

/// An attribute that is not told is wrong: it is never taken for `false`.
fn required(
    session: &Session,
    label: &str,
    handle: ObjectHandle,
    must: &[(AttributeType, Attribute, &'static str)],
) -> Result<(), Fault> {
    for (kind, value, name) in must {
        if session.get_attributes(handle, &[*kind])?.first() != Some(value) {
            return Err(Fault::Final(TokenError::Attribute { label: label.into(), attribute: name }));
        }
    }
    Ok(())
}

fn probe(session: &Session, label: &str, private: ObjectHandle, public: &PublicKey) -> Result<(), Fault> {
    let kind = public.kind();
    let raw = session.sign(&signature::mechanism(kind), private, &signature::input(kind, PROBE))?;
    match signature::output(kind, raw) {
        Some(signature) if public.verifies(PROBE, &signature) => Ok(()),
        Some(_) | None => Err(Fault::Final(TokenError::BadSignature(label.into()))),
    }
}

fn make(session: &Session, label: &str, kind: KeyType) -> Result<(ObjectHandle, ObjectHandle), Fault> {
    let mechanism = match kind {
        KeyType::EcP256 | KeyType::EcP384 => Mechanism::EccKeyPairGen,
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => Mechanism::RsaPkcsKeyPairGen,
    };
    let public = public_template(label, kind);
    let strict = [private_template(label), usage_flags()].concat();
    match session.generate_key_pair(&mechanism, &public, &strict) {
        // tpm2-pkcs11 answers CKR_GENERAL_ERROR to usage flags that are false. Nothing else is ever left out.
        Err(Error::Pkcs11(code, _)) if is_about_the_template(code) => {
            if find::pair(session, label)?.is_some() {
                return Err(Fault::Call(Error::Pkcs11(code, cryptoki::context::Function::GenerateKeyPair)));
            }
            session.generate_key_pair(&mechanism, &public, &private_template(label)).map_err(|e| unsupported(kind, e))
        }
        other => other.map_err(|e| unsupported(kind, e)),
    }
}

fn is_about_the_template(code: RvError) -> bool {
    use RvError as R;
    matches!(
        code,
        R::GeneralError
            | R::TemplateInconsistent
            | R::AttributeTypeInvalid
            | R::AttributeValueInvalid
            | R::AttributeReadOnly
    )
}

fn unsupported(kind: KeyType, error: Error) -> Fault {
    use RvError as R;
    match &error {
        Error::Pkcs11(
            code @ (R::MechanismInvalid
            | R::CurveNotSupported
            | R::DomainParamsInvalid
            | R::KeySizeRange
            | R::FunctionNotSupported),
            _,
        ) => Fault::Final(TokenError::Unsupported { kind, why: ckr(code) }),
        _ => Fault::Call(error),
    }
}

fn public_template(label: &str, kind: KeyType) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Verify(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id(label)),
    ];
    match kind {
        KeyType::EcP256 => template.push(Attribute::EcParams(P256.to_vec())),
        KeyType::EcP384 => template.push(Attribute::EcParams(P384.to_vec())),
        KeyType::Rsa2048 => template.extend(rsa(2048)),
        KeyType::Rsa3072 => template.extend(rsa(3072)),
        KeyType::Rsa4096 => template.extend(rsa(4096)),
    }
    template
}

fn rsa(bits: std::ffi::c_ulong) -> [Attribute; 2] {
    [Attribute::ModulusBits(bits.into()), Attribute::PublicExponent(vec![1, 0, 1])]
}

fn private_template(label: &str) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id(label)),
    ]
}

fn usage_flags() -> Vec<Attribute> {
    vec![Attribute::Decrypt(false), Attribute::Unwrap(false), Attribute::Derive(false)]
}

/// `CKA_ID`: the UUID that ends a label, else 16 bytes of the label's hash. A hint; the public half decides.
fn id(label: &str) -> Vec<u8> {
    let uuid = label.rsplit('/').next().and_then(|end| URL_SAFE_NO_PAD.decode(end).ok()).filter(|id| id.len() == 16);
    uuid.unwrap_or_else(|| digest(&SHA256, label.as_bytes()).as_ref().iter().take(16).copied().collect())
}
