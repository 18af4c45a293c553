/** What verifying can find, how grave it is, and the sentence that says it: the names are those of `castellan verify`. */

/** How a recording stands. */
export type Standing = 'whole' | 'incomplete' | 'unknown_key' | 'altered';

/** Where a chunk lies, as the index says. Times are seconds. */
export interface Span {
  plain_at: number;
  plain_len: number;
  first: number;
  last: number;
}

export type Finding =
  | { code: 'chunk'; chunk: number; span?: Span }
  | { code: 'surplus'; chunk: number }
  | { code: 'unsealed' }
  | { code: 'index'; reason: string }
  | { code: 'index_entry'; chunk: number }
  | { code: 'disagree'; fields: string[] }
  | { code: 'other_session'; named: string; found: string }
  | { code: 'seal'; reason: string }
  | { code: 'unknown_key'; kid: string }
  | { code: 'empty' }
  | { code: 'cut'; chunk: number; of: number | null }
  | { code: 'shorter'; have: number; sealed: number }
  | { code: 'no_index' }
  | { code: 'no_seal' };

export type Code = Finding['code'];

const STANDINGS: Record<Code, Standing> = {
  chunk: 'altered',
  surplus: 'altered',
  unsealed: 'altered',
  index: 'altered',
  index_entry: 'altered',
  disagree: 'altered',
  other_session: 'altered',
  seal: 'altered',
  unknown_key: 'unknown_key',
  empty: 'incomplete',
  cut: 'incomplete',
  shorter: 'incomplete',
  no_index: 'incomplete',
  no_seal: 'incomplete',
};
const GRAVEST_LAST: Standing[] = ['whole', 'incomplete', 'unknown_key', 'altered'];

export const CODES = Object.keys(STANDINGS) as Code[];

export const standingOf = (finding: Finding): Standing => STANDINGS[finding.code];

const gravity = (standing: Standing): number => GRAVEST_LAST.indexOf(standing);

export const gravest = (findings: Finding[]): Standing => GRAVEST_LAST[Math.max(0, ...findings.map((finding) => gravity(standingOf(finding))))]!;

/** The gravest first; those that are alike stay in order. */
export const sorted = (findings: Finding[]): Finding[] => [...findings].sort((a, b) => gravity(standingOf(b)) - gravity(standingOf(a)));

/** The first chunk that is not what it was, in itself or in the index. */
export function firstBad(findings: Finding[]): number | null {
  const chunks = findings.filter((finding) => standingOf(finding) === 'altered').flatMap((finding) => ('chunk' in finding ? [finding.chunk] : []));
  return chunks.length > 0 ? Math.min(...chunks) : null;
}

export function sentence(finding: Finding): string {
  switch (finding.code) {
    case 'chunk': {
      const { span } = finding;
      const where = span ? ` (bytes ${span.plain_at} to ${span.plain_at + span.plain_len} of the plain cast, ${span.first} s to ${span.last} s)` : '';
      return `Chunk ${finding.chunk}${where} is not what was recorded.`;
    }
    case 'surplus':
      return `There is more than was recorded after the last of ${finding.chunk} chunks.`;
    case 'unsealed':
      return 'The cast is not the one that was sealed.';
    case 'index':
      return `The index is not one that was written with a recording: ${finding.reason}.`;
    case 'index_entry':
      return `The index’s entry of chunk ${finding.chunk} is not what was written.`;
    case 'disagree':
      return `Index and seal disagree about ${finding.fields.join(', ')}.`;
    case 'other_session':
      return `It is named ${finding.named} and is the recording of session ${finding.found}.`;
    case 'seal':
      return `The seal does not hold: ${finding.reason}.`;
    case 'unknown_key':
      return `The seal’s key ${finding.kid} is not among this bastion’s.`;
    case 'empty':
      return 'The cast is empty.';
    case 'cut':
      return `It is cut short: chunk ${finding.chunk}${finding.of === null ? '' : ` of ${finding.of} (from 0)`} is not all there.`;
    case 'shorter':
      return `It is cut short: of the ${finding.sealed} bytes of the plain cast ${finding.have} are there.`;
    case 'no_index':
      return 'There is no index to say where its chunks begin.';
    case 'no_seal':
      return 'There is no seal: nothing proves who made it.';
  }
}
