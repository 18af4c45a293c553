import { expect, test } from 'vitest';
import { kindOf, labelOf, markersWithout } from './moments';

test('a command is labelled as the bastion labels it', () => {
  expect(labelOf({ t: 0, text: 'make', exit: 0 })).toBe('make');
  expect(labelOf({ t: 0, text: 'make', exit: 2 })).toBe('make (exit 2)');
  expect(labelOf({ t: 0, text: null, exit: null })).toBe('command');
  const long = labelOf({ t: 0, text: 'é'.repeat(200), exit: 130 });
  expect([...long]).toHaveLength(99);
  expect(long.endsWith('é… (exit 130)')).toBe(true);
});

test('markers of commands are left to the commands', () => {
  const commands = [{ t: 1.5, text: 'ls', exit: 1 }];
  const markers = [
    { t: 1.5, label: 'ls (exit 1)' },
    { t: 2, label: 'the browser is gone' },
  ];
  expect(markersWithout(commands, markers)).toEqual([markers[1]]);
});

test.each([
  ['the browser is gone', 'leave'],
  ['a browser is back', 'resume'],
  ['mira watches', 'join'],
  ['512 bytes of output lost', 'lost'],
  ['anything', 'marker'],
])('%s is of the kind %s', (label, name) => expect(kindOf(label).name).toBe(name));
