//! Keys that end with the process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{KeyError, KeyStore, Signer, p256};

/// Keys that end with the process: every start makes new authorities.
#[derive(Debug, Default)]
pub struct MemoryKeys {
    // Guards the map of names; never held over a signature.
    keys: Mutex<HashMap<String, Arc<dyn Signer>>>,
}

impl KeyStore for MemoryKeys {
    fn generate(&self, name: &dyn Fn(&[u8]) -> String) -> Result<Arc<dyn Signer>, KeyError> {
        let key: Arc<dyn Signer> = Arc::new(p256::P256Key::parse(&p256::generate()?).ok_or(KeyError::Randomness)?);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(name(key.point()), Arc::clone(&key));
        Ok(key)
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        Ok(self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }

    fn delete(&self, name: &str) -> Result<(), KeyError> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }
}
