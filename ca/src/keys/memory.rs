//! Keys that end with the process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chancery_daemon::key_type::KeyType;

use super::{KeyError, KeyStore, Signer, label, same_key, software};

/// Keys that end with the process: every start makes new authorities.
#[derive(Debug, Default)]
pub struct MemoryKeys {
    // Guards the map of labels; never held over a signature.
    keys: Mutex<HashMap<String, Arc<dyn Signer>>>,
}

impl MemoryKeys {
    fn keys(&self) -> MutexGuard<'_, HashMap<String, Arc<dyn Signer>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyStore for MemoryKeys {
    fn generate(&self, label: &str, kind: KeyType) -> Result<Arc<dyn Signer>, KeyError> {
        label::check(label)?;
        let pkcs8 = software::generate(kind)?;
        let key: Arc<dyn Signer> = Arc::new(software::SoftwareKey::parse(&pkcs8).ok_or(KeyError::Randomness)?);
        let mut keys = self.keys();
        if keys.contains_key(label) {
            return Err(KeyError::Exists(label.into()));
        }
        keys.insert(label.into(), Arc::clone(&key));
        Ok(key)
    }

    fn open(&self, label: &str, spki: Option<&[u8]>) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        label::check(label)?;
        let key = self.keys().get(label).cloned();
        key.map(|key| same_key(label, key, spki)).transpose()
    }

    fn delete(&self, label: &str, spki: &[u8]) -> Result<(), KeyError> {
        if self.open(label, Some(spki))?.is_some() {
            self.keys().remove(label);
        }
        Ok(())
    }

    fn labels(&self) -> Result<Vec<String>, KeyError> {
        Ok(self.keys().keys().cloned().collect())
    }

    fn persistent(&self) -> bool {
        false
    }
}
