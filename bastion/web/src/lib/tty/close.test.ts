import { describe, expect, it } from 'vitest';
import { ELSEWHERE, endedAway, ending, warning } from './close';

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

  it.each([1001, 1005, 1006, 1011, 1012])('lets %d be come back from', (code) => {
    expect(ending(code, '', null).lost).toBe(true);
  });

  it('knows a takeover', () => {
    expect(ending(ELSEWHERE, '', null)).toMatchObject({ code: 4409, title: 'Opened elsewhere', lost: false });
  });

  it.each(['exit', 'closed', 'detached', 'idle', 'max_time', 'policy', 'ended_by_admin', 'host_gone', 'no_agent', 'recording_failed', 'error'])(
    'has words for a session that ended while the page was away: %s',
    (reason) => {
      const end = endedAway(reason);
      expect(end.lost).toBe(false);
      expect(end.title).not.toBe('The session is over');
      expect(`${end.title} ${end.detail}`).not.toContain('_');
    },
  );

  it('has words for a warning, or the reason as it is', () => {
    expect(warning('idle')).toContain('Type to stay');
    expect(warning('Terminals end at 18:00.')).toBe('Terminals end at 18:00.');
  });
});
