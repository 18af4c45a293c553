/** The grid a terminal is shown in: xterm.js with what it may and may not do. */
import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { UnicodeGraphemesAddon } from '@xterm/addon-unicode-graphemes';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { WebglAddon } from '@xterm/addon-webgl';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { clampSize } from '../tty/connection';
import { Answers } from './answers';
import type { Palette } from './palettes';

const RESIZE_PAUSE_MS = 100;
/** The smallest letters in which a watched screen is fitted to the room there is; a larger screen is scrolled. */
const SMALLEST_FONT = 6;
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
  readonly #answers = new Answers();
  /** xterm.js 6.0 loses a character whose bytes are cut in some places, so it gets text. */
  #decoder = new TextDecoder();
  #resizing: ReturnType<typeof setTimeout> | undefined;
  #fontSize: number;
  /** The size the screen has now is not its own: it is drawn as it was elsewhere. */
  #borrowed = false;
  /** The host's size, which the screen keeps; null: it fills the room. */
  #kept: { cols: number; rows: number } | null = null;

  constructor(host: HTMLElement, look: Look, events: ScreenEvents) {
    this.#host = host;
    this.#events = events;
    this.#fontSize = look.fontSize;
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

  /** What the terminal fills; null while it is hidden and nobody knows. */
  get size(): { cols: number; rows: number } | null {
    return this.#host.offsetParent === null ? null : { cols: this.#terminal.cols, rows: this.#terminal.rows };
  }

  get selection(): string {
    return this.#terminal.getSelection();
  }

  /** Fills the room there is; does nothing while hidden, or while a screen is being redrawn. */
  fit(): void {
    if (this.#host.offsetParent === null || this.#borrowed) return;
    if (this.#kept) return this.#shrink(this.#kept);
    const size = this.#room();
    if (!size) return;
    this.#terminal.resize(size.cols, size.rows);
  }

  /** Keeps the size the host's terminal has, in smaller letters where there is little room; null: fills the room again. */
  keep(size: { cols: number; rows: number } | null): void {
    this.#kept = size;
    if (!size) this.#terminal.options.fontSize = this.#fontSize;
    this.#inTurn(() => this.fit());
  }

  /** Takes a size while hidden; shown, the terminal knows its own. */
  adopt({ cols, rows }: { cols: number; rows: number }): void {
    this.#inTurn(() => {
      if (this.#host.offsetParent === null && !this.#borrowed) this.#terminal.resize(cols, rows);
    });
  }

  /** Output; `repeated` when the terminal must not answer what it asks. */
  write(bytes: Uint8Array, parsed: () => void, repeated: boolean): void {
    const done = this.#answers.writing(repeated);
    this.#terminal.write(this.#decoder.decode(bytes, { stream: true }), () => {
      done();
      parsed();
    });
  }

  /** Clears everything and takes the size for which the screen that follows was drawn, until `redrawn`. */
  clear(cols: number, rows: number): void {
    this.#decoder = new TextDecoder();
    this.#inTurn(() => {
      this.#borrowed = true;
      this.#terminal.reset();
      this.#terminal.resize(cols, rows);
    });
  }

  /** Takes the size for which what follows was printed, until `redrawn`. */
  borrow(cols: number, rows: number): void {
    this.#inTurn(() => {
      this.#borrowed = true;
      this.#terminal.resize(cols, rows);
    });
  }

  redrawn(): void {
    this.#inTurn(() => {
      this.#borrowed = false;
      const { cols, rows } = this.#terminal;
      this.fit();
      // Its own size by chance: still the one to tell, since it was not told while it was borrowed.
      if (!this.#kept && this.size && this.#terminal.cols === cols && this.#terminal.rows === rows) this.#events.resized(cols, rows);
    });
  }

  /** Empties the screen for another session. */
  reset(): void {
    this.#decoder = new TextDecoder();
    this.#inTurn(() => this.#terminal.reset());
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
    this.#terminal.options.fontSize = this.#fontSize = look.fontSize;
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

  /** When everything written so far is on the screen, and before anything written later. */
  #inTurn(act: () => void): void {
    const done = this.#answers.writing(true);
    this.#terminal.write('', () => {
      done();
      act();
    });
  }

  #room(): { cols: number; rows: number } | null {
    const size = this.#fit.proposeDimensions();
    if (!size || !Number.isFinite(size.cols) || !Number.isFinite(size.rows)) return null;
    return { cols: clampSize(size.cols), rows: clampSize(size.rows) };
  }

  #shrink({ cols, rows }: { cols: number; rows: number }): void {
    this.#terminal.options.fontSize = this.#fontSize;
    this.#terminal.resize(cols, rows);
    const room = this.#room();
    if (!room) return;
    const share = Math.min(1, room.cols / cols, room.rows / rows);
    this.#terminal.options.fontSize = Math.max(SMALLEST_FONT, Math.floor(this.#fontSize * share));
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
    this.#terminal.onKey(({ key }) => this.#answers.pressed(key));
    this.#terminal.onData((text) => {
      if (!this.#answers.holdsBack(text)) typed(text);
    });
    this.#terminal.onBinary((text) => binary(Uint8Array.from(text, (character) => character.charCodeAt(0) & 0xff)));
    this.#terminal.onResize(({ cols, rows }) => {
      if (!this.#borrowed && !this.#kept && this.size) resized(cols, rows);
    });
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
