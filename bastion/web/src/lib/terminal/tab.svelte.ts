/** One terminal: from asking the bastion, over its sockets, however many it takes, to the reason it ended. */
import { Problem, type Ticket, api, asProblem, call } from '../api';
import { count } from '../format';
import { notices } from '../notices.svelte';
import { reattach } from '../reattach';
import { cleanTitle } from '../text';
import { type Ending, endedAway, unknownSession } from '../tty/close';
import { Connection, type Mode } from '../tty/connection';
import { Reconnect, type Standing } from '../tty/reconnect';
import { browserClock, dial } from '../tty/socket';
import type { Screen } from './screen';
import { settings } from './settings.svelte';

/** `lost`: the session lives, as far as anyone knows, and the page is coming back to it. */
export type Phase = 'asking' | 'approval' | 'dialling' | 'host' | 'open' | 'lost' | 'ended' | 'refused';

export interface Target {
  asset: string;
  hostname: string;
  command: string;
  reason: string;
}

/** A session that lives already, to be shown in a tab. */
export interface Past {
  session: string;
  mode: Mode;
  title: string;
}

/** What a terminal asks of the page around it. */
export interface Surroundings {
  link(text: string): void;
  paste(text: string): void;
  find(): void;
  leave(): void;
}

let last = 0;

export class Tab {
  readonly id = ++last;
  readonly target: Target;
  mode = $state<Mode>('control');
  phase = $state<Phase>('asking');
  hostname = $state('');
  title = $state('');
  session = $state<string | null>(null);
  problem = $state<Problem | null>(null);
  ending = $state.raw<Ending | null>(null);
  /** While `lost`: when it is tried again. */
  standing = $state.raw<Standing>({ state: 'idle' });
  /** While `lost`: what the last try met with. */
  trouble = $state('');
  /** A deadline the bastion has announced, in milliseconds since the epoch. */
  deadline = $state<{ at: number; reason: string } | null>(null);
  watchers = $state(0);
  /** What is typed goes into the recording, and not only what is shown. */
  recordsInput = $state(false);
  /** Output has come since this tab was last looked at. */
  unseen = $state(false);
  matches = $state({ index: -1, count: 0 });
  /** The next key typed is sent with Ctrl (the on-screen key bar). */
  ctrl = $state(false);
  shown = false;
  screen: Screen | null = null;
  readonly #reconnect: Reconnect;
  #connection: Connection | null = null;
  #giveUp: (() => void) | null = null;
  #attempt = 0;

