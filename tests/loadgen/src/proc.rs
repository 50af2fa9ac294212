//! What the kernel counts of a process: processor time and resident memory, from /proc.

use std::{fs, time::Duration};

use serde::Serialize;

/// One look at a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Processor time in user mode since its start; the kernel counts in ticks of 10 ms.
    pub user: Duration,
    /// Processor time in the kernel for it.
    pub system: Duration,
    /// Resident bytes.
    pub resident: u64,
    /// Threads it has.
    pub threads: u64,
}

/// What a process used between two looks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Used {
    pub pid: u32,
    /// Seconds in user mode.
    pub cpu_user: f64,
    /// Seconds in the kernel.
    pub cpu_system: f64,
    /// Resident bytes at the end.
    pub resident_bytes: u64,
    /// Growth of resident bytes over the phase.
    pub resident_growth: i64,
}

impl Used {
    /// Seconds in both modes.
    pub fn cpu(&self) -> f64 {
        self.cpu_user + self.cpu_system
    }
}

/// Looks at `pid`.
///
/// # Errors
/// There is no such process, or it may not be seen.
pub fn look(pid: u32) -> Result<Look, String> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path)
            .map_err(|e| format!("--pid {pid}: {path}: {e}; is the process alive and yours to see?"))
    };
    let stat = read("stat")?;
    let (user, system, threads) = of_stat(&stat).ok_or_else(|| format!("--pid {pid}: its stat is not as known"))?;
    let status = read("status")?;
    let resident = of_status(&status).ok_or_else(|| format!("--pid {pid}: no VmRSS; is it a kernel thread?"))?;
    Ok(Look { user: ticks(user), system: ticks(system), resident, threads })
}

/// What `pid` used since `before`.
///
/// # Errors
/// As [`look`].
pub fn used(pid: u32, before: &Look) -> Result<Used, String> {
    let now = look(pid)?;
    Ok(Used {
        pid,
        cpu_user: now.user.saturating_sub(before.user).as_secs_f64(),
        cpu_system: now.system.saturating_sub(before.system).as_secs_f64(),
        resident_bytes: now.resident,
        resident_growth: now.resident.cast_signed() - before.resident.cast_signed(),
    })
}

/// Soft limit of open files of `pid`; `None` where it is unlimited or unknown.
pub fn open_files(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let row = limits.lines().find(|line| line.starts_with("Max open files"))?;
    row.split_whitespace().nth(3)?.parse().ok()
}

/// Bytes that programs may still take without swapping.
pub fn memory_available() -> Option<u64> {
    let all = fs::read_to_string("/proc/meminfo").ok()?;
    let row = all.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    row.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// utime, stime and threads: fields 14, 15 and 20 of proc_pid_stat(5). The name before them may hold anything.
fn of_stat(stat: &str) -> Option<(u64, u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let field = |number: usize| rest.split_whitespace().nth(number - 3)?.parse().ok();
    Some((field(14)?, field(15)?, field(20)?))
}

fn of_status(status: &str) -> Option<u64> {
    let row = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    row.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_spaces_and_brackets() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194560 10 20 30 40 1234 567 7 8 20 0 9 0 100 5000 600";
        assert_eq!(of_stat(stat), Some((1234, 567, 9)));
        assert_eq!(of_stat("42 (x"), None);
        assert_eq!(of_status("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
    }

    #[test]
    fn work_of_this_process_is_seen() {
        let me = std::process::id();
        let before = look(me).unwrap();
        let begun = std::time::Instant::now();
        let mut sum = 0_u64;
        while begun.elapsed() < Duration::from_millis(80) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let used = used(me, &before).unwrap();
        assert!(used.cpu() > 0.0 && used.resident_bytes > 0, "{used:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        assert!(look(u32::MAX).unwrap_err().contains("--pid 4294967295"));
    }
}
