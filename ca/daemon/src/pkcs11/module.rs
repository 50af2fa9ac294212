//! Modules in this process: one context for each library, however many tokens are used through it.
//!
//! `C_Initialize` and `C_Finalize` are for the whole process, and after both a module hands out the same small session
//! and object numbers again: an old number then names something else. So each initialisation is a generation; calls
//! hold a pass of theirs, a new generation waits until no pass is out, and whoever comes with an old one forgets all
//! numbers first.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
};

use super::error::TokenError;

/// Least time between two initialisations.
const LEAST_REST: Duration = Duration::from_secs(1);

/// A loaded and initialised library.
pub(super) struct Module {
    path: PathBuf,
    context: Pkcs11,
    /// Who initialised it.
    process: u32,
    // Guards the generation; never held over a call of the module.
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Debug)]
struct Gate {
    generation: u64,
    /// Passes that are out.
    inside: usize,
    /// A new generation is being made: nobody may enter.
    closed: bool,
    last: Instant,
}

/// A right to call the module, of one generation. No new generation begins while it is out.
pub(super) struct Pass<'a> {
    module: &'a Module,
    pub generation: u64,
}

type Slot = Arc<Mutex<Weak<Module>>>;

/// Canonical path to what is loaded. The outer lock is never held over a call of a module.
static MODULES: Mutex<Option<HashMap<PathBuf, Slot>>> = Mutex::new(None);

impl Module {
    /// The module of `path`, loaded and initialised if it is not yet.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, TokenError> {
        let told = |why: String| TokenError::Module { path: path.into(), why };
        let canonical = path.canonicalize().map_err(|e| told(e.to_string()))?;
        let slot = {
            let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(modules.get_or_insert_default().entry(canonical.clone()).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = slot.upgrade() {
            return Ok(module);
        }
        let context = Pkcs11::new(&canonical).map_err(|e| told(e.to_string()))?;
        // A library may have threads of its own; it is never unmapped under them.
        std::mem::forget(context.clone());
        initialize(&context).map_err(|e| told(e.to_string()))?;
        let gate = Gate { generation: 1, inside: 0, closed: false, last: Instant::now() };
        let (gate, changed) = (Mutex::new(gate), Condvar::new());
        let module = Arc::new(Self { path: canonical, context, process: std::process::id(), gate, changed });
        *slot = Arc::downgrade(&module);
        Ok(module)
    }

    /// The library's functions; to be called with a pass in hand.
    pub(super) fn context(&self) -> &Pkcs11 {
        &self.context
    }

    /// Enters the present generation.
    pub(super) fn enter(&self, until: Instant) -> Result<Pass<'_>, TokenError> {
        if std::process::id() != self.process {
            return Err(TokenError::Forked);
        }
        let mut gate = self.wait(self.lock(), until, |gate| !gate.closed).ok_or(TokenError::Hung("C_Initialize"))?;
        gate.inside += 1;
        Ok(Pass { module: self, generation: gate.generation })
    }

    /// Begins a new generation if `failed` is still the present one; the generation that is then in force.
    ///
    /// The caller holds no pass. `None` where the last one is too young.
    pub(super) fn renew(&self, failed: u64, until: Instant) -> Result<Option<u64>, TokenError> {
        let mut gate = self.wait(self.lock(), until, |gate| !gate.closed).ok_or(TokenError::Hung("C_Initialize"))?;
        if gate.generation != failed {
            return Ok(Some(gate.generation));
        }
        if gate.last.elapsed() < LEAST_REST {
            return Ok(None);
        }
        gate.closed = true;
        let Some(gate) = self.wait(gate, until, |gate| gate.inside == 0) else {
            self.lock().closed = false;
            self.changed.notify_all();
            return Err(TokenError::Hung("a call, so that the module cannot be initialised again"));
        };
        drop(gate);
        // Whatever these say, the sessions of before are gone.
        let finalized = self.context.clone().finalize();
        let initialized = initialize(&self.context);
        let mut gate = self.lock();
        gate.generation += 1;
        gate.closed = false;
        gate.last = Instant::now();
        let generation = gate.generation;
        drop(gate);
        self.changed.notify_all();
        tracing::info!(module = %self.path.display(), generation, ?finalized, ?initialized, "module initialised again");
        Ok(Some(generation))
    }

    /// How often it was initialised.
    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &'a self,
        mut gate: MutexGuard<'a, Gate>,
        until: Instant,
        ready: impl Fn(&Gate) -> bool,
    ) -> Option<MutexGuard<'a, Gate>> {
        while !ready(&gate) {
            let left = until.checked_duration_since(Instant::now())?;
            gate = self.changed.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(gate)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut gate = self.module.lock();
        gate.inside -= 1;
        if gate.closed && gate.inside == 0 {
            self.module.changed.notify_all();
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let slot = {
            let modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
            modules.as_ref().and_then(|all| all.get(&self.path).map(Arc::clone))
        };
        let Some(slot) = slot else { return };
        let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody opened it again meanwhile: it is theirs now.
        if slot.strong_count() == 0 && std::process::id() == self.process {
            drop(self.context.clone().finalize());
        }
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("path", &self.path).field("gate", &self.gate).finish_non_exhaustive()
    }
}

fn initialize(context: &Pkcs11) -> Result<(), Error> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}
