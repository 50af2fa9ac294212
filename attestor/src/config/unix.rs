use serde::Deserialize;

/// Options of the `unix` workload attestor, table `[unix]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unix {}
