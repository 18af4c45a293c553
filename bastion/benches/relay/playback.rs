//! Recordings on their page in a real browser: `web/e2e/playback.bench.mjs`, against a house of this bench.

use std::{path::Path, process::Command};

use crate::{
    harness::PASSWORD,
    house::{House, Place, Settings},
};

/// Prints the section.
pub async fn measure() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    if !Path::new(&chromium).exists() || !web.join("node_modules/playwright-core").exists() {
        println!(
            "\nplayback: skipped; it needs Chromium at {chromium} (or CHROMIUM) and `npm ci` in bastion/web"
        );
        return;
    }
    let house = House::start(Settings::default()).await;
    let mut command = Command::new("node");
    command.arg("e2e/playback.bench.mjs").current_dir(web);
    command
        .env("CASTELLAN_URL", house.url())
        .env("CASTELLAN_USER", "alice")
        .env("CASTELLAN_PASSWORD", PASSWORD);
    command.env("CASTELLAN_PID", house.server().id().to_string()).env("CHROMIUM", chromium);
    let run = tokio::task::spawn_blocking(move || command.status()).await.unwrap();
    if !run.is_ok_and(|status| status.success()) {
        println!("playback: the browser's part failed");
    }
}
