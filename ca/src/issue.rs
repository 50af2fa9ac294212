//! SVIDs of entries and minted ones: gather, decide, sign, commit, reply.
//!
//! What is returned has its record in the log already. Callers run these in a task of their own.

use std::sync::Arc;

use chancery_core::{csr::Csr, entry, leaf::check_audience, mint, node::Node};
use chancery_sdk::{id::SpiffeId, origin::Origin, time::UnixTime};
use rustls_pki_types::CertificateDer;

use crate::{
    authority::{IssuedJwt, IssuedX509},
    chance,
    gate::Caller,
    lifetimes::{self, node_cert},
    metrics::Metrics,
    problem::Problem,
    signing::Urgency,
    state::State,
    store::{AuthorityKind, Fact, JwtSubject, Outcome, RecordJwt, RecordMint, RecordX509, Refusal},
};

/// Times a credential is signed before giving up where authorities rotate meanwhile.
pub(crate) const SIGN_TRIES: usize = 3;

/// An X509-SVID whose record is durable.
#[derive(Clone, Debug)]
pub struct X509 {
    /// Whose it is.
    pub id: SpiffeId,
    /// DER, leaf first, no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// End.
    pub expires_at: UnixTime,
}

/// A JWT-SVID whose record is durable.
#[derive(Clone, Debug)]
pub struct Jwt {
    /// Whose it is.
    pub id: SpiffeId,
    /// Compact form.
    pub token: String,
    /// `iat`.
    pub issued_at: UnixTime,
    /// `exp`.
    pub expires_at: UnixTime,
    /// The entry's hint.
    pub hint: String,
}

impl X509 {
    pub(crate) fn new(id: SpiffeId, issued: IssuedX509) -> Self {
        Self { id, chain: issued.chain, expires_at: issued.cert.expires_at }
    }
}

impl Jwt {
    pub(crate) fn new(id: SpiffeId, issued: IssuedJwt, hint: String) -> Self {
        Self { id, token: issued.token, issued_at: issued.issued_at, expires_at: issued.expires_at, hint }
    }
}

/// An X509-SVID that is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The entry.
    pub entry_id: String,
    /// PKCS#10, DER; not yet looked at.
    pub csr: Vec<u8>,
}

/// Issues X509-SVIDs of entries to a node that may serve them, together; answers each, in order. Names and lifetimes are
/// the entries'.
///
/// # Errors
/// [`Problem`]; nothing was released. [`Problem::Busy`] is of all of them. Source: spire-wire 1.4 (BatchNewX509SVID).
pub async fn x509(
    state: &Arc<State>,
    node: &Arc<Node>,
    wanted: Vec<Wanted>,
) -> Result<Vec<Result<X509, Problem>>, Problem> {
    let mut answers: Vec<Result<X509, Problem>> = wanted.iter().map(|_| Err(rotating())).collect();
    let mut left: Vec<(usize, Arc<Wanted>)> = wanted.into_iter().map(Arc::new).enumerate().collect();
    for _ in 0..SIGN_TRIES {
        if left.is_empty() {
            break;
        }
        let (own, of) = (Arc::clone(state), Arc::clone(node));
        let sign = move |(place, one): (usize, Arc<Wanted>)| {
            let signed = signed_x509(&own, &of, &one);
            (place, one, signed)
        };
        let signed = state.signing.each(Urgency::Unknown, std::mem::take(&mut left), sign).await?;
        let (mut facts, mut waiting) = (Vec::with_capacity(signed.len()), Vec::with_capacity(signed.len()));
        for (place, one, signed) in signed {
            match signed {
                Ok((fact, svid)) => {
                    facts.push(fact);
                    waiting.push((place, one, svid));
                }
                Err(problem) => answers[place] = Err(problem),
            }
        }
        for ((place, one, svid), outcome) in waiting.into_iter().zip(state.commit_all(facts).await?) {
            match outcome {
                Outcome::Done { .. } => {
                    Metrics::count(&state.metrics.svids, "kind", "x509");
                    answers[place] = Ok(svid);
                }
                Outcome::Refused(Refusal::AuthorityNotActive) => left.push((place, one)),
                Outcome::Refused(refusal) => answers[place] = Err(refusal.into()),
            }
        }
    }
    Ok(answers)
}

/// Gathers, decides and signs; what to commit.
fn signed_x509(state: &State, node: &Node, wanted: &Wanted) -> Result<(Fact, X509), Problem> {
    if wanted.entry_id.is_empty() {
        return Err(Problem::Invalid("entry ID is missing".into()));
    }
    if wanted.csr.is_empty() {
        return Err(Problem::Invalid("CSR is missing".into()));
    }
    let entry = authorized(state, node, &wanted.entry_id)?;
    let csr = Csr::parse(&wanted.csr)?;
    let profile = lifetimes::x509(&state.config.ttl)?;
    let limits = lifetimes::x509_limits(state, Some(node))?;
    let leaf = entry::issue::x509(&entry, &csr, profile, limits, chance::serial()?, state.now())?;
    let issued = state.authority.sign_x509(&leaf)?;
    let fact = Fact::RecordX509(RecordX509 {
        node_id: node.id.clone(),
        node_serial: node_cert(node)?.serial.clone(),
        entry_id: entry.id.clone(),
        entry_revision: entry.revision,
        cert: issued.cert.clone(),
        authority: issued.authority_id.clone(),
    });
    Ok((fact, X509::new(entry.spiffe_id.clone(), issued)))
}

