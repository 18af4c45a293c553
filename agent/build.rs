//! Names the commit the program is built from, for `--version`.

use std::process::Command;

const LOG: &str = "../.git/logs/HEAD";

fn main() {
    let told = std::env::var("CASTELLAN_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = told.or_else(ask_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=CASTELLAN_COMMIT={commit}");
    println!("cargo:rerun-if-env-changed=CASTELLAN_COMMIT");
    // It grows with every commit; a file that is not there would mean building anew each time.
    if std::fs::exists(LOG).unwrap_or(false) {
        println!("cargo:rerun-if-changed={LOG}");
    }
}

fn ask_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
