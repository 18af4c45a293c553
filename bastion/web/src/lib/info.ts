/** What an agent reports about its host. All of it is foreign: read what is there, take nothing for granted. */
import { bytes, duration } from './format';

type Json = Record<string, unknown>;

export interface Usage {
  label: string;
  share: number;
  text: string;
}

const record = (value: unknown): Json => (typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {});
const list = (value: unknown): Json[] => (Array.isArray(value) ? value.slice(0, 32).map(record) : []);
const text = (value: unknown): string => (typeof value === 'string' || typeof value === 'number' ? String(value).slice(0, 200) : '');
const number = (value: unknown): number | null => (typeof value === 'number' && Number.isFinite(value) ? value : null);
const join = (...parts: string[]): string => parts.filter(Boolean).join(' ');

/** Operating system and machine, one line: "Debian 13 · x86_64 · 8 cores · 16 GiB". */
export function summary(info: unknown): string {
  const { os, os_version, arch, cpu, memory_total } = record(info);
  const cores = number(record(cpu).cores);
  const memory = number(memory_total);
  const system = text(os_version).startsWith(text(os)) ? text(os_version) : join(text(os), text(os_version));
  return [system, text(arch), cores ? `${cores} ${cores === 1 ? 'core' : 'cores'}` : '', memory ? bytes(memory) : '']
    .filter(Boolean)
    .join(' · ');
}

/** Facts for a table of terms and values. */
export function facts(info: unknown): [string, string][] {
  const { os, os_version, kernel, arch, cpu, memory_total, disks, nics } = record(info);
  const processor = record(cpu);
  const cores = number(processor.cores);
  const memory = number(memory_total);
  const all: [string, string][] = [
    ['System', join(text(os), text(os_version))],
    ['Kernel', text(kernel)],
    ['Architecture', text(arch)],
    ['Processor', join(text(processor.model), cores ? `(${cores} ${cores === 1 ? 'core' : 'cores'})` : '')],
    ['Memory', memory ? bytes(memory) : ''],
    ...list(disks).map((disk): [string, string] => ['Disk', join(text(disk.mount), size(disk.total), text(disk.fs))]),
    ...list(nics).map((nic): [string, string] => ['Network', join(text(nic.name), addresses(nic.addresses))]),
  ];
  return all.filter(([, value]) => value);
}

/** Shares in use, for meters. */
export function usage(info: unknown): Usage[] {
  const { cpu_percent, memory_used, memory_total, disks } = record(info);
  const all: Usage[] = [];
  const cpu = number(cpu_percent);
  if (cpu !== null) all.push({ label: 'Processor', share: cpu / 100, text: `${Math.round(cpu)} %` });
  const memory = share(memory_used, memory_total);
  if (memory) all.push({ label: 'Memory', ...memory });
  for (const disk of list(disks)) {
    const used = share(disk.used, disk.total);
    if (used) all.push({ label: text(disk.mount) || 'Disk', ...used });
  }
  return all;
}

/** Load and time since boot. */
export function running(info: unknown): [string, string][] {
  const { load, uptime } = record(info);
  const up = number(uptime);
  const loads = Array.isArray(load) ? load.slice(0, 3).map(number) : [];
  return [
    ...(loads.length && loads.every((n) => n !== null) ? [['Load', loads.map((n) => n!.toFixed(2)).join('  ')] as [string, string]] : []),
    ...(up !== null ? [['Running for', duration(up)] as [string, string]] : []),
  ];
}

function size(total: unknown): string {
  const n = number(total);
  return n ? bytes(n) : '';
}

function addresses(value: unknown): string {
  return Array.isArray(value) ? value.slice(0, 8).map(text).filter(Boolean).join(', ') : text(value);
}

function share(used: unknown, total: unknown): { share: number; text: string } | null {
  const [part, whole] = [number(used), number(total)];
  return part !== null && whole ? { share: part / whole, text: `${bytes(part)} of ${bytes(whole)}` } : null;
}
