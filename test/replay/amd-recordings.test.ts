/**
 * Must hold: recorded kernels on AMD-Vi are predicted command word for command word, from their map, unmap and dma events; and
 * what QEMU's unit translated while they ran is what the tables built from the same trace say.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { AmdMachine } from '../../src/machine/index.ts';
import { AmdObserved, PageLog, Player, compareRun } from '../../src/replay/index.ts';
import { CALL_DOMAIN, CALL_DOUBLES, CallKind } from '../../src/replay/plan.ts';
import { QemuLogReader } from '../../src/trace/index.ts';
import type { AmdRecording } from './recordings.ts';
import { amdRecordings, compare, planOf, play, traceText } from './recordings.ts';

function textOf(run: AmdRecording, file: string): string {
  return gunzipSync(readFileSync(join(run.folder, file))).toString('latin1');
}

/** The commands as the kernel queued them, four words each. */
function wordsOf(run: AmdRecording): [number, number, number, number][] {
  return textOf(run, 'amd-commands.txt.gz')
    .split('\n')
    .flatMap((line) => {
      const match = /d0=(\S+) d1=(\S+) d2=(\S+) d3=(\S+)/.exec(line);
      if (match === null) return [];
      const [d0 = 0, d1 = 0, d2 = 0, d3 = 0] = match.slice(1).map((word) => Number(word) | 0);
      return [[d0, d1, d2, d3]];
    });
}

function observedOf(run: AmdRecording): AmdObserved {
  const observed = new AmdObserved();
  for (const [line, words] of wordsOf(run).entries()) observed.command(...words, line + 1);
  return observed;
}

test('recordings of both kernels are here', () => {
  expect(amdRecordings.map(({ name }) => name)).toEqual(
    expect.arrayContaining([
      'amd-strict-boot-6.1',
      'amd-strict-nvmeonly-6.1',
      'amd-strict-small-6.1',
      'amd-lazy-small-6.12',
    ]),
  );
});

describe('AMD-Vi recordings', () => {
  test.each(amdRecordings)(
    "$name: QEMU's log, which has no addresses: the same commands for the same domains, in order",
    (run) => {
      const observed = new AmdObserved(false);
      const reader = new QemuLogReader({
        amdCommand: (operation, domain, _device, line) => observed.operation(operation, domain, line),
        mark: (name) => observed.mark(name),
        skipped: () => {},
      });
      reader.push(gunzipSync(readFileSync(join(run.folder, 'qemu-inval.log.gz'))));
      reader.end();
      const plan = planOf(traceText(run));
      const { player, result } = play(plan, run);
      const domainsTold = plan.rule === 'dma-events' && plan.inferredDomains === 0;
      const pages = player.pages ?? new PageLog();
      const comparison = compareRun({ pages, counts: result.commands, domainsTold, marks: player.marks }, observed);
      expect(comparison).toMatchObject({ by: run.name.endsWith('-6.12') ? 'domain' : 'count', identical: true });
      expect(comparison.predicted).toEqual(comparison.observed);
      // The guest stopped tracing at the end mark; what QEMU logged of the shutdown is behind it.
      expect(comparison.upTo).toMatch(/-end$/);
      expect(comparison.afterTrace).toBeGreaterThanOrEqual(0);
    },
  );

  test.each(amdRecordings)('$name: INVALIDATE_IOMMU_PAGES identical, in order, those of the boot included', (run) => {
    const observed = observedOf(run);
    const played = play(planOf(traceText(run)), run);
    const comparison = compare(played, observed);
    expect(comparison.firstDifference).toBeNull();
    expect(comparison).toMatchObject({ identical: true, matching: observed.counts.page });
    expect(observed.counts.page).toBeGreaterThan(1000);
    // Everything else too: device table entries, interrupt tables, completion waits, INVALIDATE_IOMMU_ALL.
    expect(comparison.predicted).toEqual(comparison.observed);
    expect(played.result.commands.total).toBe(observed.counts.total);
    expect(played.result).toMatchObject({ failed: 0, violations: { notPresent: 0, stale: 0 } });
    // dma:* events tell every domain; without them the ids agree where the attach events alone decide.
    if (run.name.endsWith('-6.12')) expect(comparison.sameDomain).toBe(observed.counts.page);
  });
});

test('an Intel recording plays on AMD-Vi, and an AMD one on VT-d: what another machine would have cost', () => {
  const [run] = amdRecordings.filter(({ name }) => name === 'amd-lazy-small-6.12');
  if (run === undefined) throw new Error('no amd-lazy-small-6.12');
  const plan = planOf(traceText(run));
  const amd = play(plan, run).result;
  const intel = play(plan, { ...run, model: 'vtd' }).result;
  expect(intel).toMatchObject({ failed: 0, violations: { notPresent: 0, stale: 0 } });
  // One page-selective invalidation per call against one command per aligned block of it, and the boot's 252.
  expect(intel.commands.page).toBeLessThan(amd.commands.page - 252);
});

