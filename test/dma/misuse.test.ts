/**
 * Wrong use of the DMA API: every argument that is a number, in every call, gets every number that it must not be. The call
 * says EINVAL (or has no buffer to give) and nothing changes: no page, IOVA, bounce slot, frame or cache line.
 */
import { describe, expect, test } from 'vitest';
import { EINVAL, EIO, ENOMEM, PAGE_SIZE as K4 } from '../../src/base/index.ts';
import type { DmaDeviceOptions } from '../../src/dma/index.ts';
import { DMA_ATTR_FORCE_CONTIGUOUS, DmaDevice, MsiCookie, Scatterlist } from '../../src/dma/index.ts';
import { DmaBench } from './dma-bench.ts';

/** No addresses: negative, fractions, not exact, none at all, beyond any memory. */
const NO_ADDRESS = [-1, -K4, 0.5, K4 + 0.25, NaN, Infinity, -Infinity, 2 ** 52, 2 ** 53, 2 ** 53 + 2, 2 ** 64];
const NO_SIZE = [0, ...NO_ADDRESS];
const IN_USE = 0x2000_0000;

const DEVICES: [string, DmaDeviceOptions][] = [
  ['plain', {}],
  ['not snooping', { coherent: false }],
  ['untrusted', { untrusted: true }],
];

describe.each(DEVICES)('%s device', (_name, options) => {
  /** A bench with a mapping of each kind. */
  function setup() {
    const bench = new DmaBench(options);
    const { dma } = bench;
    const page = dma.mapPage(IN_USE, K4, 'bidirectional');
    const list = Scatterlist.of([[IN_USE + 0x10000, 2 * K4]]);
    dma.mapSg(list, 'toDevice');
    const state = dma.iovaTryAlloc(0, 4 * K4)!;
    expect([page > 0, list.dmaBytes[0], state.link(IN_USE + 0x20000, 0, K4, 'toDevice')]).toEqual([true, 2 * K4, 0]);
    const buffer = dma.alloc(K4)!;
    const now = (): unknown => [bench.state, dma.nrLines, [...bench.driver.pages], bench.space.iovas.nrRanges];
    const { core, domain } = bench;
    return { core, domain, dma, page, list, state, buffer, now };
  }
  type Setup = ReturnType<typeof setup>;

  const CALLS: [string, readonly number[], (at: Setup, bad: number) => unknown, unknown][] = [
    ['mapPage: address', NO_ADDRESS, ({ dma }, bad) => dma.mapPage(bad, K4, 'toDevice'), EINVAL],
    ['mapPage: size', NO_SIZE, ({ dma }, bad) => dma.mapPage(0x5000, bad, 'toDevice'), EINVAL],
    ['mapResource: address', NO_ADDRESS, ({ dma }, bad) => dma.mapResource(bad, K4, 'toDevice'), EINVAL],
    ['mapResource: size', NO_SIZE, ({ dma }, bad) => dma.mapResource(0x5000, bad, 'toDevice'), EINVAL],
    ['unmapPage: address', NO_ADDRESS, ({ dma }, bad) => dma.unmapPage(bad, K4, 'toDevice'), EINVAL],
    [
      'unmapPage: address near',
      [0.5, 0.001],
      ({ dma, page }, bad) => dma.unmapPage(page + bad, K4, 'toDevice'),
      EINVAL,
    ],
    ['unmapPage: size', NO_SIZE, ({ dma, page }, bad) => dma.unmapPage(page, bad, 'toDevice'), EINVAL],
    [
      'unmapPage: size over the end',
      [2 ** 48, 2 ** 51],
      ({ dma, page }, bad) => dma.unmapPage(page, bad, 'toDevice'),
      EINVAL,
    ],
    ['unmapResource: address', NO_ADDRESS, ({ dma }, bad) => dma.unmapResource(bad, K4), EINVAL],
    ['unmapResource: size', NO_SIZE, ({ dma, page }, bad) => dma.unmapResource(page, bad), EINVAL],
    ['unmapSg: elements', [0, 2, ...NO_ADDRESS], ({ dma, list }, bad) => dma.unmapSg(list, bad, 'toDevice'), EINVAL],
    ['iovaTryAlloc: address', NO_ADDRESS, ({ dma }, bad) => dma.iovaTryAlloc(bad, K4), null],
    ['iovaTryAlloc: size', NO_SIZE, ({ dma }, bad) => dma.iovaTryAlloc(0, bad), null],
    ['link: address', NO_ADDRESS, ({ state }, bad) => state.link(bad, K4, K4, 'toDevice'), EINVAL],
    ['link: offset', NO_ADDRESS, ({ state }, bad) => state.link(0x5000, bad, K4, 'toDevice'), EINVAL],
    ['link: size', NO_SIZE, ({ state }, bad) => state.link(0x5000, K4, bad, 'toDevice'), EINVAL],
    ['sync: offset', NO_ADDRESS, ({ state }, bad) => state.sync(bad, K4), EINVAL],
    ['sync: size', NO_SIZE, ({ state }, bad) => state.sync(0, bad), EINVAL],
    ['unlink: offset', NO_ADDRESS, ({ state }, bad) => state.unlink(bad, K4, 'toDevice'), EINVAL],
    ['unlink: size', NO_SIZE, ({ state }, bad) => state.unlink(0, bad, 'toDevice'), EINVAL],
    ['destroy: size', NO_ADDRESS, ({ state }, bad) => state.destroy(bad, 'toDevice'), EINVAL],
    ['alloc: size', NO_SIZE, ({ dma }, bad) => dma.alloc(bad), null],
    ['alloc contiguous: size', NO_SIZE, ({ dma }, bad) => dma.alloc(bad, DMA_ATTR_FORCE_CONTIGUOUS), null],
    ['msiDoorbell', NO_ADDRESS, ({ dma }, bad) => dma.msiDoorbell(bad), EINVAL],
    [
      'MsiCookie',
      NO_ADDRESS,
      ({ core, domain }, bad) => new MsiCookie(core, domain, 0x8000_0000).doorbell(bad),
      EINVAL,
    ],
  ];
  // Devices that snoop and are trusted have nothing to sync, whatever the address: Linux returns before it looks.
  if (options.coherent === false || options.untrusted === true) {
    CALLS.push(
      ['syncForCpu: address', NO_ADDRESS, ({ dma }, bad) => dma.syncForCpu(bad, K4, 'fromDevice'), EINVAL],
      ['syncForCpu: size', NO_SIZE, ({ dma, page }, bad) => dma.syncForCpu(page, bad, 'fromDevice'), EINVAL],
      ['syncForDevice: address', NO_ADDRESS, ({ dma }, bad) => dma.syncForDevice(bad, K4, 'toDevice'), EINVAL],
      ['syncForDevice: size', NO_SIZE, ({ dma, page }, bad) => dma.syncForDevice(page, bad, 'toDevice'), EINVAL],
    );
  }

  test.each(CALLS)('%s', (_call, bads, call, expected) => {
    for (const bad of bads) {
      const at = setup();
      const before = at.now();
      expect(call(at, bad), String(bad)).toBe(expected);
      expect(at.now(), String(bad)).toEqual(before);
    }
  });

  test('elements of a list', () => {
    for (const bad of NO_ADDRESS) {
      const at = setup();
      const before = at.now();
      const list = Scatterlist.of([
        [0x5000, K4],
        [bad, K4],
      ]);
      expect(at.dma.mapSg(list, 'toDevice')).toBe(EINVAL);
      expect([at.now(), [...list.dmaBytes]]).toEqual([before, [0, 0]]);
    }
    for (const bad of NO_SIZE) {
      const at = setup();
      const before = at.now();
      const list = Scatterlist.of([[0x5000, K4]]);
      list.nrBytes[0] = bad;
      expect(at.dma.mapSg(list, 'toDevice'), String(bad)).toBe(EINVAL);
      expect([at.now(), [...list.dmaBytes]]).toEqual([before, [0]]);
    }
    const at = setup();
    const before = at.now();
    expect(at.dma.mapSg(new Scatterlist(2), 'toDevice')).toBe(EINVAL);
    expect(at.now()).toEqual(before);
  });

  test('everything twice, and after its end', () => {
    const { dma, page, list, state, buffer, now } = setup();
    const second = dma.iovaTryAlloc(0, K4)!;
    const ends: (() => number)[] = [
      () => dma.unmapPage(page, K4, 'bidirectional'),
      () => dma.unmapSg(list, 1, 'toDevice'),
      () => state.destroy(K4, 'toDevice'),
      () => second.free(),
      () => dma.free(buffer),
    ];
    for (const end of ends) {
      expect(end()).toBe(0);
      const before = now();
      expect(end()).toBe(EINVAL);
      expect(now()).toEqual(before);
    }
    const before = now();
    expect([
      state.link(0x5000, 0, K4, 'toDevice'),
      state.sync(0, K4),
      state.unlink(0, K4, 'toDevice'),
      state.free(),
      second.destroy(K4, 'toDevice'),
    ]).toEqual([EINVAL, EINVAL, EINVAL, EINVAL, EINVAL]);
    expect(now()).toEqual(before);
  });
});

