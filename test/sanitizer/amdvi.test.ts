/** What only AMD-Vi has: leaves of several entries, entries that skip levels, growing tables, the device table, sequences. */
import { describe, expect, test } from 'vitest';
import type { Space } from './hand.ts';
import { PAGE } from './hand.ts';
import { HandAmdvi } from './hand-amdvi.ts';

const DID = 5;
const SID = 8;
const RW_HI = 3 * 2 ** 29;

describe('a leaf of eight entries (next level 7)', () => {
  function verdict(clear: number, lg2: number): string[] {
    const hand = new HandAmdvi();
    const space = hand.attached(DID);
    hand.map(space, 8, 0x9000, () => hand.sized(space.leaves, 8, 0x9000, 3), 8);
    expect(hand.findings).toEqual([]);
    hand.unmap(
      space,
      8,
      () => {
        for (let i = 0; i < clear; i++) hand.clear(space.leaves, 8 + i);
        hand.invPages(DID, 8, lg2, true);
        hand.sync();
      },
      8,
    );
    return hand.verdict;
  }

  test('is gone when all of them are, and a flush covers it', () => {
    expect(verdict(8, 3)).toEqual([]);
  });

  test('is not when only the first is cleared: hardware that comes by another one caches the whole', () => {
    expect(verdict(1, 3)).toEqual(['C-UNMAP-GONE wrong-entry']);
    expect(verdict(7, 3)).toEqual(['C-UNMAP-GONE wrong-entry']);
  });

  test('is not when the flush covers a part', () => {
    expect(verdict(8, 2)).toEqual(['C-UNMAP-GONE translation']);
    expect(verdict(8, 0)).toEqual(['C-UNMAP-GONE translation']);
  });

  test('leads where its first page says, from each of its pages', () => {
    for (const pfn of [0x9000, 0x9008]) {
      const hand = new HandAmdvi();
      const space = hand.attached(DID);
      hand.map(space, 8, 0x9000, () => hand.sized(space.leaves, 8, pfn, 3), 8);
      expect(hand.verdict).toEqual(pfn === 0x9000 ? [] : ['C-MAP-VISIBLE wrong-entry']);
    }
  });
});

describe('entries', () => {
  test('above take rights away', () => {
    for (const rights of [1, 2, 3]) {
      const hand = new HandAmdvi();
      const space = hand.attached(DID);
      const table = hand.table();
      hand.map(space, 512, 0x9000, () => {
        hand.store(space.middle, 1, table * PAGE + 1 + (1 << 9), rights * 2 ** 29);
        hand.leaf(table, 0, 0x9000);
      });
      expect(hand.verdict).toEqual(rights === 3 ? [] : ['C-MAP-VISIBLE wrong-entry']);
    }
  });

  test('that skip a level serve the pages whose skipped bits are zero, and no others', () => {
    const hand = new HandAmdvi();
    const space = hand.attached(DID);
    const table = hand.table();
    hand.leaf(table, 1, 0x9001);
    // From level 3 to level 1, for pages 2^18 to 2^18 + 511 of the 2^18 that the entry spans.
    hand.map(space, 2 ** 18 + 1, 0x9001, () => hand.store(space.root, 1, table * PAGE + 1 + (1 << 9), RW_HI));
    hand.unmap(space, 2 ** 18 + 512 + 1, () => undefined);
    expect(hand.findings).toEqual([]);
    hand.map(space, 2 ** 18 + 512 + 1, 0x9001, () => undefined);
    expect(hand.verdict).toEqual(['C-MAP-VISIBLE wrong-entry']);
  });

  test('of the device take rights away too', () => {
    const hand = new HandAmdvi();
    const space = hand.attached(DID);
    hand.mem.store64(hand.units[0].deviceTable * PAGE + SID * 32, space.root * PAGE + 3 + (3 << 9), 2 ** 29);
    hand.invDevice(SID, 0);
    hand.sync();
    hand.map(space, 1, 0x9001, () => hand.leaf(space.leaves, 1, 0x9001));
    expect(hand.verdict).toEqual(['C-MAP-VISIBLE wrong-entry']);
  });
});

describe('the device table', () => {
  test('is cached whatever an entry says, NpCache or not', () => {
    for (const np of [false, true]) {
      for (const flushes of [false, true]) {
        const hand = new HandAmdvi({ np });
        const space = hand.space(DID);
        hand.attach(space, SID, () => {
          hand.point(SID, space);
          if (flushes) hand.invDevice(SID, 0);
          hand.sync();
        });
        expect(hand.verdict).toEqual(flushes ? [] : ['C-ATTACH context']);
      }
    }
  });

  test('INVALIDATE_IOMMU_ALL takes its copies and all translations', () => {
    const hand = new HandAmdvi();
    const space = hand.attached(DID);
    hand.mapped(space, 1, 0x9001);
    hand.detach(space, SID, () => {
      hand.clear(space.leaves, 1);
      hand.point(SID, null);
      hand.invAll();
      hand.sync();
    });
    expect(hand.findings).toEqual([]);
    expect(hand.sanitizer.counts.staleNow).toBe(0);
  });

  test('an entry that is not valid lets the device reach everything', () => {
    const hand = new HandAmdvi();
    const space = hand.attached(DID);
    hand.detach(space, SID, () => {
      hand.mem.store64(hand.units[0].deviceTable * PAGE + SID * 32, 0, 0);
      hand.invDevice(SID, 0);
      hand.sync();
    });
    expect(hand.verdict).toEqual(['C-ATTACH wrong-entry']);
  });
});

