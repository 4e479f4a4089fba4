/** What only VT-d has: memory behind CPU caches and write buffers, registers, the root pointer, context entries and their tags. */
import { describe, expect, test } from 'vitest';
import type { HandOptions, Space } from './hand.ts';
import { PAGE } from './hand.ts';
import { HandVtd } from './hand-vtd.ts';

const DID = 5;
const SID = 8;

/** A map of page 1 with a store that does not flush its line. */
function mapBehind(options: HandOptions, flush: (hand: HandVtd, space: Space) => void): string[] {
  const hand = new HandVtd(options);
  const space = hand.attached(DID);
  hand.map(space, 1, 0x9001, () => {
    hand.mem.store64(space.leaves * PAGE + 8, 0x9001003, 0);
    flush(hand, space);
  });
  return hand.verdict;
}

describe('a unit that does not snoop (ECAP.C = 0)', () => {
  const flush = (hand: HandVtd, space: Space): void => hand.flushLine(space.leaves, 1);

  test('sees a map when its line was flushed', () => {
    expect(mapBehind({ coherent: false }, flush)).toEqual([]);
    expect(mapBehind({ coherent: false }, () => undefined)).toEqual(['C-MAP-VISIBLE memory']);
    expect(mapBehind({ coherent: false }, (hand, space) => hand.flushLine(space.leaves, 9))).toEqual([
      'C-MAP-VISIBLE memory',
    ]);
  });

  test('may cache what it reads before the flush', () => {
    const send = (hand: HandVtd): void => {
      hand.invPages(DID, 1);
      hand.sync();
    };
    const options = { coherent: false, np: true };
    expect(
      mapBehind(options, (hand, space) => {
        flush(hand, space);
        send(hand);
      }),
    ).toEqual([]);
    expect(
      mapBehind(options, (hand, space) => {
        send(hand);
        flush(hand, space);
      }),
    ).toEqual(['C-MAP-VISIBLE not-present']);
  });

  test('goes on reading what was unmapped', () => {
    for (const flushes of [false, true]) {
      const hand = new HandVtd({ coherent: false });
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      hand.unmap(space, 1, () => {
        hand.mem.store64(space.leaves * PAGE + 8, 0, 0);
        if (flushes) hand.flushLine(space.leaves, 1);
        hand.invPages(DID, 1);
        hand.sync();
      });
      expect(hand.verdict).toEqual(flushes ? [] : ['C-UNMAP-GONE memory']);
    }
  });

  test('may cache what it reads until the flush', () => {
    const hand = new HandVtd({ coherent: false });
    const space = hand.attached(DID);
    hand.mapped(space, 1, 0x9001);
    hand.unmap(space, 1, () => {
      hand.mem.store64(space.leaves * PAGE + 8, 0, 0);
      hand.invPages(DID, 1);
      hand.sync();
      hand.flushLine(space.leaves, 1);
    });
    expect(hand.verdict).toEqual(['C-UNMAP-GONE translation']);
  });

  test('sees a table that was filled before it was linked only when that was flushed', () => {
    for (const flushes of [false, true]) {
      const hand = new HandVtd({ coherent: false });
      const space = hand.attached(DID);
      const table = hand.table();
      hand.map(space, 512, 0x9001, () => {
        hand.mem.store64(table * PAGE, 0x9001003, 0);
        if (flushes) hand.flushLine(table, 0);
        hand.link(space.middle, 1, table);
      });
      expect(hand.verdict).toEqual(flushes ? [] : ['C-MAP-VISIBLE memory']);
    }
  });

  test('may find the old contents of a page that became a table', () => {
    for (const flushes of [false, true]) {
      const hand = new HandVtd({ coherent: false });
      const space = hand.attached(DID);
      const table = hand.table();
      // A leaf in memory, and zeroes over it that stay in a CPU's cache. Entry 16 is two lines away from entry 0.
      hand.store(table, 16, 0x8001003, 0);
      hand.mem.store64(table * PAGE + 16 * 8, 0, 0);
      if (flushes) hand.flushLine(table, 16);
      hand.leaf(table, 0, 0x9000);
      hand.map(space, 512, 0x9000, () => hand.link(space.middle, 1, table));
      expect(hand.findings).toEqual([]);
      hand.unmap(space, 512 + 16, () => undefined);
      expect(hand.verdict).toEqual(flushes ? [] : ['C-UNMAP-GONE memory']);
    }
  });
});

