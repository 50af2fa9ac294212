use std::{sync::Arc, time::Duration};

use chancery_daemon::clock;
use chancery_proto::spire::api::{
    server::{
        agent::v1::{
            AgentX509svidParams, AttestAgentRequest, agent_client::AgentClient, attest_agent_request as request,
            attest_agent_response as response,
        },
        bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    },
    types::AttestationData,
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    x509::{self, X509BundleSet},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{EnrolError, held::Held};
use crate::{
    ca::{CaError, Dialer, Pinned, Servers, sync::own_bundle, while_alive, wire, x509_bundle},
    crypto::NodeKey,
    identity::TrustBundle,
    node::{Collector, Ending, Opening},
    state::validity,
};

/// Longest attestation; a discrete TPM makes its RSA EK for seconds, and the CA's challenge lives 60 s.
const DEADLINE: Duration = Duration::from_secs(120);
/// Most challenges in one attestation.
const MAX_CHALLENGES: usize = 4;

/// Attests on a connection of its own, without a client certificate.
///
/// The bundle is asked on the same connection: it is of the CA that admitted us.
pub(super) async fn attest(
    dialer: &Dialer,
    collector: &mut Collector,
    domain: &TrustDomain,
) -> Result<(Held, Arc<TrustBundle>), EnrolError> {
    // Dialled first: a token, or a signature of a slow TPM, is not spent on a CA that is away.
    let pinned = dialer.pinned().await?;
    let opening = collector.open().await?;
    let servers = dialer.servers();
    let talk = dialogue(&servers, &pinned, collector, &opening, domain);
    let outcome = match timeout(DEADLINE, talk).await {
        Ok(outcome) => outcome,
        Err(_) => Err(EnrolError::Ca(CaError::Lost(format!("no verdict within {} s", DEADLINE.as_secs())))),
    };
    // The next attestation begins at another server, from its start: this one is bound to its connection.
    if let Err(EnrolError::Ca(CaError::Lost(why))) = &outcome {
        servers.failed(pinned.server, why);
    }
    collector.ended(&opening, outcome.as_ref().map_or_else(EnrolError::ending, |_| Ending::Admitted));
    let (issued, reattestable, bundle) = outcome?;
    let held = checked(issued, reattestable, opening.key, opening.saved_key, &bundle, collector.kind())?;
    Ok((held.fresh_at(clock::now()), Arc::new(bundle)))
}

async fn dialogue(
    servers: &Servers,
    pinned: &Pinned,
    collector: &mut Collector,
    opening: &Opening,
    domain: &TrustDomain,
) -> Result<(wire::Issued, bool, TrustBundle), EnrolError> {
    let (say, said) = mpsc::channel(2);
    let lost = |_| EnrolError::Ca(CaError::Lost("the attestation stream ended".into()));
    say.send(first_words(collector.kind(), opening)).await.map_err(lost)?;
    let mut client = AgentClient::new(pinned.channel.clone());
    let opened = while_alive(servers, &pinned.channel, client.attest_agent(ReceiverStream::new(said)));
    let mut answers = opened.await.map_err(CaError::from)?.into_inner();
    let mut challenges = 0;
    let result = loop {
        let answer = while_alive(servers, &pinned.channel, answers.message()).await.map_err(CaError::from)?;
        let answer = answer.and_then(|answer| answer.step);
        match answer {
            Some(response::Step::Challenge(_)) if challenges == MAX_CHALLENGES => {
                return Err(CaError::malformed(format!("more than {MAX_CHALLENGES} challenges")).into());
            }
            Some(response::Step::Challenge(challenge)) => {
                challenges += 1;
                let answer = collector.answer(opening, &challenge, &pinned.exporters).await?;
                let step = Some(request::Step::ChallengeResponse(answer));
                say.send(AttestAgentRequest { step }).await.map_err(lost)?;
            }
            Some(response::Step::Result(result)) => break result,
            None => return Err(CaError::malformed("the attestation ended without a result").into()),
        }
    };
    drop(say);
    let request = GetBundleRequest { output_mask: None };
    let bundle = BundleClient::new(pinned.channel.clone()).get_bundle(request).await.map_err(CaError::from)?;
    Ok((wire::x509_svid(result.svid)?, result.reattestable, own_bundle(bundle.into_inner(), domain)?))
}

fn first_words(kind: &str, opening: &Opening) -> AttestAgentRequest {
    let params = request::Params {
        data: Some(AttestationData { r#type: kind.into(), payload: opening.payload.clone() }),
        params: Some(AgentX509svidParams { csr: opening.csr.clone() }),
    };
    AttestAgentRequest { step: Some(request::Step::Params(params)) }
}

/// Takes an SVID only where it is what was asked for: of our domain and namespace, of this key, of the bundle's authorities.
pub(super) fn checked(
    issued: wire::Issued,
    reattestable: bool,
    key: crate::crypto::AnyNodeKey,
    saved_key: crate::state::SavedKey,
    bundle: &TrustBundle,
    kind: &str,
) -> Result<Held, EnrolError> {
    let wrong = |what: String| EnrolError::Svid(what);
    if !is_node(&issued.id, &bundle.trust_domain, kind) {
        return Err(wrong(format!("{} is not an ID of a {kind} node of {}", issued.id, bundle.trust_domain)));
    }
    let bundles = X509BundleSet::from(x509_bundle(&bundle.trust_domain, &bundle.x509_authorities).map_err(wrong)?);
    let peer = x509::verify(&issued.chain, &bundles, clock::now()).map_err(|e| wrong(e.to_string()))?;
    if peer.id != issued.id {
        return Err(wrong(format!("the answer names {}, its certificate {}", issued.id, peer.id)));
    }
    if !is_of_key(&peer.leaf, key.as_ref()) {
        return Err(wrong("the certificate is of another key".into()));
    }
    let (not_before, not_after) = validity(&issued.chain).ok_or_else(|| wrong("the leaf does not parse".into()))?;
    let due = Held::due(not_before, not_after);
    Ok(Held { id: issued.id, chain: issued.chain, key, saved_key, not_before, not_after, reattestable, due })
}

fn is_of_key(leaf: &[u8], key: &dyn NodeKey) -> bool {
    x509::spki_of(leaf).is_ok_and(|spki| spki.ends_with(key.point()))
}

/// Whether `id` is `spiffe://<domain>/spire/agent/<kind>/<something>`.
fn is_node(id: &SpiffeId, domain: &TrustDomain, kind: &str) -> bool {
    let segments: Vec<&str> = id.segments().collect();
    id.is_member_of(domain) && segments.len() >= 4 && segments[..3] == ["spire", "agent", kind]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_below_the_attestor_are_taken() {
        let domain = TrustDomain::new("td.test").unwrap();
        for (id, taken) in [
            ("spiffe://td.test/spire/agent/tpm/abc", true),
            ("spiffe://td.test/spire/agent/tpm", false),
            ("spiffe://td.test/spire/agent/join_token/abc", false),
            ("spiffe://td.test/spire/server", false),
            ("spiffe://td.test/agent/tpm/abc/x", false),
            ("spiffe://other.test/spire/agent/tpm/abc", false),
        ] {
            assert_eq!(is_node(&SpiffeId::parse(id).unwrap(), &domain, "tpm"), taken, "{id}");
        }
    }
}
