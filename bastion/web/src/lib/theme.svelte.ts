/** Light, dark or the system's choice; `theme-early.js` applies it before the first paint. */

export type Choice = 'system' | 'light' | 'dark';

const KEY = 'castellan.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

function stored(): Choice {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : 'system';
  } catch {
    return 'system';
  }
}

class Theme {
  choice = $state<Choice>(stored());
  #systemDark = $state(system.matches);

  constructor() {
    system.addEventListener('change', (event) => {
      this.#systemDark = event.matches;
    });
    this.#apply();
  }

  get dark(): boolean {
    return this.choice === 'dark' || (this.choice === 'system' && this.#systemDark);
  }

  choose(choice: Choice): void {
    this.choice = choice;
    this.#apply();
    try {
      if (choice === 'system') localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, choice);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
  }

  #apply(): void {
    if (this.choice === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.choice;
  }
}

export const theme = new Theme();
