import { describe, expect, it } from 'vitest';
import { type Remembered, type Store, recall, remember } from './remembered';

class Shelf implements Store {
  kept = new Map<string, string>();
  getItem = (key: string) => this.kept.get(key) ?? null;
  setItem = (key: string, value: string) => void this.kept.set(key, value);
  removeItem = (key: string) => void this.kept.delete(key);
}

const terminal: Remembered = { session: 's-1', asset: 'a-1', hostname: 'web-1', title: 'vim', command: '', mode: 'control', current: true };

describe('terminals over a reload', () => {
  it('come back as they were', () => {
    const shelf = new Shelf();
    const both: Remembered[] = [terminal, { ...terminal, session: 's-2', mode: 'watch', current: false }];
    remember(shelf, 'u-1', both);
    expect(recall(shelf, 'u-1')).toEqual(both);
  });

  it('do not come back for another user, nor when there are none', () => {
    const shelf = new Shelf();
    remember(shelf, 'u-1', [terminal]);
    expect(recall(shelf, 'u-2')).toEqual([]);
    remember(shelf, 'u-1', []);
    expect(shelf.kept.size).toBe(0);
    expect(recall(shelf, 'u-1')).toEqual([]);
  });

  it.each(['', 'null', '[]', '{"user":"u-1","terminals":7}', '{"user":"u-1","terminals":[null,{"session":3}]}'])(
    'are none when the storage holds something else: %s',
    (value) => {
      expect(recall({ ...new Shelf(), getItem: () => value, setItem() {}, removeItem() {} }, 'u-1')).toEqual([]);
    },
  );

  it('do without a storage that refuses', () => {
    const full: Store = {
      getItem: () => null,
      removeItem() {},
      setItem() {
        throw new Error('full');
      },
    };
    expect(() => remember(full, 'u-1', [terminal])).not.toThrow();
  });
});
