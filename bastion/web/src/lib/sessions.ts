/** How a session stands or ended, in words. */
import type { Session } from './api';

/** Where a live session stands, beside its state. */
const STANDINGS: Record<string, string> = {
  connecting: 'waiting for the host',
  detached: 'running, no browser',
  resuming: 'waiting for its host',
};

const REASONS: Record<string, string> = {
  exit: 'the shell ended',
  closed: 'closed by the user',
  detached: 'left and not taken up again',
  idle: 'idle too long',
  max_time: 'longest time reached',
  policy: 'by policy',
  ended_by_admin: 'by an administrator',
  host_gone: 'host gone',
  no_agent: 'host did not answer',
  recording_failed: 'recording failed',
  error: 'fault',
};

export function isLive(session: Session): boolean {
  return session.status !== 'closed' && session.status !== 'error';
}

/** How a live session stands, where its state does not say it all; or why it ended. */
export function standing(session: Session): string {
  return isLive(session) ? (STANDINGS[session.status] ?? '') : outcome(session);
}

/** Why a session ended; empty while it lives. */
export function outcome(session: Session): string {
  if (isLive(session)) return '';
  if (session.exit_signal) return `shell ended by ${session.exit_signal}`;
  if (session.end_reason === 'exit') return session.exit_code ? `exit code ${session.exit_code}` : '';
  return reasonText(session.end_reason ?? '');
}

/** Why a session ended, in words. */
export const reasonText = (reason: string): string => REASONS[reason] ?? reason;
