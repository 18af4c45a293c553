// Starts what the journey needs: a bastion with its own host, and a second agent. Both end with the test.
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const START_MS = 30_000;

/** `castellan dev` on a free port and an empty folder; or the bastion at CASTELLAN_URL, if one is named. */
export async function startBastion() {
  if (process.env.CASTELLAN_URL) {
    return { url: process.env.CASTELLAN_URL, password: process.env.CASTELLAN_PASSWORD ?? '', stop: async () => {} };
  }
  const binary = process.env.CASTELLAN_BIN;
  if (!binary) throw new Error('CASTELLAN_BIN must name the castellan program');
  const data = await mkdtemp(join(tmpdir(), 'castellan-e2e-'));
  const bastion = run(binary, ['dev', '--listen', '127.0.0.1:0', '--data', data]);
  try {
    const [url, password] = await Promise.all([
      bastion.line(/Castellan listens on (http:\/\/\S+)/),
      bastion.line(/user admin, one-time password: (\S+)/),
    ]);
    return {
      url: url.replace(/\/$/, ''),
      password,
      /** Its folder, with `recordings` in it. */
      data,
      stop: async () => {
        await bastion.stop();
        await rm(data, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await bastion.stop();
    throw error;
  }
}

/** A second agent, in its own state folder, waiting to be approved. */
export async function startAgent(server, label) {
  const binary = process.env.CASTELLAN_AGENT_BIN;
  if (!binary) throw new Error('CASTELLAN_AGENT_BIN must name the castellan-agent program');
  const state = await mkdtemp(join(tmpdir(), 'castellan-agent-e2e-'));
  const agent = run(binary, ['run', '--server', server, '--state-dir', join(state, 'state'), '--label', label]);
  return {
    stop: async () => {
      await agent.stop();
      await rm(state, { recursive: true, force: true });
    },
  };
}

function run(binary, args) {
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = [];
  const waiting = new Set();
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      said.push(line);
      for (const look of waiting) look();
    });
  }
  const ended = new Promise((resolve) => {
    child.on('error', (error) => {
      said.push(String(error));
      resolve();
    });
    child.on('exit', resolve);
  });

  return {
    /** The first group of the first line that matches. */
    line: (pattern) =>
      new Promise((resolve, reject) => {
        const fail = (why) => reject(new Error(`${binary} ${why} before it said ${pattern}:\n${said.join('\n')}`));
        const timer = setTimeout(() => fail('was silent'), START_MS);
        const look = () => {
          const match = said.map((line) => line.match(pattern)).find(Boolean);
          if (!match) return;
          clearTimeout(timer);
          waiting.delete(look);
          resolve(match[1]);
        };
        waiting.add(look);
        look();
        void ended.then(() => fail('ended'));
      }),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      const forced = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await ended;
      clearTimeout(forced);
    },
  };
}
