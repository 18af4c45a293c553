/** The bastion's API: a typed client, and one kind of failure. */
import createClient from 'openapi-fetch';
import type { components, paths } from './schema';

type Schemas = components['schemas'];
export type Me = Schemas['Me'];
export type Role = Me['role'];
export type Asset = Schemas['Asset'];
export type Registration = Schemas['Registration'];
export type Session = Schemas['Session'];
export type Recording = Schemas['Recording'];
/** A recording on whose screen something was found. */
export type Sighting = Schemas['SearchHit'];
export type RecordingState = Recording['state'];
export type User = Schemas['User'];
export type Token = Schemas['Token'];
export type NewToken = Schemas['TokenMade'];
export type AuditEvent = Schemas['AuditEvent'];
export type ActivePolicy = Schemas['ActivePolicy'];
export type Simulation = Schemas['Simulation'];
export type Ticket = Schemas['Ticket'];
export type Labels = Record<string, string>;

export const api = createClient<paths>({ baseUrl: '/api/v1', credentials: 'same-origin' });

/** What went wrong with a request, as the bastion (or the network) tells it. */
export class Problem extends Error {
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly faults: { path: string; detail: string }[];
  /** Seconds to wait before trying again. */
  readonly retryAfter: number | null;
  /** Everything else in the problem document (`opens_at`, …). */
  readonly more: Record<string, unknown>;

  constructor(status: number, body: unknown, retryAfter: string | null) {
    const problem = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
    const title = String(problem.title || plainTitle(status));
    super(title);
    this.status = status;
    this.title = title;
    this.code = String(problem.code ?? '');
    this.detail = String(problem.detail ?? '');
    this.faults = Array.isArray(problem.errors) ? (problem.errors as { path: string; detail: string }[]) : [];
    this.retryAfter = retryAfter && Number.isFinite(Number(retryAfter)) ? Number(retryAfter) : null;
    this.more = problem;
  }

  /** The most telling sentence there is. */
  get sentence(): string {
    const faults = this.faults.map(({ path, detail }) => (path ? `${path}: ${detail}` : detail)).join('; ');
    return faults || this.detail || this.title;
  }
}

function plainTitle(status: number): string {
  if (status === 0) return 'The bastion cannot be reached';
  if (status === 403) return 'You may not do this';
  if (status === 404) return 'There is no such thing, or it is not yours';
  if (status === 429) return 'Too many requests';
  if (status >= 500) return 'The bastion had a fault';
  return `The bastion refused the request (${status})`;
}

let signedOut: () => void = () => {};

/** Whom to tell when the bastion no longer knows who is asking. */
export function onSignedOut(listener: () => void): void {
  signedOut = listener;
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The body of an answer; throws a `Problem` for anything but success. */
export async function call<T>(request: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await request;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Problem(0, { detail: 'Check the network, or whether the bastion is running.' }, null);
  }
  const { response } = answer;
  if (response.ok) return answer.data as T;
  const problem = new Problem(response.status, answer.error, response.headers.get('Retry-After'));
  if (problem.status === 401 && problem.code !== 'bad_credentials') signedOut();
  throw problem;
}

/** The answer at a path of the API, for what is no JSON; throws a `Problem` for anything but success. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const answer = fetch(path, { credentials: 'same-origin', ...init }).then(async (response) => ({
    response,
    data: response,
    error: response.ok ? undefined : await problemOf(response),
  }));
  return call(answer);
}

/** The problem document of an answer that is none of success. */
export const problemOf = (response: Response): Promise<unknown> => response.json().catch(() => undefined);

/** Whatever was thrown, as a `Problem`. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem(0, { title: 'Something went wrong in this page', detail: String(error) }, null);
}
