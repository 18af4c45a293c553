// asciinema-player's own parser and drivers, without a page: what they make of a recording.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Grid } from './grid.mjs';

const HOME = fileURLToPath(new URL('../node_modules/asciinema-player/', import.meta.url));
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** Nothing of it is a public interface but what `create` takes, so it is this version's or none. */
async function core() {
  assert.equal(JSON.parse(readFileSync(`${HOME}package.json`)).version, '3.18.0');
  const name = readdirSync(`${HOME}dist`).find((file) => /^core-.*\.js$/.test(file));
  return (await import(`${HOME}dist/${name}`)).C;
}

/** A player of one source, and what it would have its terminal show. */
export class Player {
  #core;
  #failed;
  #shown = [];
  #grid;
  #drawn = 0;

  /** Throws what the player says of a source that it cannot read. */
  static async of(source) {
    const Core = await core();
    const player = new Player(new Core(source, { logger: SILENT, speed: 1, preload: true }));
    player.#core.terminalReady();
    await Promise.race([player.#core.init(), player.#failed]);
    return player;
  }

  constructor(core) {
    this.#core = core;
    this.#failed = new Promise((_, reject) => core.addEventListener('error', (event) => reject(new Error(event?.message ?? JSON.stringify(event)))));
    this.#failed.catch(() => {});
    core.addEventListener('metadata', ({ duration, markers }) => Object.assign(this, { duration, markers }));
    core.addEventListener('reset', ({ size, init }) => {
      this.#clear();
      this.#shown = [{ size, data: init ?? '' }];
    });
    core.addEventListener('resize', (size) => this.#shown.push({ size }));
    // Events passed over at once come as a list.
    core.addEventListener('output', (data) => this.#shown.push({ data: [data].flat().join('') }));
  }

  /** To so many seconds, or a part like `100%`. */
  seek(where) {
    return Promise.race([this.#core.seek(where), this.#failed]);
  }

  /** All output since the terminal was last cleared. */
  get output() {
    return this.#shown.map(({ data }) => data ?? '').join('');
  }

  /** What a terminal shows that was told all that. */
  async state() {
    const [{ size }] = this.#shown;
    this.#grid ??= new Grid(size.cols, size.rows);
    for (const { size, data } of this.#shown.slice(this.#drawn)) {
      if (size) await this.#grid.resize(size.cols, size.rows);
      if (data) await this.#grid.write(Buffer.from(data));
    }
    this.#drawn = this.#shown.length;
    return this.#grid.state();
  }

  stop() {
    this.#clear();
    void this.#core.stop();
  }

  #clear() {
    this.#grid?.dispose();
    this.#grid = undefined;
    this.#drawn = 0;
  }
}

/** All output of a cast and its length in seconds. */
export async function readCast(data) {
  const player = await Player.of({ data });
  await player.seek('100%');
  player.stop();
  return { output: player.output, duration: player.duration };
}