describe('a table that grows', () => {
  const PAGES_3 = 2 ** 27;

  /** A new root on top, and a map beyond the reach of the old one. */
  function grow(np: boolean, flushes: { device: boolean; pages: boolean }): { hand: HandAmdvi; space: Space } {
    const hand = new HandAmdvi({ np });
    const space = hand.attached(DID);
    hand.mapped(space, 1, 0x9001);
    const top = hand.table();
    const path = [hand.table(), hand.table(), hand.table()];
    hand.link(top, 0, space.root, 4);
    hand.map(space, PAGES_3, 0x9000, () => {
      hand.pointAt(SID, DID, top, 4);
      if (flushes.device) hand.invDevice(SID, 0);
      hand.sync();
      hand.link(path[1], 0, path[2], 2);
      hand.link(path[0], 0, path[1], 3);
      hand.leaf(path[2], 0, 0x9000);
      hand.link(top, 1, path[0], 4);
      // Address 2^39: bit 7 of the high word.
      if (flushes.pages) hand.queue(0, (3 << 28) + DID, 2, 2 ** 7);
      hand.sync();
    });
    return { hand, space };
  }

  test('is right when the device learned of the new root first', () => {
    expect(grow(false, { device: true, pages: false }).hand.findings).toEqual([]);
    expect(grow(true, { device: true, pages: true }).hand.findings).toEqual([]);
  });

  test('is not seen by a device that may still hold the old root (bug 17)', () => {
    const { hand } = grow(false, { device: false, pages: false });
    expect(hand.verdict).toEqual(['C-MAP-VISIBLE context']);
  });

  test('needs the flush of the map where "not present" is cached', () => {
    expect(grow(true, { device: true, pages: false }).hand.verdict).toEqual(['C-MAP-VISIBLE not-present']);
  });

  test('keeps what was mapped before', () => {
    const { hand, space } = grow(false, { device: true, pages: false });
    hand.map(space, 1, 0x9001, () => undefined);
    expect(hand.findings).toEqual([]);
    hand.map(space, 1, 0x9002, () => undefined);
    expect(hand.verdict).toEqual(['C-MAP-VISIBLE wrong-entry']);
  });
});

describe('a wait', () => {
  test('is over when a later number is there', () => {
    for (const seen of [-1, 0, 1]) {
      const hand = new HandAmdvi();
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      hand.unmap(space, 1, () => {
        hand.clear(space.leaves, 1);
        hand.hangs = true;
        hand.invPages(DID, 1);
        hand.wait();
        hand.ring();
        hand.mem.deviceStore32(hand.units[0].cell, hand.units[0].data + seen);
        hand.look();
      });
      expect(hand.verdict).toEqual(seen >= 0 ? [] : ['C-UNMAP-GONE translation']);
    }
  });

  test('that stores nothing proves nothing', () => {
    const hand = new HandAmdvi();
    const space = hand.attached(DID);
    hand.mapped(space, 1, 0x9001);
    hand.unmap(space, 1, () => {
      hand.clear(space.leaves, 1);
      hand.invPages(DID, 1);
      const unit = hand.units[0];
      unit.data += 1;
      hand.queue(unit.cell, 1 << 28, unit.data, 0);
      hand.ring();
      hand.mem.store32(unit.cell, unit.data);
      hand.look();
    });
    expect(hand.verdict).toEqual(['C-UNMAP-GONE translation']);
  });

  test('the buffer wraps', () => {
    const hand = new HandAmdvi({ np: true });
    const space = hand.attached(DID);
    for (let i = 0; i < 400; i++) hand.mapped(space, i, 0x9000 + i);
    expect(hand.findings).toEqual([]);
  });
});

test('sizes: S with n ones is 2^(n + 1) pages, aligned down', () => {
  for (const [page, lg2, covers] of [
    [4, 1, true],
    [4, 2, true],
    [6, 1, false],
    [0, 3, true],
    [0, 2, false],
  ] as const) {
    const hand = new HandAmdvi();
    const space = hand.attached(DID);
    hand.mapped(space, 5, 0x9005);
    hand.unmap(space, 5, () => {
      hand.clear(space.leaves, 5);
      hand.invPages(DID, page, lg2);
      hand.sync();
    });
    expect([page, lg2, ...hand.verdict]).toEqual([page, lg2, ...(covers ? [] : ['C-UNMAP-GONE translation'])]);
  }
});
