//! The keys of this server against its key store: found, lost, orphaned, destroyed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chancery_daemon::public_key::PublicKey;
use chancery_sdk::{time::UnixTime, x509};

use super::{
    AuthorityError, AuthorityManager, crash,
    offline::Need,
    recover::{Action, Look, action},
    steps::{done, move_key},
};
use crate::{
    keys::{KeyError, KeyStore, Signer},
    store::{Authority, AuthorityKind, Fact, KeyRecord, KeyState, KeyStep, Store, TaintAuthority},
};

/// Seconds between two looks into the key store: a key deleted by somebody else is known within.
const LOOK_SECS: i64 = 60;
/// Seconds between two looks while a key is missing.
pub(super) const LOOK_AGAIN_SECS: i64 = 20;
/// What a key signs to show that it does.
const PROBE: &[u8] = b"chancery key probe";

/// What is known about this server's keys besides the journal. One task changes it at a time.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Keys that were found with the recorded public half and that sign, by label.
    pub here: HashMap<String, Arc<dyn Signer>>,
    /// Since when keys are missing.
    missing: HashMap<String, UnixTime>,
    /// When to look into the key store next.
    pub inspect_at: UnixTime,
    /// No key is made before.
    pub generate_at: UnixTime,
    /// Until when the upstream is not asked again about this kind, and the seconds of that rest.
    pub asked: HashMap<&'static str, (UnixTime, i64)>,
    /// Labels without a row, as last reported.
    orphans: BTreeSet<String>,
    /// What people were last told to fetch from the ceremony, and when.
    pub reminded: Option<(Need, UnixTime)>,
}

/// Whether a fault of a key in use stops the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum When {
    /// Nobody is served yet: an operator is told.
    Starting,
    /// Others are served: the key is tainted and left alone.
    Serving,
}

impl AuthorityManager {
    /// Compares the journal with the key store and does what the crash table says.
    pub(super) async fn inspect(
        &self,
        store: &Store,
        life: &mut Life,
        when: When,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        life.inspect_at = now.plus(LOOK_SECS);
        let keys = Arc::clone(&self.keys);
        let labels: BTreeSet<String> = super::on_thread(move || keys.labels()).await??.into_iter().collect();
        let rows = store.keys().await?;
        let authorities = store.authorities().await?;
        for row in rows.iter().filter(|row| row.server == self.settings.server) {
            // Of what was destroyed only what shows up again is looked at.
            if row.state == KeyState::Destroyed && !labels.contains(&row.label) {
                continue;
            }
            let authority = authorities.iter().find(|a| a.label == row.label);
            let (look, key) = match self.look(life, row, authority, now).await {
                Ok(seen) => seen,
                // A key store that is away has lost nothing: nothing is decided meanwhile.
                Err(away) if when == When::Serving || authority.is_none() => {
                    tracing::warn!(key = row.label, %away, "key cannot be looked at");
                    continue;
                }
                Err(away) => return Err(away),
            };
            if look == Look::Other && when == When::Starting && authority.is_some() {
                return Err(KeyError::OtherKey(row.label.clone()).into());
            }
            life.note(row, &look, key, now);
            if let Some(action) = action(row, &look, now) {
                self.act(store, life, row.clone(), authority, action, now).await?;
            }
        }
        life.report_orphans(&labels, &rows);
        self.orphans.store(Arc::new(life.orphans.iter().cloned().collect()));
        Ok(())
    }

    async fn look(
        &self,
        life: &Life,
        row: &KeyRecord,
        authority: Option<&Authority>,
        now: UnixTime,
    ) -> Result<(Look, Option<Arc<dyn Signer>>), AuthorityError> {
        let patience = self.settings.missing_patience_secs;
        let expected = row.spki.clone().or_else(|| authority.and_then(spki_of));
        let (keys, label) = (Arc::clone(&self.keys), row.label.clone());
        let found = super::on_thread(move || found(keys.as_ref(), &label, expected.as_deref())).await?;
        Ok(match found {
            Ok(Some(key)) => (Look::Here(key.spki().to_vec(), key.key_type()), Some(key)),
            Ok(None) if !self.keys.persistent() || life.missed_secs(&row.label, now) >= patience => (Look::Gone, None),
            Ok(None) => (Look::Absent, None),
            Err(KeyError::OtherKey(_)) => (Look::Other, None),
            // What a token does not show now is not lost; what it shows twice is for an operator.
            Err(away @ KeyError::Token(_)) => return Err(away.into()),
            Err(problem) => (Look::Unclear(problem.to_string()), None),
        })
    }

    async fn act(
        &self,
        store: &Store,
        life: &mut Life,
        mut row: KeyRecord,
        authority: Option<&Authority>,
        action: Action,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        tracing::warn!(key = row.label, state = %row.state, ?action, "key store and journal compared");
        let step = match action {
            Action::Abandon => KeyStep::Abandon,
            Action::Condemn(why) => KeyStep::Condemn { keep_until: now.plus(self.settings.destroy_after_secs), why },
            Action::Destroy => return self.destroy(store, life, row, now).await,
            Action::Fault(what) => KeyStep::Fault { what },
            Action::Find => KeyStep::Find,
            Action::Lose => KeyStep::Lose,
            Action::Record(spki) => KeyStep::Record { spki },
            Action::Taint => return self.distrust(store, row, authority).await,
        };
        move_key(store, &mut row, step).await
    }

