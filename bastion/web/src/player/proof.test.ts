import { expect, test } from 'vitest';
import { type Outcome, headline } from './proof.svelte';

const done = (outcome: Partial<Outcome>, strange: number[] = []) =>
  headline({ state: 'done', outcome: { standing: 'whole', recovered: false, firstBad: null, sentences: [], kid: null, claims: null, chunks: null, by: 'page', ...outcome } }, strange);

test('a check is told in a few words, and how grave it is', () => {
  expect(headline({ state: 'unchecked' }, [])).toEqual({ text: 'Not checked', tone: 'calm' });
  expect(headline({ state: 'checking', part: 0.404 }, [])).toEqual({ text: 'Checking 40 %', tone: 'calm' });
  expect(headline({ state: 'failed', text: '', ask: true }, [])).toEqual({ text: 'Could not be checked', tone: 'warn' });
  expect(done({})).toEqual({ text: 'Authentic and whole', tone: 'good' });
  expect(done({ recovered: true })).toEqual({ text: 'Authentic, sealed after a crash', tone: 'good' });
  expect(done({ standing: 'altered', firstBad: 12 })).toEqual({ text: 'Altered: chunk 12', tone: 'bad' });
  expect(done({ standing: 'altered' })).toEqual({ text: 'Altered', tone: 'bad' });
  expect(done({ standing: 'incomplete' })).toEqual({ text: 'Incomplete', tone: 'warn' });
  expect(done({ standing: 'unknown_key' })).toEqual({ text: 'Unknown key', tone: 'warn' });
});

test('pieces that are not of a whole recording are what is told first', () => {
  expect(done({}, [3])).toEqual({ text: 'Altered: not what was recorded', tone: 'bad' });
});