describe('limits of a device', () => {
  test('no address fits its mask: ENOMEM, nothing changes', () => {
    const bench = new DmaBench({ limits: { dmaMask: 2 * K4 - 1 } });
    expect(bench.dma.mapPage(0x5000, K4, 'toDevice')).toBe(K4);
    const before = bench.state;
    expect(bench.dma.mapPage(0x6000, K4, 'toDevice')).toBe(ENOMEM);
    expect(bench.dma.mapPage(0x6000, 2 * K4, 'toDevice')).toBe(ENOMEM);
    expect(bench.dma.mapResource(0x6000, K4, 'toDevice')).toBe(ENOMEM);
    expect(bench.dma.mapSg(Scatterlist.of([[0x6000, K4]]), 'toDevice')).toBe(ENOMEM);
    expect([bench.dma.iovaTryAlloc(0, K4), bench.dma.alloc(K4), bench.dma.msiDoorbell(0x9000_0000)]).toEqual([
      null,
      null,
      ENOMEM,
    ]);
    expect(bench.state).toEqual(before);
  });

  test('page 0 is no address: a mask of one page has none', () => {
    const bench = new DmaBench({ limits: { dmaMask: K4 - 1 } });
    expect(bench.dma.mapPage(0x5000, K4, 'toDevice')).toBe(ENOMEM);
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });

  test.each([-1, NaN, -Infinity])('a mask of %d throws', (dmaMask) => {
    const bench = new DmaBench();
    expect(() => new DmaDevice(bench.space, { limits: { dmaMask } })).toThrow(RangeError);
  });

  test('more than a bounce buffer holds', () => {
    const bench = new DmaBench({ untrusted: true });
    const most = bench.dma.maxMappingBytes;
    expect(bench.dma.mapPage(0x5001, most + 1, 'toDevice')).toBeLessThan(0);
    expect(bench.dma.mapSg(Scatterlist.of([[0x5001, most + 1]]), 'toDevice')).toBe(EIO);
    expect(bench.state).toEqual([0, 0, 0, 0]);
  });
});
