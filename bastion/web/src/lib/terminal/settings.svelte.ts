/** How terminals look on this machine, kept in the browser. */
import { theme } from '../theme.svelte';
import { PALETTES, type Palette } from './palettes';

const KEY = 'castellan.terminal';
export const SMALLEST = 9;
export const LARGEST = 28;

interface Stored {
  fontSize: number;
  palette: string;
  screenReader: boolean;
}

function stored(): Stored {
  const narrow = matchMedia('(max-width: 40rem)').matches;
  const defaults: Stored = { fontSize: narrow ? 12 : 14, palette: 'auto', screenReader: false };
  try {
    const value = JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<Stored>;
    return {
      fontSize: clamp(Number(value.fontSize) || defaults.fontSize),
      palette: value.palette && value.palette in PALETTES ? value.palette : 'auto',
      screenReader: value.screenReader === true,
    };
  } catch {
    return defaults;
  }
}

function clamp(size: number): number {
  return Math.min(LARGEST, Math.max(SMALLEST, Math.round(size)));
}

class TerminalSettings {
  #values = $state(stored());

  get fontSize(): number {
    return this.#values.fontSize;
  }
  set fontSize(size: number) {
    this.#values.fontSize = clamp(size);
    this.#store();
  }

  /** A palette's key, or `auto`: as the pages are. */
  get palette(): string {
    return this.#values.palette;
  }
  set palette(key: string) {
    this.#values.palette = key;
    this.#store();
  }

  /** Whether the terminal's text is also given to screen readers (slower with much output). */
  get screenReader(): boolean {
    return this.#values.screenReader;
  }
  set screenReader(on: boolean) {
    this.#values.screenReader = on;
    this.#store();
  }

  get colours(): Palette {
    return (PALETTES[this.palette] ?? PALETTES[theme.dark ? 'dark' : 'light']) as Palette;
  }

  #store(): void {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#values));
    } catch {
      // Without storage the settings last as long as the page.
    }
  }
}

export const settings = new TerminalSettings();
