use std::{collections::BTreeMap, sync::Arc};

use chancery_proto::workload::{ValidateJwtsvidRequest, ValidateJwtsvidResponse};
use chancery_sdk::jwt::JwtSvid;
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::Map;

use super::{Door, Refusal, door::matched};
use crate::peer::Caller;

/// How far clocks may differ, seconds.
const LEEWAY_SECS: u64 = 60;
/// Claims of a foreign domain's token that are told; the others are that domain's business (WA-55).
const FOREIGN_CLAIMS: [&str; 3] = ["aud", "exp", "sub"];

/// ValidateJWTSVID: by our own keys and those federated to the caller, who needs no identity.
///
/// Source: WA-52 to WA-57; spire-wire 1.9.
pub(super) async fn validate(
    door: &Door,
    caller: &Arc<Caller>,
    asked: ValidateJwtsvidRequest,
) -> Result<ValidateJwtsvidResponse, Refusal> {
    if asked.audience.is_empty() || asked.svid.is_empty() {
        return Err(Refusal::Argument("audience and svid must be specified".into()));
    }
    let entitlement = matched(door.cache.view(), door.observe(caller).await?)?;
    let bundles = entitlement.view.bundles.jwt(entitlement.domains());
    let verified = JwtSvid::verify(&asked.svid, &bundles, &asked.audience, (door.clock)(), LEEWAY_SECS);
    // The error names the rule, never the token.
    let svid = verified.map_err(|e| Refusal::Argument(e.to_string()))?;
    let list = door.revoked.list();
    if let Some(until) = list.held(svid.id.as_str(), (door.clock)()) {
        return Err(Refusal::Argument(format!("the token of {} is not accepted: it is held until {until}", svid.id)));
    }
    if list.refuses_token(svid.id.as_str(), svid.issued_at) {
        return Err(Refusal::Argument(format!("the token of {} was revoked", svid.id)));
    }
    let own = entitlement.view.domain.as_ref().is_some_and(|d| svid.id.is_member_of(d));
    let mut claims: BTreeMap<_, _> = fields(&svid.claims);
    if !own {
        claims.retain(|name, _| FOREIGN_CLAIMS.contains(&name.as_str()));
    }
    let audience = svid.audience.iter().map(|a| value(Kind::StringValue(a.clone()))).collect();
    claims.insert("aud".into(), value(Kind::ListValue(ListValue { values: audience })));
    Ok(ValidateJwtsvidResponse { spiffe_id: svid.id.to_string(), claims: Some(Struct { fields: claims }) })
}

fn fields(map: &Map<String, serde_json::Value>) -> BTreeMap<String, Value> {
    map.iter().map(|(name, v)| (name.clone(), from_json(v))).collect()
}

/// JSON as protobuf's own form of it. The depth is bounded by the JSON parser (128).
fn from_json(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    value(match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(b) => Kind::BoolValue(*b),
        Json::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or(f64::NAN)),
        Json::String(s) => Kind::StringValue(s.clone()),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(from_json).collect() }),
        Json::Object(map) => Kind::StructValue(Struct { fields: fields(map) }),
    })
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