/// Issues an entry's JWT-SVID to a node that may serve it.
///
/// # Errors
/// [`Problem`]; nothing was released. Source: spire-wire 1.4 (NewJWTSVID).
pub async fn jwt(
    state: &Arc<State>,
    node: &Arc<Node>,
    entry_id: &str,
    audience: &[String],
    origin: &Origin,
) -> Result<Jwt, Problem> {
    for _ in 0..SIGN_TRIES {
        let (own, of) = (Arc::clone(state), Arc::clone(node));
        let (entry_id, audience, origin) = (entry_id.to_owned(), audience.to_vec(), origin.clone());
        let sign = move || signed_jwt(&own, &of, &entry_id, &audience, origin);
        let (fact, svid) = state.signing.one(Urgency::Unknown, sign).await??;
        if committed(state, fact).await? {
            Metrics::count(&state.metrics.svids, "kind", "jwt");
            return Ok(svid);
        }
    }
    Err(rotating())
}

/// As [`signed_x509`], a token.
fn signed_jwt(
    state: &State,
    node: &Node,
    entry_id: &str,
    audience: &[String],
    origin: Origin,
) -> Result<(Fact, Jwt), Problem> {
    let entry = authorized(state, node, entry_id)?;
    let profile = lifetimes::jwt(&state.config.ttl)?;
    let limits = lifetimes::jwt_limits(state, Some(node))?;
    let jti = chance::uuid_v4()?.to_string();
    let grant = entry::issue::jwt(&entry, audience, profile, limits, jti, state.now())?;
    let issued = state.authority.sign_jwt(&grant)?;
    let fact = Fact::RecordJwt(RecordJwt {
        node_id: node.id.clone(),
        node_serial: node_cert(node)?.serial.clone(),
        subject: JwtSubject::Entry { id: entry.id.clone(), revision: entry.revision },
        audience: grant.audience().to_vec(),
        expires_at: issued.expires_at,
        origin,
        authority: issued.authority_id.clone(),
    });
    Ok((fact, Jwt::new(entry.spiffe_id.clone(), issued, entry.hint.clone())))
}

/// Mints an X509-SVID for an operator; the one place that takes names from a CSR.
///
/// # Errors
/// [`Problem`]; nothing was released. Source: spire-wire 1.4 (MintX509SVID).
pub async fn mint_x509(state: &State, caller: &Caller, csr_der: &[u8], ttl: i64) -> Result<X509, Problem> {
    let profile = lifetimes::x509(&state.config.ttl)?;
    for _ in 0..SIGN_TRIES {
        let limits = lifetimes::x509_limits(state, None)?;
        let leaf = mint::x509(csr_der, &state.trust_domain, profile, ttl, limits, chance::serial()?, state.now())?;
        let issued = state.authority.sign_x509(&leaf)?;
        let fact = Fact::RecordMint(RecordMint {
            id: leaf.id().clone(),
            kind: AuthorityKind::X509,
            serial: issued.cert.serial.clone(),
            audience: Vec::new(),
            expires_at: issued.cert.expires_at,
            authority: issued.authority_id.clone(),
            caller: named(caller),
        });
        if committed(state, fact).await? {
            Metrics::count(&state.metrics.svids, "kind", "x509");
            return Ok(X509::new(leaf.id().clone(), issued));
        }
    }
    Err(rotating())
}

/// Mints a JWT-SVID for an operator.
///
/// # Errors
/// [`Problem`]; nothing was released. Source: spire-wire 1.4 (MintJWTSVID).
pub async fn mint_jwt(
    state: &State,
    caller: &Caller,
    id: &SpiffeId,
    audience: &[String],
    ttl: i64,
) -> Result<Jwt, Problem> {
    let profile = lifetimes::jwt(&state.config.ttl)?;
    check_audience(audience)?;
    for _ in 0..SIGN_TRIES {
        let limits = lifetimes::jwt_limits(state, None)?;
        let grant = mint::jwt(id, audience, &state.trust_domain, profile, ttl, limits, state.now())?;
        let issued = state.authority.sign_jwt(&grant)?;
        let fact = Fact::RecordMint(RecordMint {
            id: id.clone(),
            kind: AuthorityKind::Jwt,
            serial: String::new(),
            audience: grant.audience().to_vec(),
            expires_at: issued.expires_at,
            authority: issued.authority_id.clone(),
            caller: named(caller),
        });
        if committed(state, fact).await? {
            Metrics::count(&state.metrics.svids, "kind", "jwt");
            return Ok(Jwt::new(id.clone(), issued, String::new()));
        }
    }
    Err(rotating())
}

/// Commits an issuance; false where the authority was replaced meanwhile, so that signing again helps.
pub(crate) async fn committed(state: &State, fact: Fact) -> Result<bool, Problem> {
    match state.commit(fact).await? {
        Outcome::Done { .. } => Ok(true),
        Outcome::Refused(Refusal::AuthorityNotActive) => Ok(false),
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}

pub(crate) fn rotating() -> Problem {
    Problem::Unavailable("authorities are rotating: ask again".into())
}

fn authorized(state: &State, node: &Node, entry_id: &str) -> Result<entry::Entry, Problem> {
    let found = state.view.look(|registry| registry.graph.authorized_entry(entry_id, &node.id, &node.selectors))?;
    found.ok_or_else(|| Problem::NotFound(format!("no entry '{entry_id}' for this node")))
}

/// Who asked, for the record.
pub(crate) fn named(caller: &Caller) -> String {
    match caller {
        Caller::Admin(id) => id.to_string(),
        Caller::Anyone => "anyone".into(),
        Caller::Downstream(entry) => entry.spiffe_id.to_string(),
        Caller::Local(local) => format!("uid {}", local.uid),
        Caller::Node(node) => node.id.to_string(),
    }
}
