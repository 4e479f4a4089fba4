/** The commands of recorded kernels from power-on to the first mapping, and those of every mapping after it. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { IommuGroup } from '../../../src/iommu/index.ts';
import { FEATURES, Lab, NP_CACHE, device } from './lab.ts';

const TRACES = join(dirname(fileURLToPath(import.meta.url)), '../../../traces');

function lines(run: string, file: string): string[] {
  return gunzipSync(readFileSync(join(TRACES, run, file)))
    .toString('latin1')
    .split('\n');
}

/** The recorded commands, as the lab's tape writes them. */
function commands(run: string): string[] {
  return lines(run, 'amd-commands.txt.gz').flatMap((line) => {
    const match = /d0=(\w+) d1=(\w+) d2=(\w+) d3=(\w+)/.exec(line);
    if (match === null) return [];
    const [, d0, d1, d2, d3] = match;
    return [`${d1.startsWith('0x1000') && d1.length === 10 ? '0x1' : d0} ${d1} ${d2} ${d3}`];
  });
}

/** Groups in the order of their numbers, each with its devices, and the order of attaching. */
function topology(run: string): { groups: string[][]; attached: string[] } {
  const groups: string[][] = [];
  const attached: string[] = [];
  for (const line of lines(run, 'trace.txt.gz')) {
    const added = /add_device_to_group: IOMMU: groupID=(\d+) device=0000:(\S+)/.exec(line);
    if (added !== null) (groups[Number(added[1])] ??= []).push(added[2]);
    const moved = /attach_device_to_domain: IOMMU: device=0000:(\S+)/.exec(line);
    if (moved !== null) attached.push(moved[1]);
  }
  return { groups, attached };
}

const RUNS = [
  ['amd-strict-boot-6.1', 'linux-6.1', 252 * 3 + 3 + 9 * 65 + 2],
  ['amd-lazy-small-6.12', 'linux-6.12', 252 * 3 + 3 + 9 * 2 + 2],
] as const;

describe.each(RUNS)('%s', (run, preset, nrAtBoot) => {
  /** The recorded machine, booted: firmware told nothing of the features (dmesg: IVHD EFR:0x0), the last id is 00:1f.3. */
  function boot(): Lab {
    const lab = new Lab({ preset, capHeader: NP_CACHE, ivhdFeatures: 0, features: FEATURES, lastBdf: 0xfb });
    const { groups } = topology(run);
    for (const [id, members] of groups.entries()) {
      const group = new IommuGroup(lab.core, lab.driver, id);
      for (const address of members) expect(group.addDevice(device(address))).toBe(0);
      expect(group.setupDefaultDomain('paging')).toBe(0);
    }
    lab.driver.completeInit();
    return lab;
  }

  test('every command up to the first mapping, words and order', () => {
    const recorded = commands(run).slice(0, nrAtBoot);
    const own = boot().take('waits');
    expect(own).toHaveLength(nrAtBoot);
    expect(own).toEqual(recorded);
    // Not one command more before the first mapping: the next one is of its page, for the domain of group 1.
    expect(commands(run)[nrAtBoot]).toBe('0x0 0x30000002 0xfffff002 0x0');
  });

  test('devices are attached in the order of their groups, as here', () => {
    const { groups, attached } = topology(run);
    expect(attached).toEqual(groups.flat());
    expect(groups[6]).toEqual(['00:1f.0', '00:1f.2', '00:1f.3']);
  });

  test('every range command of the run is one that the rule for its pages gives', () => {
    // Which mapping a command belongs to is the business of replay; here, that each is a naturally aligned block.
    const lab = boot();
    lab.take();
    const domain = lab.driver.domainAlloc('paging')!;
    const nvme = device('00:04.0');
    lab.driver.attachDev(domain, nvme);
    lab.take();
    const seen = new Set<string>();
    for (const command of commands(run).slice(nrAtBoot)) {
      const [, w1, lo, hi] = command.split(' ').map(Number);
      if (w1 >>> 28 !== 3 || seen.has(`${lo} ${hi}`)) continue;
      seen.add(`${lo} ${hi}`);
      let pages = 1;
      if ((lo & 1) === 1) {
        let bit = 12;
        while (((lo >>> bit) & 1) === 1) bit += 1;
        pages = 2 ** (bit - 11);
      }
      const start = hi * 2 ** 32 + ((lo & ~0xfff & ~(pages * 4096 - 1)) >>> 0);
      lab.driver.iotlbSyncMap(domain, start, pages * 4096);
      const [own] = lab.take();
      expect(own.split(' ').slice(2)).toEqual(command.split(' ').slice(2));
    }
    expect(seen.size).toBeGreaterThan(50);
  });
});
