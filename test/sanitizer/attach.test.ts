/** What an attach and a detach owe: entries of devices, tables under an id that was used before, every unit of a domain. */
import { describe, expect, test } from 'vitest';
import { KINDS } from './hands.ts';

const DID = 5;
const SID = 8;

describe.each(KINDS)('%s', (_kind, make) => {
  describe('an attach', () => {
    test('must have made the device use some tables', () => {
      const hand = make();
      hand.attach(hand.space(DID), SID, () => hand.sync());
      expect(hand.verdict).toEqual(['C-ATTACH wrong-entry']);
    });

    test('that failed promises nothing', () => {
      const hand = make();
      hand.attach(hand.space(DID), SID, () => -12);
      expect(hand.findings).toEqual([]);
    });

    test.each(['the tables of the domain', 'those it had'])('must have made the device use %s', (what) => {
      const hand = make();
      hand.attached(DID);
      const second = hand.space(DID + 1);
      hand.attach(second, SID, () => {
        if (what !== 'those it had') hand.point(SID, second);
        hand.invDevice(SID, DID);
        hand.sync();
      });
      expect(hand.verdict).toEqual(what === 'those it had' ? ['C-ATTACH wrong-entry'] : []);
    });

    test('to another domain needs the entry of the device gone', () => {
      for (const sid of [SID, SID + 1]) {
        const hand = make();
        hand.attached(DID);
        const second = hand.space(DID + 1);
        hand.attach(second, SID, () => {
          hand.point(SID, second);
          hand.invDevice(sid, DID);
          hand.sync();
          hand.invDomain(DID);
          hand.sync();
        });
        expect(hand.verdict).toEqual(sid === SID ? [] : ['C-ATTACH context']);
      }
    });

    test('under a domain id that other tables were used with needs the domain flushed', () => {
      for (const flushes of [false, true]) {
        const hand = make();
        const first = hand.attached(DID);
        hand.mapped(first, 1, 0x9001);
        const second = hand.space(DID);
        hand.attach(second, SID, () => {
          hand.point(SID, second);
          hand.invDevice(SID, DID);
          hand.sync();
          if (flushes) hand.invDomain(DID);
          hand.sync();
        });
        expect(hand.verdict).toEqual(flushes ? [] : ['C-ATTACH translation']);
      }
    });

    test('under a domain id whose other tables were empty needs nothing where "not present" is not cached', () => {
      const hand = make();
      hand.attached(DID);
      const second = hand.space(DID);
      hand.attach(second, SID, () => {
        hand.point(SID, second);
        hand.invDevice(SID, DID);
        hand.sync();
      });
      // Not `mapped`: that would flush.
      hand.map(second, 1, 0x9001, () => hand.leaf(second.leaves, 1, 0x9001));
      expect(hand.findings).toEqual([]);
    });

    test('to tables with mappings, under a used id, needs the holes of the old ones gone where those are cached', () => {
      for (const flushes of [false, true]) {
        const hand = make({ np: true });
        hand.attached(DID);
        const second = hand.space(DID);
        hand.leaf(second.leaves, 1, 0x9001);
        hand.attach(second, SID, () => {
          hand.point(SID, second);
          hand.invDevice(SID, DID);
          hand.invDevice(SID, 0);
          hand.sync();
          if (flushes) hand.invDomain(DID);
          hand.sync();
        });
        expect(hand.verdict.length > 0).toBe(!flushes);
      }
    });

    test('back to what the device had is right whatever is left of it', () => {
      const hand = make();
      const first = hand.attached(DID);
      const second = hand.space(DID + 1);
      hand.attach(first, SID, () => {
        hand.point(SID, second);
        hand.point(SID, first);
        hand.invDevice(SID, DID + 1);
        hand.sync();
      });
      // AMD-Vi drops all copies of the entry, VT-d those of the domain that is named: the old value, which is the new one, stays.
      expect(hand.findings).toEqual([]);
    });
  });

  describe('a detach', () => {
    test.each(['all', 'no store', 'no flush'])('%s', (what) => {
      const hand = make();
      const space = hand.attached(DID);
      hand.detach(space, SID, () => {
        if (what !== 'no store') hand.point(SID, null);
        if (what !== 'no flush') hand.invDevice(SID, DID);
        hand.sync();
      });
      const expected = { all: [], 'no store': ['C-ATTACH wrong-entry'], 'no flush': ['C-ATTACH context'] }[what];
      expect(hand.verdict).toEqual(expected);
    });
  });

  test('every unit needs the flush', () => {
    for (const both of [false, true]) {
      const hand = make({ nrUnits: 2 });
      const space = hand.attached(DID);
      hand.attach(space, SID + 1, () => {
        hand.point(SID + 1, space, 1);
        hand.invDevice(SID + 1, 0, 1);
        hand.sync(1);
      });
      hand.mapped(space, 1, 0x9001);
      hand.unmap(space, 1, () => {
        hand.clear(space.leaves, 1);
        hand.invPages(DID, 1);
        hand.sync();
        if (!both) return;
        hand.invPages(DID, 1, 0, false, 1);
        hand.sync(1);
      });
      expect(hand.verdict).toEqual(both ? [] : ['C-UNMAP-GONE translation']);
      if (!both) expect(hand.findings[0]).toMatchObject({ unit: 1, sid: SID + 1 });
    }
  });
});
