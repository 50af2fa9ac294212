//! Lifetimes in force: the configuration's defaults, and its caps that nothing asked for can exceed.

use chancery_core::{
    lifetime::{LifetimeError, Limits, Profile},
    node::{CertRef, Node},
};

use crate::{config::Ttl, gate::NodeDenial, problem::Problem, state::State};

/// X509-SVIDs of entries, and minted ones.
///
/// # Errors
/// [`LifetimeError::Profile`] where the configuration's default is too short.
pub fn x509(ttl: &Ttl) -> Result<Profile, LifetimeError> {
    Profile::new(ttl.x509_svid.as_secs(), ttl.x509_svid_max.as_secs())
}

/// X509-SVIDs of instances.
///
/// # Errors
/// As [`x509`].
pub fn instance(ttl: &Ttl) -> Result<Profile, LifetimeError> {
    Profile::new(ttl.instance_svid.as_secs(), ttl.instance_svid_max.as_secs())
}

/// X509-SVIDs of nodes; nobody asks for another length.
///
/// # Errors
/// As [`x509`].
pub fn node(ttl: &Ttl) -> Result<Profile, LifetimeError> {
    Profile::new(ttl.node_svid.as_secs(), ttl.node_svid.as_secs())
}

/// JWT-SVIDs.
///
/// # Errors
/// As [`x509`].
pub fn jwt(ttl: &Ttl) -> Result<Profile, LifetimeError> {
    Profile::new(ttl.jwt_svid.as_secs(), ttl.jwt_svid_max.as_secs())
}

/// The longest life of anything an authority signs, in seconds.
pub fn longest_secs(ttl: &Ttl) -> i64 {
    let longest = [ttl.x509_svid_max, ttl.instance_svid_max, ttl.node_svid, ttl.jwt_svid_max];
    longest.into_iter().map(|span| span.as_secs()).fold(0, i64::max)
}

impl From<LifetimeError> for Problem {
    fn from(error: LifetimeError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The certificate the calling node authenticated with; the gate let it in by its current serial.
///
/// # Errors
/// [`Problem::Node`] where it has none any more.
pub fn node_cert(node: &Node) -> Result<&CertRef, Problem> {
    node.current.as_ref().ok_or(Problem::Node(NodeDenial::NotAttested))
}

/// Ends that an X509-SVID may not outlive.
///
/// # Errors
/// [`Problem::Unavailable`] before the first authority is active, [`Problem::Node`] as [`node_cert`].
pub fn x509_limits(state: &State, node: Option<&Node>) -> Result<Limits, Problem> {
    let issuer = state.authority.x509_not_after().ok_or_else(no_authority)?;
    Ok(Limits { issuer, node: node.map(node_cert).transpose()?.map(|cert| cert.expires_at) })
}

/// Ends that a token may not outlive.
///
/// # Errors
/// As [`x509_limits`].
pub fn jwt_limits(state: &State, node: Option<&Node>) -> Result<Limits, Problem> {
    let issuer = state.authority.jwt_not_after().ok_or_else(no_authority)?;
    Ok(Limits { issuer, node: node.map(node_cert).transpose()?.map(|cert| cert.expires_at) })
}

fn no_authority() -> Problem {
    Problem::Unavailable("no authority is active yet".into())
}

#[cfg(test)]
mod tests {
    use chancery_sdk::time::UnixTime;

    use super::*;

    #[test]
    fn js_27_token_lives_five_minutes_by_default_and_never_longer_than_its_key() {
        let profile = jwt(&Ttl::default()).unwrap();
        let now = UnixTime(1_000_000);
        let ends = |issuer: i64, asked: i64| {
            let limits = Limits { issuer: now.plus(issuer), node: None };
            profile.clamp(asked, limits, now).unwrap().not_after.since(now)
        };
        assert_eq!((ends(86_400, 0), ends(120, 0), ends(86_400, 90_000)), (300, 120, 3600));
    }
}
