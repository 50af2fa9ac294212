use chancery_sdk::{id::SpiffeId, time::UnixTime};
use rustls_pki_types::CertificateDer;

use crate::{
    crypto::{AnyNodeKey, fraction},
    state::{SavedKey, SavedSvid},
};

/// The node's SVID with its key.
pub(super) struct Held {
    pub(super) id: SpiffeId,
    /// DER, leaf first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: AnyNodeKey,
    pub(super) saved_key: SavedKey,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    /// Whether the CA lets the node attest again; else it renews.
    pub(super) reattestable: bool,
    /// When a new SVID is due.
    pub(super) due: UnixTime,
}

impl Held {
    /// The same, just issued: its life is counted from now, since the CA backdates notBefore by more than the
    /// half of a short life.
    pub(super) fn fresh_at(self, now: UnixTime) -> Self {
        Self { due: Self::due(now, self.not_after), ..self }
    }

    /// When the next SVID is due: at half of the life, a tenth of it earlier or later by chance.
    pub(super) fn due(since: UnixTime, not_after: UnixTime) -> UnixTime {
        let life = not_after.since(since).max(0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "a lifetime in seconds is small"
        )]
        let offset = (life as f64 * (0.45 + 0.1 * fraction())) as i64;
        since.plus(offset)
    }

    pub(super) fn to_saved(&self) -> SavedSvid {
        SavedSvid {
            id: self.id.clone(),
            chain: self.chain.iter().map(|der| der.to_vec()).collect(),
            key: self.saved_key.clone(),
            reattestable: self.reattestable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_svid_is_due_around_half_of_its_life() {
        for _ in 0..100 {
            let due = Held::due(UnixTime(1000), UnixTime(4600)).0;
            assert!((1000 + 1620..=1000 + 1980).contains(&due), "{due}");
        }
        assert_eq!(Held::due(UnixTime(10), UnixTime(5)), UnixTime(10));
    }
}
