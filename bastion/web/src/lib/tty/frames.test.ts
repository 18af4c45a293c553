import { describe, expect, it } from 'vitest';
import { type Frame, FrameError, decode, encode } from './frames';

const bytes = (...values: number[]) => new Uint8Array(values);
const raw = (...values: number[]) => bytes(...values).buffer as ArrayBuffer;

describe('frames', () => {
  const frames: Frame[] = [
    { type: 'data', offset: 0, bytes: bytes() },
    { type: 'data', offset: 2 ** 40 + 7, bytes: bytes(1, 2, 255) },
    { type: 'ack', offset: Number.MAX_SAFE_INTEGER },
    { type: 'resize', cols: 1, rows: 1000 },
    { type: 'control', control: { type: 'hello', have: 0, host: '城堡' } },
    { type: 'resized', offset: 12, cols: 80, rows: 24 },
    { type: 'screen', offset: 9, last: true, bytes: bytes(27, 91) },
  ];

  it.each(frames)('come back as they went: $type', (frame) => {
    expect(decode(encode(frame).buffer)).toEqual(frame);
  });

  it('are laid out as the contract says', () => {
    expect([...encode({ type: 'data', offset: 258, bytes: bytes(65) })]).toEqual([0, 0, 0, 0, 0, 0, 0, 1, 2, 65]);
    expect([...encode({ type: 'ack', offset: 32768 })]).toEqual([1, 0, 0, 0, 0, 0, 0, 128, 0]);
    expect([...encode({ type: 'resize', cols: 300, rows: 24 })]).toEqual([2, 1, 44, 0, 24]);
  });

  it.each([
    ['empty', raw()],
    ['unknown type', raw(9, 1)],
    ['ECHO, which no browser gets', raw(5, 0, 0, 0, 0, 0, 0, 0, 0, 1)],
    ['data without offset', raw(0, 1, 2)],
    ['ack too long', raw(1, 0, 0, 0, 0, 0, 0, 0, 0, 0)],
    ['size of 0', raw(2, 0, 0, 0, 24)],
    ['size above 1000', raw(2, 3, 233, 0, 24)],
    ['control that is not JSON', raw(3, 123)],
    ['control that is not UTF-8', raw(3, 34, 255, 34)],
    ['control without type', raw(3, 123, 125)],
    ['control null', raw(3, 110, 117, 108, 108)],
    ['offset beyond 2^53', raw(1, 255, 0, 0, 0, 0, 0, 0, 0)],
  ])('are refused when malformed: %s', (_name, message) => {
    expect(() => decode(message)).toThrow(FrameError);
  });

  it('refuse to be written wrong', () => {
    expect(() => encode({ type: 'resize', cols: 0, rows: 5 })).toThrow(FrameError);
    expect(() => encode({ type: 'data', offset: 0, bytes: new Uint8Array(32 * 1024 + 1) })).toThrow(FrameError);
  });
});
