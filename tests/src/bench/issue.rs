//! Issuing an X509-SVID in the library, CSR check included, against one signature and one verification by the same
//! provider: whatever is above those two is our own work.

use std::{hint::black_box, sync::Arc, time::Duration};

use chancery_ca::{
    authority::{AuthorityManager, Settings},
    keys::{KeyStore, MemoryKeys},
    store::Store,
};
use chancery_core::{
    csr::Csr,
    leaf,
    lifetime::{Limits, Profile},
};
use chancery_daemon::{clock, key_type::KeyType};
use chancery_sdk::id::TrustDomain;
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use rustix::time::{ClockId, clock_gettime};

use super::{
    ROUNDS,
    figure::{Figure, Target},
};

/// Repetitions in one turn: a few milliseconds, so that both sides see the same machine.
const REPEATS: u32 = 50;
/// Turns of each side in a round, in the order A B B A.
const TURNS: usize = 20;
/// Turns for a mean: a tenth of a second.
const MEAN_TURNS: u32 = 30;
/// Bytes of what is signed to issue a leaf, and of what is verified in a CSR: SHA-256 of them is in both sides.
const SIGNED_BYTES: usize = 460;
const VERIFIED_BYTES: usize = 110;

/// Everything one issuance needs, made once.
pub(super) struct Issuer {
    manager: AuthorityManager,
    domain: TrustDomain,
    csr: Vec<u8>,
    random: SystemRandom,
}

/// The figure of issuing.
pub(super) fn measure() -> Result<Vec<Figure>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let database = folder.path().join("ca.sqlite3").display().to_string();
    let issuer = runtime.block_on(Issuer::new(&database, Arc::new(MemoryKeys::default()), None))?;
    let bare = Bare::new()?;
    // Once for the caches, unmeasured.
    turn(|| bare.sign_and_verify())?;
    turn(|| issuer.issue())?;
    let (mut ratios, mut all_issued, mut all_least) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        let (mut issued, mut least) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..TURNS / 2 {
            least += turn(|| bare.sign_and_verify())?;
            issued += turn(|| issuer.issue())? + turn(|| issuer.issue())?;
            least += turn(|| bare.sign_and_verify())?;
        }
        ratios.push(least.as_secs_f64() / issued.as_secs_f64());
        all_issued += issued;
        all_least += least;
    }
    let each = f64::from(REPEATS) * (TURNS * ROUNDS) as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / each;
    let note = format!("mean {:.1} us issued, {:.1} us sign + verify", micros(all_issued), micros(all_least));
    let name = "issuing with CSR check / (sign + verify)";
    Ok(vec![Figure::new(name, "", Target::AtLeast(0.90), ratios, note)?])
}

fn turn(work: impl Fn() -> Result<(), String>) -> Result<Duration, String> {
    let began = spent();
    for _ in 0..REPEATS {
        work()?;
    }
    Ok(spent().saturating_sub(began))
}

/// Processor time of this thread: what others do meanwhile is not in it.
fn spent() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl Issuer {
    /// An issuer whose keys are in `keys`; below them one in memory where its life is given, in seconds.
    pub(super) async fn new(
        database: &str,
        keys: Arc<dyn KeyStore>,
        delegated_issuer_secs: Option<i64>,
    ) -> Result<Self, String> {
        Store::migrate(database).await.map_err(|e| e.to_string())?;
        let store = Store::open(database, "bench").await.map_err(|e| e.to_string())?;
        let domain = TrustDomain::new("bench.test").map_err(|e| e.to_string())?;
        let settings = Settings {
            trust_domain: domain.clone(),
            server: "bench".into(),
            life_secs: 86_400,
            publish_delay_secs: 60,
            refresh_hint_secs: 300,
            jwt_issuer: None,
            x509_key_type: KeyType::EcP256,
            jwt_key_type: KeyType::EcP256,
            longest_ttl_secs: 3600,
            destroy_after_secs: 86_400,
            missing_patience_secs: 60,
            delegated_issuer_secs,
            upstream: None,
            offline: None,
        };
        let manager = AuthorityManager::new(settings, keys);
        manager.rotate(&store, clock::now()).await.map_err(|e| e.to_string())?;
        store.close().await;
        let key = rcgen::KeyPair::generate().map_err(|e| e.to_string())?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key).map_err(|e| e.to_string())?;
        Ok(Self { manager, domain, csr: csr.der().to_vec(), random: SystemRandom::new() })
    }

    /// The CSR that each issuance checks.
    pub(super) fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// The CSR's proof, the decision, the signature: what one call costs between its request and its commit.
    pub(super) fn issue(&self) -> Result<(), String> {
        let csr = Csr::parse(black_box(&self.csr)).map_err(|e| e.to_string())?;
        let issuer = self.manager.x509_not_after().ok_or("no authority")?;
        let profile = Profile::new(3600, 86_400).map_err(|e| e.to_string())?;
        let validity = profile.clamp(0, Limits { issuer, node: None }, clock::now()).map_err(|e| e.to_string())?;
        let mut serial = [0; 16];
        self.random.fill(&mut serial).map_err(|e| e.to_string())?;
        let leaf = leaf::for_server(&self.domain, csr.spki_der(), validity, serial).map_err(|e| e.to_string())?;
        black_box(self.manager.sign_x509(&leaf).map_err(|e| e.to_string())?);
        Ok(())
    }
}

/// The least that issuing can cost: the provider's own work.
pub(super) struct Bare {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    verified: Vec<u8>,
    signature: Vec<u8>,
}

impl Bare {
    pub(super) fn new() -> Result<Self, String> {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(|e| e.to_string())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random)
            .map_err(|e| e.to_string())?;
        let verified = vec![7; VERIFIED_BYTES];
        let signature = pair.sign(&random, &verified).map_err(|e| e.to_string())?.as_ref().to_vec();
        Ok(Self { pair, random, verified, signature })
    }

    /// Processor time of one signature and one verification, here and now.
    pub(super) fn mean(&self) -> Result<Duration, String> {
        let mut all = Duration::ZERO;
        for _ in 0..MEAN_TURNS {
            all += turn(|| self.sign_and_verify())?;
        }
        Ok(all / (MEAN_TURNS * REPEATS))
    }

    pub(super) fn sign_and_verify(&self) -> Result<(), String> {
        black_box(self.pair.sign(&self.random, black_box(&[7_u8; SIGNED_BYTES])).map_err(|e| e.to_string())?);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.pair.public_key())
            .verify(black_box(&self.verified), black_box(&self.signature))
            .map_err(|e| e.to_string())
    }
}
