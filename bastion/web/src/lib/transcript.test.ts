import { describe, expect, test } from 'vitest';
import { Passed, find, parts, readTranscript } from './transcript';

const bodyOf = (text: string, step = 7) => {
  const bytes = new TextEncoder().encode(text);
  return new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < bytes.length; at += step) controller.enqueue(bytes.slice(at, at + step));
      controller.close();
    },
  });
};

describe('a transcript', () => {
  const lines = [
    { t: 0.5, line: '$ make 城堡' },
    { t: 2, line: '' },
    { t: 1.25, line: '["]},[{' },
  ];

  test('is read in pieces that end anywhere', async () => {
    const text = `[${lines.map((line) => JSON.stringify(line)).join(',\n')}]\n`;
    expect(await readTranscript(bodyOf(text))).toEqual({ lines, whole: true });
    expect(await readTranscript(bodyOf('[]\n'))).toEqual({ lines: [], whole: true });
  });

  test('is found in whatever the case', () => {
    expect(find(lines, ' MAKE ')).toEqual([0]);
    expect(find(lines, '城')).toEqual([0]);
    expect(find(lines, '  ')).toEqual([]);
  });

  test('marks what was found', () => {
    expect(parts('a Make b make', 'make')).toEqual([
      { text: 'a ', hit: false },
      { text: 'Make', hit: true },
      { text: ' b ', hit: false },
      { text: 'make', hit: true },
    ]);
    expect(parts(`${'x'.repeat(100)}needle`, 'needle')).toEqual([
      { text: `…${'x'.repeat(24)}`, hit: false },
      { text: 'needle', hit: true },
    ]);
    expect(parts('İ make', 'make')).toEqual([{ text: 'İ make', hit: false }]);
  });

  test('is followed though a line stands out of order', () => {
    const passed = new Passed(lines);
    expect([0, 0.5, 1.9, 2, 9].map((now) => passed.at(now))).toEqual([-1, 0, 0, 2, 2]);
  });
});
