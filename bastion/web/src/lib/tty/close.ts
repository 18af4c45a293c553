/** Why a terminal ended, in words. */

export interface Ending {
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

type Sentence = Omit<Ending, 'detail'> & { fallback: string };

const SENTENCES: Record<number, Sentence> = {
  4400: { title: 'The page and the bastion disagreed', fallback: 'A message broke the terminal protocol.', tone: 'danger', lost: false },
  4401: { title: 'The ticket was not accepted', fallback: 'It was used already, or it expired. Open the terminal again.', tone: 'warning', lost: false },
  4403: { title: 'Ended by policy', fallback: 'You may no longer use this terminal.', tone: 'warning', lost: false },
  4408: { title: 'Time is up', fallback: 'The terminal was idle too long, or reached its longest duration.', tone: 'warning', lost: false },
  4409: { title: 'Opened elsewhere', fallback: 'Another page took over this terminal.', tone: 'neutral', lost: false },
  4410: { title: 'Ended by an administrator', fallback: '', tone: 'warning', lost: false },
  4411: { title: 'The host is gone', fallback: 'Its agent did not answer in time, or lost its connection for too long.', tone: 'danger', lost: false },
  4423: { title: 'Recording failed', fallback: 'A terminal that cannot be recorded is not kept open.', tone: 'danger', lost: false },
  4500: { title: 'The bastion had a fault', fallback: 'It is not your doing. The administrators’ log has the details.', tone: 'danger', lost: false },
  1001: { title: 'The bastion went away', fallback: 'It is probably restarting.', tone: 'warning', lost: true },
  1006: { title: 'The connection was lost', fallback: 'The network went away, or the bastion stopped.', tone: 'danger', lost: true },
  1009: { title: 'The page and the bastion disagreed', fallback: 'A message was too long.', tone: 'danger', lost: false },
  1012: { title: 'The bastion is restarting', fallback: '', tone: 'warning', lost: true },
};

/** What to show for a close code, its reason and the exit the host reported, if any. */
export function ending(code: number, reason: string, exit: Exit | null): Ending {
  if (code === 1000 || (exit && !(code in SENTENCES))) return exited(exit, reason);
  const sentence = SENTENCES[code] ?? {
    title: 'The connection was closed',
    fallback: `Code ${code}.`,
    tone: 'danger' as const,
    lost: true,
  };
  const { fallback, ...rest } = sentence;
  return { ...rest, detail: reason || fallback };
}

function exited(exit: Exit | null, reason: string): Ending {
  if (!exit) return { title: 'The terminal was closed', detail: reason, tone: 'neutral', lost: false };
  if (exit.signal) return { title: `The shell was ended by ${exit.signal}`, detail: reason, tone: 'warning', lost: false };
  const title = exit.code ? `The shell ended with exit code ${exit.code}` : 'The shell ended';
  return { title, detail: '', tone: exit.code ? 'warning' : 'neutral', lost: false };
}
