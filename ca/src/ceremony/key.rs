//! Keys of a ceremony: in files, or in a token that they never leave.
//!
//! A token's key is made sensitive and not extractable, and refused where it does not read back so; every signature is
//! verified in software before it is used (`chancery_daemon::pkcs11`).

use std::{path::PathBuf, sync::Arc};

use chancery_daemon::{
    key_type::KeyType,
    pkcs11::{Identity, Token},
};
use zeroize::Zeroizing;

use super::{CeremonyError, Run, config::Place};
use crate::{
    chance,
    keys::{KeyError, KeyStore, Signer, TokenKeys, file, label, token_key::OpenToken},
};

/// What the label of a dry run's key says that it is for.
const DRY: &str = "dry";

/// A token as it says it is, and the key of it that was used.
#[derive(Clone, Debug)]
pub(super) struct Used {
    pub token: Identity,
    pub label: String,
}

/// A key that was made, and where it stays.
pub(super) struct MadeKey {
    pub key: Arc<dyn Signer>,
    pub home: Home,
}

/// Where a key that was made stays.
pub(super) enum Home {
    /// In memory until it is written: PKCS#8.
    File(PathBuf, Zeroizing<Vec<u8>>),
    /// In a token already.
    Token(TokenKeys, Used),
}

/// The key of a certificate: `spki` is the one it is for (DER SubjectPublicKeyInfo).
pub(super) fn open(place: &Place, spki: &[u8]) -> Result<(Arc<dyn Signer>, Option<Used>), CeremonyError> {
    match place {
        Place::File(path) => Ok((file::signer(path)?, None)),
        Place::Token(config) => {
            let token = OpenToken::open(config, None)?;
            let used = Used { token: token.report().identity, label: config.label.clone() };
            Ok((token.signer(spki)?, Some(used)))
        }
    }
}

/// Makes a key. In a token it is there from now on; a dry run's has a label of its own and is destroyed at the end.
pub(super) fn make(place: &Place, kind: KeyType, run: Run) -> Result<MadeKey, CeremonyError> {
    match place {
        Place::File(path) => {
            let (key, pkcs8) = file::fresh(kind)?;
            Ok(MadeKey { key, home: Home::File(path.clone(), pkcs8) })
        }
        Place::Token(config) => {
            let wanted = &config.label;
            let token = Token::open(config.token()).map_err(KeyError::from)?;
            let taken = token.labels(wanted).map_err(KeyError::from)?;
            if taken.contains(wanted) {
                return Err(KeyError::Exists(wanted.clone()).into());
            }
            let label = match run {
                Run::Dry => label::fresh(DRY, chance::uuid_v4().map_err(|_| KeyError::Randomness)?),
                Run::Real => wanted.clone(),
            };
            let used = Used { token: token.identity(), label };
            let keys = TokenKeys::of(token);
            let key = keys.generate(&used.label, kind)?;
            Ok(MadeKey { key, home: Home::Token(keys, used) })
        }
    }
}

impl MadeKey {
    /// Destroys a key that nothing was signed with for good, and sees that it is gone.
    pub(super) fn destroy(&self) -> Result<(), CeremonyError> {
        let Home::Token(keys, used) = &self.home else { return Ok(()) };
        let stays = |why: String| CeremonyError::Stays { label: used.label.clone(), why };
        keys.delete(&used.label, self.key.spki()).map_err(|e| stays(e.to_string()))?;
        match keys.open(&used.label, None) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(stays("the token says it is destroyed and still has it".into())),
            Err(problem) => Err(stays(problem.to_string())),
        }
    }

    /// The token it is in.
    pub(super) fn used(&self) -> Option<&Used> {
        match &self.home {
            Home::File(..) => None,
            Home::Token(_, used) => Some(used),
        }
    }
}
