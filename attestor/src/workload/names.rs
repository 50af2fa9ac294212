use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::unistd::{Gid, Group, Uid, User};

/// How long a name is believed: the user database may be a directory over the network.
const FRESH: Duration = Duration::from_secs(5);
/// Names kept of each kind.
const MAX_KEPT: usize = 4096;

type Kept = HashMap<u32, (Instant, Option<String>)>;

/// Names of users and groups, looked up as the host's C library does. Blocks.
#[derive(Default)]
pub(super) struct Names {
    /// Guards the map only; never held during a look-up.
    users: Mutex<Kept>,
    /// Guards the map only; never held during a look-up.
    groups: Mutex<Kept>,
}

impl Names {
    /// Whether these names can be told without asking the host.
    pub(super) fn are_known(&self, uid: u32, gids: impl Iterator<Item = u32>) -> bool {
        fresh(&self.users, [uid].into_iter()) && fresh(&self.groups, gids)
    }

    /// The user's name; `None` where the number has none, or nobody can be asked.
    pub(super) fn user(&self, uid: u32) -> Option<String> {
        kept(&self.users, uid, |n| User::from_uid(Uid::from_raw(n)).ok()?.map(|u| u.name))
    }

    /// The group's name; `None` where the number has none, or nobody can be asked.
    pub(super) fn group(&self, gid: u32) -> Option<String> {
        kept(&self.groups, gid, |n| Group::from_gid(Gid::from_raw(n)).ok()?.map(|g| g.name))
    }
}

fn fresh(map: &Mutex<Kept>, mut numbers: impl Iterator<Item = u32>) -> bool {
    let map = map.lock().unwrap_or_else(PoisonError::into_inner);
    // A second is left for the look-up that follows.
    numbers.all(|n| map.get(&n).is_some_and(|(at, _)| at.elapsed() + Duration::from_secs(1) < FRESH))
}

fn kept(map: &Mutex<Kept>, number: u32, look_up: impl Fn(u32) -> Option<String>) -> Option<String> {
    let known = map.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
    if let Some((at, name)) = known
        && at.elapsed() < FRESH
    {
        return name;
    }
    let name = look_up(number);
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= MAX_KEPT {
        map.clear();
    }
    map.insert(number, (Instant::now(), name.clone()));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_an_unused_number_has_none() {
        let names = Names::default();
        assert_eq!(names.user(0).as_deref(), Some("root"));
        assert_eq!(names.group(0).as_deref(), Some("root"));
        assert_eq!(names.user(3_999_999_999), None);
    }
}
