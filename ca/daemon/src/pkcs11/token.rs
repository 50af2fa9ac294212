//! A token: opened once, then asked for keys.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    TokenConfig, answer,
    error::{Fault, TokenError},
    find, generate,
    health::Health,
    keeper::{self, Bell, HUNG_DEADLINES},
    key::{KeyFacts, TokenKey},
    module::Module,
    pin,
    queue::{Job, Lane, Queue},
    seat::{Desk, Place, Seat},
    signature,
    slot::Identity,
    worker::{Workers, attempt},
};
use crate::key_type::KeyType;

/// How long a module may take to load, initialise, find its token and log in.
const OPENING: Duration = Duration::from_secs(30);
/// How long the making of a key may take: RSA-4096 in a small device.
const MAKING: Duration = Duration::from_secs(120);
/// Time for the threads to leave the module once nobody has the token.
const CLOSING: Duration = Duration::from_secs(2);

/// What a token does beyond answering.
#[derive(Clone)]
pub struct Hooks {
    /// Ends the process when the module hangs for good; must not return.
    pub give_up: fn(),
    /// File that remembers that the PIN was refused, so that a restart does not try it again.
    pub marker: Option<PathBuf>,
}

/// A token that was found and logged in to.
pub struct Token {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub workers: Arc<Workers>,
    pub hooks: Hooks,
    pub deadline: Duration,
    pub bell: Arc<Bell>,
    // Guards the list of keys that somebody holds.
    keys: Mutex<Vec<Weak<KeyFacts>>>,
}

impl Default for Hooks {
    fn default() -> Self {
        // A hung module may hang in its exit handlers too: those are not run.
        Self { give_up: || std::process::abort(), marker: None }
    }
}

impl Token {
    /// Loads the module, finds the one token, logs in.
    ///
    /// # Errors
    /// [`TokenError`], a line that says what to do.
    pub fn open(config: TokenConfig) -> Result<Arc<Self>, TokenError> {
        Self::open_with(config, Hooks::default())
    }

    /// As [`open`](Self::open), told what to do when the module hangs for good, and where to remember a refused PIN.
    ///
    /// # Errors
    /// [`TokenError`], a line that says what to do.
    pub fn open_with(config: TokenConfig, hooks: Hooks) -> Result<Arc<Self>, TokenError> {
        let uri = config.check()?;
        let pin = pin::load(&config, &uri)?;
        let path = config.module.clone();
        let module = within(OPENING, "loading the module", move || Module::open(&path))?;
        let marker = hooks.marker.as_ref().map(|path| pin::Marker::new(path.clone(), &config, &uri));
        let place = Arc::new(Place::new(module, uri, config.uri.clone(), pin, marker));
        let workers = Workers::new(Queue::new(config.queue), place, config.workers);
        let (bell, keys, deadline) = (Arc::default(), Mutex::default(), config.deadline.0);
        let inner = Arc::new(Inner { workers, hooks, deadline, bell, keys });
        let token = Self { inner };
        token.start(config.workers)?;
        let identity = token.identity();
        tracing::info!(module = %config.module.display(), token = %identity, "token opened");
        Ok(Arc::new(token))
    }

    /// One thread first: it finds the token and logs in. Then the others.
    fn start(&self, wanted: usize) -> Result<(), TokenError> {
        let workers = &self.inner.workers;
        let failed = |e: std::io::Error| TokenError::Unavailable(format!("no thread: {e}"));
        workers.spawn().map_err(failed)?;
        match self.inner.run(Lane::First, OPENING, |_| Ok(())) {
            Err(TokenError::Timeout(_)) => return Err(TokenError::Hung("opening the token")),
            other => other?,
        }
        // One session is left for the operator's tools.
        let most = workers.place.most_sessions().map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        for _ in 1..wanted.min(most.saturating_sub(1)) {
            workers.spawn().map_err(failed)?;
        }
        keeper::start(&self.inner).map_err(failed)
    }

