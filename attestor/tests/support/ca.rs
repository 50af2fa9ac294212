use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_attestor::{
    ca::{
        AuthorizedClass, AuthorizedEntry, BeginInstance, Begun, CaError, Cursor, IssuedJwt, IssuedX509, LiveInstance,
        Reconciled, Servers, Telling, Told, ToldCrl,
    },
    identity::{JwtAuthority, TrustBundle},
    upstream::{Answer, Upstream},
    witness::Report,
};
use chancery_core::{class::ClassName, csr::Csr};
use chancery_daemon::clock;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    origin::Origin,
};
use futures_util::StreamExt;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;

use super::PATIENCE;

/// An entry whose SPIFFE ID is `spiffe://example.org/<id>`.
pub fn entry(id: &str, selectors: &[&str]) -> AuthorizedEntry {
    AuthorizedEntry {
        id: id.into(),
        spiffe_id: format!("spiffe://example.org/{id}").parse().unwrap(),
        selectors: selectors.iter().map(|s| s.parse().unwrap()).collect(),
        federates_with: vec![],
        hint: String::new(),
        revision: 0,
        created_at: 100,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    }
}

pub fn class(name: &str, selectors: &[&str]) -> AuthorizedClass {
    AuthorizedClass {
        name: ClassName::new(name).unwrap(),
        selectors: selectors.iter().map(|s| s.parse().unwrap()).collect(),
        x509_svid_ttl: 0,
        revision: 0,
        allow_unproven_nodes: true,
    }
}

/// A place in the log.
pub fn cursor(number: i64) -> Cursor {
    Cursor { epoch: 0, number, hash: vec![7; 32] }
}

/// What the CA holds and has seen.
#[derive(Clone, Default)]
pub struct State {
    pub entries: Vec<AuthorizedEntry>,
    pub classes: Vec<AuthorizedClass>,
    pub federated: BTreeMap<TrustDomain, TrustBundle>,
    /// Answers nothing.
    pub away: bool,
    /// Lifetime of what is issued, seconds.
    pub ttl: i64,
    /// Start token -> instance and class, of those that run.
    pub live: BTreeMap<[u8; 32], (SpiffeId, ClassName)>,
    pub ended: Vec<SpiffeId>,
    /// Every key of an instance, in order.
    pub keys: Vec<Vec<u8>>,
    pub begins: Vec<BeginInstance>,
    pub polls: usize,
    pub x509: usize,
    pub jwts: usize,
    pub reconciles: usize,
    /// Has a stream of changes; else it is polled, as a SPIRE server is.
    pub streams: bool,
    /// Cursors that streams were opened with.
    pub opened: Vec<Option<Cursor>>,
    /// Checkpoints that streams were opened with.
    pub witnessed: Vec<Vec<u8>>,
    /// What beginnings and tokens were asked for.
    pub origins: Vec<Origin>,
    /// Checkpoints that were refused.
    pub reports: Vec<Report>,
    /// Renewals of instances are denied.
    pub denies_renewal: bool,
    /// Renewals of instances are refused as of held ones; how many were.
    pub holds: Option<usize>,
}

/// A CA of one domain, with a real key.
pub struct FakeCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
    jwt: EcdsaKeyPair,
    jwt_spki: Vec<u8>,
    pub domain: TrustDomain,
    pub state: watch::Sender<State>,
    /// While false, whatever issues waits.
    pub open: watch::Sender<bool>,
    bundle: Mutex<Arc<TrustBundle>>,
    stream: Mutex<Option<mpsc::UnboundedSender<Result<Told, CaError>>>>,
    pub servers: Arc<Servers>,
}

