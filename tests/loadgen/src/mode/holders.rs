//! Nodes with entries below them, for the modes that have SVIDs issued.

use crate::{server::Link, site::Site};

/// A connected node and the IDs of its entries.
pub struct Holder {
    pub link: Link,
    pub entries: Vec<String>,
}

/// `count` nodes of this run with `entries` entries each, as soon as the server shows them.
///
/// # Errors
/// What the server says of the first thing that fails.
pub async fn holders(site: &Site, count: usize, entries: usize) -> Result<Vec<Holder>, String> {
    eprintln!("loadgen: {count} nodes by join token, {entries} entries each");
    let nodes = site.nodes(count).await?;
    let mut holders = Vec::with_capacity(count);
    for (index, node) in nodes.iter().enumerate() {
        let path = |entry: usize| (node.id.path.clone(), site.path(&format!("node-{index}/entry-{entry}")));
        let ids = site.entries((0..entries).map(path).collect()).await?;
        holders.push(Holder { link: node.connect().await?, entries: ids });
    }
    for holder in &holders {
        site.shown(&holder.link, entries).await?;
    }
    Ok(holders)
}
