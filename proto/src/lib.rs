//! Generated types and services of every protocol Chancery speaks.
//!
//! Field numbers are the contract; what they mean is said in the `.proto` files beside this crate.
#![allow(clippy::all, missing_docs)]

pub mod codec;

/// Chancery's own protocols.
pub mod chancery {
    /// Administration that SPIRE has no API for.
    pub mod admin {
        pub mod v1 {
            tonic::include_proto!("chancery.admin.v1");
        }
    }
    /// Node attestation payloads.
    pub mod attest {
        pub mod pkcs11 {
            pub mod v1 {
                tonic::include_proto!("chancery.attest.pkcs11.v1");
            }
        }
        pub mod tpm {
            pub mod v1 {
                tonic::include_proto!("chancery.attest.tpm.v1");
            }
        }
    }
    /// What an operator asks of the attestor on this machine.
    /// What our attestor tells processes beyond the Workload API.
    pub mod agent {
        pub mod v1 {
            tonic::include_proto!("chancery.agent.v1");
        }
    }
    pub mod attestor {
        pub mod v1 {
            tonic::include_proto!("chancery.attestor.v1");
        }
    }
    /// Instances of agent classes.
    pub mod node {
        pub mod v1 {
            tonic::include_proto!("chancery.node.v1");
        }
    }
}

/// Google's RPC status.
pub mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// SPIRE's server APIs.
pub mod spire {
    pub mod api {
        pub mod types {
            tonic::include_proto!("spire.api.types");
        }
        pub mod server {
            pub mod agent {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.agent.v1");
                }
            }
            pub mod bundle {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.bundle.v1");
                }
            }
            pub mod entry {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.entry.v1");
                }
            }
            pub mod localauthority {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.localauthority.v1");
                }
            }
            pub mod svid {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.svid.v1");
                }
            }
        }
    }
}

/// The SPIFFE Workload API.
pub mod workload {
    tonic::include_proto!("_");

    /// Encoded `FileDescriptorSet` of the Workload API, for server reflection.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/workload.bin"));
}
