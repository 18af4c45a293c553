/** The grid a terminal is shown in: xterm.js with what it may and may not do. */
import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { UnicodeGraphemesAddon } from '@xterm/addon-unicode-graphemes';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { WebglAddon } from '@xterm/addon-webgl';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { clampSize } from '../tty/connection';
import type { Palette } from './palettes';

const RESIZE_PAUSE_MS = 100;
const FONT = getComputedStyle(document.documentElement).getPropertyValue('--mono').trim() || 'monospace';
const MATCHES = {
  matchBackground: '#6b5a1f',
  matchOverviewRuler: '#c9a227',
  activeMatchBackground: '#c9771a',
  activeMatchColorOverviewRuler: '#ff9a2e',
};

export interface Look {
  fontSize: number;
  palette: Palette;
  screenReader: boolean;
}

/** What the user and the host do to the screen. */
export interface ScreenEvents {
  typed(text: string): void;
  /** Mouse reports in an old encoding: bytes that are no text. */
  binary(bytes: Uint8Array): void;
  resized(cols: number, rows: number): void;
  titled(title: string): void;
  /** The user follows a link. */
  link(text: string): void;
  /** Something is pasted, as it came from the clipboard. */
  pasted(text: string): void;
  copied(text: string): void;
  find(): void;
  /** The keyboard's way out of the terminal. */
  leave(): void;
  found(index: number, count: number): void;
}

export class Screen {
  readonly #terminal: Terminal;
  readonly #fit = new FitAddon();
  readonly #search = new SearchAddon();
  readonly #host: HTMLElement;
  readonly #events: ScreenEvents;
  readonly #observer: ResizeObserver;
  #resizing: ReturnType<typeof setTimeout> | undefined;

  constructor(host: HTMLElement, look: Look, events: ScreenEvents) {
    this.#host = host;
    this.#events = events;
    this.#terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: true,
      disableStdin: true,
      fontFamily: FONT,
      fontSize: look.fontSize,
      linkHandler: { activate: (_event, text) => events.link(text), allowNonHttpProtocols: false },
      screenReaderMode: look.screenReader,
      scrollback: 10_000,
      theme: look.palette.colours,
      windowOptions: {},
    });
    this.#terminal.loadAddon(this.#fit);
    this.#terminal.loadAddon(this.#search);
    this.#terminal.loadAddon(new UnicodeGraphemesAddon());
    this.#terminal.loadAddon(new WebLinksAddon((_event, uri) => events.link(uri)));
    this.#terminal.open(host);
    this.#accelerate();
    this.#listen();
    this.#observer = new ResizeObserver(() => {
      clearTimeout(this.#resizing);
      this.#resizing = setTimeout(() => this.fit(), RESIZE_PAUSE_MS);
    });
    this.#observer.observe(host);
    this.fit();
  }

  get size(): { cols: number; rows: number } {
    return { cols: this.#terminal.cols, rows: this.#terminal.rows };
  }

  get selection(): string {
    return this.#terminal.getSelection();
  }

  /** Fills the room there is; does nothing while hidden. */
  fit(): void {
    if (this.#host.offsetParent === null) return;
    const size = this.#fit.proposeDimensions();
    if (!size || !Number.isFinite(size.cols) || !Number.isFinite(size.rows)) return;
    this.#terminal.resize(clampSize(size.cols), clampSize(size.rows));
  }

  write(bytes: Uint8Array, parsed: () => void): void {
    this.#terminal.write(bytes, parsed);
  }

  reset(): void {
    this.#terminal.reset();
  }

  accept(input: boolean): void {
    this.#terminal.options.disableStdin = !input;
    this.#terminal.options.cursorBlink = input;
  }

  focus(): void {
    this.#terminal.focus();
  }

  /** Types text as a paste, in brackets when the program asked for them. */
  paste(text: string): void {
    this.#terminal.paste(text);
    this.#terminal.focus();
  }

  /** Types a key from the on-screen bar. */
  press(keys: string): void {
    this.#terminal.input(keys);
    this.#terminal.focus();
  }

  look(look: Look): void {
    this.#terminal.options.theme = look.palette.colours;
    this.#terminal.options.fontSize = look.fontSize;
    this.#terminal.options.screenReaderMode = look.screenReader;
    this.fit();
  }

  find(text: string, direction: 'next' | 'previous', typing = false): void {
    const options = { decorations: MATCHES, incremental: typing };
    if (direction === 'next') this.#search.findNext(text, options);
    else this.#search.findPrevious(text, options);
  }

  stopFinding(): void {
    this.#search.clearDecorations();
    this.#terminal.clearSelection();
  }

  dispose(): void {
    clearTimeout(this.#resizing);
    this.#observer.disconnect();
    this.#terminal.dispose();
  }

  /** Draws with the graphics card where that works; the DOM does as well, slower. */
  #accelerate(): void {
    if (!hasGraphicsCard()) return;
    try {
      const webgl = new WebglAddon();
      webgl.onContextLoss(() => webgl.dispose());
      this.#terminal.loadAddon(webgl);
    } catch {
      // No WebGL here: xterm.js goes on with its DOM renderer.
    }
  }

  #listen(): void {
    const { typed, binary, resized, titled, pasted, found } = this.#events;
    this.#terminal.onData(typed);
    this.#terminal.onBinary((text) => binary(Uint8Array.from(text, (character) => character.charCodeAt(0) & 0xff)));
    this.#terminal.onResize(({ cols, rows }) => resized(cols, rows));
    this.#terminal.onTitleChange(titled);
    this.#search.onDidChangeResults(({ resultIndex, resultCount }) => found(resultIndex, resultCount));
    this.#terminal.attachCustomKeyEventHandler((event) => this.#key(event));
    // xterm.js would paste by itself, without the filter: this comes first.
    this.#host.addEventListener(
      'paste',
      (event) => {
        event.preventDefault();
        event.stopPropagation();
        pasted(event.clipboardData?.getData('text/plain') ?? '');
      },
      { capture: true },
    );
  }

  /** Shortcuts that belong to the page. False: the terminal does not see the key. */
  #key(event: KeyboardEvent): boolean {
    if (!event.ctrlKey || !event.shiftKey || event.altKey || event.metaKey) return true;
    const act = { KeyC: () => this.#events.copied(this.selection), KeyF: this.#events.find, ArrowUp: this.#events.leave }[event.code];
    if (act) {
      event.preventDefault();
      if (event.type === 'keydown') act();
      return false;
    }
    // The browser turns this one into a paste event by itself.
    return event.code !== 'KeyV';
  }
}

/** Whether WebGL is drawn by hardware: emulated, it is slower than the DOM. */
function hasGraphicsCard(): boolean {
  const context = document.createElement('canvas').getContext('webgl2', { failIfMajorPerformanceCaveat: true });
  context?.getExtension('WEBGL_lose_context')?.loseContext();
  return context !== null;
}
