//! One thread's place at a token: a session and the handles found in it, both of one generation only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use cryptoki::{
    context::Function,
    error::{Error, RvError},
    object::ObjectHandle,
    session::{Session, SessionState, UserType},
    slot::{Limit, Slot, TokenInfo},
    types::RawAuthPin,
};

use super::{
    error::{Fault, TokenError, ckr},
    health::Status,
    module::Module,
    pin::{Marker, Pin},
    slot::{Identity, choose},
    uri::Uri,
};

/// Where the token is and whether we are logged in, for all seats of a token.
pub(super) struct Place {
    pub module: Arc<Module>,
    pub uri: Uri,
    pub text: String,
    pub pin: Option<Pin>,
    pub marker: Option<Marker>,
    pub status: Status,
    // Guards slot and login of the generation. Held over `C_Login`, so that it is called once: a second wrong try
    // may lock the token.
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    generation: u64,
    slot: Option<Slot>,
    logged_in: bool,
    /// A call was told that nobody is logged in, whatever the session's state says.
    login_lost: bool,
    needs_login: bool,
    protected_path: bool,
    identity: Option<Identity>,
    most_sessions: Option<u64>,
}

impl Place {
    pub(super) fn new(module: Arc<Module>, uri: Uri, text: String, pin: Option<Pin>, marker: Option<Marker>) -> Self {
        Self { module, uri, text, pin, marker, status: Status::new(), found: Mutex::default() }
    }

    /// What the token says of itself, once it was found.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).identity.clone()
    }

    /// Sessions the token allows; `None`: any number.
    pub(super) fn most_sessions(&self) -> Option<u64> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).most_sessions
    }

    /// The token says that nobody is logged in.
    pub(super) fn login_lost(&self) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        (found.logged_in, found.login_lost) = (false, true);
    }

    /// A session, logged in.
    fn open(&self, generation: u64, session: Option<Session>) -> Result<Session, Fault> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &self.status.lock().auth {
            return Err(Fault::Final(TokenError::AuthFailed(why.clone())));
        }
        if found.generation != generation {
            found.slot = None;
            found.logged_in = false;
            found.generation = generation;
        }
        let slot = match found.slot {
            Some(slot) => slot,
            None => self.locate(&mut found)?,
        };
        let session = match session {
            Some(session) => session,
            // Not closed on drop: its number may by then be somebody else's.
            None => self.module.context().open_rw_session_no_drop(slot)?,
        };
        // Asked of the token: whoever closes the last session, or logs out, logs all of us out.
        if found.needs_login && (found.login_lost || !is_user(&session)?) {
            self.login(&session, found.protected_path)?;
        }
        (found.logged_in, found.login_lost) = (true, false);
        Ok(session)
    }

    fn locate(&self, found: &mut Found) -> Result<Slot, Fault> {
        let chosen = choose(self.module.context(), &self.uri, &self.text)?;
        if let Some(then) = &found.identity
            && *then != chosen.identity
        {
            // The PIN is not for that one.
            let (now, then) = (chosen.identity.serial, then.serial.clone());
            return Err(Fault::Gone(TokenError::OtherToken { now, then }));
        }
        let info = chosen.info.as_ref();
        if let Some(problem) = info.and_then(pin_trouble) {
            return Err(Fault::Final(self.refused(problem.into())));
        }
        found.needs_login = info.is_none_or(TokenInfo::login_required);
        found.protected_path = info.is_some_and(TokenInfo::protected_authentication_path);
        found.most_sessions = info.and_then(|info| match info.max_session_count() {
            // Zero is what modules say that do not count.
            Limit::Max(most) if most > 0 => Some(most),
            Limit::Max(_) | Limit::Unavailable | Limit::Infinite => None,
        });
        found.identity = Some(chosen.identity);
        found.slot = Some(chosen.slot);
        Ok(chosen.slot)
    }

    fn login(&self, session: &Session, protected_path: bool) -> Result<(), Fault> {
        if let Some(why) = self.marker.as_ref().and_then(Marker::stands) {
            return Err(Fault::Final(self.refused(why)));
        }
        let answer = match &self.pin {
            Some(pin) => session.login_with_raw(UserType::User, &RawAuthPin::new(Box::new(pin.bytes().to_vec()))),
            // The PIN is typed at the device.
            None if protected_path => session.login(UserType::User, None),
            None => {
                let text = "the token wants a PIN; name pin_file or pin_env".into();
                return Err(Fault::Final(TokenError::Config(text)));
            }
        };
        match answer {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) if super::error::classify(&error) == super::error::Class::Auth => {
                let Error::Pkcs11(code, _) = &error else { return Err(Fault::Call(error)) };
                if let Some(marker) = &self.marker {
                    marker.put();
                }
                Err(Fault::Final(self.refused(format!("the PIN was refused ({})", ckr(code)))))
            }
            Err(error) => Err(Fault::Call(error)),
        }
    }

    /// Notes that nobody may try the PIN again.
    fn refused(&self, why: String) -> TokenError {
        tracing::error!(why, "token login refused; not tried again");
        self.status.lock().auth = Some(why.clone());
        TokenError::AuthFailed(why)
    }
}

