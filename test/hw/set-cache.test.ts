import { describe, expect, test } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { cacheKey, type CacheGeometry, ENTRY_DATA, SetCache, setCacheWords, tagSalt } from '../../src/hw/index.ts';

function cacheOf(geometry: CacheGeometry, nrData = 2): SetCache {
  return new SetCache(new Int32Array(setCacheWords(geometry, nrData, 4)), geometry, nrData, 4);
}
const KEY = cacheKey(5, 0, 0);
const put = (cache: SetCache, page: number, value: number): void => {
  cache.words[cache.insert(page, KEY, 0) + ENTRY_DATA] = value;
};
const get = (cache: SetCache, page: number): number => {
  const at = cache.find(page, KEY, 0);
  return at < 0 ? -1 : cache.words[at + ENTRY_DATA];
};
const pages = (cache: SetCache): number[] => {
  const found: number[] = [];
  cache.forEach((words, at) => found.push(words[at]));
  return found;
};

describe('replacement in one set of three ways', () => {
  test.each<['lru' | 'fifo', number[]]>([
    ['lru', [4, 1, 3]],
    ['fifo', [4, 3, 2]],
  ])('%s', (replacement, expected) => {
    const cache = cacheOf({ sets: 1, ways: 3, replacement });
    for (const page of [1, 2, 3]) put(cache, page, page * 10);
    expect(get(cache, 1)).toBe(10);
    put(cache, 4, 40);
    expect(pages(cache)).toEqual(expected);
    expect(expected.map((page) => get(cache, page))).toEqual(expected.map((page) => page * 10));
  });

  test('random: every way is a victim at some time, the same seed gives the same victims', () => {
    const run = (seed: number): string => {
      const cache = cacheOf({ sets: 1, ways: 3, replacement: 'random', seed });
      const history: string[] = [];
      for (let page = 1; page < 60; page++) {
        put(cache, page, page);
        history.push(pages(cache).join());
      }
      return history.join(' ');
    };
    expect(run(7)).toBe(run(7));
    expect(run(7)).not.toBe(run(8));
    const cache = cacheOf({ sets: 1, ways: 3, replacement: 'random', seed: 7 });
    const ages = new Set<number>();
    for (let page = 1; page < 60; page++) {
      const before = pages(cache);
      put(cache, page, page);
      const gone = before.findIndex((one) => !pages(cache).includes(one));
      if (gone >= 0) ages.add(gone);
    }
    expect([...ages].sort((a, b) => a - b)).toEqual([0, 1, 2]);
  });

  test('an empty way is used before anything is evicted', () => {
    const cache = cacheOf({ sets: 1, ways: 3 });
    for (const page of [1, 2, 3]) put(cache, page, page);
    expect(cache.drop(2, KEY, 0)).toBe(true);
    expect(cache.drop(2, KEY, 0)).toBe(false);
    put(cache, 4, 4);
    expect(pages(cache)).toEqual([4, 3, 1]);
  });
});

describe('against a list', () => {
  test.each<CacheGeometry>([
    { sets: 1, ways: 1 },
    { sets: 1, ways: 16 },
    { sets: 8, ways: 1 },
    { sets: 4, ways: 3 },
    { sets: 64, ways: 4, replacement: 'fifo' },
  ])('%o', (geometry) => {
    // A hit must be the last value stored and not dropped since; a miss is always allowed, except right after a store.
    for (const nrData of [2, 3]) {
      const rng = new Rng(5);
      const cache = cacheOf(geometry, nrData);
      const model = new Map<string, number>();
      let hits = 0;
      for (let step = 0; step < 20000; step++) {
        const page = rng.below(24) - 8;
        const tag = rng.below(3);
        const cls = rng.below(4);
        const key = cacheKey(tag, cls, rng.below(2));
        const name = `${page} ${key}`;
        const salt = tagSalt(tag);
        const choice = rng.below(100);
        const at = cache.find(page, key, salt);
        if (at >= 0) {
          hits += 1;
          if (cache.words[at + ENTRY_DATA] !== model.get(name)) throw new Error(`step ${step}: wrong data`);
        }
        if (choice < 50) {
          if (at < 0) {
            const entry = cache.insert(page, key, salt);
            for (let word = 0; word < nrData; word++) cache.words[entry + ENTRY_DATA + word] = step;
            model.set(name, step);
            if (cache.find(page, key, salt) !== entry) throw new Error(`step ${step}: not found where inserted`);
          }
        } else if (choice < 60) {
          cache.drop(page, key, salt);
          model.delete(name);
        } else if (choice < 62) {
          cache.dropTag(tag);
          for (const one of model.keys()) if (Number(one.split(' ')[1]) >>> 16 === tag) model.delete(one);
        } else if (choice < 64) {
          cache.dropWhere((words, entry) => words[entry] === page);
          for (const one of model.keys()) if (Number(one.split(' ')[0]) === page) model.delete(one);
        } else if (choice === 64) {
          cache.clear();
          model.clear();
        }
        if (step % 64 !== 0) continue;
        const live = [0, 0, 0, 0];
        cache.forEach((words, entry) => (live[(words[entry + 1] >>> 10) & 0x3f] += 1));
        expect(live).toEqual([0, 1, 2, 3].map((one) => cache.nrLive(one)));
      }
      expect(hits).toBeGreaterThan(20);
    }
  });

  test('an emptied cache is the same words as a new one', () => {
    const cache = cacheOf({ sets: 4, ways: 3 });
    const fresh = cache.words.slice();
    for (let page = 0; page < 40; page++) if (get(cache, page) < 0) put(cache, page, page);
    expect(cache.words).not.toEqual(fresh);
    cache.dropTag(5);
    expect(cache.words).toEqual(fresh);
  });

  test('consecutive pages spread: 1000 of them in 2048 sets leave no set with more than two', () => {
    const cache = cacheOf({ sets: 2048, ways: 2 });
    for (let page = 0xffc00; page < 0xffc00 + 1000; page++) put(cache, page, page);
    expect(pages(cache)).toHaveLength(1000);
  });
});
