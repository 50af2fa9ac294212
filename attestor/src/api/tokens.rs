use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use chancery_sdk::time::UnixTime;

use crate::ca::IssuedJwt;

/// JWT-SVIDs kept (SPIRE's hard limit).
const MAX_KEPT: usize = 1000;

/// Whose token, as the CA knows it, and for whom.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct TokenKey {
    /// Entry ID with revision and creation time, or the instance's SPIFFE ID.
    pub owner: (String, i64, i64),
    /// Sorted, unique.
    pub audience: Vec<String>,
}

/// JWT-SVIDs, used again until half their life is over.
#[derive(Default)]
pub(super) struct Tokens {
    /// Guards the map; held for a look-up or an insertion.
    kept: Mutex<HashMap<TokenKey, IssuedJwt>>,
}

impl Tokens {
    /// A token that has not ended; the flag says whether it is in the first half of its life.
    pub(super) fn find(&self, key: &TokenKey, now: UnixTime) -> Option<(IssuedJwt, bool)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let jwt = kept.get(key).filter(|jwt| jwt.expires_at > now)?;
        Some((jwt.clone(), is_young(jwt, now)))
    }

    /// Keeps a token; what has ended goes first where there is no room, then what ends soonest.
    pub(super) fn keep(&self, key: TokenKey, jwt: IssuedJwt, now: UnixTime) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, jwt| jwt.expires_at > now);
        }
        if kept.len() >= MAX_KEPT
            && let Some(soonest) = kept.iter().min_by_key(|(_, jwt)| jwt.expires_at).map(|(key, _)| key.clone())
        {
            kept.remove(&soonest);
        }
        kept.insert(key, jwt);
    }

    /// The token that ends first of those that have not: whose, and when.
    pub(super) fn first_end(&self, now: UnixTime) -> Option<(String, UnixTime)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let lasting = kept.values().filter(|jwt| jwt.expires_at > now);
        lasting.min_by_key(|jwt| jwt.expires_at).map(|jwt| (jwt.id.to_string(), jwt.expires_at))
    }

    /// Forgets every token: the node has no standing.
    pub(super) fn clear(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn is_young(jwt: &IssuedJwt, now: UnixTime) -> bool {
    now.since(jwt.issued_at) * 2 < jwt.expires_at.since(jwt.issued_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(issued_at: i64, expires_at: i64) -> IssuedJwt {
        IssuedJwt {
            id: "spiffe://example.org/w".parse().unwrap(),
            token: String::from("t").into(),
            issued_at: UnixTime(issued_at),
            expires_at: UnixTime(expires_at),
        }
    }

    fn key(n: usize) -> TokenKey {
        TokenKey { owner: (n.to_string(), 0, 0), audience: vec!["a".into()] }
    }

    #[test]
    fn token_is_young_until_half_its_life_and_found_until_its_end() {
        let tokens = Tokens::default();
        tokens.keep(key(1), jwt(100, 200), UnixTime(100));
        assert_eq!(tokens.find(&key(1), UnixTime(149)).map(|f| f.1), Some(true));
        assert_eq!(tokens.find(&key(1), UnixTime(150)).map(|f| f.1), Some(false));
        assert!(tokens.find(&key(1), UnixTime(200)).is_none());
        assert!(tokens.find(&key(2), UnixTime(100)).is_none());
    }

    #[test]
    fn full_cache_gives_up_what_ends_soonest() {
        let tokens = Tokens::default();
        for n in 0..=MAX_KEPT {
            tokens.keep(key(n), jwt(100, 1000 + i64::try_from(n).unwrap()), UnixTime(100));
        }
        assert!(tokens.find(&key(0), UnixTime(100)).is_none());
        assert!(tokens.find(&key(MAX_KEPT), UnixTime(100)).is_some());
        assert_eq!(tokens.kept.lock().unwrap().len(), MAX_KEPT);
    }
}