describe('a unit with a write buffer (CAP.RWBF)', () => {
  test.each<[string, string[], (hand: HandVtd) => void]>([
    ['nothing', ['C-MAP-VISIBLE memory'], (): void => undefined],
    ['a flush', [], (hand): void => hand.flushWriteBuffer()],
    [
      'an invalidation of whatever',
      [],
      (hand): void => {
        hand.invPages(DID + 1, 77);
        hand.sync();
      },
    ],
    [
      'an invalidation that nobody waits for',
      ['C-MAP-VISIBLE memory'],
      (hand): void => {
        hand.invPages(DID + 1, 77);
        hand.ring();
      },
    ],
  ])('after %s: %j', (_name, expected, flush) => {
    expect(mapBehind({ rwbf: true }, flush)).toEqual(expected);
  });

  test('that does not snoop either needs both', () => {
    const options = { rwbf: true, coherent: false };
    const line = (hand: HandVtd, space: Space): void => hand.flushLine(space.leaves, 1);
    expect(mapBehind(options, (hand) => hand.flushWriteBuffer())).toEqual(['C-MAP-VISIBLE memory']);
    expect(
      mapBehind(options, (hand, space) => {
        line(hand, space);
        hand.flushWriteBuffer();
      }),
    ).toEqual([]);
  });
});

describe('the registers', () => {
  test.each<[string, number, number, boolean]>([
    ['pages', 3 * 2 ** 28 + DID, PAGE, true],
    ['pages, wider', 3 * 2 ** 28 + DID, 1, true],
    ['pages, leaves only', 3 * 2 ** 28 + DID, PAGE + 64, true],
    ['pages elsewhere', 3 * 2 ** 28 + DID, 2 * PAGE, false],
    ['pages of another domain', 3 * 2 ** 28 + DID + 1, PAGE, false],
    ['the domain', 2 * 2 ** 28 + DID, 0, true],
    ['another domain', 2 * 2 ** 28 + DID + 1, 0, false],
    ['everything', 2 ** 28, 0, true],
  ])('%s', (_name, hi, iva, covers) => {
    for (const looks of [false, true]) {
      const hand = new HandVtd();
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      hand.unmap(space, 1, () => {
        hand.clear(space.leaves, 1);
        hand.writeIotlb(hi, iva);
        if (looks) hand.readIotlb();
      });
      expect(hand.verdict).toEqual(covers && looks ? [] : ['C-UNMAP-GONE translation']);
    }
  });

  test('an invalidation that is still running covers nothing', () => {
    const hand = new HandVtd();
    const space = hand.attached(DID);
    hand.mapped(space, 1, 0x9001);
    hand.unmap(space, 1, () => {
      hand.clear(space.leaves, 1);
      hand.hangs = true;
      hand.writeIotlb(2 ** 28);
      hand.readIotlb();
    });
    expect(hand.verdict).toEqual(['C-UNMAP-GONE translation']);
  });

  test.each<[string, number, number, boolean]>([
    ['device', DID + SID * 2 ** 16, 3 * 2 ** 29, true],
    ['function 0 of the device, all functions', DID + SID * 2 ** 16, 3 * 2 ** 29 + 3, true],
    ['function 7 of the device, all functions', DID + (SID + 7) * 2 ** 16, 3 * 2 ** 29 + 3, true],
    ['function 7 of the device', DID + (SID + 7) * 2 ** 16, 3 * 2 ** 29, false],
    ['device, other domain', DID + 1 + SID * 2 ** 16, 3 * 2 ** 29, false],
    ['domain', DID, 2 * 2 ** 29, true],
    ['other domain', DID + 1, 2 * 2 ** 29, false],
    ['everything', 0, 2 ** 29, true],
  ])('contexts: %s', (_name, lo, hi, covers) => {
    const hand = new HandVtd();
    const space = hand.attached(DID);
    hand.detach(space, SID, () => {
      hand.point(SID, null);
      hand.writeContextCommand(lo, hi);
    });
    expect(hand.verdict).toEqual(covers ? [] : ['C-ATTACH context']);
  });
});

describe('contexts', () => {
  test('what was not present is cached under domain id 0', () => {
    for (const did of [0, DID]) {
      const hand = new HandVtd({ np: true });
      const space = hand.space(DID);
      hand.attach(space, SID, () => {
        hand.point(SID, space);
        hand.invDevice(SID, did);
        hand.sync();
      });
      expect(hand.verdict).toEqual(did === 0 ? [] : ['C-ATTACH context']);
    }
  });

  test('and not at all without caching mode', () => {
    const hand = new HandVtd();
    const space = hand.space(DID);
    hand.attach(space, SID, () => hand.point(SID, space));
    expect(hand.findings).toEqual([]);
  });

  test('a stale one leads to old tables', () => {
    const hand = new HandVtd();
    hand.attached(DID);
    const second = hand.space(DID + 1);
    hand.attach(second, SID, () => hand.point(SID, second));
    expect(hand.verdict).toEqual(['C-ATTACH context']);
    expect(hand.findings[0]).toMatchObject({ level: 0, sid: SID, domainId: DID });
    expect(hand.findings[0].missing).toContain(`domain id ${DID}`);
  });

  test('one that changes while it is present may be cached half old, half new', () => {
    const hand = new HandVtd();
    const first = hand.attached(DID);
    const second = hand.space(DID + 1);
    const { contexts } = hand.units[0];
    hand.attach(second, SID, () => {
      hand.store(contexts, SID * 2 + 1, 1 + (DID + 1) * 2 ** 8, 0);
      hand.store(contexts, SID * 2, second.root * PAGE + 1, 0);
      hand.invDevice(SID, DID);
      hand.sync();
    });
    expect(hand.verdict).toEqual(['C-ATTACH context']);
    expect(hand.findings[0].stale).toContain(`domain ${DID + 1}, tables at 0x${(first.root * PAGE).toString(16)}`);
  });

  test('one with a width that the unit does not support (SAGAW) blocks', () => {
    for (const width of [1, 2, 3]) {
      const hand = new HandVtd();
      const space = hand.space(DID);
      hand.attach(space, SID, () => {
        const { contexts } = hand.units[0];
        hand.store(contexts, SID * 2 + 1, width + DID * 2 ** 8, 0);
        hand.store(contexts, SID * 2, space.root * PAGE + 1, 0);
      });
      expect(hand.verdict).toEqual(width === 3 ? ['C-ATTACH wrong-entry'] : []);
    }
  });
});

