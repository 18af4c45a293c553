import { describe, expect, it } from 'vitest';
import { ending } from './close';

describe('the end of a terminal', () => {
  it('names exit code or signal', () => {
    expect(ending(1000, '', { code: 0, signal: null })).toMatchObject({ title: 'The shell ended', tone: 'neutral' });
    expect(ending(1000, '', { code: 127, signal: null }).title).toBe('The shell ended with exit code 127');
    expect(ending(1000, '', { code: null, signal: 'SIGKILL' }).title).toBe('The shell was ended by SIGKILL');
  });

  it.each([4400, 4401, 4403, 4408, 4409, 4410, 4411, 4423, 4500])('has a sentence of its own for %d, and no way back to the same shell', (code) => {
    const { title, lost } = ending(code, '', null);
    expect(title).not.toContain(String(code));
    expect(lost).toBe(false);
  });

  it('prefers the reason the bastion gives', () => {
    expect(ending(4408, 'Idle for 15 minutes.', null).detail).toBe('Idle for 15 minutes.');
  });

  it('takes a lost connection for lost, not for the end of the shell', () => {
    expect(ending(1006, '', null)).toMatchObject({ title: 'The connection was lost', lost: true });
    expect(ending(4999, '', null)).toMatchObject({ detail: 'Code 4999.', lost: true });
  });
});