/// What a call works with: a session, and where keys were found in its generation.
pub(super) struct Desk<'a> {
    pub session: &'a Session,
    /// Private keys, by number of the key.
    pub handles: &'a mut HashMap<u64, ObjectHandle>,
    needs_login: bool,
}

impl Desk<'_> {
    /// Asked before anything is looked up: without a login private keys are invisible, and would seem to be lost.
    pub(super) fn logged_in(&self) -> Result<(), Fault> {
        if self.needs_login && !is_user(self.session)? {
            return Err(Fault::Call(Error::Pkcs11(RvError::UserNotLoggedIn, Function::GetSessionInfo)));
        }
        Ok(())
    }
}

fn is_user(session: &Session) -> Result<bool, Error> {
    let state = session.get_session_info()?.session_state();
    Ok(matches!(state, SessionState::RoUser | SessionState::RwUser))
}

/// A state of the PIN in which a wrong try would lock the token.
fn pin_trouble(info: &TokenInfo) -> Option<&'static str> {
    if info.user_pin_locked() {
        return Some("the token says that its PIN is locked; unlock it with the SO PIN");
    }
    info.user_pin_final_try()
        .then_some("the token says that one more wrong PIN locks it; log in once by hand with the right one")
}

/// One thread's place.
pub(super) struct Seat {
    pub place: Arc<Place>,
    generation: u64,
    session: Option<Session>,
    /// Private keys found in this generation, by number of the key.
    handles: HashMap<u64, ObjectHandle>,
}

impl Seat {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Self { place, generation: 0, session: None, handles: HashMap::new() }
    }

    /// Does `work` in a session that is logged in, of the present generation.
    pub(super) fn perform<T>(
        &mut self,
        until: Instant,
        work: &mut dyn FnMut(&mut Desk<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let place = Arc::clone(&self.place);
        let pass = place.module.enter(until)?;
        if self.generation != pass.generation {
            // Numbers of another generation name other things now: forgotten, never closed.
            self.session = None;
            self.handles.clear();
            self.generation = pass.generation;
        }
        if self.session.is_none() || !place.is_logged_in(pass.generation) {
            let session = self.session.take();
            self.session = Some(place.open(pass.generation, session)?);
        }
        let Some(session) = &self.session else {
            return Err(Fault::Final(TokenError::Unavailable("no session".into())));
        };
        work(&mut Desk { session, handles: &mut self.handles, needs_login: place.needs_login() })
    }

    /// The generation last entered.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Closes the session, if it is still of the present generation.
    pub(super) fn close_session(&mut self, until: Instant) {
        let Some(session) = self.session.take() else { return };
        if let Ok(pass) = self.place.module.enter(until)
            && pass.generation == self.generation
            && let Err(problem) = session.close()
        {
            tracing::debug!(%problem, "session of a token");
        }
    }

    /// Forgets where keys were.
    pub(super) fn forget_handles(&mut self) {
        self.handles.clear();
    }
}

impl Place {
    fn is_logged_in(&self, generation: u64) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.generation == generation && found.logged_in
    }

    fn needs_login(&self) -> bool {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).needs_login
    }
}