    /// Makes a key: sensitive, not extractable, on the token; read back, tried and examined.
    ///
    /// # Errors
    /// [`TokenError::Exists`], [`TokenError::Unsupported`]; [`TokenError`].
    pub fn generate(self: &Arc<Self>, label: &str, kind: KeyType) -> Result<TokenKey, TokenError> {
        let own = label.to_owned();
        let mut again = false;
        let pair = self.inner.call(Lane::First, MAKING, move |desk| {
            desk.logged_in()?;
            generate::generate(desk.session, &own, kind, std::mem::replace(&mut again, true))
        })?;
        Ok(self.key(label, pair))
    }

    /// The key of a label; `None` where there is none. With `spki` it must have that public half; without, it is
    /// examined as if it had just been made.
    ///
    /// # Errors
    /// [`TokenError::OtherKey`], [`TokenError::Ambiguous`], [`TokenError::HalfPair`]; [`TokenError`].
    pub fn find(self: &Arc<Self>, label: &str, spki: Option<&[u8]>) -> Result<Option<TokenKey>, TokenError> {
        let (own, spki) = (label.to_owned(), spki.map(<[u8]>::to_vec));
        let pair = self.inner.call(Lane::First, self.inner.deadline, move |desk| {
            desk.logged_in()?;
            let session = desk.session;
            let Some(pair) = find::pair(session, &own)? else { return Ok(None) };
            match &spki {
                Some(spki) if pair.public.spki() != spki => {
                    return Err(Fault::Final(TokenError::OtherKey(own.clone())));
                }
                Some(_) => generate::protected(session, &own, &pair)?,
                None => generate::examine(session, &own, &pair, None)?,
            }
            Ok(Some(pair))
        })?;
        Ok(pair.map(|pair| self.key(label, pair)))
    }

    /// Labels that begin with `prefix`, of every private key in the token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn labels(&self, prefix: &str) -> Result<Vec<String>, TokenError> {
        let prefix = prefix.to_owned();
        self.inner.call(Lane::First, self.inner.deadline, move |desk| {
            desk.logged_in()?;
            find::labels(desk.session, &prefix)
        })
    }

    /// Destroys the key of this label and public half, the private key first; fine where there is none.
    ///
    /// # Errors
    /// [`TokenError::OtherKey`], and nothing was destroyed; [`TokenError`].
    pub fn destroy(&self, label: &str, spki: &[u8]) -> Result<(), TokenError> {
        let (label, spki) = (label.to_owned(), spki.to_vec());
        self.inner.call(Lane::First, self.inner.deadline, move |desk| {
            desk.logged_in()?;
            let session = desk.session;
            let found = find::halves(session, &label)?;
            // Read right before, so that nothing else is ever destroyed.
            for public in &found.public {
                if find::public_key(session, *public, &label)?.spki() != spki {
                    return Err(Fault::Final(TokenError::OtherKey(label.clone())));
                }
            }
            let (count, what) = (found.private.len(), "private key");
            if count > 1 || found.public.len() > 1 {
                return Err(Fault::Final(TokenError::Ambiguous { label: label.clone(), count, what }));
            }
            if count == 1 && found.public.is_empty() {
                return Err(Fault::Final(TokenError::HalfPair { label: label.clone(), present: what }));
            }
            desk.handles.clear();
            for handle in found.private.into_iter().chain(found.public) {
                session.destroy_object(handle)?;
            }
            Ok(())
        })
    }

    /// How it does.
    pub fn health(&self) -> Health {
        self.inner.workers.place.status.health()
    }

    /// What it says of itself.
    pub fn identity(&self) -> Identity {
        self.inner.workers.place.identity().unwrap_or_default()
    }

    /// How often its module was initialised in this process.
    pub fn generation(&self) -> u64 {
        self.inner.workers.place.module.generation()
    }

    /// Calls that wait.
    pub fn waiting(&self) -> usize {
        self.inner.workers.queue.len()
    }

    fn key(self: &Arc<Self>, label: &str, pair: find::Pair) -> TokenKey {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let facts = Arc::new(KeyFacts { number, label: label.into(), id: pair.id, public: pair.public });
        let mut keys = self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|key| key.strong_count() > 0);
        keys.push(Arc::downgrade(&facts));
        TokenKey { token: Arc::clone(self), facts }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.inner.bell.ring();
        self.inner.workers.queue.close();
        if !self.inner.workers.ends.wait(CLOSING) {
            tracing::warn!("a call does not come back from the module; it is left behind");
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("identity", &self.identity()).finish_non_exhaustive()
    }
}