    /// Second phase of destruction: the store deletes only the key whose public half is the recorded one.
    async fn destroy(
        &self,
        store: &Store,
        life: &mut Life,
        mut row: KeyRecord,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        life.here.remove(&row.label);
        crash::point("condemned-due");
        // Without a public half on record nobody ever used it: whatever is under its label was made for it.
        let (keys, label, spki) = (Arc::clone(&self.keys), row.label.clone(), row.spki.clone());
        let deleted = super::on_thread(move || {
            let spki = match spki {
                Some(spki) => Some(spki),
                None => keys.open(&label, None)?.map(|key| key.spki().to_vec()),
            };
            spki.map_or(Ok(()), |spki| keys.delete(&label, &spki))
        });
        deleted.await??;
        crash::point("deleted");
        move_key(store, &mut row, KeyStep::Destroy { now }).await
    }

    /// A key changed under its label: whoever made the other one may have had this one.
    async fn distrust(
        &self,
        store: &Store,
        mut row: KeyRecord,
        authority: Option<&Authority>,
    ) -> Result<(), AuthorityError> {
        const WHAT: &str = "its public half is not the recorded one; it is not used";
        tracing::error!(key = row.label, "{WHAT}: put the recorded key back, or revoke its authority");
        if let Some(authority) = authority.filter(|a| a.tainted_at.is_none()) {
            let (id, kind) = (authority.id.clone(), authority.kind);
            let why = "key differs from the journal";
            let fact = TaintAuthority { id, kind, why, caller: "this server".into() };
            done(store, Fact::TaintAuthority(fact), "taint").await?;
        }
        if row.note == WHAT { Ok(()) } else { move_key(store, &mut row, KeyStep::Fault { what: WHAT.into() }).await }
    }
}

impl Life {
    fn missed_secs(&self, label: &str, now: UnixTime) -> i64 {
        self.missing.get(label).map_or(0, |since| now.since(*since))
    }

    /// Whether a key of ours is missing for less than the patience.
    pub(super) fn waits(&self) -> bool {
        !self.missing.is_empty()
    }

    fn note(&mut self, row: &KeyRecord, look: &Look, key: Option<Arc<dyn Signer>>, now: UnixTime) {
        let label = &row.label;
        let expected = matches!(row.state, KeyState::Generated);
        match look {
            Look::Absent if expected => {
                self.missing.entry(label.clone()).or_insert(now);
                self.inspect_at = self.inspect_at.min(now.plus(LOOK_AGAIN_SECS));
            }
            // No answer says nothing: the key, if it was here, goes on as well as it can.
            Look::Unclear(problem) => tracing::warn!(key = label, problem, "key cannot be looked at"),
            Look::Absent | Look::Gone | Look::Here(..) | Look::Other => {
                self.missing.remove(label);
                self.here.remove(label);
            }
        }
        let live = matches!(row.state, KeyState::Generated | KeyState::Generating | KeyState::Lost);
        if let Some(key) = key.filter(|_| live) {
            self.here.insert(label.clone(), key);
        }
    }

    /// Keys of ours without a row may be another server's, or from after a backup: told, never deleted.
    fn report_orphans(&mut self, labels: &BTreeSet<String>, rows: &[KeyRecord]) {
        let known: BTreeSet<&str> = rows
            .iter()
            .filter(|row| row.state != KeyState::Destroyed || row.spki.is_none())
            .map(|row| row.label.as_str())
            .collect();
        let orphans: BTreeSet<String> = labels.iter().filter(|l| !known.contains(l.as_str())).cloned().collect();
        for label in orphans.difference(&self.orphans) {
            tracing::warn!(
                key = label,
                "a key without a row in the journal is in the key store; it is neither used nor deleted"
            );
        }
        self.orphans = orphans;
    }
}

/// The key under a label, if it signs.
fn found(keys: &dyn KeyStore, label: &str, spki: Option<&[u8]>) -> Result<Option<Arc<dyn Signer>>, KeyError> {
    let Some(key) = keys.open(label, spki)? else { return Ok(None) };
    let signature = key.sign(PROBE)?;
    let verified = PublicKey::from_spki(key.spki()).is_some_and(|public| public.verifies(PROBE, &signature));
    if verified { Ok(Some(key)) } else { Err(KeyError::Sign) }
}

/// The public half of an authority, for keys from before the journal.
fn spki_of(authority: &Authority) -> Option<Vec<u8>> {
    match authority.kind {
        AuthorityKind::Jwt => Some(authority.public.clone()),
        AuthorityKind::X509 => x509::spki_of(&authority.public).ok(),
    }
}

#[cfg(test)]
mod tests;
