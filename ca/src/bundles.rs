//! Bundles: our own as published, and other trust domains' as operators gave them.

use chancery_sdk::{bundle::Bundle, id::TrustDomain};

use crate::{
    problem::Problem,
    state::State,
    store::{
        Authority, AuthorityKind, DeleteFederatedBundle, DeleteMode, Fact, FederatedBundle, Outcome, Refusal,
        SetFederatedBundle, SetMode,
    },
};

/// Our own bundle, and what SPIRE's form of it tells besides.
#[derive(Clone, Debug)]
pub struct Own {
    /// X.509 authorities, those that are roots.
    pub x509: Vec<Authority>,
    /// JWT authorities.
    pub jwt: Vec<Authority>,
    /// `spiffe_sequence`.
    pub sequence: u64,
    /// Seconds.
    pub refresh_hint: i64,
}

/// Our own bundle as it is published now.
pub fn own(state: &State) -> Own {
    let published = state.authority.published().borrow().clone();
    Own {
        x509: published.bundle(AuthorityKind::X509),
        jwt: published.bundle(AuthorityKind::Jwt),
        sequence: published.sequence,
        refresh_hint: published.refresh_hint,
    }
}

/// A foreign bundle.
///
/// # Errors
/// [`Problem::Invalid`] for our own domain, [`Problem::NotFound`].
pub async fn federated(state: &State, domain: &TrustDomain) -> Result<Bundle, Problem> {
    foreign(state, domain)?;
    let stored = state.view.look(|registry| registry.bundle(domain).cloned())?;
    parse(&*stored.ok_or_else(|| Problem::NotFound(format!("no bundle of trust domain {domain} is stored")))?)
}

/// Every foreign bundle, in the order of the name.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn all_federated(state: &State) -> Result<Vec<Bundle>, Problem> {
    state.view.look(|registry| registry.bundles().map(|bundle| parse(bundle)).collect::<Result<_, _>>())?
}

/// Stores a foreign bundle.
///
/// # Errors
/// [`Problem::Invalid`] for our own domain, [`Problem::AlreadyExists`] or [`Problem::NotFound`] as the mode says.
pub async fn set(state: &State, bundle: &Bundle, mode: SetMode) -> Result<(), Problem> {
    let domain = bundle.trust_domain();
    foreign(state, domain)?;
    let fact = SetFederatedBundle { trust_domain: domain.clone(), json: bundle.to_json(), mode };
    done(state, Fact::SetFederatedBundle(fact)).await
}

/// Deletes a foreign bundle.
///
/// # Errors
/// [`Problem::Precondition`] while entries federate with it and the mode restricts, [`Problem::NotFound`].
pub async fn delete(state: &State, domain: &TrustDomain, mode: DeleteMode) -> Result<(), Problem> {
    foreign(state, domain)?;
    let fact = DeleteFederatedBundle { trust_domain: domain.clone(), mode };
    let outcome = done(state, Fact::DeleteFederatedBundle(fact)).await;
    // Entries may have changed with it.
    outcome
}

fn foreign(state: &State, domain: &TrustDomain) -> Result<(), Problem> {
    match *domain == state.trust_domain {
        true => Err(Problem::Invalid(format!("{domain} is this server's own trust domain"))),
        false => Ok(()),
    }
}

/// Reads what is stored.
///
/// # Errors
/// [`Problem::Internal`] where it does not parse.
pub fn parse(stored: &FederatedBundle) -> Result<Bundle, Problem> {
    let domain = &stored.trust_domain;
    Bundle::from_json(domain.clone(), &stored.json).map_err(|error| {
        tracing::error!(%error, %domain, "stored bundle does not parse");
        Problem::Internal(format!("the stored bundle of {domain} does not parse"))
    })
}

async fn done(state: &State, fact: Fact) -> Result<(), Problem> {
    match state.commit(fact).await? {
        Outcome::Done { .. } => Ok(()),
        Outcome::Refused(Refusal::AlreadyExists(_)) => Err(Problem::AlreadyExists("the bundle exists".into())),
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}
