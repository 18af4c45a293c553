/** Keyboard input on its way to the host: kept until acknowledged, so that a lost socket loses no key. */

/** Longest piece sent in one frame: what a terminal in line mode takes. */
export const PIECE = 4096;
/** Bytes that may be on the way unacknowledged. */
export const WINDOW = 64 * 1024;
/** Bytes kept in all; more (an enormous paste) is refused instead of filling memory. */
export const CAPACITY = 4 * 1024 * 1024;
/** Unacknowledged input older than this is discarded on reattach: nobody expects it to arrive any more. */
export const STALE_MS = 10_000;

interface Piece {
  bytes: Uint8Array;
  /** When it was typed, in milliseconds. */
  at: number;
}

export class InputQueue {
  /** Pieces from `#acked` on, in order; the first `#inFlight` of them have been sent. */
  #pieces: Piece[] = [];
  #inFlight = 0;
  #acked = 0;
  #sent = 0;
  #kept = 0;

  /** Takes what was typed. False, and nothing taken, when the queue has no room for it. */
  push(bytes: Uint8Array, now: number): boolean {
    if (this.#kept + bytes.length > CAPACITY) return false;
    for (let at = 0; at < bytes.length; at += PIECE) {
      this.#pieces.push({ bytes: bytes.slice(at, at + PIECE), at: now });
    }
    this.#kept += bytes.length;
    return true;
  }

  /** The next piece the window has room for, counted as sent. */
  next(): { offset: number; bytes: Uint8Array } | null {
    const piece = this.#pieces[this.#inFlight];
    if (!piece || this.#sent + piece.bytes.length - this.#acked > WINDOW) return null;
    const offset = this.#sent;
    this.#inFlight += 1;
    this.#sent += piece.bytes.length;
    return { offset, bytes: piece.bytes };
  }

  /** The host has taken all input before `offset`. False when it claims more than was sent. */
  acknowledge(offset: number): boolean {
    if (offset > this.#sent) return false;
    if (offset > this.#acked) this.#drop(offset - this.#acked);
    return true;
  }

  /**
   * A socket is ready and its input starts at `offset`: what came before is settled, the rest is sent again.
   * Returns how many bytes were too old to send.
   */
  restart(offset: number, now: number): number {
    if (offset > this.#acked) this.#drop(offset - this.#acked);
    this.#acked = this.#sent = offset;
    this.#inFlight = 0;
    const fresh = this.#pieces.filter((piece) => now - piece.at <= STALE_MS);
    const before = this.#kept;
    this.#pieces = fresh;
    this.#kept = fresh.reduce((sum, piece) => sum + piece.bytes.length, 0);
    return before - this.#kept;
  }

  get unacknowledged(): number {
    return this.#sent - this.#acked;
  }

  #drop(count: number): void {
    this.#acked += count;
    let left = count;
    while (left > 0) {
      const piece = this.#pieces[0];
      if (!piece) return;
      const taken = Math.min(left, piece.bytes.length);
      left -= taken;
      this.#kept -= taken;
      if (taken < piece.bytes.length) {
        piece.bytes = piece.bytes.subarray(taken);
      } else {
        this.#pieces.shift();
        if (this.#inFlight > 0) this.#inFlight -= 1;
      }
    }
  }
}
