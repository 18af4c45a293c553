/** Who is using these pages. */
import { type Me, api, asProblem, call, onSignedOut, type Problem } from './api';
import { router } from './router.svelte';

class Person {
  me = $state<Me | null>(null);
  /** Whether the bastion has been asked who this is. */
  known = $state(false);
  problem = $state<Problem | null>(null);

  get admin(): boolean {
    return this.me?.role === 'admin';
  }

  get overseer(): boolean {
    return this.me?.role === 'admin' || this.me?.role === 'auditor';
  }

  async load(): Promise<void> {
    this.problem = null;
    try {
      this.me = await call(api.GET('/me'));
    } catch (error) {
      const problem = asProblem(error);
      if (problem.status !== 401) this.problem = problem;
    }
    this.known = true;
  }

  async login(username: string, password: string): Promise<void> {
    this.me = await call(api.POST('/login', { body: { username, password } }));
  }

  async logout(): Promise<void> {
    await call(api.POST('/logout')).catch(() => undefined);
    this.me = null;
    router.go('/login');
  }

  /** The bastion no longer knows this login: ask again, and come back to this place. */
  expire(): void {
    this.me = null;
    if (location.pathname === '/login') return;
    const here = location.pathname + location.search;
    router.replace(here === '/' ? '/login' : `/login?next=${encodeURIComponent(here)}`);
  }
}

export const person = new Person();
onSignedOut(() => person.expire());
