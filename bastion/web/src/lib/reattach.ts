/** Asks for a ticket to a session that lives already, to control or to watch it. */
import { Problem, type Ticket } from './api';
import type { Mode } from './tty/connection';

/** Longest to wait for the answer, in milliseconds: a dead network says nothing by itself. */
const PATIENCE_MS = 10_000;

/**
 * Throws a `Problem` for anything but success. Unlike other calls it does not sign the page out at 401: the terminal
 * stays on the screen while the user signs in.
 */
export async function reattach(session: string, mode: Mode): Promise<Ticket> {
  const url = `/api/v1/sessions/${encodeURIComponent(session)}/reattach?mode=${mode}`;
  let response: Response;
  try {
    response = await fetch(url, { credentials: 'same-origin', cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch {
    throw new Problem(0, { detail: 'Check the network, or whether the bastion is running.' }, null);
  }
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok || !body) throw new Problem(response.ok ? 502 : response.status, body, response.headers.get('Retry-After'));
  return body as Ticket;
}
