import { expect, it } from 'vitest';
import { ago, bytes, count, countdown, duration, position } from './format';

it.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1536, '1.5 KiB'],
  [23 * 2 ** 20, '23 MiB'],
  [1.5 * 2 ** 40, '1.5 TiB'],
])('%d bytes are %s', (value, text) => expect(bytes(value)).toBe(text));

it.each([
  [0, '0 s'],
  [59.9, '59 s'],
  [185, '3 min 05 s'],
  [4320, '1 h 12 min'],
  [273_600, '3 d 4 h'],
])('%d seconds are %s', (value, text) => expect(duration(value)).toBe(text));

it.each([
  [2, 'just now'],
  [42, '42 s ago'],
  [300, '5 min ago'],
  [7200, '2 h ago'],
  [-300, 'in 5 min'],
])('%d seconds back is %s', (seconds, text) => {
  const now = Date.parse('2026-01-10T12:00:00Z');
  expect(ago(new Date(now - seconds * 1000).toISOString(), now)).toBe(text);
});

it('counts in words', () => expect([count(1, 'line'), count(3, 'line')]).toEqual(['1 line', '3 lines']));

it.each([
  [-3, '0:00'],
  [41.2, '0:42'],
  [60, '1:00'],
  [725, '12:05'],
])('%d seconds count down as %s', (seconds, text) => expect(countdown(seconds)).toBe(text));

it('moments of a recording', () => {
  expect([0, 7.9, 65, 725, 3723, 90_000].map(position)).toEqual(['0:00', '0:07', '1:05', '12:05', '1:02:03', '25:00:00']);
});
