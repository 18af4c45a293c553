//! Names the commit for `--version`, and puts a placeholder where the pages have not been built yet.

use std::{fs, io, path::Path, process::Command};

const PLACEHOLDER: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Castellan</title>\
    <p>The bastion runs, but its pages have not been built. Run <code>make build</code>, then start it again.</p></html>\n";

fn main() -> io::Result<()> {
    // Naming some files keeps cargo from watching all of them.
    println!("cargo::rerun-if-changed=build.rs");
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CASTELLAN_COMMIT={commit}");
    for name in ["HEAD", "logs/HEAD"] {
        // A file that is not there would count as changed every time.
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let dist = Path::new("web/dist");
    let index = dist.join("index.html");
    if !index.exists() {
        fs::create_dir_all(dist)?;
        fs::write(&index, PLACEHOLDER)?;
    }
    // Debug builds read the folder when they run; only release builds hold a copy.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rerun-if-changed=web/dist");
    }
    Ok(())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}
