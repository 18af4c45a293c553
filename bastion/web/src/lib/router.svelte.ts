/** Which page is shown: path and query of the address bar, kept by the History API. */

class Router {
  path = $state(location.pathname);
  query = $state(new URLSearchParams(location.search));

  constructor() {
    window.addEventListener('popstate', () => this.#read());
  }

  go(to: string): void {
    if (to !== location.pathname + location.search) history.pushState(null, '', to);
    this.#read();
  }

  replace(to: string): void {
    history.replaceState(history.state, '', to);
    this.#read();
  }

  /** Keeps filters in the address, so that a page can be reloaded or shared as it is. */
  filter(values: Record<string, string>): void {
    const query = new URLSearchParams(location.search);
    for (const [key, value] of Object.entries(values)) {
      if (value) query.set(key, value);
      else query.delete(key);
    }
    const search = query.toString();
    this.replace(location.pathname + (search ? `?${search}` : ''));
  }

  #read(): void {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }
}

export const router = new Router();

const OTHER_DOCUMENTS = /^\/(recordings\/[^/]+|docs|openapi\.json|api\/.*|assets\/.*)$/;

/** Whether a link leads to a page of this document (the player and the API reference are documents of their own). */
export function isOurs(url: URL): boolean {
  return url.origin === location.origin && !OTHER_DOCUMENTS.test(url.pathname);
}
