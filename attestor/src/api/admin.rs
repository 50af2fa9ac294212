use std::sync::Arc;

use chancery_proto::chancery::attestor::v1::{
    self as pb, ExplainRequest, ExplainResponse, GetStatusRequest, GetStatusResponse, attestor_server::Attestor,
};
use tonic::{Request, Response, Status};

use super::{Door, explain::explain, outage::End};
use crate::ca::Server;

/// The operator's questions. Who may open the socket may ask: its mode and folder are the lock.
pub(super) struct AdminApi(pub Arc<Door>);

#[tonic::async_trait]
impl Attestor for AdminApi {
    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Ok(Response::new(explain(&self.0, request.into_inner().pid).await?))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let view = self.0.cache.view();
        let node = self.0.identity.borrow().clone();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Response::new(GetStatusResponse {
            node_id: node.as_ref().map(|n| n.id.to_string()).unwrap_or_default(),
            node_expires_at: node.map(|n| n.expires_at.0).unwrap_or_default(),
            synced: view.ready(),
            entries: count(view.entries.len()),
            classes: count(view.classes.len()),
            svids: count(view.svids.len()),
            live_instances: count(self.0.instances.count()),
            servers: self.0.upstream.servers().list().into_iter().map(server).collect(),
            ends: self.0.ends().iter().map(|end| self.end(end)).collect(),
            outage_budget: self.0.budget().map(|end| self.end(&end)),
        }))
    }
}

impl AdminApi {
    fn end(&self, end: &End) -> pb::End {
        pb::End {
            what: end.what.name().into(),
            id: end.id.clone(),
            expires_at: end.at.0,
            seconds_left: self.0.left(end),
        }
    }
}

fn server(server: Server) -> pb::Server {
    pb::Server { address: server.address, state: server.condition.name().into(), problem: server.problem }
}
