use chancery_core::{class::ClassName, selector::Selectors};
use chancery_proto::{
    chancery::node::v1::{self as node, node_client::NodeClient, reconcile_response::Live},
    spire::api::types,
};
use chancery_sdk::{id::SpiffeId, origin::Origin};

use super::{Ca, CaError, IssuedJwt, IssuedX509, sync::MAX_ANSWER_BYTES, wire};

/// What a process needs to become an instance.
#[derive(Clone, Debug)]
pub struct BeginInstance {
    /// The one class it matches.
    pub class: ClassName,
    /// SHA-256 naming the process on this node.
    pub start_token: [u8; 32],
    /// DER PKCS#10, signed by the key it names.
    pub csr: Vec<u8>,
    /// Everything the workload attestors found.
    pub selectors: Selectors,
    /// For the record.
    pub process: ProcessFacts,
    /// For the record, too: the request that it began with.
    pub origin: Origin,
}

/// What was seen of the process; recorded by the CA, believed by nobody.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProcessFacts {
    /// In the attestor's pid namespace.
    pub pid: i32,
    /// Of `SO_PEERCRED`.
    pub uid: u32,
    /// Of `SO_PEERCRED`.
    pub gid: u32,
    /// Of the executable.
    pub path: String,
    /// Lower-case hex SHA-256 of the executable; empty when not measured.
    pub sha256: String,
    /// `peer-pidfd` or `start-time`.
    pub pid_proof: String,
}

/// A new instance.
#[derive(Clone, Debug)]
pub struct Begun {
    /// `spiffe://TD/agent/<class>/<uuidv7>`.
    pub instance_id: SpiffeId,
    /// Its first SVID.
    pub svid: IssuedX509,
}

/// What the CA holds to be alive on this node.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// Instances that go on.
    pub live: Vec<LiveInstance>,
    /// How many the CA ended.
    pub ended: u32,
}

/// One instance that goes on.
#[derive(Clone, Debug)]
pub struct LiveInstance {
    /// The process.
    pub start_token: [u8; 32],
    /// The instance.
    pub instance_id: SpiffeId,
    /// Its class.
    pub class: ClassName,
}

impl Ca {
    /// Makes a process an instance; the same start token and key give the same instance again.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn begin(&self, begin: &BeginInstance) -> Result<Begun, CaError> {
        let answer = self
            .call(|channel| {
                let request = wire::of_origin(&begin.origin, begin_request(begin));
                async move { NodeClient::new(channel).begin(request).await }
            })
            .await?;
        let instance_id = parse_id(&answer.instance_id)?;
        let svid = svid(answer.svid, &instance_id)?;
        Ok(Begun { instance_id, svid })
    }

    /// A new SVID of a running instance. `csr` is DER PKCS#10, signed by the key it names.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn renew(&self, instance: &SpiffeId, start_token: [u8; 32], csr: Vec<u8>) -> Result<IssuedX509, CaError> {
        let answer = self
            .call(|channel| {
                let request = node::RenewRequest {
                    instance_id: instance.to_string(),
                    start_token: start_token.to_vec(),
                    csr: csr.clone(),
                };
                async move { NodeClient::new(channel).renew(request).await }
            })
            .await?;
        svid(answer.svid, instance)
    }

    /// A JWT-SVID of a running instance for `audience` (at least one).
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn new_instance_jwt(
        &self,
        instance: &SpiffeId,
        start_token: [u8; 32],
        audience: &[String],
        origin: &Origin,
    ) -> Result<IssuedJwt, CaError> {
        let answer = self
            .call(|channel| {
                let request = node::NewJwtRequest {
                    instance_id: instance.to_string(),
                    start_token: start_token.to_vec(),
                    audience: audience.to_vec(),
                };
                let request = wire::of_origin(origin, request);
                async move { NodeClient::new(channel).new_jwt(request).await }
            })
            .await?;
        wire::jwt_svid(answer.svid)
    }

    /// Tells that the process has ended; its ID is dead for ever.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn end(&self, instance: &SpiffeId, start_token: [u8; 32]) -> Result<(), CaError> {
        self.call(|channel| {
            let request = node::EndRequest { instance_id: instance.to_string(), start_token: start_token.to_vec() };
            async move { NodeClient::new(channel).end(request).await }
        })
        .await?;
        Ok(())
    }

    /// Tells which processes still live; the CA ends every other instance of the node.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn reconcile(&self, boot: [u8; 32], live: &[[u8; 32]]) -> Result<Reconciled, CaError> {
        let answer = self
            .call(|channel| {
                let request = node::ReconcileRequest {
                    boot: boot.to_vec(),
                    live_start_tokens: live.iter().map(|t| t.to_vec()).collect(),
                };
                let mut client = NodeClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
                async move { client.reconcile(request).await }
            })
            .await?;
        let live = answer.live.into_iter().map(live_instance).collect::<Result<_, _>>()?;
        Ok(Reconciled { live, ended: answer.ended })
    }
}

fn begin_request(begin: &BeginInstance) -> node::BeginRequest {
    let facts = &begin.process;
    node::BeginRequest {
        class_name: begin.class.to_string(),
        start_token: begin.start_token.to_vec(),
        csr: begin.csr.clone(),
        selectors: begin
            .selectors
            .iter()
            .map(|s| types::Selector { r#type: s.kind().into(), value: s.value().into() })
            .collect(),
        process: Some(node::ProcessFacts {
            pid: facts.pid,
            uid: facts.uid,
            gid: facts.gid,
            path: facts.path.clone(),
            sha256: facts.sha256.clone(),
            pid_proof: facts.pid_proof.clone(),
        }),
    }
}

/// An SVID that must be the instance's.
fn svid(svid: Option<node::Svid>, instance: &SpiffeId) -> Result<IssuedX509, CaError> {
    let svid = svid.ok_or_else(|| CaError::malformed("the SVID is missing"))?;
    let id = parse_id(&svid.spiffe_id)?;
    if id != *instance {
        return Err(CaError::malformed(format!("asked for an SVID of {instance}, got one of {id}")));
    }
    wire::issued(id, svid.cert_chain, svid.expires_at)
}

fn live_instance(live: Live) -> Result<LiveInstance, CaError> {
    let start_token = live.start_token.try_into().map_err(|_| CaError::malformed("a start token is not 32 bytes"))?;
    Ok(LiveInstance {
        start_token,
        instance_id: parse_id(&live.instance_id)?,
        class: ClassName::new(&live.class_name).map_err(|e| CaError::malformed(e.to_string()))?,
    })
}

fn parse_id(text: &str) -> Result<SpiffeId, CaError> {
    SpiffeId::parse(text).map_err(|e| CaError::malformed(e.to_string()))
}
