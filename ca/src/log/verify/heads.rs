//! The checkpoints of an epoch: who signed them, and which trees they say there were.

use std::collections::BTreeMap;

use chancery_core::log::{Hash, proof::Head};

use super::{Fault, Judge, VerifyError};
use crate::store::{LastTree, Store, StoredCheckpoint};

/// Checkpoints read at once.
const PAGE: u32 = 1000;
/// Most of one epoch: what is kept is one of 4,096 events, so these are of 800 million.
const MOST: usize = 200_000;

/// The trees that must have been.
#[derive(Debug, Default)]
pub struct Heads {
    /// By size: each root that something says, and what says it.
    expected: BTreeMap<u64, Vec<(Hash, String)>>,
    count: usize,
    /// Size of the largest that a trusted key signed.
    vouched: u64,
    /// Size of the largest in the folder.
    shown: u64,
    notes: Vec<String>,
    finding: Option<Fault>,
}

impl Heads {
    /// Those of the database, and the one in the folder.
    ///
    /// # Errors
    /// [`VerifyError::Store`].
    pub(super) async fn gather(
        store: &Store,
        judge: &Judge,
        epoch: i64,
        shown: Option<&[u8]>,
    ) -> Result<Self, VerifyError> {
        let (mut heads, mut strangers, mut after) = (Self::default(), Vec::new(), -1);
        loop {
            let page = store.checkpoints(epoch, after, PAGE).await?;
            let Some(last) = page.last().map(|checkpoint| checkpoint.size) else { break };
            for checkpoint in &page {
                heads.stored(judge, checkpoint, &mut strangers);
            }
            after = last;
            if heads.count > MOST {
                heads.fault(format!("more than {MOST} checkpoints are stored; no server keeps so many"));
                break;
            }
        }
        let newest = heads.expected.keys().next_back().copied().unwrap_or(0);
        if let Some(note) = shown {
            heads.in_folder(judge, epoch, note, newest, &mut strangers);
        }
        heads.judge_strangers(&strangers);
        if heads.count == 0 && shown.is_none() {
            heads.notes.push("no checkpoint was signed".into());
        }
        Ok(heads)
    }

    fn stored(&mut self, judge: &Judge, checkpoint: &StoredCheckpoint, strangers: &mut Vec<(u64, String)>) {
        self.count += 1;
        let told = format!("the checkpoint of {} events in the database", checkpoint.size);
        let opened = match judge.open(&checkpoint.note, checkpoint.epoch) {
            Ok(opened) => opened,
            Err(why) => return self.fault(format!("{told} is forged: {why}")),
        };
        if i64::try_from(opened.head.size) != Ok(checkpoint.size) || *checkpoint.root != opened.head.root {
            return self.fault(format!("{told} was edited: its note says another size or root"));
        }
        match opened.stranger {
            None => self.vouched = self.vouched.max(opened.head.size),
            Some(by) => strangers.push((opened.head.size, by)),
        }
        self.expect(opened.head, &told);
    }

    fn in_folder(&mut self, judge: &Judge, epoch: i64, note: &[u8], newest: u64, strangers: &mut Vec<(u64, String)>) {
        let told = "the checkpoint in the log's folder";
        let opened = match judge.open(note, epoch) {
            Ok(opened) => opened,
            Err(why) => return self.fault(format!("{told} is forged: {why}")),
        };
        let tree = LastTree { epoch, head: opened.head };
        if opened.head.size > newest && judge.given_up.contains(&tree) {
            self.shown = opened.head.size;
            return self.notes.push(format!(
                "the newest events up to {} were lost with a database that was restored; a later epoch says that this was \
                 accepted",
                opened.head.size
            ));
        }
        if opened.head.size > newest {
            self.fault(format!(
                "the database's last checkpoint is of {newest} events, and one of {} was shown: the database is an older \
                 one, or checkpoints were taken out of it",
                opened.head.size
            ));
        }
        match opened.stranger {
            None => self.vouched = self.vouched.max(opened.head.size),
            Some(by) => strangers.push((opened.head.size, by)),
        }
        self.shown = opened.head.size;
        self.expect(opened.head, told);
    }

    /// A checkpoint by a key that is not trusted here is fine where a trusted one covers it.
    fn judge_strangers(&mut self, strangers: &[(u64, String)]) {
        for (size, by) in strangers {
            let told = format!("the checkpoint of {size} events is signed by {by}, which is not trusted here");
            match *size > self.vouched {
                true => self.fault(format!("{told}: add it to log.trusted_keys if it is one of your servers'")),
                false => self.notes.push(format!("{told}; a later one is by a key that is")),
            }
        }
    }

    fn fault(&mut self, what: String) {
        self.finding.get_or_insert((None, what));
    }

    /// Another tree that must have been.
    pub fn expect(&mut self, head: Head, told: &str) {
        self.expected.entry(head.size).or_default().push((head.root, told.to_owned()));
    }

    /// The sizes at which something is expected.
    pub fn sizes(&self) -> impl Iterator<Item = u64> {
        self.expected.keys().copied()
    }

    /// What says that the tree of that size has another root than this.
    pub fn contradiction(&self, head: Head) -> Option<&str> {
        let said = self.expected.get(&head.size)?;
        said.iter().find(|(root, _)| *root != head.root).map(|(_, told)| told.as_str())
    }

    /// What says that there are more events than so many.
    pub fn beyond(&self, size: u64) -> Option<(u64, &str)> {
        let (larger, said) = self.expected.range(size + 1..).next_back()?;
        said.first().map(|(_, told)| (*larger, told.as_str()))
    }

    /// Size of the checkpoint in the folder: so far its tiles go.
    pub fn shown(&self) -> u64 {
        self.shown
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn vouched(&self) -> u64 {
        self.vouched
    }

    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    pub(super) fn take_finding(&mut self) -> Option<Fault> {
        self.finding.take()
    }
}