impl FakeCa {
    /// A list of this CA.
    pub fn crl(&self, number: u64, serials: &[u64]) -> ToldCrl {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + time::Duration::hours(1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        ToldCrl { der: params.signed_by(&self.issuer).unwrap().der().to_vec(), chain: Vec::new() }
    }

    pub fn new(entries: Vec<AuthorizedEntry>, classes: Vec<AuthorizedClass>) -> Arc<Self> {
        Self::of("example.org", entries, classes)
    }

    pub fn of(domain: &str, entries: Vec<AuthorizedEntry>, classes: Vec<AuthorizedClass>) -> Arc<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into().unwrap())];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let jwt = KeyPair::generate().unwrap();
        let jwt_spki = rcgen::PublicKeyData::subject_public_key_info(&jwt);
        let signer =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &jwt.serialize_der(), &SystemRandom::new());
        let domain = TrustDomain::new(domain).unwrap();
        let bundle = TrustBundle {
            trust_domain: domain.clone(),
            x509_authorities: vec![issuer.der().clone()],
            jwt_authorities: vec![JwtAuthority { key_id: "k1".into(), public_key: jwt_spki.clone(), expires_at: 0 }],
            tainted: Default::default(),
            sequence_number: 1,
            refresh_hint: 0,
        };
        let state = State { entries, classes, ttl: 3600, ..State::default() };
        Arc::new(Self {
            issuer,
            jwt: signer.unwrap(),
            jwt_spki,
            domain,
            state: watch::Sender::new(state),
            open: watch::Sender::new(true),
            bundle: Mutex::new(Arc::new(bundle)),
            stream: Mutex::default(),
            servers: Arc::new(Servers::new(vec!["ca-1:8081".into(), "ca-2:8081".into()])),
        })
    }

    pub fn own_bundle(&self) -> Arc<TrustBundle> {
        Arc::clone(&self.bundle.lock().unwrap())
    }

    pub fn change_bundle(&self, change: impl FnOnce(&mut TrustBundle)) {
        change(Arc::make_mut(&mut self.bundle.lock().unwrap()));
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.borrow())
    }

    /// Waits for the state to be so.
    pub async fn until(&self, is: impl FnMut(&State) -> bool) {
        let mut state = self.state.subscribe();
        let waited = tokio::time::timeout(PATIENCE, state.wait_for(is)).await;
        waited.expect("in time").unwrap();
    }

    /// Waits for a poll that begins after this call to end.
    pub async fn polled(&self) {
        let polls = self.look(|s| s.polls);
        // The second one begins after the first has ended.
        self.until(|s| s.polls >= polls + 2).await;
    }

    /// Tells it to the stream that was opened last.
    pub fn push(&self, told: Told) {
        let fresh = told.entries.clone();
        self.change(|s| {
            s.entries.retain(|known| fresh.iter().all(|entry| entry.id != known.id));
            s.entries.extend(fresh);
        });
        self.stream.lock().unwrap().as_ref().expect("a stream").send(Ok(told)).expect("somebody listens");
    }

    /// Ends the stream.
    pub fn hang_up(&self) {
        *self.stream.lock().unwrap() = None;
    }

    /// Everything, as a stream begins with.
    pub fn everything(&self, number: i64) -> Told {
        let (entries, classes) = self.look(|s| (s.entries.clone(), s.classes.clone()));
        let own = Some(self.own_bundle());
        Told { cursor: Some(cursor(number)), full: true, entries, classes, own, ..Told::default() }
    }

    fn answers(&self) -> Result<(), CaError> {
        if self.look(|s| s.away) { Err(CaError::Lost("away".into())) } else { Ok(()) }
    }

    async fn issuing(&self) -> Result<(), CaError> {
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        self.answers()
    }

    fn issue(&self, id: &SpiffeId, csr: &[u8]) -> IssuedX509 {
        let csr = Csr::parse(csr).unwrap();
        let spki = SubjectPublicKeyInfo::from_der(csr.spki_der()).unwrap();
        let now = clock::now();
        let expires_at = now.plus(self.look(|s| s.ttl));
        let at = |t: chancery_sdk::time::UnixTime| OffsetDateTime::from_unix_timestamp(t.0).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        params.not_before = at(now.plus(-10));
        params.not_after = at(expires_at);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into().unwrap())];
        let leaf = params.signed_by(&spki, &self.issuer).unwrap();
        self.change(|s| s.x509 += 1);
        IssuedX509 { id: id.clone(), chain: vec![leaf.der().clone()], expires_at }
    }

    /// A token as this CA signs it.
    pub fn token(&self, sub: &str, audience: &serde_json::Value, issued_at: i64, expires_at: i64) -> String {
        let claims = serde_json::json!({"sub": sub, "aud": audience, "iat": issued_at, "exp": expires_at, "role": "x"});
        self.sign(&serde_json::json!({"alg": "ES256", "kid": "k1", "typ": "JWT"}), &claims)
    }

    pub fn sign(&self, header: &serde_json::Value, claims: &serde_json::Value) -> String {
        let part = |v: &serde_json::Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.jwt.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn issue_jwt(&self, id: &SpiffeId, audience: &[String]) -> IssuedJwt {
        let now = clock::now();
        let expires_at = now.plus(300);
        let token = self.token(id.as_str(), &audience.into(), now.0, expires_at.0).into();
        self.change(|s| s.jwts += 1);
        IssuedJwt { id: id.clone(), token, issued_at: now, expires_at }
    }

    fn instance_key(&self, csr: &[u8]) {
        let spki = Csr::parse(csr).unwrap().spki_der().to_vec();
        self.change(|s| s.keys.push(spki));
    }
}

