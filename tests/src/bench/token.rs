//! What a key in a token costs: the pool against the bare module, and issuing against the least it can cost.
//!
//! SoftHSM2 with P-256. Processor time of the whole process: the pool's work is done on a thread of its own.

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use chancery_ca::keys::{DiskKeys, KeyStore, TokenKeys};
use chancery_core::csr::Csr;
use chancery_daemon::{
    key_type::KeyType,
    pkcs11::{Token, TokenConfig},
    public_key::PublicKey,
};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use ring::digest::{SHA256, digest};
use rustix::time::{ClockId, clock_gettime};

use super::{
    ROUNDS,
    figure::{Figure, Target},
    issue::Issuer,
};

/// Repetitions in one turn, and turns of each side in a round, in the order A B B A.
const REPEATS: u32 = 400;
const TURNS: usize = 10;
/// Who sign at once: a token is asked by many, and one who is woken for every signature pays for it alone.
const CALLERS: u32 = 8;
/// Bytes of what is signed to issue a leaf.
const SIGNED_BYTES: usize = 460;
/// The pool's cost above module and verification: 15 %.
const POOL: f64 = 1.0 / 1.15;
/// Life of the delegated issuer.
const DELEGATED_SECS: i64 = 4 * 3600;
const LABEL: &str = "chancery/bench/raw";

/// The figures; none where the bench was started without a token.
pub(super) fn measure() -> Result<Vec<Figure>, String> {
    let Some(site) = chancery_hsm::given() else {
        eprintln!("  skipped: no SoftHSM2 token was made");
        return Ok(Vec::new());
    };
    let mut config = TokenConfig::new(site.module.clone(), site.uri.clone());
    (config.pin_file, config.workers) = (Some(site.pin_file.clone()), 1);
    let token = Token::open(config).map_err(|e| e.to_string())?;
    let key = token.generate(LABEL, KeyType::EcP256).map_err(|e| e.to_string())?;
    let bare = Bare::new(&site.module, &site.pin_file, key.spki())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let database = folder.path().join("ca.sqlite3").display().to_string();
    let keys: Arc<dyn KeyStore> = Arc::new(TokenKeys::of(Arc::clone(&token)));
    let issuer = runtime.block_on(Issuer::new(&database, Arc::clone(&keys), None))?;
    let message = [7; SIGNED_BYTES];
    let pool = compared(
        "module + verification / the pool's signature",
        Target::AtLeast(POOL),
        || bare.sign_and_verify(&message),
        || key.sign(black_box(&message)).map(drop).map_err(|e| e.to_string()),
    )?;
    let issuing = compared(
        "SoftHSM2 P-256: least work / issuing",
        Target::AtLeast(0.80),
        || {
            Csr::parse(black_box(issuer.csr())).map_err(|e| e.to_string())?;
            bare.sign_and_verify(&message)
        },
        || issuer.issue(),
    )?;
    let elsewhere = |name: &str| folder.path().join(name).display().to_string();
    let on_disk: Arc<dyn KeyStore> = Arc::new(DiskKeys::open(folder.path().join("keys")).map_err(|e| e.to_string())?);
    let disk = runtime.block_on(Issuer::new(&elsewhere("disk.sqlite3"), on_disk, None))?;
    let delegated = runtime.block_on(Issuer::new(&elsewhere("delegated.sqlite3"), keys, Some(DELEGATED_SECS)))?;
    let delegated = compared(
        "keys on disk / issuing by a delegated issuer",
        Target::AtLeast(0.90),
        || disk.issue(),
        || delegated.issue(),
    )?;
    Ok(vec![pool, issuing, delegated])
}

fn compared(
    name: &'static str,
    target: Target,
    least: impl Fn() -> Result<(), String>,
    ours: impl Fn() -> Result<(), String> + Sync,
) -> Result<Figure, String> {
    turn(&least)?;
    let turns = || in_flight(&ours);
    turns()?;
    let (mut ratios, mut all_least, mut all_ours) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        let (mut a, mut b) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..TURNS / 2 {
            a += turn(&least)?;
            b += turns()? + turns()?;
            a += turn(&least)?;
        }
        ratios.push(a.as_secs_f64() / b.as_secs_f64());
        all_least += a;
        all_ours += b;
    }
    let each = f64::from(REPEATS) * (TURNS * ROUNDS) as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / each;
    let note = format!("mean {:.1} us ours, {:.1} us least", micros(all_ours), micros(all_least));
    Figure::new(name, "", target, ratios, note)
}

fn turn(work: &impl Fn() -> Result<(), String>) -> Result<Duration, String> {
    let began = spent();
    for _ in 0..REPEATS {
        work()?;
    }
    Ok(spent().saturating_sub(began))
}

/// As [`turn`], by [`CALLERS`] at once.
fn in_flight(work: &(impl Fn() -> Result<(), String> + Sync)) -> Result<Duration, String> {
    let began = spent();
    std::thread::scope(|scope| {
        let callers: Vec<_> =
            (0..CALLERS).map(|_| scope.spawn(|| (0..REPEATS / CALLERS).try_for_each(|_| work()))).collect();
        callers.into_iter().try_for_each(|caller| caller.join().map_err(|_| "a caller died".to_owned())?)
    })?;
    Ok(spent().saturating_sub(began))
}

/// Processor time of all threads of this process.
fn spent() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The module by itself: one session, one handle, no queue.
struct Bare {
    session: Session,
    private: ObjectHandle,
    public: PublicKey,
}

impl Bare {
    fn new(module: &Path, pin_file: &Path, spki: &[u8]) -> Result<Self, String> {
        let told = |e: Error| e.to_string();
        let context = Pkcs11::new(module).map_err(told)?;
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(other) => return Err(told(other)),
        }
        let slots = context.get_slots_with_initialized_token().map_err(told)?;
        let slot = *slots.first().ok_or("no token")?;
        let session = context.open_rw_session(slot).map_err(told)?;
        let pin = std::fs::read_to_string(pin_file).map_err(|e| e.to_string())?;
        match session.login(UserType::User, Some(&AuthPin::new(pin.trim_end().into()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(other) => return Err(told(other)),
        }
        let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(LABEL.as_bytes().to_vec())];
        let private = *session.find_objects(&template).map_err(told)?.first().ok_or("no key")?;
        let public = PublicKey::from_spki(spki).ok_or("public half")?;
        Ok(Self { session, private, public })
    }

    fn sign_and_verify(&self, message: &[u8]) -> Result<(), String> {
        let hash = digest(&SHA256, black_box(message));
        let raw = self.session.sign(&Mechanism::Ecdsa, self.private, hash.as_ref()).map_err(|e| e.to_string())?;
        let (r, s) = raw.split_at(raw.len() / 2);
        let der = ecdsa_der(r, s);
        if self.public.verifies(message, &der) { Ok(()) } else { Err("a signature of the module".into()) }
    }
}

/// DER of r and s: the verification wants it too.
fn ecdsa_der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(72);
    for half in [r, s] {
        let digits = &half[half.iter().take_while(|b| **b == 0).count()..];
        let pad = usize::from(digits[0] >= 0x80);
        body.extend([2, u8::try_from(digits.len() + pad).expect("33 bytes at most")]);
        body.extend(&[0][..pad]);
        body.extend(digits);
    }
    let mut der = vec![0x30, u8::try_from(body.len()).expect("70 bytes at most")];
    der.extend(body);
    der
}
