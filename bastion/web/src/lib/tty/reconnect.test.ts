import { beforeEach, describe, expect, it } from 'vitest';
import { FakeClock } from './fakes';
import { FIRST_MS, LONGEST_MS, Reconnect, type Standing } from './reconnect';

let clock: FakeClock;
let chance: number;
let attempts: number[];
let standings: Standing[];
let reconnect: Reconnect;

beforeEach(() => {
  clock = new FakeClock();
  chance = 1;
  attempts = [];
  standings = [];
  reconnect = new Reconnect(
    { now: clock.now, after: clock.after, random: () => chance },
    () => attempts.push(clock.time),
    (standing) => standings.push(standing),
  );
});

/** Lets `count` tries fail at once, and answers with the pauses before them. */
function failing(count: number): number[] {
  const pauses = [];
  for (let i = 0; i < count; i += 1) {
    const before = clock.time;
    reconnect.failed();
    clock.pass(LONGEST_MS);
    pauses.push((attempts.at(-1) ?? Number.NaN) - before);
  }
  return pauses;
}

describe('coming back', () => {
  it('waits half a second, then twice as long each time, five seconds at most', () => {
    expect(failing(7)).toEqual([FIRST_MS, 1000, 2000, 4000, LONGEST_MS, LONGEST_MS, LONGEST_MS]);
  });

  it('leaves half of the pause to chance', () => {
    chance = 0;
    expect(failing(3)).toEqual([FIRST_MS / 2, 500, 1000]);
  });

  it('never stops by itself', () => {
    failing(200);
    expect(attempts).toHaveLength(200);
    reconnect.failed();
    expect(reconnect.standing).toMatchObject({ state: 'waiting' });
  });

  it('tries at once when nudged, and does not try twice', () => {
    reconnect.failed();
    reconnect.nudge();
    reconnect.nudge();
    expect(attempts).toEqual([0]);
    clock.pass(60_000);
    expect(attempts).toEqual([0]);
    expect(reconnect.standing).toEqual({ state: 'trying', tries: 1 });
  });

  it('is not nudged into anything while connected', () => {
    reconnect.nudge();
    reconnect.resume();
    expect(attempts).toEqual([]);
  });

  it('begins anew after success', () => {
    failing(4);
    reconnect.stop();
    expect(failing(1)).toEqual([FIRST_MS]);
  });

  it('waits as long as the bastion asks', () => {
    reconnect.failed(30_000);
    expect(reconnect.standing).toEqual({ state: 'waiting', until: 30_000, tries: 0 });
    clock.pass(29_999);
    expect(attempts).toEqual([]);
    clock.pass(1);
    expect(attempts).toEqual([30_000]);
  });

  it('holds while nobody is signed in, whatever else happens, and goes on at once after', () => {
    failing(1);
    reconnect.hold();
    reconnect.nudge();
    clock.pass(600_000);
    expect(attempts).toHaveLength(1);
    reconnect.resume();
    expect(attempts).toHaveLength(2);
  });

  it('stops for good when the session is over', () => {
    reconnect.failed();
    reconnect.stop();
    clock.pass(600_000);
    expect(attempts).toEqual([]);
    expect(standings.at(-1)).toEqual({ state: 'idle' });
  });
});
