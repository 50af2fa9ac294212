use serde_json::json;

use super::Playground;

/// Writes `playground.json`: every file and socket an absolute path without scheme.
pub(super) fn write(p: &Playground) -> Result<(), String> {
    let nodes: Vec<_> = p
        .machines
        .iter()
        .map(|m| {
            json!({
                "spiffe_id": m.spiffe_id, "workload_socket": m.workload_socket, "admin_socket": m.admin_socket,
                "config": m.config, "pid": m.pid(), "tpm": m.tcti(),
                "metrics": m.metrics.to_string(),
            })
        })
        .collect();
    let servers: Vec<_> = p
        .servers()
        .map(|s| {
            json!({
                "grpc": s.grpc.to_string(), "admin_socket": s.admin_socket, "config": s.config, "pid": s.pid(),
                "metrics": s.metrics.to_string(),
            })
        })
        .collect();
    let all = json!({
        "trust_domain": p.trust_domain,
        "ca": {
            "grpc": p.authority.grpc.to_string(), "admin_socket": p.authority.admin_socket,
            "bundle_pem": p.authority.bundle_pem, "bundle_json": p.authority.bundle_json,
            "database": p.authority.database, "config": p.authority.config, "pid": p.authority.pid(),
            "metrics": p.authority.metrics.to_string(), "hsm_pid": p.authority.hsm_pid(), "servers": servers,
        },
        "nodes": nodes,
        "bin": p.bin.folder,
    });
    let text = serde_json::to_string_pretty(&all).map_err(|e| e.to_string())?;
    let path = p.dir.join("playground.json");
    chancery_daemon::file::write_atomic(&path, text.as_bytes(), 0o644).map_err(|e| format!("{}: {e}", path.display()))
}
