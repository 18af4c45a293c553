/** The terminals that are open; they live on while other pages are shown, and over a reload. */
import type { Mode } from '../tty/connection';
import { type Remembered, recall, remember } from './remembered';
import { Tab, type Target } from './tab.svelte';

class Tabs {
  all = $state.raw<Tab[]>([]);
  current = $state.raw<Tab | null>(null);
  readonly live = $derived(this.all.filter((tab) => tab.live).length);

  constructor() {
    const nudge = () => this.all.forEach((tab) => tab.nudge());
    addEventListener('online', nudge);
    document.addEventListener('visibilitychange', () => document.hidden || nudge());
  }

  open(target: Target): void {
    this.#add(new Tab(target));
  }

  /** Shows a session that lives already, in the tab that has it or in a new one. */
  resume(session: string, mode: Mode, known: Partial<Remembered> = {}): void {
    const there = this.all.find((tab) => tab.session === session && tab.live);
    if (there) {
      if (there.mode !== mode) there.take(mode);
      return this.show(there);
    }
    const { asset = '', hostname = '', command = '', title = '' } = known;
    this.#add(new Tab({ asset, hostname, command, reason: '' }, { session, mode, title }));
  }

  show(tab: Tab): void {
    this.current = tab;
    tab.unseen = false;
  }

  /** Takes the tab away; its session, if it has one, goes on. */
  close(tab: Tab): void {
    const index = this.all.indexOf(tab);
    tab.leave();
    this.all = this.all.filter((other) => other !== tab);
    if (this.current === tab) this.current = this.all[Math.min(index, this.all.length - 1)] ?? null;
  }

  leaveAll(): void {
    for (const tab of this.all) tab.leave();
    this.all = [];
    this.current = null;
  }

  /** Brings back what this browser tab had open before it was reloaded. */
  restore(user: string): void {
    if (this.all.length > 0) return;
    const remembered = recall(sessionStorage, user);
    for (const each of remembered) this.resume(each.session, each.mode, each);
    this.current = this.all[remembered.findIndex((each) => each.current)] ?? this.current;
  }

  /** Keeps what is open; reactive, for an effect. */
  remember(user: string): void {
    const live = this.all.filter((tab) => tab.live && tab.session !== null);
    remember(
      sessionStorage,
      user,
      live.map((tab) => ({
        session: tab.session ?? '',
        asset: tab.target.asset,
        hostname: tab.hostname,
        title: tab.title,
        command: tab.target.command,
        mode: tab.mode,
        current: tab === this.current,
      })),
    );
  }

  /** The user is signed in again: what waited for that goes on. */
  signedIn(): void {
    for (const tab of this.all) tab.signedIn();
  }

  #add(tab: Tab): void {
    this.all = [...this.all, tab];
    this.current = tab;
  }
}

export const tabs = new Tabs();
