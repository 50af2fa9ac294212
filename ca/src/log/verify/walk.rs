//! One epoch, event by event: the row, its leaf, the tiles that it fills, the checkpoints that it completes.

use std::{collections::BTreeSet, io};

use chancery_core::log::{
    chain::{Chain, Row, is_clear_value},
    folder::{FolderFault, compare, compare_entries},
    proof::Head,
    tile::FULL,
    tree::Tree,
};

use super::{Fault, heads::Heads};
use crate::{
    log::files::Folder,
    store::{ClearValue, RecordRow},
};

/// The record as far as it was judged.
pub struct Walk {
    chain: Chain,
    tree: Tree,
    /// The events of the bundle that is not full.
    bundle: Vec<Vec<u8>>,
    heads: Heads,
    /// Sizes at which a checkpoint is to be compared, and that were not reached yet.
    due: BTreeSet<u64>,
    /// The largest that agreed.
    agreed: u64,
    folder: Folder,
}

impl Walk {
    /// From the first event of the epoch.
    pub fn new(epoch: i64, heads: Heads, folder: Folder) -> Self {
        let due = heads.sizes().collect();
        let (chain, tree) = (Chain::new(epoch), Tree::default());
        Self { chain, tree, bundle: Vec::new(), heads, due, agreed: 0, folder }
    }

    /// Events judged.
    pub fn events(&self) -> u64 {
        self.tree.size()
    }

    /// Judges the next rows and the clear values beside them; the first fault.
    pub fn take(&mut self, rows: &[RecordRow], clear: &[ClearValue]) -> Option<Fault> {
        let mut clear = clear.iter().peekable();
        if self.events() == 0 {
            self.due.remove(&0);
            if let Some(told) = self.heads.contradiction(Head { size: 0, root: self.tree.root() }) {
                return Some((None, format!("{told}, of no event, has another root")));
            }
        }
        for row in rows {
            if let Err(fault) = self.event(row) {
                return Some(fault);
            }
            while let Some(value) = clear.next_if(|value| value.number <= row.number) {
                if value.number != row.number || !is_clear_value(&row.bytes, &value.field, &value.salt, &value.value) {
                    let what = format!("edited: the clear value of {} is not the one in the event", value.field);
                    return Some((Some(value.number), what));
                }
            }
        }
        None
    }

    fn event(&mut self, row: &RecordRow) -> Result<(), Fault> {
        let number = self.chain.next();
        let leaf = self.chain.follow(columns(row)).map_err(|fault| (Some(number), fault.to_string()))?;
        self.bundle.push(row.bytes.clone());
        let (folder, shown) = (&self.folder, self.heads.shown());
        let mut fault = None;
        let index = self.tree.size() / u64::from(FULL);
        let is_full = self.bundle.len() == usize::from(FULL);
        if is_full {
            // Before the hashes: it names the event.
            compare_entries(index, &self.bundle, shown, |tile| folder.read(tile)).map_err(named)?;
            self.bundle.clear();
        }
        self.tree.append(leaf, |tile, hashes| {
            let compared = compare(tile, hashes, shown, |tile| folder.read(tile));
            fault = fault.take().or_else(|| compared.err());
        });
        fault.map_or(Ok(()), |fault| Err(named(fault)))?;
        self.checkpoints(index)
    }

    /// Compares the checkpoints of the tree as it is now.
    fn checkpoints(&mut self, index: u64) -> Result<(), Fault> {
        let size = self.tree.size();
        if self.due.first() != Some(&size) {
            return Ok(());
        }
        self.due.pop_first();
        let head = Head { size, root: self.tree.root() };
        let Some(told) = self.heads.contradiction(head) else {
            self.agreed = size;
            return Ok(());
        };
        // The tiles may name the event.
        compare_entries(index, &self.bundle, self.heads.shown(), |tile| self.folder.read(tile)).map_err(named)?;
        let (first, last) = (self.agreed, size - 1);
        Err((None, format!("one of the events {first} to {last} is not what it was: {told} has another root")))
    }

    /// What is left to compare once the last event was judged; `until`: the last number that was given away.
    pub fn finish(mut self, until: Option<i64>) -> Option<Fault> {
        let size = self.tree.size();
        if let Some((larger, told)) = self.heads.beyond(size) {
            let what = format!("missing, and all after it: {told} is of {larger} events, and there are {size}");
            return Some((i64::try_from(size).ok(), what));
        }
        if let Some(until) = until.filter(|until| *until >= self.chain.next()) {
            let what = format!("missing, and all after it: numbers up to {until} were given away");
            return Some((i64::try_from(size).ok(), what));
        }
        let (folder, shown) = (&self.folder, self.heads.shown());
        let bundle = std::mem::take(&mut self.bundle);
        if let Err(fault) = compare_entries(size / u64::from(FULL), &bundle, shown, |tile| folder.read(tile)) {
            return Some(named(fault));
        }
        let parts = self.tree.partial().map(|(tile, hashes)| compare(tile, hashes, shown, |tile| folder.read(tile)));
        parts.filter_map(Result::err).next().map(named)
    }
}

fn columns(row: &RecordRow) -> Row<'_> {
    Row {
        epoch: row.epoch,
        number: row.number,
        at: row.at,
        server: &row.server,
        kind: &row.kind,
        subject: &row.subject,
        bytes: &row.bytes,
        hash: &row.hash,
    }
}

/// A difference of the folder, at the event it names.
fn named(fault: FolderFault<io::Error>) -> Fault {
    match &fault {
        FolderFault::Entry { number, tile } => {
            let what = format!("another one than in the log's folder ({tile}): one of the two was edited");
            (i64::try_from(*number).ok(), what)
        }
        _ => (None, format!("the log's folder: {fault}")),
    }
}
