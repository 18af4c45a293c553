/** The terminal's own answers to what programs ask it, told apart from what the user types. */

// Device attributes, status and cursor reports, modes, sizes, focus; settings (DCS) and colours (OSC).
const ANSWER = /^\u001b(?:\[[?>=]?[\d;]*(?:\$y|[cnRt])|\[[IO]|[P\]].*(?:\u001b\\|\u0007))$/s;

/**
 * Holds answers back while output is parsed that repeats the past. xterm.js answers from within the parser, and tells
 * when it is done with a chunk, not when it begins one; between two chunks the user may type. So something is held back
 * only when the chunk whose turn it is repeats the past, it has the form of an answer, and no key was pressed for it
 * (Shift+F3 looks like a cursor report).
 */
export class Answers {
  /** Of the chunks not parsed yet, in order: whether each repeats the past. */
  #chunks: boolean[] = [];
  #key: string | null = null;

  /** A chunk is given to the terminal; the answer is to be called when it is parsed. */
  writing(repeated: boolean): () => void {
    this.#chunks.push(repeated);
    return () => void this.#chunks.shift();
  }

  /** A key was pressed; the terminal sends `data` for it next. */
  pressed(data: string): void {
    this.#key = data;
  }

  /** Whether `data`, which the terminal wants to send, must not be sent. */
  holdsBack(data: string): boolean {
    const typed = this.#key === data;
    this.#key = null;
    return !typed && this.#chunks[0] === true && ANSWER.test(data);
  }
}
