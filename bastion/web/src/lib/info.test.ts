import { describe, expect, it } from 'vitest';
import { facts, running, summary, usage } from './info';

const GiB = 2 ** 30;

describe('what an agent reports', () => {
  it('is summed up in a line', () => {
    const info = { os: 'Debian GNU/Linux', os_version: '13', arch: 'x86_64', cpu: { cores: 1 }, memory_total: 2 * GiB };
    expect(summary(info)).toBe('Debian GNU/Linux 13 · x86_64 · 1 core · 2 GiB');
  });

  it('names the system once when the version repeats it', () => {
    expect(summary({ os: 'Debian', os_version: 'Debian GNU/Linux 13' })).toBe('Debian GNU/Linux 13');
  });

  it('becomes shares of what there is', () => {
    const info = { cpu_percent: 12.4, memory_used: GiB, memory_total: 4 * GiB, disks: [{ mount: '/', used: 1, total: 2 }] };
    expect(usage(info).map(({ label, share }) => [label, Math.round(share * 100)])).toEqual([
      ['Processor', 12],
      ['Memory', 25],
      ['/', 50],
    ]);
  });

  const nonsense = [
    null,
    undefined,
    7,
    'text',
    [],
    { cpu: 'fast', disks: 'many', nics: { eth0: 1 }, memory_total: 'big', load: ['x'], uptime: null, cpu_percent: '9' },
    { disks: [null, 3, { mount: { a: 1 }, used: 1, total: 0 }], nics: [{ name: [], addresses: [{}, null] }], load: {} },
  ];
  it.each(nonsense)('may be nonsense, and nothing breaks: %j', (info) => {
    for (const read of [summary, facts, usage, running]) expect(() => read(info)).not.toThrow();
    expect(JSON.stringify([summary(info), facts(info), usage(info), running(info)])).not.toMatch(/NaN|undefined|object Object/);
  });
});