describe('the root pointer', () => {
  type Step = (hand: HandVtd) => void;
  const contexts: Step = (hand) => {
    hand.invContexts();
    hand.sync();
  };
  const translations: Step = (hand) => {
    hand.invAll();
    hand.sync();
  };

  test.each<[string, readonly Step[], boolean]>([
    ['contexts, then translations', [contexts, translations], true],
    ['translations, then contexts', [translations, contexts], false],
    ['contexts', [contexts], false],
    ['translations', [translations], false],
    ['nothing', [], false],
  ])('is set, and then go: %s', (_name, steps, isRight) => {
    const hand = new HandVtd({ starts: false });
    hand.setRoot();
    for (const step of steps) step(hand);
    hand.enable();
    const space = hand.space(DID);
    hand.attach(space, SID, () => hand.point(SID, space));
    expect(hand.verdict).toEqual(isRight ? [] : ['C-ATTACH context']);
  });

  test('needs nothing where it empties the caches itself (CAP.ESRTPS)', () => {
    const hand = new HandVtd({ starts: false, esrtps: true });
    hand.setRoot();
    hand.enable();
    const space = hand.space(DID);
    hand.attach(space, SID, () => hand.point(SID, space));
    expect(hand.findings).toEqual([]);
  });

  test('translation that is never enabled keeps no promise', () => {
    const hand = new HandVtd({ starts: false, esrtps: true });
    hand.setRoot();
    const space = hand.space(DID);
    hand.attach(space, SID, () => hand.point(SID, space));
    expect(hand.verdict).toEqual(['C-ATTACH wrong-entry']);
  });

  test('set to another table, makes all contexts of the old one stale', () => {
    const hand = new HandVtd();
    const space = hand.attached(DID);
    const root = hand.table();
    hand.detach(space, SID, () => {
      hand.units[0].root = root;
      hand.setRoot();
      hand.enable();
    });
    expect(hand.verdict.length).toBeGreaterThan(0);
    expect(new Set(hand.verdict)).toEqual(new Set(['C-ATTACH context']));
  });
});

describe('the queue', () => {
  test('wraps', () => {
    const hand = new HandVtd({ np: true });
    const space = hand.attached(DID);
    for (let i = 0; i < 400; i++) hand.mapped(space, i, 0x9000 + i);
    expect(hand.findings).toEqual([]);
    expect(hand.sanitizer.counts.invalidations).toBeGreaterThan(400);
  });

  test('that stopped at an error has done nothing that was not seen done', () => {
    for (const fails of [false, true]) {
      const hand = new HandVtd();
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      hand.unmap(space, 1, () => {
        hand.clear(space.leaves, 1);
        hand.invPages(DID, 1);
        hand.wait();
        hand.ring();
        if (fails) hand.readError();
        hand.look();
      });
      expect(hand.verdict).toEqual(fails ? ['C-UNMAP-GONE translation'] : []);
    }
  });

  test('that is set up anew has not sent again what is left in its memory', () => {
    const hand = new HandVtd();
    const space = hand.attached(DID);
    hand.mapped(space, 1, 0x9001);
    // Behind the tail, from the round before: a flush of everything, and a wait.
    const unit = hand.units[0];
    const { tail } = unit;
    hand.invAll();
    hand.wait();
    unit.tail = tail;
    hand.unmap(space, 1, () => {
      hand.clear(space.leaves, 1);
      hand.renewQueue();
      hand.mem.deviceStore32(unit.cell, unit.data);
      hand.look();
    });
    expect(hand.verdict).toEqual(['C-UNMAP-GONE translation']);
  });

  test('a cell that held the awaited number before proves nothing', () => {
    const hand = new HandVtd();
    const space = hand.attached(DID);
    hand.mapped(space, 1, 0x9001);
    hand.unmap(space, 1, () => {
      hand.clear(space.leaves, 1);
      hand.hangs = true;
      hand.units[0].data -= 1;
      hand.invPages(DID, 1);
      hand.sync();
    });
    expect(hand.verdict).toEqual(['C-UNMAP-GONE translation']);
  });
});
