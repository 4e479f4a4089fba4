/** Descriptors of recorded kernels: what QEMU's log says of the words it fetched, and what we say of the same words. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { amdCommandView, vtdDescriptor } from '../../src/lab/index.ts';
import { secondStageEntry } from '../../src/lab/vtd-entries.ts';
import type { CommandView } from '../../src/lab/index.ts';

const TRACES = join(import.meta.dirname, '../../traces');
const lines = (path: string): string[] =>
  gunzipSync(readFileSync(join(TRACES, path)))
    .toString()
    .split('\n');

function words(low: string, high: string): number[] {
  const quads = [BigInt(low), BigInt(high)];
  return quads.flatMap((quad) => [Number(BigInt.asIntN(32, quad)), Number(BigInt.asIntN(32, quad >> 32n))]);
}

const value = (view: CommandView, name: string): string | undefined =>
  view.fields.find((field) => field.name === name)?.value;

/** QEMU's second line about a descriptor, from our view of its words. */
function asQemuSays(view: CommandView): string {
  const [G, DID, SID, FM] = ['G', 'DID', 'SID', 'FM'].map((name) => value(view, name));
  if (view.isWait) return `wait invalidate status write addr ${value(view, 'Address')} data ${value(view, 'Data')}`;
  if (view.name === 'context-cache invalidate') {
    if (G === '0x1') return 'context invalidate globally';
    return G === '0x2' ? `context invalidate domain ${DID}` : `context invalidate devices sid ${SID} fmask ${FM}`;
  }
  if (G === '0x1') return 'iotlb invalidate global';
  if (G === '0x2') return `iotlb invalidate whole domain ${DID}`;
  return `iotlb invalidate domain ${DID} addr ${value(view, 'ADDR')} mask ${value(view, 'AM')}`;
}

test.each(['intel-cmon-strict-small-6.12', 'intel-cmon-strict-small-6.1', 'intel-cmoff-lazy-small-6.12'])(
  '%s: every descriptor means what QEMU made of it',
  (name) => {
    const log = lines(`${name}/qemu-inval.log.gz`);
    let nr = 0;
    // What QEMU decoded follows the words at once; of a context invalidation two lines, the first of which counts.
    const about = log.filter((line) => line.includes('vtd_inv_desc'));
    for (const [at, line] of about.entries()) {
      const [, high, low] = /vtd_inv_desc invalidate desc type \S+ high (0x\w+) low (0x\w+)/.exec(line) ?? [];
      if (high === undefined || low === undefined) continue;
      const said = about[at + 1].replace(/^.*?vtd_inv_desc_\w+ /, '').trim();
      expect(asQemuSays(vtdDescriptor(words(low, high))), line).toBe(said);
      nr += 1;
    }
    expect(nr).toBeGreaterThan(100);
  },
);

test('amd-strict-small-6.1: device table invalidations name the devices that QEMU dropped, in order', () => {
  const sent = lines('amd-strict-small-6.1/amd-commands.txt.gz').flatMap((line) => {
    const found = /d0=(0x\w+) d1=(0x\w+) d2=(0x\w+) d3=(0x\w+)/.exec(line);
    return found === null ? [] : [found.slice(1).map((word) => Number(word) | 0)];
  });
  const views = sent.map((command) => amdCommandView(command));
  const devices = views.filter(({ name }) => name === 'INVALIDATE_DEVTAB_ENTRY').map((view) => value(view, 'DeviceID'));
  const dropped = lines('amd-strict-small-6.1/qemu-inval.log.gz').flatMap((line) => {
    const [, bus, slot, fn] = /devid: (\w+):(\w+)\.(\d) invalidated/.exec(line) ?? [];
    if (bus === undefined || slot === undefined) return [];
    const id = (Number.parseInt(bus, 16) << 8) | (Number.parseInt(slot, 16) << 3) | Number(fn);
    return line.includes('amdvi_devtab_inval') ? [`0x${id.toString(16)}`] : [];
  });
  expect(dropped.length).toBeGreaterThan(200);
  expect(devices).toEqual(dropped);
});

test('intel-cmon-strict-small-6.12: leaf entries lead where QEMU translated', () => {
  const log = lines('intel-cmon-strict-small-6.12/qemu-xlate.log.gz');
  let nr = 0;
  for (const [at, line] of log.entries()) {
    const [, iova, entry] = /vtd_iotlb_page_update .* iova (0x\w+) slpte (0x\w+)/.exec(line) ?? [];
    const [, asked, reached] = /vtd_dmar_translate .* iova (0x\w+) -> gpa (0x\w+)/.exec(log[at + 1] ?? '') ?? [];
    if (entry === undefined || asked !== iova || reached === undefined) continue;
    expect(secondStageEntry(words(entry, '0x0'), 1)).toMatchObject({ kind: 'page', target: Number(reached) });
    nr += 1;
  }
  expect(nr).toBeGreaterThan(5000);
});
