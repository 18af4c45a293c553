// asciinema-player's own parser and driver, without a page: what it makes of a cast.
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const DIST = fileURLToPath(new URL('../node_modules/asciinema-player/dist/', import.meta.url));
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** All output of a cast and its length in seconds; throws what the player says of a cast it cannot read. */
export async function readCast(data) {
  // The file has a hash in its name; the player's version is pinned.
  const name = readdirSync(DIST).find((file) => /^core-.*\.js$/.test(file));
  const { C: Core } = await import(`${DIST}${name}`);
  const core = new Core({ data }, { logger: SILENT, speed: 1, preload: true });
  let output = '';
  let duration = 0;
  core.addEventListener('output', (event) => (output += event.data ?? event));
  core.addEventListener('metadata', (event) => (duration = event.duration));
  const failed = new Promise((_, reject) => core.addEventListener('error', (event) => reject(new Error(String(event?.message ?? event)))));
  core.terminalReady();
  const read = async () => {
    await core.init();
    await core.seek('100%');
    return { output, duration };
  };
  return Promise.race([read(), failed]);
}