  constructor(target: Target, past?: Past) {
    this.target = target;
    this.hostname = target.hostname;
    if (past) {
      this.session = past.session;
      this.mode = past.mode;
      this.title = past.title;
      this.phase = 'lost';
    }
    this.#reconnect = new Reconnect(
      { ...browserClock, random: Math.random },
      () => void this.#comeBack(),
      (standing) => {
        this.standing = standing;
      },
    );
  }

  get live(): boolean {
    return this.phase === 'open' || this.phase === 'lost' || this.phase === 'host' || this.phase === 'dialling';
  }

  /** Whether keys go to the host, now or as soon as the connection is back. */
  get typable(): boolean {
    return this.mode === 'control' && (this.phase === 'open' || this.phase === 'lost');
  }

  /** Called when the tab's element is in the page: from now on there is a size to ask for. */
  async mount(host: HTMLElement, around: Surroundings): Promise<void> {
    const { Screen } = await import('./screen');
    this.screen = new Screen(host, this.#look, {
      typed: (text) => this.#typed(text),
      binary: (bytes) => void this.#connection?.input(bytes),
      resized: (cols, rows) => this.#connection?.resize(cols, rows),
      titled: (title) => {
        this.title = cleanTitle(title);
      },
      link: around.link,
      pasted: around.paste,
      copied: (text) => void copy(text),
      find: around.find,
      leave: around.leave,
      found: (index, count) => {
        this.matches = { index, count };
      },
    });
    if (this.session) this.take(this.mode);
    else await this.open();
  }

  /** Asks for a ticket and opens a new session; again after an end. */
  async open(): Promise<void> {
    const attempt = this.#begin('asking');
    this.session = null;
    this.mode = 'control';
    this.screen?.keep(null);
    this.screen?.fit();
    const size = this.screen?.size ?? { cols: 80, rows: 24 };
    try {
      if (!this.hostname) void this.#name();
      const answer = await this.#authorize(size);
      if (attempt !== this.#attempt) return;
      if ('token' in answer) this.#open(answer, size);
      else this.phase = 'approval';
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.problem = asProblem(error);
      this.phase = 'refused';
    }
  }

  /** Shows the session, which lives elsewhere or without a browser, from its present screen on. */
  take(mode: Mode): void {
    this.#begin('lost');
    this.mode = mode;
    this.trouble = '';
    this.screen?.accept(false);
    this.#connection?.close();
    this.#connection = this.#connect(mode === 'watch' ? null : (this.screen?.size ?? null), { mode, resumed: true });
    void this.#comeBack();
  }

  /** The network may be back, or the page is looked at again. */
  nudge(): void {
    this.#connection?.check();
    this.#reconnect.nudge();
  }

  /** The user has signed in again. */
  signedIn(): void {
    this.#reconnect.resume();
  }

  paste(text: string): void {
    this.screen?.paste(text);
  }

  look(): void {
    this.screen?.look(this.#look);
  }

  /** Ends the session; throws a `Problem` when the bastion does not. */
  async end(): Promise<void> {
    if (!this.session) return;
    try {
      await call(api.DELETE('/sessions/{id}', { params: { path: { id: this.session } } }));
    } catch (error) {
      // Over already, or unknown: as good as ended.
      if (![404, 409].includes(asProblem(error).status)) throw error;
    }
  }

  /** Frees everything; the session, if any, lives on without this page. */
  leave(): void {
    this.#attempt += 1;
    this.#reconnect.stop();
    this.#giveUp?.();
    this.#connection?.close();
    this.#connection = null;
    this.screen?.dispose();
    this.screen = null;
  }

  get #look() {
    return { fontSize: settings.fontSize, palette: settings.colours, screenReader: settings.screenReader };
  }

  #begin(phase: Phase): number {
    this.phase = phase;
    this.problem = this.ending = this.deadline = null;
    this.watchers = 0;
    this.#reconnect.stop();
    this.#giveUp?.();
    this.#giveUp = null;
    return ++this.#attempt;
  }

  /** Looks up what the host is called; without an answer the tab goes by its id. */
  async #name(): Promise<void> {
    const { asset } = this.target;
    const found = await call(api.GET('/assets/{id}', { params: { path: { id: asset } } })).catch(() => null);
    this.hostname = found?.hostname ?? asset;
  }

  #authorize(size: { cols: number; rows: number }) {
    const { asset, command, reason } = this.target;
    const query = { ...size, ...(command && { command }), ...(reason && { reason }) };
    return call(api.GET('/assets/{id}/tty/authorize', { params: { path: { id: asset }, query } }));
  }

  #open(ticket: Ticket, size: { cols: number; rows: number }): void {
    this.phase = 'dialling';
    this.recordsInput = ticket.session.records_input;
    this.#connection = this.#connect(size, {}, ticket.ws_url);
    this.#giveUp = dial(this.#connection, ticket.ws_url, ticket.token);
    this.phase = 'host';
  }

  #connect(size: { cols: number; rows: number } | null, options: { mode?: Mode; resumed?: boolean }, url = location.href): Connection {
    let first = options.resumed ?? false;
    const connection: Connection = new Connection(
      {
        ready: ({ id, cols, rows }) => {
          // What this page shows from an earlier connection will be shown again.
          if (first) this.screen?.reset();
          first = false;
          this.#ready(id, { cols, rows });
        },
        output: (bytes, parsed, repeated) => {
          if (!this.shown && !repeated) this.unseen = true;
          this.screen?.write(bytes, parsed, repeated);
        },
        cleared: (cols, rows) => this.screen?.clear(cols, rows),
        replayed: (cols, rows) => this.screen?.borrow(cols, rows),
        redrawn: () => this.screen?.redrawn(),
        resized: (cols, rows) => {
          if (this.mode === 'watch') this.screen?.keep({ cols, rows });
        },
        closing: (reason, seconds) => {
          this.deadline = { at: Date.now() + seconds * 1000, reason };
        },
        skipped: (direction, bytes) => notices.bad(`${this.hostname}: ${skippedText(direction, bytes)}`),
        peers: (peers) => {
          this.watchers = Math.max(0, peers);
        },
        ended: (ending) => {
          if (connection === this.#connection) this.#ended(ending, url);
        },
      },
      browserClock,
      size,
      options,
    );
    return connection;
  }

  /** One try to take the session up again. */
  async #comeBack(): Promise<void> {
    const attempt = ++this.#attempt;
    const { session, mode } = this;
    if (!session) return;
    try {
      if (!this.hostname) await this.#nameOfSession(session);
      const ticket = await reattach(session, mode);
      if (attempt !== this.#attempt || !this.#connection) return;
      this.recordsInput = ticket.session.records_input;
      this.#giveUp = dial(this.#connection, ticket.ws_url, ticket.token);
    } catch (error) {
      if (attempt === this.#attempt) this.#refused(asProblem(error));
    }
  }

  /** Only the bastion's word that it is over ends a session; everything else may pass. */
  #refused(problem: Problem): void {
    if (problem.status === 404) return this.#over(unknownSession());
    if (problem.status === 409 && problem.code === 'ended') return this.#over(endedAway(String(problem.more.end_reason ?? '')));
    this.trouble = problem.sentence;
    if (problem.status === 401) this.#reconnect.hold();
    else this.#reconnect.failed((problem.retryAfter ?? 0) * 1000);
  }

  async #nameOfSession(id: string): Promise<void> {
    const answer = await fetch(`/api/v1/sessions/${encodeURIComponent(id)}`, { credentials: 'same-origin' }).catch(() => null);
    const found = answer?.ok ? ((await answer.json().catch(() => null)) as { asset?: { id: string; hostname: string } } | null) : null;
    if (!found?.asset) return;
    this.target.asset = found.asset.id;
    this.hostname = found.asset.hostname;
  }

  #ready(session: string, host: { cols: number; rows: number }): void {
    this.session = session;
    this.phase = 'open';
    this.trouble = '';
    this.#giveUp = null;
    this.#reconnect.stop();
    this.screen?.keep(this.mode === 'watch' ? host : null);
    // A hidden terminal has no size of its own: the host's is the best there is until it is shown.
    if (this.mode === 'control') this.screen?.adopt(host);
    this.screen?.accept(this.mode === 'control');
    if (this.shown) this.screen?.focus();
  }

  #ended(ending: Ending, url: string): void {
    if (ending.lost && this.session) {
      this.phase = 'lost';
      this.trouble = ending.detail;
      this.watchers = 0;
      return this.#reconnect.failed();
    }
    const host = new URL(url, location.href).host;
    const elsewhere = this.phase !== 'open' && ending.lost && host !== location.host;
    const detail = `This page was opened at ${location.host}, but the bastion calls itself ${host}. Open it there.`;
    this.#over(elsewhere ? { ...ending, detail } : ending);
  }

  #over(ending: Ending): void {
    this.#attempt += 1;
    this.#reconnect.stop();
    this.screen?.accept(false);
    this.deadline = null;
    this.watchers = 0;
    this.ending = ending;
    this.phase = 'ended';
  }

  #typed(text: string): void {
    let keys = text;
    if (this.ctrl && text.length === 1) {
      keys = String.fromCharCode(text.toUpperCase().charCodeAt(0) & 0x1f);
      this.ctrl = false;
    }
    // Should the bastion see it otherwise, it warns again.
    if (this.deadline?.reason === 'idle' && this.phase === 'open') this.deadline = null;
    if (this.typable && this.#connection && !this.#connection.type(keys)) {
      notices.bad('That is too much at once: nothing of it was sent. Paste less, or copy it as a file.');
    }
  }
}

function skippedText(direction: 'output' | 'input', bytes: number): string {
  return direction === 'output'
    ? `${count(bytes, 'byte')} of output were not shown here; the recording has them.`
    : `${count(bytes, 'typed byte')} ${bytes === 1 ? 'was' : 'were'} too old and ${bytes === 1 ? 'was' : 'were'} not sent.`;
}

/** Puts text on the clipboard. */
export async function copy(text: string): Promise<void> {
  if (!text) return;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    notices.bad('The browser did not let this page copy.');
  }
}
