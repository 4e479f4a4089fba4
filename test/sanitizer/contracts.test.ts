/** Rules that both architectures have. Each: the stores and commands that break it, and the twin that does not. */
import { describe, expect, test } from 'vitest';
import type { Hand } from './hand.ts';
import { KINDS } from './hands.ts';

const DID = 5;
const SID = 8;

describe.each(KINDS)('%s', (kind, make) => {
  test('what the tests start from is right', () => {
    for (const np of [false, true]) {
      const hand = make({ np });
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      expect(hand.findings).toEqual([]);
      expect(hand.sanitizer.counts.pages).toBe(1);
    }
  });

  describe('a map', () => {
    /** A map of page 1 whose flush is `flush`, on a unit that caches "not present". */
    function verdict(flush: (hand: Hand) => void, np = true): Hand {
      const hand = make({ np });
      const space = hand.attached(DID);
      hand.map(space, 1, 0x9001, () => {
        hand.leaf(space.leaves, 1, 0x9001);
        flush(hand);
      });
      return hand;
    }

    test('needs no flush where "not present" is not cached', () => {
      expect(verdict(() => undefined, false).findings).toEqual([]);
    });

    test('needs one where it is', () => {
      const [finding] = verdict(() => undefined).findings;
      expect(finding).toMatchObject({
        contract: 'C-MAP-VISIBLE',
        call: 'map',
        kind: 'not-present',
        unit: 0,
        sid: SID,
        domainId: DID,
        iova: 0x1000,
        level: 1,
      });
      expect(Number(finding.store?.before)).toBe(0);
    });

    test.each([
      ['its page', (hand: Hand): void => hand.invPages(DID, 1)],
      ['leaves only', (hand: Hand): void => hand.invPages(DID, 1, 0, true)],
      ['two pages around it', (hand: Hand): void => hand.invPages(DID, 0, 1)],
      ['the domain', (hand: Hand): void => hand.invDomain(DID)],
      ['everything', (hand: Hand): void => hand.invAll()],
    ])('is covered by %s', (_name, send) => {
      const hand = verdict((one) => {
        send(one);
        one.sync();
      });
      expect(hand.findings).toEqual([]);
    });

    test.each([
      ['another page', 'too narrow', (hand: Hand): void => hand.invPages(DID, 2)],
      ['another domain', `other domain, not ${DID}`, (hand: Hand): void => hand.invPages(DID + 1, 1)],
      ['all of another domain', `other domain, not ${DID}`, (hand: Hand): void => hand.invDomain(DID + 1)],
      ['the entry of its device', 'leaves translations', (hand: Hand): void => hand.invDevice(SID, DID)],
    ])('is not covered by %s', (_name, why, send) => {
      const hand = verdict((one) => {
        send(one);
        one.sync();
      });
      expect(hand.verdict).toEqual(['C-MAP-VISIBLE not-present']);
      expect(hand.findings[0].nearest[0]).toContain(why);
    });

    test('is not covered by what nobody waits for', () => {
      const hand = verdict((one) => {
        one.invPages(DID, 1);
        one.wait();
        one.ring();
      });
      expect(hand.verdict).toEqual(['C-MAP-VISIBLE not-present']);
      expect(hand.findings[0].nearest[0]).toContain('not waited for');
    });

    test('is not covered by what comes after the wait', () => {
      const hand = verdict((one) => {
        one.wait();
        one.invPages(DID, 1);
        one.ring();
        one.look();
      });
      expect(hand.verdict).toEqual(['C-MAP-VISIBLE not-present']);
    });

    test('is not covered by what was never sent', () => {
      const hand = verdict((one) => {
        one.invPages(DID, 1);
        one.wait();
        one.look();
      });
      expect(hand.verdict).toEqual(['C-MAP-VISIBLE not-present']);
    });

    test('is not covered by a wait that is not over', () => {
      const hand = verdict((one) => {
        one.hangs = true;
        one.invPages(DID, 1);
        one.sync();
      });
      expect(hand.verdict).toEqual(['C-MAP-VISIBLE not-present']);
    });

    test('is not covered by what was sent before the store', () => {
      const hand = make({ np: true });
      const space = hand.attached(DID);
      hand.map(space, 1, 0x9001, () => {
        hand.invPages(DID, 1);
        hand.wait();
        hand.ring();
        hand.leaf(space.leaves, 1, 0x9001);
        hand.look();
      });
      expect(hand.verdict).toEqual(['C-MAP-VISIBLE not-present']);
      expect(hand.findings[0].nearest[0]).toContain('sent before the store');
    });

    test('that puts a table in needs the copies of table entries gone too', () => {
      for (const leavesOnly of [false, true]) {
        const hand = make({ np: true });
        const space = hand.attached(DID);
        const page = 512;
        const table = hand.table();
        hand.map(space, page, 0x9001, () => {
          hand.link(space.middle, 1, table, 2);
          hand.leaf(table, 0, 0x9001);
          hand.invPages(DID, page, 0, leavesOnly);
          hand.sync();
        });
        expect(hand.verdict).toEqual(leavesOnly ? ['C-MAP-VISIBLE not-present'] : []);
      }
    });

    test('in a table that is put in when it is full is as new as the table', () => {
      for (const nr of [1, 2]) {
        const hand = make({ np: true });
        const space = hand.attached(DID);
        const table = hand.table();
        for (let i = 0; i < 2; i++) hand.leaf(table, i, 0x9000 + i);
        hand.map(
          space,
          512,
          0x9000,
          () => {
            hand.link(space.middle, 1, table, 2);
            hand.invPages(DID, 512, nr - 1);
            hand.sync();
          },
          2,
        );
        expect(hand.verdict).toEqual(nr === 1 ? ['C-MAP-VISIBLE not-present'] : []);
      }
    });

    test('must be what the tables say', () => {
      const wrong: [string, (hand: Hand, table: number) => void][] = [
        ['nothing', (): void => undefined],
        ['another page', (hand, table): void => hand.leaf(table, 1, 0x9002)],
        ['fewer rights', (hand, table): void => hand.leaf(table, 1, 0x9001, 1)],
        ['another entry', (hand, table): void => hand.leaf(table, 2, 0x9001)],
      ];
      for (const [name, write] of wrong) {
        const hand = make();
        const space = hand.attached(DID);
        hand.map(space, 1, 0x9001, () => write(hand, space.leaves));
        expect([name, ...hand.verdict]).toEqual([name, 'C-MAP-VISIBLE wrong-entry']);
      }
    });

    test('with other rights over an old one needs a flush on every unit', () => {
      for (const flushes of [false, true]) {
        const hand = make();
        const space = hand.attached(DID);
        hand.mapped(space, 1, 0x9001);
        hand.map(
          space,
          1,
          0x9001,
          () => {
            hand.leaf(space.leaves, 1, 0x9001, 1);
            if (flushes) hand.invPages(DID, 1);
            hand.sync();
          },
          1,
          1,
        );
        expect(hand.verdict).toEqual(flushes ? [] : ['C-MAP-VISIBLE translation']);
      }
    });

    test('that is taken back leaves a translation', () => {
      for (const flushes of [false, true]) {
        const hand = make();
        const space = hand.attached(DID);
        hand.sanitizer.call('map', () => {
          hand.map(space, 1, 0x9001, () => hand.leaf(space.leaves, 1, 0x9001));
          hand.unmap(space, 1, () => {
            hand.clear(space.leaves, 1);
            if (flushes) hand.invPages(DID, 1);
            hand.sync();
          });
        });
        expect(hand.verdict).toEqual(flushes ? [] : ['C-ROLLBACK translation']);
      }
    });

    test('of a GiB is judged by its leaf', () => {
      const nr = 2 ** 18;
      for (const pfn of [0x80000, 0x40000]) {
        const hand = make();
        const space = hand.attached(DID);
        hand.map(space, nr, 0x80000, () => hand.big(space.root, 1, pfn), nr);
        expect(hand.sanitizer.counts.pages).toBe(nr);
        expect(hand.verdict).toEqual(pfn === 0x80000 ? [] : ['C-MAP-VISIBLE wrong-entry']);
      }
    });

    test('that fails must leave nothing', () => {
      for (const leaves of [false, true]) {
        const hand = make();
        const space = hand.attached(DID);
        hand.map(space, 1, 0x9001, () => {
          if (leaves) hand.leaf(space.leaves, 1, 0x9001);
          return -12;
        });
        expect(hand.verdict).toEqual(leaves ? ['C-ROLLBACK wrong-entry'] : []);
      }
    });
  });

  describe('an unmap', () => {
    function verdict(flush: (hand: Hand) => void): Hand {
      const hand = make();
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      hand.unmap(space, 1, () => {
        hand.clear(space.leaves, 1);
        flush(hand);
      });
      return hand;
    }

    test('needs a flush', () => {
      const [finding] = verdict(() => undefined).findings;
      expect(finding).toMatchObject({ contract: 'C-UNMAP-GONE', kind: 'translation', iova: 0x1000, level: 1 });
      expect(finding.stale).toContain('0x9001000');
      expect(finding.missing).toContain(`domain ${DID}`);
    });

    test.each([
      ['its page, leaves only', (hand: Hand): void => hand.invPages(DID, 1, 0, true)],
      ['four pages around it', (hand: Hand): void => hand.invPages(DID, 0, 2)],
      ['the domain', (hand: Hand): void => hand.invDomain(DID)],
      ['everything', (hand: Hand): void => hand.invAll()],
    ])('is covered by %s', (_name, send) => {
      const hand = verdict((one) => {
        send(one);
        one.sync();
      });
      expect(hand.findings).toEqual([]);
      expect(hand.sanitizer.counts.staleNow).toBe(0);
    });

    test.each([
      ['the page beside it', (hand: Hand): void => hand.invPages(DID, 0)],
      ['another domain', (hand: Hand): void => hand.invDomain(DID + 1)],
      ['nothing but a wait', (): void => undefined],
    ])('is not covered by %s', (_name, send) => {
      const hand = verdict((one) => {
        send(one);
        one.sync();
      });
      expect(hand.verdict).toEqual(['C-UNMAP-GONE translation']);
    });

    test('is not covered by what was sent before the store', () => {
      const hand = make();
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      hand.unmap(space, 1, () => {
        hand.invPages(DID, 1);
        hand.wait();
        hand.ring();
        hand.clear(space.leaves, 1);
        hand.look();
      });
      expect(hand.verdict).toEqual(['C-UNMAP-GONE translation']);
      expect(hand.findings[0].nearest[0]).toContain('sent before the store');
    });

    test('without its flush: the finding says which store, what is missing, and what came nearest', () => {
      const hand = make();
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      const paddr = space.leaves * 4096 + 8;
      const before = BigInt.asUintN(64, (BigInt(hand.mem.load32(paddr + 4)) << 32n) + BigInt(hand.mem.load32(paddr)));
      hand.unmap(space, 1, () => {
        hand.clear(space.leaves, 1);
        hand.invPages(DID + 1, 1);
        hand.sync();
      });
      const [finding] = hand.findings;
      expect(finding).toMatchObject({ call: 'unmap', domainId: DID, iova: 0x1000, sid: SID });
      expect(finding.store).toMatchObject({ paddr, before: `0x${before.toString(16)}`, after: '0x0' });
      expect(finding.missing).toContain(`domain ${DID} that covers 0x1000+0x1000`);
      expect(finding.nearest[0]).toBe(`pages 0x1000+0x1000 of domain ${DID + 1}: other domain, not ${DID}`);
    });

    test('must take the entry away', () => {
      const hand = make();
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      hand.unmap(space, 1, () => {
        hand.invDomain(DID);
        hand.sync();
      });
      expect(hand.verdict).toEqual(['C-UNMAP-GONE wrong-entry']);
    });

    test('of a large leaf is not covered by a flush of a part', () => {
      for (const lg2 of [8, 9]) {
        const hand = make();
        const space = hand.attached(DID);
        hand.map(space, 512, 0x80000, () => hand.big(space.middle, 1, 0x80000), 512);
        hand.unmap(
          space,
          512,
          () => {
            hand.clear(space.middle, 1);
            hand.invPages(DID, 512, lg2, true);
            hand.sync();
          },
          512,
        );
        expect(hand.verdict).toEqual(lg2 === 9 ? [] : ['C-UNMAP-GONE translation']);
        if (lg2 === 8) expect(hand.findings[0].iova).toBe((512 + 256) * 4096);
      }
    });

    test('of the last page of a table needs copies of the entry above gone too', () => {
      for (const leavesOnly of [false, true]) {
        const hand = make();
        const space = hand.attached(DID);
        hand.mapped(space, 1, 0x9001);
        hand.unmap(space, 1, () => {
          hand.clear(space.middle, 0);
          // What is in the table may be reached by the stale copy.
          hand.invPages(DID, 1, 0, leavesOnly);
          hand.sync();
        });
        expect(hand.verdict).toEqual(leavesOnly ? ['C-UNMAP-GONE table'] : []);
      }
    });
  });

  describe('a table', () => {
    /** Takes the table of leaves out, flushes as told, frees it. */
    function verdict(body: (hand: Hand, free: () => void) => void): Hand {
      const hand = make();
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      hand.unmap(space, 1, () => {
        hand.clear(space.leaves, 1);
        hand.clear(space.middle, 0);
        body(hand, () => hand.pages.free(space.leaves));
      });
      return hand;
    }

    test('may be freed after a flush that takes the copies of the entry that led to it', () => {
      const hand = verdict((one, free) => {
        one.invPages(DID, 1);
        one.sync();
        free();
      });
      expect(hand.findings).toEqual([]);
    });

    test.each([
      [
        'a flush of leaves only',
        (hand: Hand, free: () => void): void => {
          hand.invPages(DID, 1, 0, true);
          hand.sync();
          free();
        },
      ],
      [
        'a flush elsewhere',
        (hand: Hand, free: () => void): void => {
          hand.invPages(DID, 1, 0, true);
          hand.invPages(DID, 600);
          hand.sync();
          free();
        },
      ],
      [
        'a flush that is not over',
        (hand: Hand, free: () => void): void => {
          hand.invPages(DID, 1);
          hand.wait();
          hand.ring();
          free();
          hand.look();
        },
      ],
    ])('may not be freed after %s', (_name, body) => {
      const hand = verdict(body);
      expect(hand.verdict[0]).toBe('C-TABLE-LIVE table');
      expect(hand.findings[0]).toMatchObject({ level: 2, domainId: DID, iova: 0, nrBytes: 0x200000 });
    });

    test('may not be freed while an entry leads to it', () => {
      const hand = make();
      const space = hand.attached(DID);
      hand.pages.free(space.leaves);
      expect(hand.verdict[0]).toBe('C-TABLE-LIVE table');
    });

    test('that was freed rightly may be used for anything', () => {
      const hand = verdict((one, free) => {
        one.invPages(DID, 1);
        one.sync();
        free();
      });
      const again = hand.table();
      hand.mem.store64(again * 4096, 0x12345003, 0);
      expect(hand.findings).toEqual([]);
      expect(hand.sanitizer.counts.staleNow).toBe(0);
    });

    test('below another one goes with it', () => {
      for (const leavesOnly of [false, true]) {
        const hand = make();
        const space = hand.attached(DID);
        hand.mapped(space, 1, 0x9001);
        hand.unmap(space, 1, () => {
          hand.clear(space.root, 0);
          hand.invPages(DID, 1, 0, leavesOnly);
          hand.sync();
          hand.pages.free(space.leaves);
        });
        expect(hand.verdict.includes('C-TABLE-LIVE table')).toBe(leavesOnly);
      }
    });

    test('that gives way to another one leaves its translations, and its holes where those are cached', () => {
      for (const flushes of [false, true]) {
        const hand = make({ np: true });
        const space = hand.attached(DID);
        hand.mapped(space, 1, 0x9001);
        const other = hand.table();
        hand.leaf(other, 1, 0x9001);
        hand.leaf(other, 3, 0x9003);
        hand.map(space, 3, 0x9003, () => {
          hand.link(space.middle, 0, other, 2);
          // Page 1 is the same in both; page 3 was nothing in the first.
          hand.invPages(DID, flushes ? 3 : 1);
          hand.sync();
        });
        expect(hand.verdict).toEqual(flushes ? [] : ['C-MAP-VISIBLE not-present']);
      }
    });
  });

  describe('a large leaf', () => {
    test('in the place of an empty table needs the copies of the entry gone', () => {
      for (const leavesOnly of [false, true]) {
        const hand = make();
        const space = hand.attached(DID);
        hand.map(
          space,
          0,
          0x80000,
          () => {
            hand.big(space.middle, 0, 0x80000);
            hand.invPages(DID, 0, 9, leavesOnly);
            hand.sync();
          },
          512,
        );
        expect(hand.verdict).toEqual(leavesOnly ? ['C-MAP-VISIBLE table'] : []);
      }
    });

    test('that is split into the same pages needs no flush', () => {
      const hand = make();
      const space = hand.attached(DID);
      hand.map(space, 512, 0x80000, () => hand.big(space.middle, 1, 0x80000), 512);
      const table = hand.table();
      for (let i = 0; i < 512; i++) hand.leaf(table, i, 0x80000 + i);
      hand.map(space, 512, 0x80000, () => hand.link(space.middle, 1, table, 2), 512);
      expect(hand.findings).toEqual([]);
    });
  });

  describe('a lazy unmap', () => {
    const late = (hand: Hand): ReturnType<Hand['attached']> => {
      const space = hand.attached(DID);
      hand.mapped(space, 1, 0x9001);
      hand.unmapLater(space, 1, () => hand.clear(space.leaves, 1));
      return space;
    };

    test('is not due at its return', () => {
      const hand = make();
      late(hand);
      expect(hand.findings).toEqual([]);
      expect(hand.sanitizer.counts.staleNow).toBe(1);
    });

    test('is due before the page is mapped again', () => {
      for (const flushes of [false, true]) {
        const hand = make();
        const space = late(hand);
        if (flushes) {
          hand.flushAll(space, () => {
            hand.invDomain(DID);
            hand.sync();
          });
        }
        hand.map(space, 1, 0x9002, () => hand.leaf(space.leaves, 1, 0x9002));
        expect(hand.verdict).toEqual(flushes ? [] : ['C-LAZY-BOUND translation']);
      }
    });

    test.each([
      { did: DID, looks: true, expected: [] },
      { did: DID, looks: false, expected: ['C-LAZY-BOUND translation'] },
      { did: DID + 1, looks: true, expected: ['C-LAZY-BOUND translation'] },
    ])('is due when its domain was flushed: $did, seen $looks', ({ did, looks, expected }) => {
      const hand = make();
      const space = late(hand);
      hand.flushAll(space, () => {
        hand.invDomain(did);
        hand.wait();
        hand.ring();
        if (looks) hand.look();
      });
      expect(hand.verdict).toEqual(expected);
    });

    test.each([19e6, 21e6])('is due when the period is over: %d ns later', (ns) => {
      const hand = make();
      const space = late(hand);
      hand.nowNs += ns;
      hand.mapped(space, 7, 0x9007);
      expect(hand.verdict).toEqual(ns > 20e6 ? ['C-LAZY-BOUND translation'] : []);
    });

    test('is due when the period is over, whatever else is stale', () => {
      const hand = make();
      const space = hand.attached(DID);
      // A change of rights that nobody promised anything about: stale for good, and older.
      hand.leaf(space.leaves, 9, 0x9009);
      hand.leaf(space.leaves, 9, 0x9009, 1);
      hand.mapped(space, 1, 0x9001);
      hand.unmapLater(space, 1, () => hand.clear(space.leaves, 1));
      hand.nowNs += 21e6;
      hand.mapped(space, 7, 0x9007);
      expect(hand.verdict).toEqual(['C-LAZY-BOUND translation']);
    });
  });

  test(`${kind}: software's bits of an entry make nothing stale`, () => {
    const hand = make({ np: true });
    const space = hand.attached(DID);
    hand.mapped(space, 1, 0x9001);
    const at = space.leaves * 4096 + 8;
    const [lo, hi] = [hand.mem.load32(at), hand.mem.load32(at + 4)];
    // VT-d: bit 10 of second-stage entries is ignored (9.8). AMD-Vi: 2:1 and 8 of host entries are (2.2.3).
    hand.mem.store64(at, lo | (kind === 'vtd' ? 1 << 10 : 6), hi);
    expect(hand.sanitizer.counts.staleNow).toBe(0);
  });
});
