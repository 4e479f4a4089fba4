/**
 * The scenarios of Linux 6.12 tools/testing/selftests/iommu/iommufd_fail_nth.c, written anew: whatever can fail (a pin, a map, an
 * attach, a domain) fails once, at its first, second, ... use. Afterwards the same steps must work, and nothing may be left.
 */
import { describe, expect, test } from 'vitest';
import { IOAS_MAP_FIXED_IOVA, IOAS_MAP_READABLE, IOAS_MAP_WRITEABLE } from '../../src/vfio/index.ts';
import type { Fixture } from './iommufd-lab.ts';
import { BUFFER, BUFFER_SIZE, fixture, frames } from './iommufd-lab.ts';
import { KiB4, MOCK_START, newDevice } from './world.ts';

const BIG = 2 ** 41;
const BIG_SIZE = 64 * KiB4;

/** One step; a negative number is a failure and ends the scenario. */
type Step = (at: Fixture) => number;

const attach =
  (kind = ''): Step =>
  (at) => {
    const device = newDevice();
    at.mock.kinds.set(device, kind);
    const one = at.stdev(at.ioas, device);
    return typeof one === 'number' ? one : 0;
  };
const detach: Step = (at) => {
  at.stdevs[0].destroy();
  return 0;
};
const map: Step = (at) => at.map(BIG, BIG_SIZE, MOCK_START);
const unmap: Step = (at) => at.unmap(MOCK_START, BIG_SIZE);
const copy: Step = (at) =>
  at.fd.ioasCopy(at.ioas, {
    source: at.ioas,
    sourceIova: MOCK_START + KiB4,
    nrBytes: 40 * KiB4,
    flags: IOAS_MAP_READABLE | IOAS_MAP_WRITEABLE | IOAS_MAP_FIXED_IOVA,
    iova: MOCK_START + 2 * BIG_SIZE,
  });
const rw =
  (write: boolean, slow: boolean, nrBytes: number): Step =>
  (at) => {
    const access = at.access();
    return access.attach(at.ioas) || access.rw(MOCK_START, new Uint8Array(nrBytes), { write, slow });
  };
const pin: Step = (at) => {
  const access = at.access(true);
  const errno = access.attach(at.ioas) || access.pinPages(MOCK_START, BUFFER_SIZE, new Float64Array(16));
  if (errno === 0) access.unpinPages(MOCK_START, BUFFER_SIZE);
  return errno;
};
const replace: Step = (at) => {
  const other = at.fd.ioasAlloc();
  return at.map(BUFFER, BUFFER_SIZE, MOCK_START, other) < 0 ? -1 : at.stdevs[0].bound.replace(other);
};
const rotate: Step = (at) => {
  const [{ bound }] = at.stdevs;
  const id = at.fd.hwptAlloc(bound.id, at.ioas);
  return id < 0 ? id : bound.replace(id);
};

const SCENARIOS: Record<string, { before: Step[]; steps: Step[] }> = {
  basic: { before: [], steps: [map, copy, pin, unmap] },
  map_domain: { before: [], steps: [attach(), map, detach, attach(), copy] },
  map_two_domains: {
    before: [attach()],
    steps: [attach('other'), map, detach, detach, attach(), attach('other'), copy],
  },
  access_rw: {
    before: [map],
    steps: [
      rw(false, false, 64),
      rw(true, false, 64),
      rw(false, true, 64),
      rw(true, true, 64),
      rw(false, true, 4 * 8192),
    ],
  },
  access_pin: { before: [map], steps: [pin] },
  access_pin_domain: { before: [attach(), map], steps: [pin, detach] },
  device: { before: [map], steps: [attach(), rotate, replace, detach] },
};

describe.each(Object.entries(SCENARIOS))('basic_fail_nth %s', (_, { before, steps }) => {
  const run = (at: Fixture, list: Step[]): number => {
    for (const step of list) {
      const result = step(at);
      if (result < 0) return result;
    }
    return 0;
  };

  test.each([32, 65536])('with %i bytes of memory for moving frames', (memoryLimit) => {
    let nrFailures = 0;
    for (let nth = 1; ; nth++) {
      const at = fixture({ name: '', nrDomains: 0, memoryLimit });
      at.memory.place(BIG, 64, frames(64, 0x90000));
      // Pins that come in small pieces, so that failures fall between them.
      at.memory.most = 5;
      expect(run(at, before)).toBe(0);
      at.injector.arm(nth);
      const errno = run(at, steps);
      const { fired } = at.injector;
      if (!fired) expect(errno).toBe(0);
      else if (errno < 0) nrFailures += 1;
      expect(at.memory.violations).toEqual([]);
      at.close();
      if (!fired) break;
    }
    if (steps !== SCENARIOS['access_pin_domain'].steps) expect(nrFailures).toBeGreaterThan(2);
  });
});
