// A terminal without a page, and what there is to see in it.
import assert from 'node:assert/strict';
import headless from '@xterm/headless';

// In Node the addon reads its table from the beginning of whatever buffer it lies in, so it must lie in one of its
// own: in a pooled one every character beyond the BMP would be narrow, which in a browser it is not.
const pooled = Buffer.poolSize;
Buffer.poolSize = 0;
const { UnicodeGraphemesAddon } = await import('@xterm/addon-unicode-graphemes');
Buffer.poolSize = pooled;

const FLAGS = ['Bold', 'Dim', 'Italic', 'Underline', 'Blink', 'Inverse', 'Invisible', 'Strikethrough', 'Overline'];

/** xterm.js with the options of the page; what it says besides, and in which order things happen to it. */
export class Grid {
  #terminal;
  #title = '';
  #cut = Buffer.alloc(0);

  constructor(cols, rows, answers = () => {}) {
    this.#terminal = new headless.Terminal({ allowProposedApi: true, cols, rows, scrollback: 10_000, logLevel: 'off' });
    this.#terminal.loadAddon(new UnicodeGraphemesAddon());
    this.#terminal.onTitleChange((title) => (this.#title = title));
    this.#terminal.onData(answers);
  }

  get size() {
    return { cols: this.#terminal.cols, rows: this.#terminal.rows };
  }

  /**
   * Resolves when the bytes are parsed. What is unfinished of a character waits for the rest: cut after a byte 0x80,
   * as in the quotation mark E2 80 | 9D, xterm.js 6.0.0 would lose it.
   */
  write(bytes) {
    const all = Buffer.concat([this.#cut, bytes]);
    const whole = all.length - unfinished(all);
    this.#cut = all.subarray(whole);
    return new Promise((resolve) => this.#terminal.write(all.subarray(0, whole), resolve));
  }

  /** After everything written so far, before everything written later. */
  resize(cols, rows) {
    return new Promise((resolve) => {
      this.#terminal.write('', () => {
        this.#terminal.resize(cols, rows);
        resolve();
      });
    });
  }

  /** All that is visible, and all that tells how the terminal goes on; scrollback is not. */
  state() {
    const { buffer, modes, cols, rows, _core: core } = this.#terminal;
    const { active } = buffer;
    // The public interface does not tell these.
    const { coreService, coreMouseService, _bufferService: { buffer: grid }, _inputHandler: handler } = core;
    const cell = active.getNullCell();
    const lines = [];
    for (let y = 0; y < rows; y += 1) {
      const line = active.getLine(active.baseY + y);
      lines.push(Array.from({ length: cols }, (_, x) => described(line.getCell(x, cell))));
    }
    return {
      cells: lines,
      rest: {
        size: `${cols}x${rows}`,
        buffer: active.type,
        // Past the last column it is shown on it; without wraparound xterm.js lets it stand there, avt does not.
        cursor: `${Math.min(active.cursorX, cols - 1)},${active.cursorY}`,
        hidden: Boolean(coreService.isCursorHidden),
        // Left out: cursor blink, which pages set for themselves.
        cursorStyle: coreService.decPrivateModes.cursorStyle ?? 'default',
        ...modes,
        mouseEncoding: coreMouseService?.activeEncoding,
        margins: `${grid.scrollTop}-${grid.scrollBottom}`,
        title: this.#title,
        pen: `fg ${foreground(handler._curAttrData)} bg ${background(handler._curAttrData)} ${FLAGS.filter((flag) => handler._curAttrData[`is${flag}`]()).join('+')}`,
      },
    };
  }

  dispose() {
    this.#terminal.dispose();
  }
}

/** How many bytes at the end begin a character that is not finished. */
function unfinished(bytes) {
  for (let n = 1; n <= Math.min(3, bytes.length); n += 1) {
    const byte = bytes.at(-n);
    if (byte >= 0xc0) return n < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? n : 0;
    if (byte < 0x80) return 0;
  }
  return 0;
}

function described(cell) {
  // An erased cell and one with a space in it look the same, whatever colour nothing is written in.
  const chars = cell.getChars() || (cell.getWidth() === 1 ? ' ' : '');
  const flags = FLAGS.filter((flag) => cell[`is${flag}`]()).join('+');
  const bare = chars === ' ' && !/Und|Inv|Str|Ove/.test(flags);
  return `${JSON.stringify(chars)} w${cell.getWidth()} ${bare ? '' : `fg ${foreground(cell)} `}bg ${background(cell)} ${bare ? '' : flags}`;
}

// The first colours have two names, 31 and 38;5;1, and are drawn alike.
function foreground(of) {
  return of.isFgDefault() ? 'default' : `${of.isFgRGB() ? 'rgb' : 'palette'} ${of.getFgColor()}`;
}

function background(of) {
  return of.isBgDefault() ? 'default' : `${of.isBgRGB() ? 'rgb' : 'palette'} ${of.getBgColor()}`;
}

/** The first difference in words; null if there is none. */
export function difference(actual, expected) {
  for (const [key, value] of Object.entries(expected.rest)) {
    if (actual.rest[key] !== value) return `${key}: ${JSON.stringify(actual.rest[key])} instead of ${JSON.stringify(value)}`;
  }
  for (const [y, line] of expected.cells.entries()) {
    const x = line.findIndex((cell, at) => cell !== actual.cells[y][at]);
    if (x >= 0) return `row ${y}, column ${x}: ${actual.cells[y][x]} instead of ${line[x]}\n  shown:    ${text(actual, y)}\n  expected: ${text(expected, y)}`;
  }
  return null;
}

function text(state, y) {
  return state.cells[y].map((cell) => JSON.parse(cell.match(/^"(?:\\.|[^"\\])*"/)[0])).join('');
}

/** What a session printed and the sizes it had, in order. */
export class Tape {
  events = [];
  end = 0;
  #waiting = new Set();

  constructor(cols, rows) {
    this.first = { cols, rows };
  }

  /** How many sizes were told at the very end. */
  get sizesAtEnd() {
    const last = this.events.findLastIndex((event) => event.bytes || event.offset < this.end);
    return this.events.length - 1 - last;
  }

  /** The next of the stream, which must have neither gap nor overlap. */
  append({ offset, bytes, cols, rows }) {
    assert.equal(offset, this.end, 'the stream goes on where it was');
    this.events.push(bytes ? { offset, bytes } : { offset, cols, rows });
    this.end += bytes?.length ?? 0;
    for (const look of this.#waiting) look();
  }

  /** Until so much was printed. */
  async reaches(offset) {
    await this.#until(`output up to ${offset}`, () => this.end >= offset);
  }

  /** Until these bytes were printed after an offset. */
  async prints(words, since) {
    await this.#until(`"${words}"`, () => {
      // Looked at after every frame: what comes last is enough.
      const parts = this.events.slice(-64).filter((event) => event.bytes && event.offset + event.bytes.length > since);
      return Buffer.concat(parts.map((part) => part.bytes)).subarray(Math.max(0, since - (parts[0]?.offset ?? 0))).includes(words);
    });
  }

  #until(what, isTrue) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(look);
        reject(new Error(`the shell never printed ${what}; last: ${escaped(Buffer.concat(this.events.slice(-8).flatMap(({ bytes }) => bytes ?? [])).subarray(-400))}`));
      }, 20_000).unref();
      const look = () => {
        if (!isTrue()) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
      look();
    });
  }
}

