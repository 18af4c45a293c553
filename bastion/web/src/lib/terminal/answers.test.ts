import { Terminal } from '@xterm/headless';
import { beforeEach, describe, expect, it } from 'vitest';
import { Answers } from './answers';

let terminal: Terminal;
let answers: Answers;
let sent: string[];

beforeEach(() => {
  terminal = new Terminal({ allowProposedApi: true, cols: 80, rows: 24 });
  answers = new Answers();
  sent = [];
  terminal.onData((data) => {
    if (!answers.holdsBack(data)) sent.push(data);
  });
});

function write(data: string, repeated: boolean): Promise<void> {
  const done = answers.writing(repeated);
  return new Promise((resolve) =>
    terminal.write(data, () => {
      done();
      resolve();
    }),
  );
}

const QUESTIONS: [name: string, question: string][] = [
  ['device attributes', '\u001b[c'],
  ['secondary device attributes', '\u001b[>c'],
  ['status', '\u001b[5n'],
  ['cursor position', '\u001b[6n'],
  ['cursor position, private', '\u001b[?6n'],
  ['a mode', '\u001b[4$p'],
  ['a private mode', '\u001b[?2004$p'],
  ['a setting', '\u001bP$qm\u001b\\'],
];

describe('answers of the terminal', () => {
  it.each(QUESTIONS)('are sent to who asks live: %s', async (_name, question) => {
    await write(question, false);
    expect(sent).toHaveLength(1);
  });

  it.each(QUESTIONS)('are held back when the question is of the past: %s', async (_name, question) => {
    await write(question, true);
    expect(sent).toEqual([]);
  });

  it('are told apart chunk by chunk, however they queue up', async () => {
    const all = [write('\u001b[6n', true), write('a\u001b[6n', false), write('\u001b[c', true), write('b\u001b[6n', false)];
    await Promise.all(all);
    expect(sent).toEqual(['\u001b[1;2R', '\u001b[1;3R']);
  });

  it('are held back too when a question spans two chunks', async () => {
    await Promise.all([write('\u001b[', true), write('6n', true)]);
    expect(sent).toEqual([]);
  });

  it.each([
    ['colours', '\u001b]11;rgb:0e0e/1111/1313\u001b\\'],
    ['a palette colour', '\u001b]4;1;rgb:ffff/0000/0000\u0007'],
    ['focus', '\u001b[I'],
    ['a size', '\u001b[8;24;80t'],
  ])('which only a browser gives have their form: %s', (_name, answer) => {
    answers.writing(true);
    expect(answers.holdsBack(answer)).toBe(true);
  });

  it.each(['a', 'ls -l\r', '\u001b', '\u001b[A', '\u001bOP', '\u001b[1;5C', '\u001b[200~n\u001b[201~', '\u001b[<0;1;1M', '你好'])(
    'never hold a key, a paste or the mouse back: %j',
    (typed) => {
      answers.writing(true);
      expect(answers.holdsBack(typed)).toBe(false);
    },
  );

  it('do not hold back the key that looks like one, once', () => {
    answers.writing(true);
    answers.pressed('\u001b[1;2R');
    expect(answers.holdsBack('\u001b[1;2R')).toBe(false);
    expect(answers.holdsBack('\u001b[1;2R')).toBe(true);
  });
});