impl Upstream for FakeCa {
    fn servers(&self) -> Arc<Servers> {
        Arc::clone(&self.servers)
    }

    fn report_checkpoint<'a>(&'a self, report: &'a Report) -> Answer<'a, ()> {
        Box::pin(async {
            self.answers()?;
            self.change(|s| s.reports.push(report.clone()));
            Ok(())
        })
    }

    fn watch(&self, cursor: Option<Cursor>, witnessed: Vec<u8>) -> Answer<'_, Telling> {
        Box::pin(async move {
            self.answers()?;
            if !self.look(|s| s.streams) {
                return Err(CaError::Refused { code: Code::Unimplemented, message: "unknown method".into() });
            }
            let (tell, told) = mpsc::unbounded_channel();
            if cursor.is_none() {
                tell.send(Ok(self.everything(1))).unwrap();
            }
            *self.stream.lock().unwrap() = Some(tell);
            self.change(|s| {
                s.opened.push(cursor);
                s.witnessed.push(witnessed);
            });
            Ok(UnboundedReceiverStream::new(told).boxed())
        })
    }

    fn entries(&self) -> Answer<'_, Vec<AuthorizedEntry>> {
        Box::pin(async {
            self.answers()?;
            self.change(|s| s.polls += 1);
            Ok(self.look(|s| s.entries.clone()))
        })
    }

    fn classes(&self) -> Answer<'_, Vec<AuthorizedClass>> {
        Box::pin(async {
            self.answers()?;
            Ok(self.look(|s| s.classes.clone()))
        })
    }

    fn bundle(&self) -> Answer<'_, Arc<TrustBundle>> {
        Box::pin(async {
            self.answers()?;
            Ok(self.own_bundle())
        })
    }

    fn federated<'a>(&'a self, domain: &'a TrustDomain) -> Answer<'a, Option<TrustBundle>> {
        Box::pin(async move {
            self.answers()?;
            Ok(self.look(|s| s.federated.get(domain).cloned()))
        })
    }

    fn new_x509_batch(&self, asked: Vec<(String, Vec<u8>)>) -> Answer<'_, Vec<Result<IssuedX509, CaError>>> {
        Box::pin(async move {
            self.issuing().await?;
            let one = |(id, csr): (String, Vec<u8>)| {
                let entry = self.look(|s| s.entries.iter().find(|e| e.id == id).cloned());
                let gone = CaError::Refused { code: Code::NotFound, message: "no such entry".into() };
                entry.map(|e| self.issue(&e.spiffe_id, &csr)).ok_or(gone)
            };
            Ok(asked.into_iter().map(one).collect())
        })
    }

    fn new_jwt<'a>(&'a self, entry_id: &'a str, audience: &'a [String], origin: &'a Origin) -> Answer<'a, IssuedJwt> {
        Box::pin(async move {
            self.change(|s| s.origins.push(origin.clone()));
            self.issuing().await?;
            let entry = self.look(|s| s.entries.iter().find(|e| e.id == entry_id).cloned());
            Ok(self.issue_jwt(&entry.ok_or(CaError::Denied(None))?.spiffe_id, audience))
        })
    }

    fn begin<'a>(&'a self, begin: &'a BeginInstance) -> Answer<'a, Begun> {
        Box::pin(async move {
            self.change(|s| s.origins.push(begin.origin.clone()));
            self.issuing().await?;
            let id = begin.class.instance_id(&self.domain, uuid::Uuid::now_v7()).unwrap();
            let fresh = (id, begin.class.clone());
            let mut instance_id = None;
            self.change(|s| {
                instance_id = Some(s.live.entry(begin.start_token).or_insert(fresh).0.clone());
                s.begins.push(begin.clone());
            });
            self.instance_key(&begin.csr);
            let instance_id = instance_id.unwrap();
            Ok(Begun { svid: self.issue(&instance_id, &begin.csr), instance_id })
        })
    }

    fn renew<'a>(&'a self, instance: &'a SpiffeId, start_token: [u8; 32], csr: Vec<u8>) -> Answer<'a, IssuedX509> {
        Box::pin(async move {
            self.issuing().await?;
            let known = self.look(|s| s.live.get(&start_token).map(|l| l.0.clone()) == Some(instance.clone()));
            if !known || self.look(|s| s.denies_renewal) {
                return Err(CaError::Denied(None));
            }
            if self.look(|s| s.holds.is_some()) {
                self.change(|s| s.holds = s.holds.map(|refused| refused + 1));
                return Err(CaError::Refused { code: Code::Aborted, message: "INSTANCE_HELD: until".into() });
            }
            self.instance_key(&csr);
            Ok(self.issue(instance, &csr))
        })
    }

    fn new_instance_jwt<'a>(
        &'a self,
        instance: &'a SpiffeId,
        _: [u8; 32],
        audience: &'a [String],
        origin: &'a Origin,
    ) -> Answer<'a, IssuedJwt> {
        Box::pin(async move {
            self.change(|s| s.origins.push(origin.clone()));
            self.issuing().await?;
            Ok(self.issue_jwt(instance, audience))
        })
    }

    fn end<'a>(&'a self, instance: &'a SpiffeId, start_token: [u8; 32]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.answers()?;
            self.change(|s| {
                s.live.remove(&start_token);
                s.ended.push(instance.clone());
            });
            Ok(())
        })
    }

    fn reconcile<'a>(&'a self, _: [u8; 32], live: &'a [[u8; 32]]) -> Answer<'a, Reconciled> {
        Box::pin(async move {
            self.answers()?;
            let mut ended = 0;
            self.change(|s| {
                s.reconciles += 1;
                let gone: Vec<_> = s.live.keys().filter(|t| !live.contains(t)).copied().collect();
                for token in gone {
                    ended += 1;
                    let (id, _) = s.live.remove(&token).unwrap();
                    s.ended.push(id);
                }
            });
            let one = |(t, (id, class)): (&[u8; 32], &(SpiffeId, ClassName))| LiveInstance {
                start_token: *t,
                instance_id: id.clone(),
                class: class.clone(),
            };
            Ok(Reconciled { live: self.look(|s| s.live.iter().map(one).collect()), ended })
        })
    }
}

/// DER of the certificates in a concatenation; panics on anything else.
pub fn split(concatenated: &[u8]) -> Vec<CertificateDer<'static>> {
    let (mut rest, mut all) = (concatenated, Vec::new());
    while !rest.is_empty() {
        let (after, _) = x509_parser::parse_x509_certificate(rest).unwrap();
        all.push(CertificateDer::from(rest[..rest.len() - after.len()].to_vec()));
        rest = after;
    }
    all
}
