//! What the host is and how it is doing, for people to read; measured off the async threads.

use std::{collections::BTreeSet, net::IpAddr};

use openapi::agents::{Metrics, StaticInfo, clean};
use serde_json::{Value, json};
use sysinfo::{Disks, Networks, System};

/// The most disks or interfaces that are reported.
const LIST_MAX: usize = 32;
/// The longest text in a report, in characters.
const TEXT_MAX: usize = 200;

/// Measures the host; keeps what the processor did since the last time.
pub struct Host {
    system: Option<System>,
}

impl Host {
    /// Begins to measure.
    #[must_use]
    pub fn new() -> Self {
        Self { system: System::new().ok() }
    }

    /// What the host is.
    pub fn static_info(&mut self) -> StaticInfo {
        let mut info = StaticInfo::new();
        let mut put = |name: &str, value: Value| {
            info.insert(name.to_owned(), value);
        };
        put("os", text(System::name().unwrap_or_else(|_| std::env::consts::OS.to_owned())));
        put("os_version", text(System::os_version().unwrap_or_default()));
        put("kernel", text(System::kernel_version().unwrap_or_default()));
        put("arch", text(System::cpu_arch()));
        if let Some(system) = &mut self.system {
            system.refresh_cpu_all();
            system.refresh_memory();
            let model = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned());
            put("cpu", json!({"model": text(model.unwrap_or_default()), "cores": system.cpus().len()}));
            put("memory_total", json!(system.total_memory()));
        }
        put("disks", disks(|disk| json!({"total": disk.total_space(), "fs": lossy(disk.file_system())})));
        put("nics", nics());
        info
    }

    /// How it is doing: bytes, percent, seconds.
    pub fn metrics(&mut self) -> Metrics {
        let mut metrics = Metrics::new();
        let mut put = |name: &str, value: Value| {
            metrics.insert(name.to_owned(), value);
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
            put("cpu_percent", json!((system.global_cpu_usage() * 10.0).round() / 10.0));
            put("memory_used", json!(system.used_memory()));
            put("memory_total", json!(system.total_memory()));
            put("swap_used", json!(system.used_swap()));
        }
        if let Ok(load) = System::load_average() {
            put("load", json!([load.one, load.five, load.fifteen]));
        }
        put(
            "disks",
            disks(
                |disk| json!({"used": disk.total_space().saturating_sub(disk.available_space()), "total": disk.total_space()}),
            ),
        );
        if let Ok(uptime) = System::uptime() {
            put("uptime", json!(uptime));
        }
        metrics
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

fn disks(describe: impl Fn(&sysinfo::Disk) -> Value) -> Value {
    let Ok(disks) = Disks::new_with_refreshed_list() else { return json!([]) };
    let rows = disks.iter().take(LIST_MAX).map(|disk| {
        let mut row = describe(disk);
        row["mount"] = lossy(disk.mount_point().as_os_str());
        row
    });
    rows.collect()
}

fn nics() -> Value {
    let Ok(networks) = Networks::new_with_refreshed_list() else { return json!([]) };
    let mut rows: Vec<(String, Value)> = networks
        .iter()
        .map(|(name, data)| {
            // Neither interfaces nor their addresses come in an order; without one they would look changed each time.
            let addresses: BTreeSet<IpAddr> = data.ip_networks().iter().map(|network| network.addr).collect();
            let addresses: Vec<IpAddr> = addresses.into_iter().take(LIST_MAX).collect();
            let name = name.to_string_lossy().into_owned();
            let row = json!({"name": text(&name), "addresses": addresses});
            (name, row)
        })
        .collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows.into_iter().take(LIST_MAX).map(|(_, row)| row).collect()
}

fn lossy(value: &std::ffi::OsStr) -> Value {
    text(value.to_string_lossy())
}

fn text(value: impl AsRef<str>) -> Value {
    Value::String(clean(value.as_ref(), TEXT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_says_what_it_is_and_how_it_is_doing() {
        let mut host = Host::new();
        let info = host.static_info();
        for name in ["os", "os_version", "kernel", "arch", "cpu", "memory_total", "disks", "nics"] {
            assert!(info.contains_key(name), "{name}");
        }
        let metrics = host.metrics();
        for name in ["cpu_percent", "memory_used", "memory_total", "swap_used", "load", "disks", "uptime"] {
            assert!(metrics.contains_key(name), "{name}");
        }
        assert!(metrics["memory_used"].as_u64() <= metrics["memory_total"].as_u64());
        assert_eq!(info, host.static_info(), "what a host is does not change by asking");
    }
}