impl Inner {
    /// Has `work` done by a thread of the token; `work` is called again after what the table of answers says.
    fn call<T, W>(&self, lane: Lane, within: Duration, work: W) -> Result<T, TokenError>
    where
        T: Send + 'static,
        W: FnMut(&mut Desk<'_>) -> Result<T, Fault> + Send + 'static,
    {
        if let Some(why) = self.workers.place.status.away() {
            return Err(TokenError::Unavailable(why));
        }
        self.run(lane, within, work)
    }

    fn run<T, W>(&self, lane: Lane, within: Duration, mut work: W) -> Result<T, TokenError>
    where
        T: Send + 'static,
        W: FnMut(&mut Desk<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let until = Instant::now() + within;
        let (giver, waiter) = answer::pair();
        let work = Box::new(move |seat: Option<&mut Seat>| {
            // Without a seat it is too late; whoever asked learns it by the giver's end.
            if let Some(seat) = seat {
                giver.give(attempt(seat, until, &mut work));
            }
        });
        self.workers.queue.push(lane, Job { until, patience: within * HUNG_DEADLINES, work })?;
        waiter.wait(until).unwrap_or(Err(TokenError::Timeout(within)))
    }

    /// Whether the token answers; asked even while it is away.
    pub(super) fn reach(&self) -> Result<(), TokenError> {
        self.run(Lane::First, self.deadline, |desk| Ok(desk.session.get_session_info().map(drop)?))
    }

    /// Keys that somebody holds.
    pub(super) fn keys_in_use(&self) -> Vec<Arc<KeyFacts>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }
}

/// Signs and verifies; once more with a fresh look-up where what came back is not this key's.
pub(super) fn sign(token: &Token, facts: &Arc<KeyFacts>, message: &[u8]) -> Result<Vec<u8>, TokenError> {
    let mut signed = sign_once(&token.inner, facts, message, Handle::Known);
    if let Err(TokenError::BadSignature(label)) = &signed {
        tracing::error!(label, "a signature does not verify; looking the key up again");
        signed = sign_once(&token.inner, facts, message, Handle::Fresh);
    }
    keeper::note(&token.inner, facts, &signed);
    signed
}

/// Where the number of a key comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Handle {
    /// Looked up now.
    Fresh,
    /// From the seat, if it is there.
    Known,
}

/// One signature, verified with the public half on record.
pub(super) fn sign_once(
    inner: &Inner,
    facts: &Arc<KeyFacts>,
    message: &[u8],
    handle: Handle,
) -> Result<Vec<u8>, TokenError> {
    let (own, kind) = (Arc::clone(facts), facts.public.kind());
    let input = signature::input(kind, message);
    let raw = inner.call(Lane::Bulk, inner.deadline, move |desk| {
        let private = match desk.handles.get(&own.number) {
            Some(known) if handle == Handle::Known => *known,
            Some(_) | None => {
                desk.logged_in()?;
                let found = find::private(desk.session, &own.label, &own.id)?;
                desk.handles.insert(own.number, found);
                found
            }
        };
        Ok(desk.session.sign(&signature::mechanism(kind), private, &input)?)
    })?;
    match signature::output(kind, raw) {
        Some(signature) if facts.public.verifies(message, &signature) => Ok(signature),
        Some(_) | None => Err(TokenError::BadSignature(facts.label.clone())),
    }
}

/// Does what may hang on a thread of its own, and waits so long for it.
fn within<T: Send + 'static>(
    limit: Duration,
    what: &'static str,
    work: impl FnOnce() -> Result<T, TokenError> + Send + 'static,
) -> Result<T, TokenError> {
    let (answer, answered) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new().name("p11-open".into()).spawn(move || drop(answer.send(work())));
    spawned.map_err(|e| TokenError::Unavailable(format!("no thread: {e}")))?;
    answered.recv_timeout(limit).unwrap_or(Err(TokenError::Hung(what)))
}
