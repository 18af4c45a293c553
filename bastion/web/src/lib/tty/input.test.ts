import { describe, expect, it } from 'vitest';
import { CAPACITY, InputQueue, PIECE, STALE_MS, WINDOW } from './input';

const filled = (length: number, value = 0) => new Uint8Array(length).fill(value);

function drain(queue: InputQueue): { offset: number; bytes: Uint8Array }[] {
  const pieces = [];
  for (let piece = queue.next(); piece; piece = queue.next()) pieces.push(piece);
  return pieces;
}

describe('the input queue', () => {
  it('sends at most 4 KiB a piece, offsets counting bytes', () => {
    const queue = new InputQueue();
    queue.push(filled(PIECE * 2 + 10), 0);
    expect(drain(queue).map(({ offset, bytes }) => [offset, bytes.length])).toEqual([
      [0, PIECE],
      [PIECE, PIECE],
      [PIECE * 2, 10],
    ]);
  });

  it('holds back what would make more than 64 KiB unacknowledged', () => {
    const queue = new InputQueue();
    queue.push(filled(WINDOW + PIECE), 0);
    expect(drain(queue)).toHaveLength(WINDOW / PIECE);
    expect(queue.unacknowledged).toBe(WINDOW);
    queue.acknowledge(PIECE);
    expect(drain(queue).map((p) => p.offset)).toEqual([WINDOW]);
  });

  it('takes no acknowledgement of what was not sent, and forgives old ones', () => {
    const queue = new InputQueue();
    queue.push(filled(10), 0);
    expect(queue.acknowledge(10)).toBe(false);
    drain(queue);
    expect(queue.acknowledge(10)).toBe(true);
    expect(queue.acknowledge(4)).toBe(true);
    expect(queue.unacknowledged).toBe(0);
  });

  it('sends again, after a lost socket, exactly what the host had not taken', () => {
    const queue = new InputQueue();
    queue.push(new TextEncoder().encode('hello '), 0);
    queue.push(new TextEncoder().encode('world'), 0);
    drain(queue);
    queue.acknowledge(2);
    expect(queue.restart(8, 100)).toBe(0);
    const again = drain(queue);
    expect(again.map((p) => p.offset)).toEqual([8]);
    expect(again.map((p) => new TextDecoder().decode(p.bytes)).join('')).toBe('rld');
  });

  it('discards what is older than ten seconds and says how much', () => {
    const queue = new InputQueue();
    queue.push(filled(7), 0);
    queue.push(filled(3, 1), STALE_MS);
    drain(queue);
    expect(queue.restart(0, STALE_MS + 1)).toBe(7);
    expect(drain(queue)).toEqual([{ offset: 0, bytes: filled(3, 1) }]);
  });

  it('goes on where the bastion says, when another page has typed meanwhile', () => {
    const queue = new InputQueue();
    queue.push(filled(5), 0);
    drain(queue);
    queue.restart(500, 1);
    queue.push(filled(2), 1);
    expect(drain(queue)[0]?.offset).toBe(500);
  });

  it('refuses a paste that would fill memory, whole', () => {
    const queue = new InputQueue();
    expect(queue.push(filled(CAPACITY), 0)).toBe(true);
    expect(queue.push(filled(1), 0)).toBe(false);
  });
});
