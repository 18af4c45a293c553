//! Child processes and what the kernel says of them: CPU time, memory. Facts of the machine.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// `/proc` counts CPU time in these, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child process; killed when dropped.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts it; what it complains of is shown.
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/bench builds it")))
    }

    /// This bench again, as something else.
    pub fn again(words: &[&str]) -> Self {
        Self::start(Command::new(std::env::current_exe().unwrap()).args(words))
    }

    /// The first line it prints.
    pub fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// User and system time so far, children aside; in steps of 10 ms.
    pub fn cpu(&self) -> f64 {
        cpu_of(&self.0.id().to_string())
    }

    /// Proportional set size in KiB, children aside.
    pub fn pss(&self) -> f64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0.id())).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// User and system time of this process so far; in steps of 10 ms.
pub fn own_cpu() -> f64 {
    cpu_of("self")
}

fn cpu_of(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name may hold spaces; what follows it does not.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// CPU time and wall time of several processes over a while, in percent of one core.
pub async fn load<const N: usize>(processes: [&Process; N], during: Duration) -> [f64; N] {
    let before = processes.map(Process::cpu);
    tokio::time::sleep(during).await;
    let mut index = 0;
    processes.map(|process| {
        index += 1;
        (process.cpu() - before[index - 1]) / during.as_secs_f64() * 100.0
    })
}

/// How many files this process, and so its children, may open.
pub fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX)
}

/// Every file below a folder, with its bytes.
pub fn files_below(folder: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let each = entries.flatten().map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files_below(&entry.path()),
        _ => vec![(entry.path(), entry.metadata().map_or(0, |metadata| metadata.len()))],
    });
    each.flatten().collect()
}

/// Bytes of every file below a folder.
pub fn bytes_below(folder: &Path) -> u64 {
    files_below(folder).iter().map(|(_, bytes)| bytes).sum()
}

/// Prints what the figures were measured on.
pub fn facts() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("?", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    println!("castellan {} at commit {}", env!("CARGO_PKG_VERSION"), env!("CASTELLAN_COMMIT"));
    println!("{cores} cores, {}, {} memory", field(&cpu, "model name"), field(&memory, "MemTotal"));
    println!("Linux {}", read("/proc/sys/kernel/osrelease").trim());
    println!(
        "SQLite, folder store, plain HTTP on loopback; floor: a bare tokio-tungstenite relay in two processes"
    );
}
