use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use chancery_attestor::ca::Dialer;
use chancery_core::reason::Reason;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    tls::{Allow, CurrentSvid, H2, PeerVerifier, client_config, provider, system_clock},
    x509::{X509Bundle, X509BundleSet},
};
use chancery_tests::attestation::Dialogue;
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, ServerName},
    version::TLS13,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::Status;

use crate::{
    court::{Court, case},
    rig::{Opening, Rig},
};

/// Case 53. The victim takes the man in the middle for the CA: he holds a certificate that it trusts.
#[test]
fn evidence_that_a_man_in_the_middle_copies_is_refused() {
    let court = Court::open();
    let rig = court.rig("a");
    let _victim = court.member(&rig);
    let (address, victims_trust) = court.run(man_in_the_middle(&court));
    let relayed = |opening: Opening| through(&court, &rig, address, victims_trust.clone(), opening);
    court.refuses(vec![
        case("53: with activation", Reason::ActivationFailed, relayed(rig.opening())),
        case("53: renewal without activation", Reason::QuoteNonce, relayed(rig.renewal())),
    ]);
    // The same evidence on the same TPM, without him.
    court.admit(&rig);
}

/// The honest exchange over the man in the middle; the challenge comes through, so he copies well.
async fn through(
    court: &Court,
    rig: &Rig,
    address: SocketAddr,
    trust: X509Bundle,
    opening: Opening,
) -> Result<(), Status> {
    let domain = TrustDomain::new(&court.playground.trust_domain).unwrap();
    let dialer = Dialer::new(&domain, vec![address.to_string()], trust).unwrap();
    let pinned = dialer.pinned().await.unwrap();
    let mut dialogue = Dialogue::over(pinned, "tpm", opening.bytes(), opening.csr.clone()).await?;
    let asked = opening.asked(&mut dialogue, domain.name()).await.unwrap();
    dialogue.admission(rig.answer(&opening, &asked).encode_to_vec()).await.map(drop)
}

/// Terminates TLS on both sides and copies the bytes between; answers where, and the bundle the victim has.
async fn man_in_the_middle(court: &Court) -> (SocketAddr, X509Bundle) {
    let domain = TrustDomain::new(&court.playground.trust_domain).unwrap();
    let (server, trust) = rogue_server(&domain);
    let (acceptor, connector) = (TlsAcceptor::from(server), connector(court, &domain));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, ca) = (listener.local_addr().unwrap(), court.playground.authority.grpc);
    tokio::spawn(async move {
        while let Ok((victim, _)) = listener.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let mut victim = acceptor.accept(victim).await.unwrap();
                let tcp = TcpStream::connect(ca).await.unwrap();
                let mut ca = connector.connect(ServerName::try_from("ca").unwrap(), tcp).await.unwrap();
                let _ = copy_bidirectional(&mut victim, &mut ca).await;
            });
        }
    });
    (address, trust)
}

/// His side towards the CA: an anonymous client like any attestor.
fn connector(court: &Court, domain: &TrustDomain) -> TlsConnector {
    let pem = std::fs::read_to_string(&court.playground.authority.bundle_pem).unwrap();
    let bundle = X509Bundle::from_pem(domain.clone(), &pem).unwrap();
    let bundles = Arc::new(ArcSwap::from_pointee(X509BundleSet::from(bundle)));
    let server = SpiffeId::from_path(domain, "/spire/server").unwrap();
    let verifier = PeerVerifier::new(provider(), bundles, Allow::id(&server), system_clock());
    let nobody = CurrentSvid::empty(provider(), system_clock());
    let config = client_config(Arc::new(verifier), Arc::new(nobody), &[H2]).unwrap();
    TlsConnector::from(Arc::new(config))
}

/// His side towards the victim: a certificate of `spiffe://TD/spire/server`.
fn rogue_server(domain: &TrustDomain) -> (Arc<ServerConfig>, X509Bundle) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);

    let mut leaf = CertificateParams::default();
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    leaf.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}/spire/server").try_into().unwrap())];
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.use_authority_key_identifier_extension = true;
    let leaf_key = KeyPair::generate().unwrap();
    let chain = vec![leaf.signed_by(&leaf_key, &issuer).unwrap().der().clone()];
    let private = PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, private).unwrap();
    config.alpn_protocols = vec![H2.to_vec()];
    (Arc::new(config), X509Bundle::from_pem(domain.clone(), &root.pem()).unwrap())
}
