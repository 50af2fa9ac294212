//! Compiles the .proto files with protox, so that nobody needs protoc.

const FILES: [&str; 13] = [
    "chancery/admin/v1/admin.proto",
    "chancery/agent/v1/agent.proto",
    "chancery/attest/pkcs11/v1/pkcs11.proto",
    "chancery/attest/tpm/v1/tpm.proto",
    "chancery/attestor/v1/attestor.proto",
    "chancery/node/v1/node.proto",
    "google/rpc/status.proto",
    "spiffe/workload/workload.proto",
    "spire/api/server/agent/v1/agent.proto",
    "spire/api/server/bundle/v1/bundle.proto",
    "spire/api/server/entry/v1/entry.proto",
    "spire/api/server/localauthority/v1/localauthority.proto",
    "spire/api/server/svid/v1/svid.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=.");
    let set = protox::compile(FILES, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    // The Workload API's own descriptor: server reflection and the "service is not extended" test read it.
    let workload = protox::compile(["spiffe/workload/workload.proto"], ["."])?;
    std::fs::write(out.join("workload.bin"), prost::Message::encode_to_vec(&workload))?;
    tonic_prost_build::configure().codec_path("crate::codec::SmallBuffers").compile_fds(set)?;
    Ok(())
}
