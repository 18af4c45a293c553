/** Why a terminal ended, in words. */

export interface Ending {
  /** The socket's close code; 0 when the end was learnt without a socket. */
  code: number;
  /** What happened, one line. */
  title: string;
  /** More of it, or an empty string. */
  detail: string;
  tone: 'neutral' | 'warning' | 'danger';
  /** Whether the shell may still be alive, so that coming back makes sense. */
  lost: boolean;
}

export interface Exit {
  code: number | null;
  signal: string | null;
}

/** Another page took the terminal over. */
export const ELSEWHERE = 4409;

type Sentence = Omit<Ending, 'detail' | 'code'> & { fallback: string };

const SENTENCES: Record<number, Sentence> = {
  4400: { title: 'The page and the bastion disagreed', fallback: 'A message broke the terminal protocol.', tone: 'danger', lost: false },
  4401: { title: 'The ticket was not accepted', fallback: 'It was used already, or it expired. Open the terminal again.', tone: 'warning', lost: false },
  4403: { title: 'Ended by policy', fallback: 'You may no longer use this terminal.', tone: 'warning', lost: false },
  4408: { title: 'Time is up', fallback: 'The terminal was idle too long, or reached its longest duration.', tone: 'warning', lost: false },
  [ELSEWHERE]: { title: 'Opened elsewhere', fallback: 'Another page took over this terminal. It goes on there.', tone: 'neutral', lost: false },
  4410: { title: 'Ended by an administrator', fallback: '', tone: 'warning', lost: false },
  4411: { title: 'The host is gone', fallback: 'Its agent did not answer in time, or lost its connection for too long.', tone: 'danger', lost: false },
  4423: { title: 'Recording failed', fallback: 'A terminal that cannot be recorded is not kept open.', tone: 'danger', lost: false },
  4500: { title: 'The bastion had a fault', fallback: 'It is not your doing. The administrators’ log has the details.', tone: 'danger', lost: false },
  1001: { title: 'The bastion went away', fallback: 'It is probably restarting.', tone: 'warning', lost: true },
  1006: { title: 'The connection was lost', fallback: 'The network went away, or the bastion stopped.', tone: 'danger', lost: true },
  1009: { title: 'The page and the bastion disagreed', fallback: 'A message was too long.', tone: 'danger', lost: false },
  1011: { title: 'The bastion had a fault', fallback: 'It closed the connection.', tone: 'danger', lost: true },
  1012: { title: 'The bastion is restarting', fallback: '', tone: 'warning', lost: true },
};

/** What a session's `end_reason` says to someone who was away when it ended. */
const ENDS: Record<string, Omit<Ending, 'code' | 'lost'>> = {
  exit: { title: 'The shell ended', detail: 'It did so while this page was away.', tone: 'neutral' },
  closed: { title: 'The session was ended', detail: 'By you, on another page or in the list of sessions.', tone: 'neutral' },
  detached: { title: 'The session was ended', detail: 'No browser came back to it in time.', tone: 'warning' },
  idle: { title: 'Time is up', detail: 'No key was typed for too long.', tone: 'warning' },
  max_time: { title: 'Time is up', detail: 'The session reached its longest duration.', tone: 'warning' },
  policy: { title: 'Ended by policy', detail: 'You may no longer use this terminal.', tone: 'warning' },
  ended_by_admin: { title: 'Ended by an administrator', detail: '', tone: 'warning' },
  host_gone: { title: 'The host is gone', detail: 'Its agent lost its connection for too long.', tone: 'danger' },
  no_agent: { title: 'The host did not answer', detail: 'Its agent did not come in time.', tone: 'danger' },
  recording_failed: { title: 'Recording failed', detail: 'A terminal that cannot be recorded is not kept open.', tone: 'danger' },
  error: { title: 'The session failed', detail: 'The administrators’ log has the details.', tone: 'danger' },
};

/** What to show for a close code, its reason and the exit the host reported, if any. */
export function ending(code: number, reason: string, exit: Exit | null): Ending {
  if (code === 1000 || (exit && !(code in SENTENCES))) return { ...exited(exit, reason), code };
  const sentence = SENTENCES[code] ?? {
    title: 'The connection was closed',
    fallback: `Code ${code}.`,
    tone: 'danger' as const,
    lost: true,
  };
  const { fallback, ...rest } = sentence;
  return { ...rest, code, detail: reason || fallback };
}

/** What to show for a session that was over already when this page came back to it. */
export function endedAway(reason: string): Ending {
  const known = ENDS[reason] ?? { title: 'The session is over', detail: reason, tone: 'neutral' as const };
  return { ...known, code: 0, lost: false };
}

/** What to show for a session the bastion no longer knows, or does not show to this user. */
export function unknownSession(): Ending {
  return { code: 0, title: 'There is no such session', detail: 'It is over, or it is not yours.', tone: 'warning', lost: false };
}

function exited(exit: Exit | null, reason: string): Omit<Ending, 'code'> {
  if (!exit) return { title: 'The terminal was closed', detail: reason, tone: 'neutral', lost: false };
  if (exit.signal) return { title: `The shell was ended by ${exit.signal}`, detail: reason, tone: 'warning', lost: false };
  const title = exit.code ? `The shell ended with exit code ${exit.code}` : 'The shell ended';
  return { title, detail: '', tone: exit.code ? 'warning' : 'neutral', lost: false };
}

/** Why a terminal is about to be closed (`closing`), to go after "This session ends in 0:42: ". */
export function warning(reason: string): string {
  const known: Record<string, string> = {
    idle: 'no key was typed for a long time. Type to stay.',
    max_time: 'it has reached its longest duration.',
    policy: 'the policy no longer allows it.',
    detached: 'no browser is using it.',
  };
  return known[reason] ?? reason;
}
