/**
 * Devices with TLBs of their own: what a driver must send them, and in which order. VT-d rev. 4.1 sections 6.5.2.5 and 9.3, AMD
 * 48882 sections 2.2.2 and 2.4.4, PCIe ATS section 10.3.1 for the size of an invalidation.
 */
import { describe, expect, test } from 'vitest';
import type { Hand, HandOptions, Space } from './hand.ts';
import { KINDS } from './hands.ts';

const DID = 5;
const SID = 8;
/** Pages 5 and 6 are mapped. 4 and 5 are a block of two, 4 to 7 one of four. */
const FIRST = 5;
const PFN = 0x80000;
const ALL = 52;
const ONE = ['C-UNMAP-GONE device-tlb'];

type Send = (hand: Hand) => void;
const page: Send = (hand) => hand.invPages(DID, FIRST);
const device =
  (first: number, lg2 = 0, sid = SID): Send =>
  (hand) =>
    hand.invDeviceTlb(sid, first, lg2);
const all: Send = (hand) => hand.invDeviceTlb(SID, 0, ALL);

describe.each(KINDS)('%s', (_kind, make) => {
  /** A device whose domain has two pages mapped, everything flushed. */
  function mapped(hasAts = true, options: HandOptions = {}): { hand: Hand; space: Space } {
    const hand = make(options);
    hand.hasAts = hasAts;
    const space = hand.attached(DID);
    for (let i = 0; i < 2; i++) hand.mapped(space, FIRST + i, PFN + i);
    expect(hand.findings).toEqual([]);
    return { hand, space };
  }

  /** Unmaps pages and sends what is said, with one wait behind all. */
  function unmap({ hand, space }: ReturnType<typeof mapped>, nr: number, sends: readonly Send[]): string[] {
    hand.unmap(
      space,
      FIRST,
      () => {
        for (let i = 0; i < nr; i++) hand.clear(space.leaves, FIRST + i);
        for (const send of sends) send(hand);
        hand.sync();
      },
      nr,
    );
    return hand.verdict;
  }

  describe('an unmap', () => {
    test.each<[string, Send[], string[]]>([
      ['nothing', [page], ONE],
      ['the page', [page, device(FIRST)], []],
      ['the page, before the unit has lost it', [device(FIRST), page], ONE],
      ['the page, before and after', [device(FIRST), page, device(FIRST)], []],
      ['the neighbour', [page, device(FIRST + 1)], ONE],
      ['another device', [page, device(FIRST, 0, SID + 1)], ONE],
      ['everything', [page, all], []],
      ['the page, after all of the domain', [(hand): void => hand.invDomain(DID), device(FIRST)], []],
      ['nothing, after everything in the unit', [(hand): void => hand.invAll()], ONE],
    ])('tells the device to drop %s', (_name, sends, found) => {
      expect(unmap(mapped(), 1, sends)).toEqual(found);
    });

    test('tells a device without ATS nothing', () => {
      expect(unmap(mapped(false), 1, [page])).toEqual([]);
    });

    test.each<[string, Send, string[]]>([
      ['the first page', device(FIRST), ONE],
      ['two pages from an even one on', device(FIRST, 1), ONE],
      ['four pages', device(FIRST, 2), []],
    ])('of two pages tells it to drop %s', (_name, send, found) => {
      expect(unmap(mapped(), 2, [(hand): void => hand.invPages(DID, 4, 2), send])).toEqual(found);
    });

    test('whose copies of table entries go last: the device may come by them again', () => {
      for (const behind of [false, true]) {
        const { hand, space } = mapped();
        hand.unmap(
          space,
          FIRST,
          () => {
            hand.clear(space.middle, 0);
            hand.invPages(DID, 4, 2, true);
            all(hand);
            hand.invPages(DID, 4, 2);
            if (behind) all(hand);
            hand.sync();
          },
          2,
        );
        expect(hand.verdict).toEqual(behind ? [] : ONE);
      }
    });

    test('is waited for', () => {
      const { hand, space } = mapped();
      hand.unmap(space, FIRST, () => {
        hand.clear(space.leaves, FIRST);
        page(hand);
        hand.sync();
        device(FIRST)(hand);
        hand.ring();
      });
      expect(hand.verdict).toEqual(ONE);
      expect(hand.findings[0].nearest[0]).toContain('not waited for');
    });

    test('says what is missing', () => {
      const one = mapped();
      unmap(one, 1, [device(FIRST), page]);
      const [finding] = one.hand.findings;
      expect(finding).toMatchObject({ sid: SID, domainId: DID, iova: FIRST * 4096, nrBytes: 4096, level: 1 });
      expect(finding.stale).toContain(`the TLB of device 0x${SID.toString(16)}`);
      expect(finding.store).toMatchObject({ paddr: one.space.leaves * 4096 + FIRST * 8 });
      expect(finding.nearest[1]).toContain('sent before the unit had lost it');
    });
  });

  describe('a map', () => {
    test('needs nothing: a device keeps no answer that it has no translation', () => {
      expect(mapped(true, { np: true }).hand.findings).toEqual([]);
    });

    test('in the place of another page needs what an unmap needs', () => {
      for (const flushed of [false, true]) {
        const { hand, space } = mapped();
        hand.map(space, FIRST, PFN + 8, () => {
          hand.leaf(space.leaves, FIRST, PFN + 8);
          page(hand);
          if (flushed) device(FIRST)(hand);
          hand.sync();
        });
        expect(hand.verdict).toEqual(flushed ? [] : ['C-MAP-VISIBLE device-tlb']);
      }
    });
  });

  test('an unmap that is left to a flush queue, and its flush', () => {
    for (const both of [false, true]) {
      const { hand, space } = mapped();
      hand.unmapLater(space, FIRST, () => hand.clear(space.leaves, FIRST));
      hand.flushAll(space, () => {
        hand.invDomain(DID);
        if (both) all(hand);
        hand.sync();
      });
      expect(hand.verdict).toEqual(both ? [] : ['C-LAZY-BOUND device-tlb']);
    }
  });

  describe('an entry of the device that changes', () => {
    const entry: Send = (hand) => hand.invDevice(SID, DID);
    const domain: Send = (hand) => hand.invDomain(DID);
    const LEFT = ['C-ATTACH device-tlb'];
    test.each<[string, Send[], string[]]>([
      ['nothing', [entry, domain], LEFT],
      ['everything', [entry, domain, all], []],
      ['everything, while the unit may still know the old entry', [all, entry, domain], LEFT],
      ['a page', [entry, domain, device(FIRST)], LEFT],
      ['everything of another device', [entry, domain, device(0, ALL, SID + 1)], LEFT],
    ])('tells the device to drop %s', (_name, sends, found) => {
      const { hand, space } = mapped();
      hand.detach(space, SID, () => {
        hand.point(SID, null);
        for (const send of sends) send(hand);
        hand.sync();
      });
      expect(hand.verdict).toEqual(found);
    });

    test('lets a device have ATS: it holds nothing yet', () => {
      const { hand, space } = mapped(false);
      hand.hasAts = true;
      hand.attach(space, SID, () => {
        hand.point(SID, space);
        entry(hand);
        hand.sync();
      });
      expect(hand.verdict).toEqual([]);
    });
  });
});