/** Leaf that a device reaches: from its device table entry down, without caches. */
function walk(machine: AmdMachine, sid: number, iova: number): { pa: number; bytes: number } | null {
  const { mem, unit } = machine;
  const q = (p: number): bigint => (BigInt(mem.load32(p + 4) >>> 0) << 32n) | BigInt(mem.load32(p) >>> 0);
  const table = ((BigInt(unit.read32(4) >>> 0) << 32n) | BigInt(unit.read32(0) >>> 0)) & 0xffffffffff000n;
  const dte = q(Number(table) + sid * 32);
  if ((dte & 3n) !== 3n) return null;
  let level = Number((dte >> 9n) & 7n);
  let at = dte & 0xffffffffff000n;
  while (level > 0) {
    const shift = BigInt(12 + 9 * (level - 1));
    const pte = q(Number(at + ((BigInt(iova) >> shift) & 511n) * 8n));
    if ((pte & 1n) === 0n) return null;
    const next = Number((pte >> 9n) & 7n);
    let address = pte & 0xffffffffff000n;
    if (next === 0 || next === 7) {
      let bytes = 1n << shift;
      if (next === 7) {
        let bit = 12n;
        while ((address >> bit) & 1n) bit++;
        bytes = 1n << (bit + 1n);
        address &= ~(bytes - 1n);
      }
      return { pa: Number(address + (BigInt(iova) & (bytes - 1n) & ~0xfffn)), bytes: Number(bytes) };
    }
    level = next;
    at = address;
  }
  return null;
}

interface Leaf {
  readonly pa: number;
  readonly bytes: number;
}

/** What the tables mapped in each phase of a run (between two marks), by page address: what was live at its begin included. */
function phasesOf(run: AmdRecording): { names: string[]; phases: Map<number, Leaf[]>[]; nrLarge: number } {
  const plan = planOf(traceText(run));
  const player = new Player(plan, { ...run, mapFlush: 'sync-map', unmapFlush: 'strict' });
  const reader = plan.calls.reader();
  const live = new Map<string, [page: number, leaf: Leaf]>();
  const names = [''];
  const phases: Map<number, Leaf[]>[] = [];
  let phase = new Map<number, Leaf[]>();
  let nrLarge = 0;
  phases.push(phase);
  const add = (page: number, leaf: Leaf): void => {
    const known = phase.get(page);
    if (known === undefined) phase.set(page, [leaf]);
    else known.push(leaf);
  };
  for (let nr = 0; nr < plan.nrRecords; nr++) {
    player.step(1);
    const at = reader.take(CALL_DOUBLES);
    const { data } = reader;
    const [packed = 0, start = 0, nrBytes = 0] = data.subarray(at, at + 3);
    const nrChunks = data[at + 5];
    for (let i = 0; i < nrChunks; i++) reader.take(2);
    const kind = packed & 15;
    const domain = Math.floor(packed / CALL_DOMAIN);
    const sid = plan.domains[domain]?.devices[0]?.sid ?? -1;
    if (kind === CallKind.mark) {
      names.push((plan.marks[start] ?? '').replace(/^LAB /, ''));
      phase = new Map();
      phases.push(phase);
      for (const [page, leaf] of live.values()) add(page, leaf);
    }
    if (kind !== CallKind.map && kind !== CallKind.direct && kind !== CallKind.unmap) continue;
    for (let page = start; page < start + nrBytes; page += 4096) {
      if (kind === CallKind.unmap) {
        live.delete(`${domain}:${page}`);
        continue;
      }
      const leaf = walk(player.machine as AmdMachine, sid, page);
      if (leaf === null) throw new Error(`page 0x${page.toString(16)} is not mapped after its map`);
      if (leaf.bytes > 4096) nrLarge += 1;
      live.set(`${domain}:${page}`, [page, leaf]);
      add(page, leaf);
    }
  }
  return { names, phases, nrLarge };
}

describe("QEMU's translations", () => {
  test.each(amdRecordings)('$name: each agrees with our tables of its phase', (run) => {
    const { names, phases, nrLarge } = phasesOf(run);
    expect(nrLarge).toBeGreaterThan(100);
    let phase = 0;
    let nrSame = 0;
    let nrSameLarge = 0;
    const different: string[] = [];
    for (const line of textOf(run, 'qemu-xlate.log.gz').split('\n')) {
      const mark = /v9fs_mkdir .* name (\S+)/.exec(line);
      if (mark !== null) phase = Math.max(phase, names.indexOf(mark[1] ?? ''));
      const match = /amdvi_translation_result devid: \S+ gpa (\S+) hpa (\S+)/.exec(line);
      // Tracing in the guest ends with the run; its shutdown is in QEMU's log only.
      if (match === null || (names[phase] ?? '').endsWith('-end')) continue;
      const [gpa = 0, hpa = 0] = match.slice(1).map(Number);
      const page = gpa - (gpa % 4096);
      // The event prints where the larger page begins, not where the access goes. The phase before counts too: without dma
      // events an unmap may have been taken for that of another domain's mapping of the same address.
      const same = [phase, phase - 1]
        .flatMap((at) => phases[at]?.get(page) ?? [])
        .filter(({ pa, bytes }) => pa - (pa % bytes) === hpa - (hpa % 4096));
      if (same.length === 0) different.push(line);
      else nrSame += 1;
      if (same.length > 0 && same.every(({ bytes }) => bytes > 4096)) nrSameLarge += 1;
    }
    expect(different).toEqual([]);
    expect(nrSame).toBeGreaterThan(400);
    expect(nrSameLarge).toBeGreaterThan(100);
  });
});
