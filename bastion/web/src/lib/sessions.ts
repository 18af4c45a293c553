/** How a session stands or ended, in words. */
import type { Session } from './api';

const REASONS: Record<string, string> = {
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

/** Why a session ended; empty while it lives. */
export function outcome(session: Session): string {
  if (isLive(session)) return '';
  if (session.exit_signal) return `shell ended by ${session.exit_signal}`;
  if (session.end_reason === 'exit') return session.exit_code ? `exit code ${session.exit_code}` : '';
  return REASONS[session.end_reason ?? ''] ?? session.end_reason ?? '';
}