/** A terminal that is shown a tape from its beginning, as far as is asked: nothing ever interrupts it. */
export class Reel {
  #tape;
  #next = 0;

  constructor(tape) {
    this.#tape = tape;
    this.grid = new Grid(tape.first.cols, tape.first.rows);
    this.size = tape.first;
    this.offset = 0;
  }

  /**
   * Goes on to an offset; of the sizes told right there it takes those up to `size`, or none. With `shown` its terminal
   * has seen that stretch already, from elsewhere.
   */
  async to(offset, size, shown = false) {
    assert.ok(offset >= this.offset, `${offset} lies behind ${this.offset}`);
    for (; this.#next < this.#tape.events.length; this.#next += 1) {
      const { offset: at, bytes, cols, rows } = this.#tape.events[this.#next];
      if (bytes) {
        if (at >= offset) break;
        const end = Math.min(at + bytes.length, offset);
        if (!shown) await this.grid.write(bytes.subarray(this.offset - at, end - at));
        this.offset = end;
        if (end < at + bytes.length) break;
      } else {
        if (at > offset || (at === offset && (!size || (size.cols === this.size.cols && size.rows === this.size.rows)))) break;
        if (!shown) await this.grid.resize(cols, rows);
        this.size = { cols, rows };
      }
    }
    assert.equal(this.offset, offset, 'the tape is long enough');
  }
}

/** Bytes as `printf %b` and JavaScript both read them. */
export function escaped(bytes) {
  const text = Buffer.from(bytes).toString('latin1');
  return text.replaceAll('\\', '\\\\').replace(/[^\x20-\x7e]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
