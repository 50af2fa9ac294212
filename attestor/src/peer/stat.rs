//! The two text files of `/proc/<pid>` that hold numbers.

/// Start time in ticks since boot: field 22 of `/proc/<pid>/stat`.
///
/// Field 2, the program's name in parentheses, may hold spaces and parentheses: counting begins after the last one.
pub(crate) fn start_ticks(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// What `/proc/<pid>/status` says of users and groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Credentials {
    /// Effective.
    pub uid: u32,
    /// Effective.
    pub gid: u32,
    /// Supplementary, in the kernel's order (sorted).
    pub groups: Vec<u32>,
}

/// Reads the lines `Uid:`, `Gid:` and `Groups:`.
pub(crate) fn credentials(text: &str) -> Option<Credentials> {
    let line = |name: &str| text.lines().find_map(|l| l.strip_prefix(name));
    // Real, effective, saved, file system.
    let effective = |name: &str| line(name)?.split_ascii_whitespace().nth(1)?.parse().ok();
    let groups = line("Groups:")?.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(Credentials { uid: effective("Uid:")?, gid: effective("Gid:")?, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_a_hostile_program_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_ticks(&format!("77 (a) R 9 (b) {tail}")), Some(4242));
        assert_eq!(start_ticks("77 (a) S 1"), None);
        assert_eq!(start_ticks(""), None);
    }

    #[test]
    fn effective_user_is_read_not_the_real_one() {
        let text = "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t1000\t5\t5\t5\nGroups:\t4 27 \n";
        assert_eq!(credentials(text), Some(Credentials { uid: 0, gid: 5, groups: vec![4, 27] }));
    }

    #[test]
    fn program_name_cannot_fake_a_uid_line() {
        // The kernel escapes newlines in Name, so no line of ours can begin inside it.
        let text = "Name:\tx\\nUid:\t0 0 0 0\nUid:\t7\t7\t7\t7\nGid:\t7\t7\t7\t7\nGroups:\t\n";
        assert_eq!(credentials(text).map(|c| c.uid), Some(7));
    }

    #[test]
    fn missing_lines_are_no_credentials() {
        assert_eq!(credentials("Uid:\t1\t1\t1\t1\n"), None);
        assert_eq!(credentials("Uid:\t1\nGid:\t1\t1\t1\t1\nGroups:\n"), None);
    }
}
