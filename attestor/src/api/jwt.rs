use std::sync::Arc;

use chancery_core::selector::Selectors;
use chancery_proto::workload::{Jwtsvid, JwtsvidRequest, JwtsvidResponse};
use chancery_sdk::id::SpiffeId;
use futures_util::future::try_join_all;

use super::{Door, Refusal, tokens::TokenKey};
use crate::{
    ca::{AuthorizedEntry, CaError, IssuedJwt},
    metrics::Issued,
    peer::Caller,
};

/// Audiences in one request; a token for more is a token for everybody.
const MAX_AUDIENCES: usize = 32;
/// Longest audience in bytes: that of a SPIFFE ID.
const MAX_AUDIENCE_BYTES: usize = 2048;

/// Whose JWT-SVID is asked for.
enum Subject {
    Entry(Arc<AuthorizedEntry>),
    Instance(SpiffeId),
}

/// Whether a token cost a question to the CA.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Asked {
    Ca,
    Nobody,
}

/// FetchJWTSVID: a token for each identity, or for the one asked for.
pub(super) async fn fetch(
    door: &Door,
    caller: &Arc<Caller>,
    asked: JwtsvidRequest,
) -> Result<JwtsvidResponse, Refusal> {
    let audience = audience(asked.audience)?;
    let only = match asked.spiffe_id.as_str() {
        "" => None,
        text => Some(SpiffeId::parse(text).map_err(|e| Refusal::Argument(format!("spiffe_id: {e}")))?),
    };
    let (mut subjects, selectors) = subjects(door, caller).await?;
    subjects.retain(|s| only.as_ref().is_none_or(|id| s.id() == id));
    if subjects.is_empty() {
        return Err(Refusal::no_identity());
    }
    let tokens = subjects.iter().map(|subject| token(door, caller, subject, &audience));
    let tokens = try_join_all(tokens).await?;
    if tokens.iter().any(|(_, asked)| *asked == Asked::Ca) {
        door.unchanged(caller, &selectors).await?;
    }
    door.standing()?;
    // A hold that came while the CA was asked stops what it gave as well.
    door.not_held(caller)?;
    if !caller.process.alive() {
        return Err(Refusal::Denied("the process has ended".into()));
    }
    let svids = subjects.iter().zip(tokens).map(|(subject, (jwt, _))| Jwtsvid {
        spiffe_id: jwt.id.to_string(),
        svid: jwt.token.to_string(),
        hint: subject.hint().to_owned(),
    });
    Ok(JwtsvidResponse { svids: svids.collect() })
}

/// Sorted and unique; at least one (WA-16, WA-41).
fn audience(mut asked: Vec<String>) -> Result<Vec<String>, Refusal> {
    if asked.is_empty() || asked.iter().any(String::is_empty) {
        return Err(Refusal::Argument("audience must be specified".into()));
    }
    if asked.len() > MAX_AUDIENCES || asked.iter().any(|a| a.len() > MAX_AUDIENCE_BYTES) {
        return Err(Refusal::Argument(format!(
            "at most {MAX_AUDIENCES} audiences of at most {MAX_AUDIENCE_BYTES} bytes"
        )));
    }
    asked.sort();
    asked.dedup();
    Ok(asked)
}

async fn subjects(door: &Door, caller: &Arc<Caller>) -> Result<(Vec<Subject>, Selectors), Refusal> {
    let entitlement = door.entitle(caller).await?;
    door.not_held(caller)?;
    let mut subjects = Vec::new();
    if let Some(class) = &entitlement.class {
        let svid = door.instances.svid(caller, &class.name, &entitlement.selectors).await?;
        subjects.push(Subject::Instance(svid.id.clone()));
    }
    subjects.extend(entitlement.entries.into_iter().map(Subject::Entry));
    Ok((subjects, entitlement.selectors))
}

/// A kept token in the first half of its life, or a new one; an older one where the CA does not answer.
async fn token(
    door: &Door,
    caller: &Caller,
    subject: &Subject,
    audience: &[String],
) -> Result<(IssuedJwt, Asked), Refusal> {
    let key = TokenKey { owner: subject.owner(), audience: audience.to_vec() };
    let refused = |jwt: &IssuedJwt| door.revoked.list().refuses_token(jwt.id.as_str(), Some(jwt.issued_at));
    // A token for a request that has a name is its own.
    let is_shared = caller.origin.request_id().is_none();
    let kept = door.tokens.find(&key, (door.clock)()).filter(|(jwt, _)| is_shared && !refused(jwt));
    if let Some((jwt, true)) = kept {
        return Ok((jwt, Asked::Nobody));
    }
    let asked = match subject {
        Subject::Entry(entry) => door.upstream.new_jwt(&entry.id, audience, &caller.origin).await,
        Subject::Instance(id) => door.instances.jwt(caller, id, audience).await,
    };
    if asked.is_ok() {
        door.metrics.issued(Issued::Jwt);
    }
    match (asked, kept) {
        (Ok(jwt), _) if jwt.id != *subject.id() => {
            Err(Refusal::Unavailable(format!("asked the CA for a token of {}, got one of {}", subject.id(), jwt.id)))
        }
        (Ok(jwt), _) => {
            if subject.is_cached() && is_shared {
                door.tokens.keep(key, jwt.clone(), (door.clock)());
            }
            Ok((jwt, Asked::Ca))
        }
        (Err(CaError::Lost(_)), Some((jwt, _))) => Ok((jwt, Asked::Ca)),
        (Err(CaError::Denied(None)), _) => Err(Refusal::Denied("the CA denies this identity".into())),
        (Err(error), _) => Err(error.into()),
    }
}

impl Subject {
    fn id(&self) -> &SpiffeId {
        match self {
            Self::Entry(entry) => &entry.spiffe_id,
            Self::Instance(id) => id,
        }
    }

    fn hint(&self) -> &str {
        match self {
            Self::Entry(entry) => &entry.hint,
            Self::Instance(_) => "",
        }
    }

    fn owner(&self) -> (String, i64, i64) {
        match self {
            Self::Entry(entry) => (entry.id.clone(), entry.revision, entry.created_at),
            Self::Instance(id) => (id.to_string(), 0, 0),
        }
    }

    /// A token with a `jti` is for one use, so never for two callers.
    fn is_cached(&self) -> bool {
        match self {
            Self::Entry(entry) => !entry.jwt_svid_include_jti,
            Self::Instance(_) => true,
        }
    }
}
