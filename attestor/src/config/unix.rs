use serde::Deserialize;

/// Options of the `unix` workload attestor, table `[unix]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unix {
    /// Largest program that gets a `unix:sha256` selector, in bytes.
    pub max_digest_bytes: u64,
}

impl Default for Unix {
    fn default() -> Self {
        // 512 MiB: statically linked agents with their models' runtimes stay below.
        Self { max_digest_bytes: 512 << 20 }
    }
}
