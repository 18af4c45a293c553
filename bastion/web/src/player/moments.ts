/** What a recording's markers say, and which of them are commands. */
import type { Moment } from './reel';

export interface Command {
  t: number;
  text?: string | null;
  exit?: number | null;
}

const LONGEST = 99;

/** How a command stands among the markers of a recording that is played in pieces. */
export function labelOf({ text, exit }: Command): string {
  const end = exit ? ` (exit ${exit})` : '';
  const characters = [...(text ?? 'command')];
  const room = LONGEST - end.length;
  return characters.length <= room ? `${characters.join('')}${end}` : `${characters.slice(0, room - 1).join('')}…${end}`;
}

/** The markers that are no commands. */
export function markersWithout(commands: Command[], markers: Moment[]): Moment[] {
  const known = new Set(commands.map((command) => `${command.t} ${labelOf(command)}`));
  return markers.filter(({ t, label }) => !known.has(`${t} ${label}`));
}

interface Kind {
  name: string;
  tone: 'good' | 'warn' | 'bad' | 'calm';
}
const KINDS: [RegExp, Kind][] = [
  [/bytes of output lost/, { name: 'lost', tone: 'bad' }],
  [/is out of reach|is gone|\bleft\b/, { name: 'leave', tone: 'warn' }],
  [/is back|resumed/, { name: 'resume', tone: 'good' }],
  [/watches|joins|taken over/, { name: 'join', tone: 'calm' }],
  [/polic|deadline|idle|denied|allowed|approved/i, { name: 'policy', tone: 'warn' }],
];

/** What kind of thing a marker tells of, in a word. */
export function kindOf(label: string): Kind {
  return KINDS.find(([words]) => words.test(label))?.[1] ?? { name: 'marker', tone: 'calm' };
}
