/** Why a terminal on a host cannot be opened now, in a sentence. */
import type { Asset } from './api';

const SENTENCES: Record<string, string> = {
  not_available: 'You have no grant for this host.',
  not_granted: 'You have no grant for this host.',
  asset_offline: 'The host is offline.',
  asset_maintenance: 'The host is in maintenance.',
  outside_window: 'Not at this time of day.',
  limit_reached: 'The limit of open terminals is reached.',
  rate_limited: 'Too many attempts. Wait a little.',
  recording_unavailable: 'Recording is not possible now, so no terminal is opened.',
};

/** The sentence for a code of the policy chain; `detail` is the bastion's own and goes first. */
export function sentence(code: string | null | undefined, detail: string | null | undefined): string {
  return detail || SENTENCES[code ?? ''] || '';
}

/** Null when a terminal may be opened (or asked for). */
export function refusal(host: Asset): string | null {
  if (host.status === 'quarantined') return 'The host is quarantined.';
  if (host.status === 'maintenance') return 'The host is in maintenance.';
  if (host.access.effect === 'deny') return sentence(host.access.code, host.access.detail) || 'The policy does not allow it.';
  if (host.status === 'offline') return 'The host is offline.';
  return null;
}
